"""The metric catalogue: every quantity that a reading can be of, with its one canonical unit.

Canonical units are those a plant engineer reads on a gauge (bar, m³/h, mm/s), not SI base units, as SenML's registry
has no bar, m³/h or mm/s; conversions are in `devices.units`. A profile chooses from this catalogue and adds ranges.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity with its canonical unit; `"1"` is a plain number or a state of 0 and 1."""

    name: str
    unit: str
    description: str


_ALL = [
    # Process
    Metric("pressure", "bar", "Gauge pressure at the asset (a valve's inlet, a pump's discharge)"),
    Metric("suction_pressure", "bar", "Gauge pressure at a pump's suction flange"),
    Metric("outlet_pressure", "bar", "Gauge pressure downstream of a valve"),
    Metric("flow", "m3/h", "Volume flow through the asset"),
    Metric("volume", "m3", "Total volume since commissioning (counter)"),
    Metric("level", "m", "Liquid level above the tank's datum"),
    Metric("temperature", "degC", "Temperature of the medium"),
    # Machine
    Metric("running", "1", "1 while the drive turns, else 0"),
    Metric("speed", "rpm", "Shaft speed"),
    Metric("current", "A", "Motor current, mean of the phases"),
    Metric("voltage", "V", "Motor supply voltage, phase to phase"),
    Metric("power", "kW", "Electrical power drawn"),
    Metric("energy", "kWh", "Electrical energy since commissioning (counter)"),
    Metric("vibration", "mm/s", "Vibration velocity on the bearing housing, RMS 10–1000 Hz (ISO 10816-7)"),
    Metric("acceleration", "g", "Vibration acceleration on the bearing housing, RMS"),
    Metric("bearing_temperature", "degC", "Temperature of the bearing metal"),
    Metric("starts", "1", "Number of starts (counter)"),
    # Valve
    Metric("position", "%", "Measured stem position, 0 closed, 100 open"),
    Metric("position_command", "%", "Commanded stem position, 0 closed, 100 open"),
    Metric("torque", "N*m", "Torque or its thrust equivalent at the stem"),
    Metric("stroke_time", "s", "Duration of the last full stroke"),
    Metric("cycles", "1", "Number of strokes (counter)"),
    # Device and radio
    Metric("battery", "%", "Remaining battery charge"),
    Metric("battery_voltage", "V", "Battery voltage under load"),
    Metric("rsrp", "dBm", "NB-IoT reference signal received power (NRSRP, −156 … −44)"),
    Metric("snr", "dB", "Signal to noise ratio"),
    Metric("coverage_level", "1", "NB-IoT coverage enhancement level (0, 1, 2)"),
    Metric("enclosure_open", "1", "1 while the enclosure is open (tamper contact)"),
]

CATALOGUE: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric by its name."""
