"""A seeded waterworks: pumps and control valves with coupled, physically plausible signals.

Layers, so that each can be replaced: demand → hydraulics (flow, head, pressure) → machine or actuator (power, current,
vibration, temperature, travel) → sensors (noise, resolution). Faults act on the layer where they happen
(`simulators.faults`). Everything is a pure function of (seed, times); a full hydraulic network is not modelled here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from devices.model import DAY, HOUR, MINUTE, Device
from simulators.noise import Array, Times, normal, uniform

RHO = 998.0
"""Density of water at 20 °C, kg/m3."""
G = 9.81
SITES = ("Oubei", "Qiaotou", "Shangtang")
_PUMP_MAKERS = ("Nanxi Pumps", "Yandang Machinery", "Oujiang Hydraulic")
_VALVE_MAKERS = ("Yongning Valve", "Nanxi Flow Control", "Daruoyan Valve")


@dataclass(frozen=True, slots=True)
class Asset:
    """A pump or a valve with its device."""

    device: Device
    number: int
    """Within its kind, from 0."""

    @property
    def is_pump(self) -> bool:
        """A pump, else a valve."""
        return self.device.profile == "centrifugal-pump"


@dataclass(frozen=True, slots=True)
class Plant:
    """The assets of a waterworks, and the seed that all its signals follow from."""

    seed: int
    assets: tuple[Asset, ...]


def build(seed: int, pumps: int = 12, valves: int = 12) -> Plant:
    """A plant over three sites. Same seed, same plant."""
    rng = np.random.default_rng([seed, 1])
    assets = []
    for number in range(pumps):
        site = SITES[number % len(SITES)]
        flow, head = float(rng.choice([80, 120, 200, 320])), float(rng.choice([38, 45, 55]))
        power = RHO * G * flow / 3600 * head / 0.72 / 1000
        design = {
            "rated_flow": flow, "rated_head": head, "rated_power": round(power, 1), "rated_speed": 1480.0, "pn": 16.0,
        }  # fmt: skip
        device = Device(
            identity=imei(rng), profile="centrifugal-pump", tag=f"P-{101 + number}", site=site, area="Pump house",
            unit=f"Line {number // len(SITES) + 1}", manufacturer=_PUMP_MAKERS[number % 3], model=f"KQ{int(flow)}",
            serial=f"P{seed:02d}{number:04d}", design=design,
        )  # fmt: skip
        assets.append(Asset(device, number))
    for number in range(valves):
        kv = float(rng.choice([40, 63, 100]))
        device = Device(
            identity=imei(rng), profile="control-valve", tag=f"FV-{201 + number}", site=SITES[number % len(SITES)],
            area="Network", unit=f"Zone {number // len(SITES) + 1}", manufacturer=_VALVE_MAKERS[number % 3],
            model=f"CV{int(kv)}", serial=f"V{seed:02d}{number:04d}", design={"kv": kv, "dn": 80.0, "pn": 16.0},
        )  # fmt: skip
        assets.append(Asset(device, number))
    return Plant(seed, tuple(assets))


def imei(rng: np.random.Generator) -> str:
    """A URN of a random IMEI with its check digit (Luhn, 3GPP TS 23.003 annex B)."""
    digits = [8, 6, 7, *(int(d) for d in rng.integers(0, 10, 11))]
    total = sum(sum(divmod(2 * d, 10)) if i % 2 else d for i, d in enumerate(digits))
    return "urn:dev:imei:" + "".join(map(str, digits)) + str(-total % 10)


def demand(seed: int, site: str, times: Times) -> Array:
    """Relative water demand of a site, mean about 1: night valley, morning and evening peak (diurnal pattern of
    domestic supply), weekends later and flatter, a slow wander of its own."""
    hours = (times % DAY) / HOUR + 8.0  # the plant's local time is UTC+8
    weekend = ((times // DAY + 3) % 7 >= 5).astype(float)  # 1970-01-01 was a Thursday
    shift = hours - 1.2 * weekend

    def peak(center: float, width: float) -> Array:
        distance = (shift - center + 12) % 24 - 12
        result: Array = np.exp(-0.5 * (distance / width) ** 2)
        return result

    wander = sum(
        0.03 * np.sin(2 * np.pi * (times / period + float(uniform(seed, f"{site}/{period}", np.zeros(1, np.int64))[0])))
        for period in (3.1 * HOUR, 7.7 * HOUR, 1.7 * DAY)
    )
    morning, noon, evening = (0.55 - 0.1 * weekend) * peak(7.5, 1.6), 0.15 * peak(12.5, 1.5), 0.45 * peak(19.3, 2.2)
    result: Array = 0.62 + morning + noon + evening + wander
    return result


Signals = dict[str, Array]


def signals(plant: Plant, asset: Asset, times: Times, effects: Mapping[str, Array]) -> Signals:
    """What the device of an asset measures, in canonical units, before batching. `effects` are the active faults'
    intensities from 0 to 1 by name (`simulators.faults`)."""
    model = _pump if asset.is_pump else _valve
    truth = model(plant.seed, asset, times, effects) | _device(plant.seed, asset, times, effects)
    return {name: _sense(plant.seed, asset, name, value, times) for name, value in truth.items()}


def _effect(effects: Mapping[str, Array], name: str, times: Times) -> Array:
    found = effects.get(name)
    return np.zeros(len(times)) if found is None else found


def _pump(seed: int, asset: Asset, times: Times, effects: Mapping[str, Array]) -> Signals:
    """A pump on a variable-speed drive.

    Affinity laws Q ~ n, H ~ n², P ~ n³; pump curve H = n²·H0 − a·Q² through (rated flow, rated head) with H0 = 1.25
    rated; hydraulic power P = ρ·g·Q·H; efficiency a parabola with its best point at the rated flow.
    """
    design = asset.device.design
    flow_rated, head_rated, power_rated = design["rated_flow"], design["rated_head"], design["rated_power"]
    wanted = demand(seed, asset.device.site, times)
    # Air in the casing breaks the column of water well before the suction is wholly lost.
    dry = np.clip(1.25 * _effect(effects, "pump-dry-run", times), 0, 1)
    wear = _effect(effects, "bearing-wear", times)
    # Every third pump is a peak pump, which rests at night.
    running = np.ones(len(times)) if asset.number % 3 else (wanted > 0.75).astype(float)
    flow = running * flow_rated * np.clip(0.75 * wanted + 0.2, 0.3, 1.15) * (1 - dry)
    system = 0.6 * head_rated + 0.4 * head_rated * (flow / flow_rated) ** 2
    curve = 0.25 * head_rated / flow_rated**2
    ratio = running * np.sqrt((system + curve * flow**2) / (1.25 * head_rated))
    head = running * system * (1 - 0.97 * dry)
    load = np.divide(flow, flow_rated * ratio, out=np.zeros(len(times)), where=ratio > 0)
    efficiency = np.clip(0.76 * (1 - 0.6 * (load - 1) ** 2), 0.2, None)
    hydraulic = RHO * G * flow / 3600 * head / 1000
    power = running * (hydraulic / efficiency / 0.94 + 0.08 * power_rated * ratio**3)
    suction = 0.8 + 0.2 * (1.2 - wanted) - 1.1 * dry
    vibration = 0.1 + running * (1.4 + 0.6 * ratio**2 + 0.9 * (load - 1) ** 2 * (1 - dry) + 1.2 * dry + 9.0 * wear)
    return {
        "running": running,
        "suction_pressure": suction,
        "pressure": suction + RHO * G * head / 1e5,
        "flow": flow,
        "speed": 1480.0 * ratio,
        "current": power * 1000 / (np.sqrt(3) * 400 * 0.86),
        "power": power,
        "vibration": vibration,
        "bearing_temperature": _lag(24 + 22 * running * np.clip(power / power_rated, 0, 1.3) + 60 * wear, times),
    }


def _lag(target: Array, times: Times, constant: int = 25 * MINUTE) -> Array:
    """First-order thermal lag (time constant 25 min for a bearing housing); starts in equilibrium."""
    result = np.empty_like(target)
    state = float(target[0])
    steps = np.diff(times, prepend=times[0])
    for index, weight in enumerate(1 - np.exp(-steps / constant)):
        state += weight * (target[index] - state)
        result[index] = state
    return result


def _valve(seed: int, asset: Asset, times: Times, effects: Mapping[str, Array]) -> Signals:
    """A control valve with positioner. Flow Q = Kv·√(Δp/SG) with an equal-percentage trim of rangeability 50
    (IEC 60534-2-1, IEC 60534-2-4)."""
    kv = asset.device.design["kv"]
    wanted = demand(seed, asset.device.site, times)
    burst = _effect(effects, "pipe-burst", times)
    stuck = _effect(effects, "stiction", times)
    passing = _effect(effects, "seat-passing", times)
    command = np.clip(28 + 38 * (wanted - 0.6), 12, 88)
    if asset.number % 4 == 3:  # fills a tank at night and stays closed by day
        hour = (times % DAY) / HOUR + 8.0
        command = np.where((hour % 24 > 7) & (hour % 24 < 22), 0.0, command)
    command = np.round(command, 1)
    position = np.where(stuck > 0, np.clip(command - 14 * np.sign(command - 30.5) * stuck, 0, 100), command)
    inlet = (4.9 - 0.5 * wanted) * (1 - 0.72 * burst)
    outlet = np.minimum(2.4 + 0.1 * wanted, inlet * 0.9)
    opening = np.where(position > 0.2, 50.0 ** (position / 100 - 1), 0.0)
    flow = (kv * opening + 0.06 * kv * passing * (opening == 0)) * np.sqrt(np.clip(inlet - outlet, 0, None))
    moved = np.abs(np.diff(position, prepend=position[0]))
    return {
        "position": position,
        "position_command": command,
        "pressure": inlet,
        "outlet_pressure": outlet,
        "flow": flow,
        "torque": 42 + 3 * np.minimum(moved, 5) + 55 * stuck,
        "temperature": 17 + 2 * np.sin(2 * np.pi * times / DAY),
    }


def _device(seed: int, asset: Asset, times: Times, effects: Mapping[str, Array]) -> Signals:
    """Battery, radio and enclosure."""
    name = asset.device.identity
    charge = 55 + 40 * float(uniform(seed, name, np.zeros(1, np.int64))[0])
    flat = _effect(effects, "battery-collapse", times)
    coverage = -82 - 30 * float(uniform(seed, name, np.ones(1, np.int64))[0])
    return {
        "battery": charge * (1 - flat) ** 2 + 7 * flat - (times - times[0]) / (2000 * DAY) * 100,
        "rsrp": np.full(len(times), coverage),
        "enclosure_open": (_effect(effects, "tamper", times) > 0.5).astype(float),
    }


_SENSORS: dict[str, tuple[float, float]] = {
    # metric: (noise, one standard deviation; resolution), canonical units
    "running": (0, 1), "suction_pressure": (0.01, 0.005), "pressure": (0.02, 0.005), "outlet_pressure": (0.02, 0.005),
    "flow": (0.15, 0.05), "speed": (2, 1), "current": (0.1, 0.05), "power": (0.05, 0.01), "vibration": (0.12, 0.01),
    "bearing_temperature": (0.15, 0.1), "temperature": (0.1, 0.1), "position": (0.15, 0.1),
    "position_command": (0, 0.1), "torque": (0.8, 0.5), "battery": (0.2, 1), "rsrp": (2, 1), "enclosure_open": (0, 1),
}  # fmt: skip
_BOUNDS = {"position": (0, 100), "flow": (0, 1e9), "vibration": (0, 50), "battery": (0, 100), "power": (0, 1e9),
           "current": (0, 1e9), "speed": (0, 1e9)}  # fmt: skip


def _sense(seed: int, asset: Asset, metric: str, truth: Array, times: Times) -> Array:
    """What the instrument shows: noise, then resolution."""
    noise, resolution = _SENSORS[metric]
    value = truth
    if noise:
        shaken = truth + noise * normal(seed, f"{asset.device.identity}/{metric}", times)
        # A standing machine and a closed valve read zero, not noise.
        value = np.where(truth == 0, 0.0, shaken)
    low, high = _BOUNDS.get(metric, (-1e9, 1e9))
    shown = np.clip(np.round(value / resolution) * resolution, low, high)
    return np.round(shown, 6).astype(np.float64)
