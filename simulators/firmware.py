"""A telemetry unit's firmware: when it samples and reports, what it writes into an uplink, its clock, its battery.

Pure: the same unit, seed, samples and faults give the same uplinks, byte for byte. What the radio does with them is in
`contacts`; what is kept until it is answered in `memory`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices.clock_repair import EARLIEST
from devices.model import SECOND, Device, Instant
from devices.profile import Profile, Reporting
from simulators import nbiot
from simulators.device_faults import BATTERY_LEFT, DRIFT, DeviceFault, active, off_spans
from simulators.nbiot import Radio
from simulators.noise import Floats, Integers, choice
from simulators.presented import UNIT_METRICS
from simulators.scenario import Fleet, Format, Protocol, format_of
from simulators.speech import encode, factor, frame_metrics, frame_series

COAP_PAYLOAD = 1024
"""Bytes of payload that fit a datagram whatever the path (RFC 7252, section 4.6); more is split, or sent in blocks."""
LARGEST_PAYLOAD = 16 * 1024
"""What a report may have at the most: the buffers of NB-IoT modems."""
_SLOW = frozenset({"temperature", "voltage"})
"""Sent with the last sample of a report only, as the unit's own metrics are: they hardly change."""
_EVENTS = frozenset({"enclosure_open", "valve_fault", "running"})
"""Sent with the last sample, and whenever they change."""


@dataclass(frozen=True, slots=True)
class Written:
    """An uplink as a unit has written it into its memory."""

    due: Instant
    """When it would like to send it, in the plant's time."""
    sequence: int
    payload: bytes
    readings: Mapping[str, list[Instant]]
    """The sample times in it by metric, as its clock had them; without those from before 2010."""
    undated: int
    """Readings in it with a time from before 2010: the platform dates them by their arrival."""
    boot: int
    """How often the unit had been started before."""
    level: int
    """Coverage level at that moment."""
    energy: float
    """J that it costs to send it, with the retransmissions that the radio will want."""

    @property
    def count(self) -> int:
        """How many readings it holds."""
        return sum(map(len, self.readings.values())) + self.undated


@dataclass(frozen=True)
class Unit:
    """A telemetry unit as it was set up."""

    device: Device
    profile: Profile
    fleet: Fleet
    tag: str
    """The tag at its site; its device may have another."""

    @property
    def reporting(self) -> Reporting:
        """When it samples and speaks."""
        return self.fleet.reporting or self.profile.reporting

    @property
    def form(self) -> Format:
        """What its payload is, for coap and mqtt."""
        return format_of(self.fleet, self.profile)

    @property
    def payload_limit(self) -> int:
        """Bytes of one uplink."""
        plain = self.fleet.protocol is Protocol.COAP and self.fleet.block is None
        return COAP_PAYLOAD if plain else LARGEST_PAYLOAD


def write(
    unit: Unit, seed: int, radio: Radio, times: Integers, shown: Mapping[str, Floats], faults: Sequence[DeviceFault]
) -> Iterator[Written]:
    """All uplinks of a run, in the order of their samples. `faults` are those of this unit.

    `ValueError` where the profile's frame cannot carry what there is to say.
    """
    grid = np.flatnonzero(times % unit.reporting.sampling == 0)
    off = off_spans(faults)
    awake = [int(at) for at in grid if not any(since <= times[at] < until for since, until in off)]
    writer = _Writer(unit, seed, radio, times, shown, faults)
    strange = abnormal(unit, shown, len(times))
    for places in _reports(unit.reporting, times, awake, strange, _cuts(faults, off)):
        yield from writer.report(places)


def abnormal(unit: Unit, shown: Mapping[str, Floats], length: int) -> NDArray[np.bool_]:
    """At which samples a unit itself finds something out of its limits."""
    found = np.zeros(length, dtype=np.bool_)
    for metric, series in shown.items():
        spec = unit.profile.metrics.get(metric)
        limits = unit.fleet.limits.get(metric) or (spec.process if spec else None)
        if limits is not None:
            value = series / factor(metric)
            found |= (value < limits[0]) | (value > limits[1])
    return found


def _cuts(faults: Sequence[DeviceFault], off: Sequence[tuple[Instant, Instant]]) -> list[Instant]:
    """Where a report ends early: when the unit goes off, and when its clock is set."""
    clocks = [fault for fault in faults if fault.fault in ("clock-reset", "clock-drift")]
    return sorted({since for since, _ in off} | {at for fault in clocks for at in (fault.since, fault.until)})


def _reports(
    reporting: Reporting,
    times: Integers,
    awake: Sequence[int],
    strange: NDArray[np.bool_],
    cuts: Sequence[Instant],
) -> Iterator[list[int]]:
    """The samples of each report. A unit reports on whole intervals; when something becomes abnormal at once, then at
    its alarm interval until it was normal for one normal interval (as pump monitors do: 5 min, 2 min in alarm)."""
    gathered: list[int] = []
    fast_until = -1
    for number, at in enumerate(awake):
        time = int(times[at])
        if gathered and any(times[gathered[-1]] < cut <= time for cut in cuts):
            yield gathered
            gathered = []
        gathered.append(at)
        was_fast = time < fast_until
        if strange[at]:
            fast_until = time + reporting.interval
        fast = time < fast_until
        step = reporting.alarm_interval or reporting.interval if fast else reporting.interval
        onset = bool(strange[at]) and not was_fast
        if onset or (time + reporting.sampling) % step < reporting.sampling or number == len(awake) - 1:
            yield gathered
            gathered = []


def _limited(profile: Profile, metric: str, series: Floats) -> Floats:
    limits = profile.metrics[metric].sensor
    return series if limits is None else np.clip(series, limits[0] * factor(metric), limits[1] * factor(metric))


class _Writer:
    """What a unit remembers from one report to the next."""

    def __init__(
        self,
        unit: Unit,
        seed: int,
        radio: Radio,
        times: Integers,
        shown: Mapping[str, Floats],
        faults: Sequence[DeviceFault],
    ) -> None:
        self._unit, self._seed, self._radio = unit, seed, radio
        self._times, self._faults = times, faults
        self._off = off_spans(faults)
        self._usual = nbiot.usual_level(seed, unit.tag, unit.fleet.coverage)
        # Fleets would all speak in the same second otherwise; each unit waits a while of its own after its last sample.
        self._wait = round(choice(seed, f"{unit.tag}/delay", 2.0, 50.0)) * SECOND
        self._charge = choice(seed, f"{unit.tag}/charge", 55.0, 99.0)
        self._told_at = int(times[0]) if len(times) else 0
        self._boot = 0
        self._sequence = 0
        framed = unit.fleet.protocol in (Protocol.COAP, Protocol.MQTT) and unit.form is Format.FRAME
        self._carried = frame_metrics(unit.profile) if framed else None
        self._series = frame_series(unit.profile) if framed else None
        # A frame has no bits for what its sensor cannot show: it stands at the end of its range.
        self._shown = (
            {metric: _limited(unit.profile, metric, series) for metric, series in shown.items()} if framed else shown
        )

    def report(self, places: Sequence[int]) -> Iterator[Written]:
        """One report, in as many uplinks as it needs."""
        last = int(self._times[places[-1]])
        boot = sum(until <= last for _, until in self._off)
        if boot != self._boot:
            self._boot, self._sequence = boot, 0
        due = last + self._wait
        level = nbiot.level_at(self._usual, due, self._faults)
        self._sleep(due)
        own = self._own(due, level)
        for payload, samples in self._packs(places, own, due):
            self._sequence += 1
            energy = nbiot.message_energy(len(payload), level) * nbiot.attempts(
                self._radio, self._seed, self._unit.tag, due, level
            )
            self._spend(energy)
            readings: dict[str, list[Instant]] = {}
            undated = 0
            for metric, _, said in samples:
                if said < EARLIEST:
                    undated += 1
                else:
                    readings.setdefault(metric, []).append(said)
            yield Written(due, self._sequence, self._garbled(payload, due), readings, undated, boot, level, energy)
            due += SECOND  # one message at a time, and each with dice of its own

    def _packs(
        self, places: Sequence[int], own: Mapping[str, float], due: Instant
    ) -> Iterator[tuple[bytes, list[tuple[str, float, Instant]]]]:
        unit = self._unit
        # One for the report, so that its samples stay a sampling interval apart.
        ahead = self._ahead(int(self._times[places[-1]]))
        samples = [
            (metric, float(series[at]), int(self._times[at]) + ahead)
            for metric, series in self._shown.items()
            if self._carried is None or metric in self._carried
            for at in self._sampled(metric, series, places)
        ]
        now = int(self._times[places[-1]]) + ahead
        samples += [
            (metric, value, now)
            for metric, value in own.items()
            if metric in unit.profile.metrics and (self._carried is None or metric in self._carried)
        ]
        payload = encode(
            unit.fleet.protocol, unit.form, unit.device.identity, unit.profile, samples, self._sequence + 1,
            due + ahead,
        )  # fmt: skip
        if len(payload) <= unit.payload_limit or len(places) == 1:
            yield payload, samples
            return
        middle = len(places) // 2
        yield from self._packs(places[:middle], {}, due)
        yield from self._packs(places[middle:], own, due)

    def _sampled(self, metric: str, series: Floats, places: Sequence[int]) -> Sequence[int]:
        """At which samples of a report a metric is sent."""
        if metric in _SLOW or (self._series is not None and metric not in self._series):
            return [places[-1]]
        if metric in _EVENTS:
            changed = [at for at in places[:-1] if at > 0 and series[at] != series[at - 1]]
            return [*changed, places[-1]]
        return places

    def _ahead(self, at: Instant) -> Instant:
        """What the unit's clock is ahead by at an instant, in whole seconds where it drifts."""
        reset = active(self._faults, "clock-reset", at)
        if reset is not None:
            return -reset.since
        fast = active(self._faults, "clock-drift", at)
        if fast is not None:
            return round(DRIFT * fast.severity * (at - fast.since) / SECOND) * SECOND
        return 0

    def _own(self, at: Instant, level: int) -> dict[str, float]:
        """The telemetry unit's own metrics, in wire units."""
        rsrp = nbiot.signal(self._seed, self._unit.tag, at, level)
        charge = self._charge
        flat = active(self._faults, "battery-flat", at)
        if flat is not None:
            half = (flat.until - flat.since) / 2
            share = min(1.0, (at - flat.since) / half) * flat.severity
            charge = charge * (1.0 - share) + BATTERY_LEFT * share
        charge = float(np.ceil(charge))
        volts = 3.62 - 0.9 * min(max((20.0 - charge) / 20.0, 0.0), 1.0) ** 2
        snr = min(max((rsrp + 118.0) * 0.7, -12.0), 25.0)
        values = {
            "battery": charge,
            "battery_voltage": round(volts, 2),
            "rsrp": rsrp,
            "snr": float(round(snr)),
            "coverage_level": float(level),
            "battery_low": float(charge < 10.0),
        }
        assert set(values) == set(UNIT_METRICS)
        return values

    def _sleep(self, until: Instant) -> None:
        sleep = self._unit.profile.sleep
        self._spend(nbiot.sleep_energy(sleep, max(until - self._told_at, 0)) + nbiot.reachable_energy(sleep))
        self._told_at = until

    def _spend(self, joule: float) -> None:
        self._charge = max(0.0, self._charge - 100.0 * joule / (self._unit.fleet.battery * 3600.0))

    def _garbled(self, payload: bytes, at: Instant) -> bytes:
        """What a firmware with a defect makes of a payload."""
        if active(self._faults, "firmware-nonsense", at) is None:
            return payload
        rng = random.Random(f"{self._seed}/{self._unit.tag}/nonsense/{at}")  # noqa: S311 - no secret
        match rng.randrange(4):
            case 0:
                return payload[: max(1, len(payload) // 2)]
            case 1:
                return rng.randbytes(rng.randrange(1, 64))
            case 2:
                return b'[{"n":"\xff\xfe"}]'
        return b'[{"bn":"' + self._unit.device.identity.encode() + b':","n":"xyzzy","u":"furlong","v":1}]'
