"""Decoding the quarantine again, on the way that live uplinks take: translate, write, and only then release.

A record leaves the quarantine after its readings are committed; what was cut off in between is found stored when it is
tried again. So it may be stopped at any point and started again, and nothing is stored twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from devices.batch import Batch, QuarantineRecord, UplinkRecord
from devices.model import Device, Instant, Reading, Reason, Uplink
from devices.profile import Profile
from ingest.translate import translate
from storage import quarantine, registry
from storage.database import Connection
from storage.quarantine import Selection, Stored, Verdicts
from storage.writer import Writer

_PAGE = 500


@dataclass(slots=True)
class Redecoded:
    """What came of it: records released and kept, readings stored now and known before."""

    released: int = 0
    kept: int = 0
    stored: int = 0
    known: int = 0


def redecode(
    connection: Connection,
    writer: Writer,
    profiles: Mapping[str, Profile],
    selection: Selection,
    *,
    until: Instant,
    dry_run: bool = False,
    advanced: Callable[[int], None] = lambda _: None,
) -> Redecoded:
    """Try every selected record received before `until` again; `advanced` is told how many were looked at.

    `UnavailableError` where the database goes away: what was done until then is done.
    """
    result = Redecoded()
    rest = replace(selection, until=min(until, selection.until or until))
    while found := quarantine.page(connection, rest, _PAGE):
        _page(connection, writer, profiles, found, result, dry_run=dry_run)
        advanced(len(found))
        rest = replace(rest, since=found[-1].uplink.received_at + 1)
    return result


def _page(
    connection: Connection,
    writer: Writer,
    profiles: Mapping[str, Profile],
    found: Sequence[Stored],
    result: Redecoded,
    *,
    dry_run: bool,
) -> None:
    resolve = _resolver(connection)
    resolve({record.identity for record in found if record.identity})
    trials = [_Trial(uplink, records) for uplink, records in _by_uplink(found).items()]
    for trial in trials:
        trial.translated = _translate(trial.uplink, resolve, profiles)
    compared = quarantine.compare(
        connection,
        [reading for trial in trials for record in trial.translated.uplinks for reading in record.readings],
    )
    fresh, differing = set(map(_key, compared.fresh)), set(map(_key, compared.differing))
    uplinks: list[UplinkRecord] = []
    for trial in trials:
        for record in trial.translated.uplinks:
            new = [reading for reading in record.readings if _key(reading) in fresh]
            other = [reading for reading in record.readings if _key(reading) in differing]
            if new:
                uplinks.append(replace(record, readings=new))
            if other:
                trial.problems.append(_conflict(record, other))
        trial.problems += trial.translated.quarantine
    result.known += len(compared.known)
    refused: Sequence[QuarantineRecord] = ()
    if dry_run:
        result.stored += len(fresh)
    elif uplinks:
        committed = writer.commit(Batch(uplinks))
        result.stored += committed.stored
        refused = committed.refused
    for trial in trials:
        trial.problems += [record for record in refused if record.uplink == trial.uplink]
    verdicts = Verdicts()
    for trial in trials:
        trial.judge(verdicts)
    result.released += len(verdicts.released)
    result.kept += len(found) - len(verdicts.released)
    if not dry_run:
        # What the writer refuses it keeps anew, or only counts where the share is full: so the old record stays, and
        # the new one goes.
        verdicts.released += _anew(connection, found, refused)
        quarantine.settle(connection, verdicts)


def _anew(connection: Connection, found: Sequence[Stored], refused: Iterable[QuarantineRecord]) -> list[int]:
    """Numbers of the records that the writer made of uplinks that are in quarantine already."""
    old = {record.number for record in found}
    numbers: set[int] = set()
    for record in refused:
        at = record.uplink.received_at
        for other in quarantine.page(connection, Selection(reason=record.reason, since=at, until=at + 1), 1):
            if other.uplink.payload == record.uplink.payload and other.number > max(old):
                numbers.add(other.number)
    return sorted(numbers)


class _Trial:
    """One uplink with the records that are about it."""

    def __init__(self, uplink: Uplink, records: list[Stored]) -> None:
        self.uplink = uplink
        self.records = records
        self.translated = Batch()
        self.problems: list[QuarantineRecord] = []

    def judge(self, verdicts: Verdicts) -> None:
        """One record stays for each reason that there is now; the others are released."""
        problems = {problem.reason: problem for problem in reversed(self.problems)}
        without: list[Stored] = []
        for record in self.records:
            problem = problems.pop(record.reason, None)
            if problem is None:
                without.append(record)
            elif problem.detail != record.detail:
                verdicts.changed.append((record.number, problem.reason, problem.detail))
        for record in without:
            if problems:
                reason = next(iter(problems))
                verdicts.changed.append((record.number, reason, problems.pop(reason).detail))
            else:
                verdicts.released.append(record.number)


def explain(connection: Connection, profiles: Mapping[str, Profile], record: Stored) -> Batch:
    """What would become of a record's uplink now, without writing anything."""
    return _translate(record.uplink, _resolver(connection), profiles)


def _by_uplink(found: Iterable[Stored]) -> dict[Uplink, list[Stored]]:
    groups: dict[Uplink, list[Stored]] = {}
    for record in found:
        groups.setdefault(record.uplink, []).append(record)
    return groups


def _translate(
    uplink: Uplink, resolve: Callable[[Iterable[str]], Mapping[str, Device]], profiles: Mapping[str, Profile]
) -> Batch:
    try:
        return translate([uplink], resolve, profiles)[0]
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"
        return Batch([], [QuarantineRecord(uplink, Reason.INTERNAL_ERROR, detail, uplink.identity)])


def _resolver(connection: Connection) -> Callable[[Iterable[str]], Mapping[str, Device]]:
    """The registry, asked once for each identity of a page."""
    held: dict[str, Device | None] = {}

    def resolve(identities: Iterable[str]) -> Mapping[str, Device]:
        asked = set(identities)
        missing = sorted(asked - held.keys())
        if missing:
            entries = registry.find(connection, missing)
            held.update({name: entries[name].device if name in entries else None for name in missing})
        return {name: device for name in asked if (device := held.get(name)) is not None}

    return resolve


def _key(reading: Reading) -> tuple[str, str, int, float]:
    return reading.device, reading.metric, reading.measured_at, reading.value


def _conflict(record: UplinkRecord, readings: Sequence[Reading]) -> QuarantineRecord:
    first = readings[0]
    detail = f"{len(readings)} of {len(record.readings)} readings, the first {first.metric}"
    return QuarantineRecord(record.uplink, Reason.CONFLICTING_VALUE, detail, record.device, len(readings))
