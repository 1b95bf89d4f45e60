"""What the live engine (`alerts.live`) needs of the database and of whoever tells people."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from devices.alarm import Alarm, AlarmChange, Announcement
from devices.batch import Changed, Kept, Past
from devices.model import Device, Instant, Reading


@dataclass(frozen=True, slots=True)
class KeepingPorts:
    """Where what the engine knows is kept over a restart; each may raise `UnavailableError`. Only who leads writes."""

    complete_until: Callable[[], int | None]
    """The position up to which what is kept holds everything; None if there is none."""
    of_devices: Callable[[Sequence[str]], Sequence[Kept]]
    """What is kept of devices themselves."""
    of_site: Callable[[str], Sequence[Kept]]
    """What is kept of the groups of a site."""
    keep: Callable[[Sequence[Kept]], None]
    limit: Callable[[Collection[str]], None]
    """Strike out what is kept of other rules on groups than these: nobody adds to it."""
    complete: Callable[[int], None]
    """Everything below this position is in what is kept now."""
    discard: Callable[[], None]
    """Nothing of what is kept is of use."""


NOTHING_KEPT = KeepingPorts(
    lambda: None, lambda _: (), lambda _: (), lambda _: None, lambda _: None, lambda _: None, lambda: None
)
"""Every start reads the past."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What this needs of the database; each may raise `UnavailableError`."""

    devices: Callable[[Sequence[str]], Mapping[str, Device]]
    past: Callable[[Mapping[str, Instant | None], Collection[str] | None], Past]
    """What devices are to be judged from, of some metrics or of all (None); the instant is that of the first reading
    not judged yet, where known."""
    history_since: Callable[[Mapping[str, Instant]], Sequence[Reading]]
    """The readings of several devices, of each from a moment of its own on."""
    journal: Callable[[Sequence[str]], Sequence[Alarm]]
    position: Callable[[], int]
    changed: Callable[[int, Iterable[int]], Changed]
    record: Callable[[Sequence[AlarmChange], int, Sequence[Announcement]], None]
    lead: Callable[[], bool]
    """Whether this process is the one that judges. Lost with the connection that holds it; `record` then refuses."""
    mates: Callable[[str], Sequence[Device]] = lambda _: ()
    """The devices of a site, for rules on groups."""
    contact: Callable[[], Sequence[AlarmChange]] = tuple
    """Judge who is heard of (`alerts.contact`), at this moment; what the journal lacks of that. Called in a thread of
    its own."""
    keeping: KeepingPorts = NOTHING_KEPT


class Announcer(Protocol):
    """Words what people are told."""

    def compose(self, change: AlarmChange, device: Device) -> Announcement | None:
        """The announcement of a change; None where nobody is told."""
        ...

    def told(self, announcements: Sequence[Announcement]) -> None:
        """These are durable now, with their changes."""
        ...
