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
    Metric("pressure_max", "bar", "Highest gauge pressure since the previous sample, of a logger that samples faster"),
    Metric("pressure_min", "bar", "Lowest gauge pressure since the previous sample, of a logger that samples faster"),
    Metric("suction_pressure", "bar", "Gauge pressure at a pump's suction flange"),
    Metric("outlet_pressure", "bar", "Gauge pressure downstream of a valve"),
    Metric("flow", "m3/h", "Volume flow through the asset"),
    Metric("volume", "m3", "Total volume since commissioning (counter)"),
    Metric("reverse_volume", "m3", "Total volume that flowed backwards since commissioning (counter)"),
    Metric("settlement_volume", "m3", "Total volume as it stood on the meter's last settlement day"),
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
    Metric("motor_temperature", "degC", "Temperature of the motor winding"),
    Metric("insulation_resistance", "MOhm", "Insulation of the motor winding against earth"),
    Metric("frequency", "Hz", "Output frequency of the drive"),
    Metric("seal_leak", "1", "1 while there is water in the seal or motor chamber"),
    Metric("starts", "1", "Number of starts (counter)"),
    # Valve
    Metric("position", "%", "Measured stem position, 0 closed, 100 open"),
    Metric("position_command", "%", "Commanded stem position, 0 closed, 100 open"),
    Metric("torque", "N*m", "Torque or its thrust equivalent at the stem"),
    Metric("stroke_time", "s", "Duration of the last full stroke"),
    Metric("pressure_setpoint", "bar", "Outlet pressure that a pressure-reducing valve is set to hold"),
    Metric("overtorque", "1", "1 while the drive was stopped by its torque limit"),
    Metric("valve_fault", "1", "1 while the valve cannot say or reach its position"),
    Metric("local_control", "1", "1 while the device is operated on site and does not follow remote commands"),
    Metric("cycles", "1", "Number of strokes (counter)"),
    # Meter
    Metric("leak", "1", "1 while the meter sees flow that never stops"),
    Metric("burst", "1", "1 while the meter sees flow far above the usual for long"),
    Metric("reverse_flow", "1", "1 while water flows backwards"),
    Metric("empty_pipe", "1", "1 while the meter's pipe is not full"),
    Metric("magnetic_tamper", "1", "1 while a strong magnet is held to the meter"),
    # Device and radio
    Metric("battery_low", "1", "1 once the battery needs to be changed"),
    Metric("battery", "%", "Remaining battery charge"),
    Metric("battery_voltage", "V", "Battery voltage under load"),
    Metric("rsrp", "dBm", "NB-IoT reference signal received power (NRSRP, −156 … −44)"),
    Metric("snr", "dB", "Signal to noise ratio"),
    Metric("coverage_level", "1", "NB-IoT coverage enhancement level (0, 1, 2)"),
    Metric("cell_id", "1", "E-UTRAN cell that serves the device (28 bits: base station × 256 + sector)"),
    Metric("clock_error", "s", "What the device's clock was ahead by (behind: below 0), where its times were repaired"),
    Metric("connected", "1", "1 while the device says that it is on line, else 0 (Sparkplug: birth and death)"),
    Metric("enclosure_open", "1", "1 while the enclosure is open (tamper contact)"),
]

CATALOGUE: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric by its name."""
