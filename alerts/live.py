"""The engine at work on live readings: a thread between the commit path and the journal.

Batches are handed over in memory as they are committed. The uplink log in the database is the truth behind that: at the
start, every second, and whenever a hand-over had to be skipped, the log says which devices have readings that were not
judged yet, and those are read from the database. So nothing is lost when this falls behind or when the process dies; as
the journal does not depend on the order of arrival, judging something twice changes nothing.

Where several processes share a database, one of them leads: it judges, the others wait to take its place.

The engine itself is pure (`alerts.engine`); every access to the database is one of the `alerts.ports`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType

import structlog
from prometheus_client import Counter, Gauge

from alerts.engine import Engine
from alerts.occurrences import applied
from alerts.ports import Announcer, Ports
from devices.alarm import Alarm, AlarmChange
from devices.errors import UnavailableError
from devices.model import Device, Instant, Reading

log = structlog.get_logger()

CHANGES = Counter("headworks_alarm_changes", "Lines written to the alarm journal", ["kind"])
JUDGED = Counter("headworks_readings_judged", "Readings that met the rules")
SKIPPED = Counter("headworks_handover_skipped", "Committed batches left to the uplink log as the engine was behind")
FAILING = Gauge("headworks_rules_failing", "Rules that raised an unexpected error")
IDLE = Gauge("headworks_rules_idle", "Rules that can never call on some of the devices that they are for")
DEVICE_FAILURES = Counter("headworks_engine_device_failures", "Times that a device could not be judged by a defect")
LEADING = Gauge("headworks_engine_leading", "1 while the engine of this process judges, 0 while another one's does")
BACKLOG = Gauge("headworks_engine_backlog", "Readings handed over and not judged yet")

BACKLOG_LIMIT = 200_000
"""Readings held for the engine; beyond it they are read again from the database when it has caught up."""
DEVICES_SECONDS = 30.0
"""How old the engine's copy of a device's registry entry may be."""
AT_ONCE = 1_000
"""Devices that are read from the database with one question, at the most."""
PAST_AT_ONCE = 50_000
"""Readings of the past that are held at a time, about, and as many that are being read: some 10 MB each."""
_PORTIONS_AT_ONCE = 8
"""Portions that are judged in one go where nothing goes wrong, so that each but the first is read ahead."""
CONTACT_SECONDS = 60.0
"""How often it is judged who is heard of; so long after a start the backlog has time to come in."""
MATES_SHARE = 50
"""At most one part in so many of the time is spent on reading who belongs to a group."""
CONTACT_SHARE = 20
"""With a large fleet that takes its time: at most one part in so many is spent on it, so that readings do not wait."""
SCAN_SECONDS = 1.0
"""How often the uplink log is asked for what did not come by hand-over."""

_NONE: Mapping[str, list[Reading]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Past:
    """What devices that are met for the first time are judged from."""

    identities: list[str]
    devices: Mapping[str, Device]
    """Those of them that were not known yet."""
    readings: Sequence[Reading]
    cut: Collection[str]
    alarms: Sequence[Alarm]


class LiveEngine:
    """Judges committed readings in a thread of its own, and writes what follows to the journal."""

    def __init__(self, engine: Engine, ports: Ports, announcer: Announcer, monotonic: Callable[[], float]) -> None:
        self._engine = engine
        self._ports = ports
        self._announcer = announcer
        self._monotonic = monotonic
        self._handed: deque[tuple[int, list[Reading]]] = deque()
        self._backlog = 0
        self._changed = threading.Condition()
        self._closing = False
        self._caught_up = threading.Event()
        # Judged but not yet below the position: transactions that the next scan need not look at.
        self._known: set[int] = set()
        self._position: int | None = None
        self._unwritten: list[AlarmChange] = []
        self._written: int | None = None
        self._devices: dict[str, Device] = {}
        self._mates: dict[str, Sequence[Device]] = {}
        self._mates_until = 0.0
        # Transactions that the last scan saw and that had not been handed over: perhaps on their way, so they get until
        # the next scan.
        self._late: set[int] = set()
        # Devices that the engine has met; the first meeting needs their past, which is read for many at once.
        self._met: set[str] = set()
        self._pasts: dict[str, list[Reading]] = {}
        self._journals: dict[str, list[Alarm]] = {}
        self._cuts: set[str] = set()
        # Of the call at hand: the earliest sample of each device that is not judged yet.
        self._first: dict[str, Instant] = {}
        # What the log said at the start: from when on a device's readings were not judged. Until that is written.
        self._unjudged: dict[str, Instant] = {}
        # Devices whose judgement was interrupted, with the earliest sample time to judge again from.
        self._again: dict[str, Instant] = {}
        self._told_idle: set[tuple[str, str]] = set()
        self._portion = 1
        self._leading = False
        self._contact_at = 0.0  # set anew when this begins to lead
        self._contact_pause = CONTACT_SECONDS
        self._beside = ThreadPoolExecutor(1, "contact")
        self._contact: Future[Sequence[AlarmChange]] | None = None
        self._ahead = ThreadPoolExecutor(1, "engine past")
        self._next: tuple[Engine, Callable[[], None]] | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin, with what was committed since the position that the journal keeps."""
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Judge what was handed over, then stop; what is left after `timeout` seconds waits for the next start."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        for beside in (self._beside, self._ahead):
            beside.shutdown(wait=False, cancel_futures=True)

    def exchange(self, engine: Engine, taken: Callable[[], None]) -> None:
        """Judge by another engine (other rules) from the next batch on; `taken` is called in the engine's thread when
        it takes over. It judges a device's past anew when it next hears of it."""
        with self._changed:
            self._next = (engine, taken)
            self._changed.notify_all()

    def hand_over(self, transaction: int, readings: list[Reading]) -> None:
        """Take the readings of one commit; returns at once."""
        with self._changed:
            if self._backlog + len(readings) > BACKLOG_LIMIT:
                SKIPPED.inc()
                return
            self._handed.append((transaction, readings))
            self._backlog += len(readings)
            self._changed.notify_all()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until everything committed before this call has been judged and written; False if it took longer."""
        with self._changed:
            self._caught_up.clear()
            self._changed.notify_all()
        return self._caught_up.wait(timeout)

    @property
    def failing(self) -> Mapping[str, str]:
        """Rules that raised an unexpected error, with it."""
        return self._engine.failing

    @property
    def idle(self) -> Mapping[str, Mapping[str, str]]:
        """Rules that can never call on some devices that they are for: the reasons, each with the first device."""
        return self._engine.idle

    def _run(self) -> None:
        scanned_at = refreshed_at = float("-inf")
        while True:
            asked = not self._caught_up.is_set()
            handed = self._take(0.0 if asked or self._again else SCAN_SECONDS)
            closing = self._closing and not handed
            self._take_over()
            try:
                if not self._lead():
                    scanned_at = float("-inf")
                    if closing:
                        return
                    self._pause()
                    continue
                if self._position is None:
                    self._scan(everything=True)  # before any device is met: what was left unjudged says how far back
                self._judge(handed)
                now = self._monotonic()
                if closing or asked or now - scanned_at >= SCAN_SECONDS:
                    self._scan(everything=closing or asked)
                    scanned_at = now
                self._write()
                self._judge_contact(now)
                if now - refreshed_at >= DEVICES_SECONDS:
                    self._devices.clear()
                    refreshed_at = now
            except UnavailableError as error:
                log.warning("engine.waiting", why=str(error))
                self._pause()
            except Exception:  # a defect must be seen, but must not end the judging of everything else
                log.exception("engine.defect")
                self._pause()
            else:
                if asked and not handed:
                    self._caught_up.set()
            if closing:
                return

    def _judge_contact(self, now: float) -> None:
        """In a thread beside this one: with a hundred thousand devices it takes seconds, for which no alarm waits."""
        if self._contact is not None:
            if not self._contact.done():
                return
            found, self._contact = self._contact, None
            self._contact_pause = max(CONTACT_SECONDS, CONTACT_SHARE * (now - self._contact_at))
            self._unwritten.extend(found.result())
            self._write()
        # Only on a journal that has everything: what is not written yet would be found lacking again.
        elif now - self._contact_at >= self._contact_pause and not self._unwritten:
            self._contact_at = now
            self._contact = self._beside.submit(self._ports.contact)

    def _take_over(self) -> None:
        with self._changed:
            following, self._next = self._next, None
        if following is not None:
            self._engine, taken = following
            # What the old one knew of devices is of no use to the new one.
            self._met.clear()
            taken()

    def _lead(self) -> bool:
        """Whether to judge. Who begins to lead knows nothing yet, and the log says what to begin with; so whoever
        stops leading forgets everything."""
        leading = self._ports.lead()
        if leading != self._leading:
            log.info("engine.leading" if leading else "engine.standby")
            LEADING.set(leading)
            self._leading = leading
            self._contact_at = self._monotonic()
            self._contact = None  # what is found by now is for the next one who leads
            if not leading:
                for identity in self._met:
                    self._engine.forget(identity)
                for held in (
                    self._met, self._known, self._late, self._unwritten, self._again, self._devices, self._unjudged,
                ):  # fmt: skip
                    held.clear()
                self._position = self._written = None
        return leading

    def _take(self, patience: float) -> list[tuple[int, list[Reading]]]:
        with self._changed:
            if not self._handed and not self._closing and patience:
                self._changed.wait(patience)
            handed = list(self._handed)
            self._handed.clear()
            self._backlog = 0
            BACKLOG.set(0)
            return handed

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing, SCAN_SECONDS)

    def _judge(self, handed: list[tuple[int, list[Reading]]]) -> None:
        readings = [reading for _, batch in handed for reading in batch]
        if readings:
            self._apply(readings)
        self._known.update(transaction for transaction, _ in handed)

    def _scan(self, *, everything: bool) -> None:
        """Judge what the uplink log knows and we do not, and learn up to where everything is judged."""
        first = self._position is None
        position = self._ports.position() if self._position is None else self._position
        if self._again:
            again, self._again = self._again, {}
            self._from_database(again)
        changed = self._ports.changed(position, self._known)
        self._position = position
        if first:
            for uplink in changed.uplinks:
                self._unjudged[uplink.device] = min(uplink.since, self._unjudged.get(uplink.device, uplink.since))
        self._judge(self._take(0))
        new = [uplink for uplink in changed.uplinks if uplink.transaction not in self._known]
        due = [uplink for uplink in new if everything or uplink.transaction in self._late]
        since: dict[str, Instant] = {}
        for uplink in due:
            since[uplink.device] = min(uplink.since, since.get(uplink.device, uplink.since))
        self._from_database(since)
        self._known |= {uplink.transaction for uplink in due}
        self._late = {uplink.transaction for uplink in new} - self._known
        self._known = {number for number in self._known if number >= changed.watermark}
        self._position = min([changed.watermark, *self._late])

    def _from_database(self, since: Mapping[str, Instant]) -> None:
        """Judge what is stored of devices, of each from a moment on: many devices with one question, and one by one
        where that meets a defect, so that it keeps no other device from being judged."""
        left = dict(since)
        for identities, judge, portions in (
            ([identity for identity in since if identity in self._met], self._judge_stored, 1),
            # Of who is met for the first time the past is read anyway, and this is part of it.
            ([identity for identity in since if identity not in self._met], self._judge_from, _PORTIONS_AT_ONCE),
        ):
            start = 0
            while start < len(identities):
                some = {identity: since[identity] for identity in identities[start : start + portions * self._portion]}
                start += len(some)
                try:
                    judge(some)
                except UnavailableError:
                    self._remember(left)
                    raise
                except Exception:
                    for identity in some:
                        self._again.pop(identity, None)
                    self._one_by_one(some, left)
                for identity in some:
                    left.pop(identity, None)

    def _judge_stored(self, since: Mapping[str, Instant]) -> None:
        found = self._ports.history_since(since)
        self._adapt(len(since), len(found))
        self._apply(found)

    def _one_by_one(self, since: Mapping[str, Instant], left: dict[str, Instant]) -> None:
        for identity, first in since.items():
            try:
                self._apply(self._ports.history_since({identity: first}))
            except UnavailableError:
                self._remember(left)
                raise
            except Exception:
                # It is built again from its history with its next uplink.
                log.exception("engine.device_failed", device=identity)
                DEVICE_FAILURES.inc()
                self._again.pop(identity, None)
            left.pop(identity, None)

    def _apply(self, readings: Sequence[Reading]) -> None:
        """Run the engine with some readings."""
        groups: dict[str, list[Reading]] = {}
        for reading in readings:
            groups.setdefault(reading.device, []).append(reading)
        self._judge_from({identity: min(r.measured_at for r in group) for identity, group in groups.items()}, groups)

    def _judge_from(self, since: Mapping[str, Instant], groups: Mapping[str, list[Reading]] = _NONE) -> None:
        """Run the engine with the readings of devices, of each from a moment on. Those of who is not among the groups
        (and is met for the first time) are taken from its past. Where this is interrupted, the devices it touched are
        judged again from the database."""
        left = dict(since)
        try:
            # Of who is met for the first time the registry is asked with the past.
            unknown = [identity for identity in left if identity in self._met and identity not in self._devices]
            if unknown:
                self._devices.update(self._ports.devices(unknown))
            for identity, first in since.items():
                self._first[identity] = min(first, self._unjudged.get(identity, first))
            for identities in self._portions(since):
                part: list[Reading] = []
                for identity in identities:
                    group = groups.get(identity)
                    if group is None:
                        first = since[identity]
                        group = [reading for reading in self._pasts[identity] if reading[2] >= first]
                    part += group
                changes = self._engine.apply(
                    part, self._devices, self._history, self._journal, self._is_cut, self._of_site
                )
                JUDGED.inc(len(part))
                self._unwritten.extend(changes)
                for identity in identities:
                    del left[identity]
        except BaseException:
            self._met -= left.keys()  # the engine has forgotten these devices
            self._remember(left)
            raise
        finally:
            self._pasts.clear()
            self._journals.clear()
            self._first.clear()
            self._cuts.clear()

    def _portions(self, identities: Iterable[str]) -> Iterator[list[str]]:
        """Who is known already, all at once; then who is met for the first time, as many at a time as their past is a
        bounded number of readings: it is read with one question for them instead of two for each, which after a start
        is most of the work."""
        unmet = [identity for identity in identities if identity not in self._met]
        yield [identity for identity in identities if identity in self._met]
        start = 0
        following = self._read_ahead(unmet[: self._portion])
        while following is not None:
            past = following.result()
            start += len(past.identities)
            self._adapt(len(past.identities), len(past.readings))
            following = self._read_ahead(unmet[start : start + self._portion])
            self._devices.update(past.devices)
            self._pasts = {identity: [] for identity in past.identities}
            self._journals = {identity: [] for identity in past.identities}
            self._cuts = set(past.cut)
            for reading in past.readings:
                self._pasts[reading.device].append(reading)
            for alarm in past.alarms:
                self._journals[alarm.device].append(alarm)
            self._met.update(past.identities)
            yield past.identities

    def _read_ahead(self, identities: list[str]) -> Future[_Past] | None:
        """Begin to read what devices are judged from, in a thread of its own: the server works while the portion
        before is judged. What is judged meanwhile and not written is put on top of the journal by `_journal`."""
        if not identities:
            return None
        since = {identity: self._first.get(identity) for identity in identities}
        unknown = [identity for identity in identities if identity not in self._devices]
        ports = self._ports

        def read() -> _Past:
            known = ports.devices(unknown) if unknown else {}
            return _Past(identities, known, ports.past(since), ports.cut(since), ports.journal(identities))

        return self._ahead.submit(read)

    def _adapt(self, devices: int, readings: int) -> None:
        """How much past a device has is not known beforehand: about as much as those before it."""
        fitting = PAST_AT_ONCE * devices // max(readings, 1)
        self._portion = max(1, min(fitting, AT_ONCE, 4 * devices))

    def _history(self, identity: str, since: Instant | None) -> Sequence[Reading]:
        if since is not None:
            return self._ports.history_since({identity: since})
        if identity in self._pasts:
            return self._pasts[identity]
        # Of a late reading: as far before it as is needed to judge it.
        asked = {identity: self._first.get(identity)}
        self._cuts.discard(identity)
        self._cuts.update(self._ports.cut(asked))
        return self._ports.past(asked)

    def _is_cut(self, identity: str) -> bool:
        return identity in self._cuts

    def _of_site(self, site: str) -> Sequence[Device]:
        """The devices of a site, as they were a short while ago; the larger the plant, the longer."""
        now = self._monotonic()
        if now >= self._mates_until:
            self._mates.clear()
            self._mates_until = now + DEVICES_SECONDS
        found = self._mates.get(site)
        if found is None:
            found = self._mates[site] = self._ports.mates(site)
            self._mates_until = max(self._mates_until, now + MATES_SHARE * (self._monotonic() - now))
        return found

    def _journal(self, identity: str) -> Sequence[Alarm]:
        """What the journal holds, with what is judged and not yet written."""
        mine = [change for change in self._unwritten if change.alarm.device == identity]
        held = self._journals.get(identity)
        return applied(self._ports.journal([identity]) if held is None else held, mine)

    def _tell_idle(self) -> None:
        """A rule is never off in silence: what it lacks on some devices is told once."""
        idle = self._engine.idle
        IDLE.set(len(idle))
        for rule, reasons in idle.items():
            for why, device in reasons.items():
                if (rule, why) not in self._told_idle:
                    self._told_idle.add((rule, why))
                    log.info("rule.idle", rule=rule, why=why, first=device)

    def _remember(self, since: Mapping[str, Instant]) -> None:
        for identity, first in since.items():
            self._again[identity] = min(first, self._again.get(identity, first))

    def _write(self) -> None:
        """Changes, their announcements and the position in one transaction."""
        if self._position is None or self._again or (not self._unwritten and self._position == self._written):
            return
        changes = self._unwritten
        missing = {change.alarm.device for change in changes} - self._devices.keys()
        if missing:
            self._devices.update(self._ports.devices(sorted(missing)))
        composed = [
            self._announcer.compose(change, self._devices[change.alarm.device])
            for change in changes
            if change.alarm.device in self._devices
        ]
        announcements = [announcement for announcement in composed if announcement is not None]
        self._ports.record(changes, self._position, announcements)
        self._unwritten, self._written = [], self._position
        self._unjudged.clear()
        FAILING.set(len(self._engine.failing))
        self._tell_idle()
        for change in changes:
            CHANGES.labels(change.kind.value).inc()
        self._announcer.told(announcements)
