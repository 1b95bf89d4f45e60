"""Faults of the radio and of the telemetry unit itself: what each does, and which shipped rules see it.

Beside `catalogue`, which has what is wrong with pumps, valves, networks and instruments. These change no measured
quantity but what is sent of it: when, how often, from where, with which time. How they bite is in `firmware` (what a
unit writes) and `contacts` (what the radio does with it).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from devices.model import Instant, moment
from simulators.truth import Truth


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """One kind of fault."""

    effect: str
    """What a severity of 1 does."""
    source: str
    rules: tuple[str, ...] = ()
    """The shipped rules that are expected to see it; none where the platform is to take it without an alarm."""
    explains: tuple[str, ...] = ()
    """Other shipped rules whose alarms it explains."""


_PRACTICE = "practice of the field"
_SILENT = ("device-silent", "device-out-of-coverage")
_BATTERY = ("battery-low", "battery-voltage-low")

DEVICE_CATALOGUE: dict[str, DeviceEntry] = {
    "coverage-loss": DeviceEntry("no cell is found: nothing gets out", _PRACTICE, _SILENT, ("device-flat-battery",)),
    "coverage-change": DeviceEntry(
        "coverage level 2 (1 up to severity 0.5): more losses, longer delays, more energy",
        "3GPP TS 36.321, 5.1.1",
        ("coverage-lost",),
        ("signal-weak", "device-out-of-coverage"),
    ),
    "uplinks-repeated": DeviceEntry("every uplink is sent twice, from two ports", "RFC 7252, 4.5"),
    "uplinks-reordered": DeviceEntry("an uplink is held back and sent after the next one", _PRACTICE),
    "new-address": DeviceEntry("each uplink comes from a new port", "RFC 4787, 4.3"),
    "reboot": DeviceEntry(
        "off until the end; its sequence numbers begin again, what was in volatile memory is lost", _PRACTICE
    ),
    "clock-reset": DeviceEntry("the clock begins again at 1970", _PRACTICE, ("clock-wrong",)),
    "clock-drift": DeviceEntry(
        "the clock is 5 % fast: the crystal has failed, an RC oscillator took over",
        "data sheets of microcontrollers",
        ("clock-wrong",),
    ),
    "battery-flat": DeviceEntry(
        "the charge falls to nothing in the first half; then it is off until the end",
        _PRACTICE,
        _BATTERY,
        ("device-flat-battery", "battery-forecast", "battery-change-due", *_SILENT),
    ),
    "firmware-nonsense": DeviceEntry(
        "payloads that no codec can read: cut short, noise, unknown names, wrong units, NaN", _PRACTICE, _SILENT
    ),
}
"""By name."""

DRIFT = 0.05
"""Seconds a second of severity 1."""
BATTERY_LEFT = 3.0
"""% that a flat battery still tells before it is off."""


@dataclass(frozen=True, slots=True)
class DeviceFault:
    """One fault of `DEVICE_CATALOGUE` on one device: from `since` until it is repaired at `until`."""

    fault: str
    tag: str
    since: Instant
    until: Instant
    severity: float = 1.0

    def __post_init__(self) -> None:
        if self.fault not in DEVICE_CATALOGUE:
            raise ValueError(f"‘{self.fault}’ is no fault of a device; they are {', '.join(DEVICE_CATALOGUE)}")
        if not self.since < self.until:
            raise ValueError(f"the fault {self.fault} of {self.tag} ends before it begins")
        if not 0.0 < self.severity <= 1.0:
            raise ValueError(f"the severity of {self.fault} of {self.tag} is {self.severity}; it goes from 0 to 1")

    def covers(self, at: Instant) -> bool:
        """Whether it is on at an instant."""
        return self.since <= at < self.until


def active(faults: Iterable[DeviceFault], kind: str, at: Instant) -> DeviceFault | None:
    """The gravest fault of a kind that is on at an instant."""
    found = [fault for fault in faults if fault.fault == kind and fault.covers(at)]
    return max(found, key=lambda fault: fault.severity, default=None)


def off_spans(faults: Iterable[DeviceFault]) -> list[tuple[Instant, Instant]]:
    """When a unit is without power, in order: it measures nothing then, and boots at the end."""
    spans = [(fault.since, fault.until) for fault in faults if fault.fault == "reboot"]
    spans += [((fault.since + fault.until) // 2, fault.until) for fault in faults if fault.fault == "battery-flat"]
    return sorted(spans)


def truth_of_devices(faults: Sequence[DeviceFault], identities: dict[str, str]) -> list[Truth]:
    """The lines of ground truth; `identities` by tag."""
    return [
        Truth(
            fault.fault,
            identities[fault.tag],
            fault.since,
            fault.until,
            fault.severity,
            (*DEVICE_CATALOGUE[fault.fault].rules, *DEVICE_CATALOGUE[fault.fault].explains),
            f"{fault.fault} at {fault.tag} from {moment(fault.since):%Y-%m-%dT%H:%M:%SZ}",
        )
        for fault in faults
    ]
