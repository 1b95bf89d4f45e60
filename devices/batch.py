"""What one commit holds: the contract between the pipeline that gathers (`ingest`), the writer that commits
(`storage`) and the engine that follows (`alerts`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from devices.model import Instant, Reading, Reason, Transport, Uplink


@dataclass(frozen=True, slots=True)
class UplinkRecord:
    """What one uplink gave for one device: a row of the uplink log and its readings (at least one)."""

    uplink: Uplink
    device: str
    readings: list[Reading]
    sequence: int | None = None
    sent_at: Instant | None = None
    clock_offset: Instant = 0
    """What was added to sample times because the device's clock is wrong; `sent_at` stays as the device said it."""

    @property
    def transport(self) -> Transport:
        """How it reached us."""
        return self.uplink.transport


@dataclass(frozen=True, slots=True)
class QuarantineRecord:
    """An uplink, as it came, of which something could not be stored: `rows` of its readings, or all if None."""

    uplink: Uplink
    reason: Reason
    detail: str
    identity: str | None = None
    rows: int | None = None


class SpoolMark(NamedTuple):
    """A place in a spool: everything up to and with this position."""

    spool: str
    position: int


class Spooled(NamedTuple):
    """Uplinks that were kept while the database was away, and up to where in the spool they reach."""

    mark: SpoolMark
    uplinks: list[Uplink]


@dataclass(slots=True)
class Batch:
    """Everything that one transaction commits; `drained` goes with it where the uplinks came from a spool."""

    uplinks: list[UplinkRecord] = field(default_factory=list)
    quarantine: list[QuarantineRecord] = field(default_factory=list)
    drained: SpoolMark | None = None

    def __bool__(self) -> bool:
        return bool(self.uplinks or self.quarantine or self.drained)


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did. `refused` holds what the writer itself had to put into quarantine (a conflicting value, a row
    the database would not take), so that counters see it; `dropped` records were above the quarantine's limits and are
    only counted."""

    stored: int = 0
    duplicates: int = 0
    transaction: int = 0
    refused: tuple[QuarantineRecord, ...] = ()
    dropped: int = 0


class LoggedUplink(NamedTuple):
    """What the uplink log says of one device in one transaction."""

    transaction: int
    device: str
    since: Instant
    """The earliest sample time."""


class Past(NamedTuple):
    """What devices are to be judged from that are met for the first time."""

    readings: Sequence[Reading]
    """Of each device by sample time."""
    cut: Collection[str]
    """The devices of which this leaves out readings that a window would have held at its beginning."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What the uplink log says has come since a position."""

    uplinks: list[LoggedUplink]
    watermark: int
    """Every transaction below this number is finished: a position that is safe to resume from."""


class Kept(NamedTuple):
    """What the engine keeps over a restart: of a device, or of a rule on a group that is about it."""

    device: str
    rule: str
    """Empty for the device itself."""
    memory: bytes | None
    """None where there is nothing to keep, and what was kept is void."""
