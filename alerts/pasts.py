"""What devices are judged from that are met for the first time: read for many with one question, and ahead.

After a start this is most of the work. While a portion of the devices is judged (`alerts.live`), a thread reads what
the next one needs. How much past a device has is not known beforehand; the portions are made so that what is held at a
time is bounded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass

from alerts.ports import Ports
from devices.alarm import Alarm
from devices.batch import Past
from devices.errors import UnavailableError
from devices.model import Device, Instant, Reading

AT_ONCE = 1_000
"""Devices that are read from the database with one question, at the most."""
PAST_AT_ONCE = 50_000
"""Readings of the past that are held at a time, about, and as many that are being read: some 10 MB each."""
_STOPPING = "the engine stops, and reads nothing any more"


@dataclass(frozen=True, slots=True)
class _Read:
    identities: list[str]
    devices: Mapping[str, Device]
    """Those of them that were not known yet."""
    past: Past
    alarms: Sequence[Alarm]


class Pasts:
    """The pasts of the portion of devices that is being judged."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._ahead = ThreadPoolExecutor(1, "engine past")
        self._closed = False
        self.size = 1
        """How many devices the next portion may have."""
        self.readings: dict[str, list[Reading]] = {}
        """By device, its past."""
        self.journals: dict[str, list[Alarm]] = {}
        """By device, what the journal held of it when its past was read."""
        self.cut: set[str] = set()
        """Those whose past leaves out what a window would have held at its beginning."""
        self._since: Mapping[str, Instant] = {}
        self._later: dict[str, list[Reading]] = {}

    def portions(
        self, identities: Sequence[str], since: Mapping[str, Instant], devices: Mapping[str, Device]
    ) -> Iterator[tuple[list[str], Mapping[str, Device]]]:
        """Portion by portion of these devices, with the registry's entries of those that are not among `devices`; of
        each the past is there until the next one is asked for. `since`: the earliest sample that is not judged yet."""
        start = 0
        following = self._read(identities[: self.size], since, devices)
        while following is not None:
            try:
                found = following.result()
            except CancelledError:
                raise UnavailableError(_STOPPING) from None
            start += len(found.identities)
            self.adapt(len(found.identities), len(found.past.readings))
            following = self._read(identities[start : start + self.size], since, devices)
            self.readings = {identity: [] for identity in found.identities}
            self.journals = {identity: [] for identity in found.identities}
            self.cut = set(found.past.cut)
            for reading in found.past.readings:
                self.readings[reading.device].append(reading)
            for alarm in found.alarms:
                self.journals[alarm.device].append(alarm)
            yield found.identities, found.devices

    def hold_all(self, identities: Sequence[str], since: Mapping[str, Instant], metrics: Collection[str]) -> None:
        """Keep the pasts of these devices at hand, of some metrics; `since` as in `portions`, of those of which
        something is new."""
        past = self._ports.past({identity: since.get(identity) for identity in identities}, metrics)
        self.readings = {identity: [] for identity in identities}
        self.cut = set(past.cut)
        for reading in past.readings:
            self.readings[reading.device].append(reading)

    def hold(self, since: Mapping[str, Instant], readings: Sequence[Reading], alarms: Sequence[Alarm]) -> None:
        """Keep at hand what was read of devices that are met already, of each from a moment on, and their journals."""
        self._since = since
        self._later = {identity: [] for identity in since}
        self.journals = {identity: [] for identity in since}
        for reading in readings:
            self._later[reading.device].append(reading)
        for alarm in alarms:
            self.journals[alarm.device].append(alarm)

    def later(self, identity: str, since: Instant) -> list[Reading] | None:
        """A device's readings from a moment on; None if they are not at hand."""
        held = self._since.get(identity)
        if held is None or held > since:
            return None
        return [reading for reading in self._later[identity] if reading.measured_at >= since]

    def adapt(self, devices: int, readings: int) -> None:
        """So many devices had so many readings: the next ones have about as many."""
        fitting = PAST_AT_ONCE * devices // max(readings, 1)
        self.size = max(1, min(fitting, AT_ONCE, 4 * devices))

    def forget(self) -> None:
        """Let go of what is held."""
        for held in (self.readings, self.journals, self.cut, self._later):
            held.clear()
        self._since = {}

    def close(self) -> None:
        """Read nothing any more: whoever still asks gets an `UnavailableError`, as what could not be read is no defect
        of the device."""
        self._closed = True
        self._ahead.shutdown(wait=False, cancel_futures=True)

    def _read(
        self, identities: Sequence[str], since: Mapping[str, Instant], devices: Mapping[str, Device]
    ) -> Future[_Read] | None:
        """Begin to read in the other thread: the server works while the portion before is judged. What is judged
        meanwhile and not written, the reader of the journal puts on top."""
        if not identities:
            return None
        listed = list(identities)
        first = {identity: since.get(identity) for identity in listed}
        unknown = [identity for identity in listed if identity not in devices]
        ports = self._ports

        def read() -> _Read:
            known = ports.devices(unknown) if unknown else {}
            return _Read(listed, known, ports.past(first, None), ports.journal(listed))

        try:
            return self._ahead.submit(read)
        except RuntimeError:
            if self._closed:
                raise UnavailableError(_STOPPING) from None
            raise
