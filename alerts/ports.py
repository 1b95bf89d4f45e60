"""What the live engine (`alerts.live`) needs of the database and of whoever tells people."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from devices.alarm import Alarm, AlarmChange, Announcement
from devices.batch import Changed
from devices.model import Device, Instant, Reading


@dataclass(frozen=True, slots=True)
class Ports:
    """What this needs of the database; each may raise `UnavailableError`."""

    devices: Callable[[Sequence[str]], Mapping[str, Device]]
    past: Callable[[Mapping[str, Instant | None]], Sequence[Reading]]
    """What devices are to be judged from; the instant is that of the first reading not judged yet, where known."""
    cut: Callable[[Mapping[str, Instant | None]], Collection[str]]
    """Of which devices `past`, asked the same, leaves out what a window would have held at its beginning."""
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


class Announcer(Protocol):
    """Words what people are told."""

    def compose(self, change: AlarmChange, device: Device) -> Announcement | None:
        """The announcement of a change; None where nobody is told."""
        ...

    def told(self, announcements: Sequence[Announcement]) -> None:
        """These are durable now, with their changes."""
        ...
