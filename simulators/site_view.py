"""What the instruments of a site show: machines and sensors over its true state, and the ground truth of its faults.

Vectorised over time; layers that the waterworks has, too, are shared (`machine`, `sensors`, `telemeter`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from devices.model import DAY, MINUTE, SECOND, Instant, moment
from simulators.actuator import stem_torque
from simulators.catalogue import CATALOGUE, On
from simulators.curves import BAR_PER_METRE, DENSITY, GRAVITY
from simulators.demand import local_hour
from simulators.injection import Injection, intensity
from simulators.machine import BEARING_LAG, VOLTAGE, electrical_power, lagged, motor_current
from simulators.noise import Floats, Integers, choice, drift, uniform
from simulators.observation import Observation
from simulators.sensors import INSTRUMENTS, measure, respond
from simulators.site import LOGGER, PUMP, VALVE, Mounted, Site
from simulators.site_run import STEP, State, play
from simulators.telemeter import status
from simulators.truth import GroundTruth, Truth, Watched
from simulators.vibration import rms, spectrum
from simulators.water_hammer import DUCTILE_IRON, surge, wave_speed

_AT_REST = 0.15
"""mm/s that neighbours shake a standing pump with."""
_HAMMER: Instant = 20 * MINUTE
_HAMMER_VELOCITY = 1.0
"""m/s that are stopped in a water hammer of severity 1."""
_USUAL = {"pressure": 4.0, "outlet_pressure": 3.0, "suction_pressure": 1.0, "flow": 40.0}
"""What sensor faults are measured by where a metric has no reading of its own to take."""
_BROKEN = {"pressure": -1.3, "outlet_pressure": -1.3, "suction_pressure": -1.3, "flow": 5000.0}
"""What a broken wire makes of a metric: below or above all that its sensor can measure (NAMUR NE 43)."""
_LOGGED = 15
"""Minutes between two samples of a logger, which its extremes are of."""
_SLOWEST_STROKE = 600.0
"""s: a positioner gives up after that."""
SEEN = {"pressure": 0.25, "outlet_pressure": 0.25, "flow": 2.0, "position": 2.0}
"""bar, m³/h and %: by how much the mean of a reading must differ for a device to count as one that sees a fault."""

CONSEQUENCES = (
    "pressure-low", "pressure-high", "pressure-transient", "pump-flow-below-minimum", "pump-efficiency-low",
    "valve-cavitation", "motor-overload", "pressure-sensor-failed", "flow-jump", "pump-dry-run",
    "pump-vibration-changed", "bearing-temperature-rising", "flow-sensor-failed",
    "logger-pressure-swing",
)  # fmt: skip
"""Shipped rules whose alarms a fault explains on other devices than its own: what the water carries there."""


def observe_site(site: Site, seed: int, faults: Sequence[Injection], start: Instant, end: Instant) -> Observation:
    """What is shown at whole minutes in [start, end), by tag and metric, in wire units.

    `ValueError` for a fault that the site cannot have or a time range without a minute.
    """
    state = play(site, seed, faults, start, end)
    shown: dict[str, dict[str, Floats]] = {}
    for k, pump in enumerate(site.of(PUMP)):
        shown[pump.tag] = _pump(site, seed, faults, state, k, pump)
    for k, valve in enumerate(site.of(VALVE)):
        shown[valve.tag] = _valve(site, seed, faults, state, k, valve)
    for logger in site.of(LOGGER):
        shown[logger.tag] = _logger(state, logger)
    values: dict[str, dict[str, Floats]] = {}
    for mounted in site.mounted:
        true = shown[mounted.tag]
        _hammer(state, mounted, faults, true)
        radio = status(seed, mounted.tag, state.times, np.zeros(len(state.times)), np.zeros(len(state.times)))
        if mounted.entry.profile == LOGGER:
            radio = {name: radio[name] for name in ("battery_voltage", "rsrp")}
        true.update(radio)
        values[mounted.tag] = {
            metric: _instrument(seed, mounted.tag, metric, respond(metric, series, STEP), state.times, faults)
            for metric, series in true.items()
        }
        if mounted.entry.profile == LOGGER:
            values[mounted.tag] |= _extremes(true, values[mounted.tag])
    return Observation(state.times, values)


def truth_of_site(
    site: Site, seed: int, faults: Sequence[Injection], start: Instant, end: Instant, shown: Observation | None = None
) -> GroundTruth:
    """The ground truth of a run.

    A fault of an asset stands there for the asset's own device, and every fault that the water carries also for each
    device whose readings differ from those of the same run without faults by more than `SEEN`; there it explains
    `CONSEQUENCES`, too. Where two faults overlap, what the one does is also written down for the other. `shown` spares
    a second simulation.
    """
    lines: list[Truth] = []
    healthy: Observation | None = None
    for fault in faults:
        entry = CATALOGUE[fault.fault]
        own = fault.target.split("/")[0]
        event = f"{fault.fault} at {fault.target} from {moment(fault.since):%Y-%m-%dT%H:%M:%SZ}"
        explains = (*entry.rules, *entry.explains)
        seeing: dict[str, tuple[str, ...]] = {}
        if entry.on is not On.INSTRUMENT:
            if shown is None:
                shown = observe_site(site, seed, faults, start, end)
            if healthy is None:
                healthy = observe_site(site, seed, (), start, end)
            others = (*explains, *(rule for rule in CONSEQUENCES if rule not in explains))
            found = _who_sees(healthy, shown, fault)
            if not found and entry.on in (On.NODE, On.LINK):
                found = (site.mounted[0].tag,)
            seeing = dict.fromkeys(found, others)
        if entry.on not in (On.NODE, On.LINK):
            seeing = {own: seeing.get(own, explains), **{tag: rules for tag, rules in seeing.items() if tag != own}}
        for rule, group in _groups(site):
            if rule in explains or any(rule in seeing.get(tag, ()) for tag in group):
                seeing[group[0]] = (*seeing.get(group[0], ()), rule)
        lines += [
            Truth(fault.fault, site.identity(tag, seed), fault.since, fault.until, fault.severity, rules, event)
            for tag, rules in seeing.items()
        ]
    devices = tuple(device.identity for device in site.devices(seed))
    return GroundTruth(tuple(lines), Watched(start, end, devices))


def _groups(site: Site) -> Iterator[tuple[str, list[str]]]:
    """The shipped rules on groups that a fault shows in, each with its devices: the first by tag tells it for all."""
    by_place: dict[tuple[str, str], list[str]] = {}
    for one in site.mounted:
        for rule, design in (("station-balance-off", "station_inlet"), ("redundant-sensors-disagree", "redundant")):
            if one.entry.design.get(design) == 1.0:
                by_place.setdefault((rule, ""), []).append(one.tag)
        told = {VALVE: "pressure-transient", LOGGER: "logger-pressure-swing"}.get(one.entry.profile)
        if told is not None:
            by_place.setdefault((told, one.entry.area), []).append(one.tag)
    for (rule, _), tags in by_place.items():
        yield rule, sorted(tags)


def _who_sees(healthy: Observation, shown: Observation, fault: Injection) -> tuple[str, ...]:
    during = (shown.times >= fault.since) & (shown.times < fault.until)
    if not during.any():
        return ()
    return tuple(
        tag
        for tag, metrics in shown.values.items()
        if any(
            float(np.max(np.abs(metrics[metric][during] - healthy.values[tag][metric][during])))
            > SEEN[metric] * INSTRUMENTS[metric].factor
            for metric in SEEN
            if metric in metrics
        )
    )


def _pump(site: Site, seed: int, faults: Sequence[Injection], state: State, k: int, pump: Mounted) -> dict[str, Floats]:
    times, design, tag = state.times, pump.entry.design, pump.tag
    n, running, flow, head = state.speed[k], state.running[k] > 0.5, state.pump_flow[k], state.head[k]
    wrong = {
        kind: intensity(faults, kind, tag, times)
        for kind in ("dry-run", "dead-head", "bearing-wear", "impeller-wear", "misalignment", "motor-overload")
    }
    rated_flow, rated_power = design["rated_flow"], design["rated_power"]
    best = design.get("efficiency", 0.78) * (1.0 - 0.35 * wrong["impeller-wear"])
    x = np.clip(flow / (rated_flow * np.maximum(n, 1e-6)), 0.0, 1.8)
    # P = ρ·g·Q·H/η with the parabolic efficiency of `curves`; Q cancels out, so that it is finite without flow.
    shaft = DENSITY * GRAVITY * head * rated_flow * n / (3.6e6 * best * (2.0 - x))
    shaft = np.where(wrong["dry-run"] > 0.5, 0.22 * rated_power * n**3, shaft)
    shaft = shaft + 0.8 * rated_power * wrong["motor-overload"] * n
    voltage = VOLTAGE * (1.0 + 0.008 * drift(seed, f"voltage/{site.document.site}", times, 10 * MINUTE))
    power = np.where(running, electrical_power(shaft, rated_power), 0.0)
    current = np.where(running, motor_current(power, voltage, rated_power), 0.0)
    rated_speed = design.get("rated_speed", 1480.0)
    away = np.where(wrong["dry-run"] > 0.5, 0.0, np.square(x - 1.0))
    balance = np.full(len(times), choice(seed, f"{tag}/balance", 1.2, 2.2))
    lines = spectrum(
        n * rated_speed / 60.0, n, balance, away, wrong["misalignment"], wrong["bearing-wear"], state.boiling[k]
    )
    vibration = np.where(running, rms(lines), _AT_REST)
    hour = local_hour(times, site.document.utc_offset)
    room = 21.0 + 2.5 * np.cos((hour - 15.0) * (2.0 * np.pi / 24.0))
    heat = choice(seed, f"{tag}/heating", 24.0, 30.0) * (0.4 * n * n + 0.6 * np.minimum(power / rated_power, 2.0))
    heat = heat + 52.0 * wrong["bearing-wear"] * n
    water = site.document.temperature + 0.3 * drift(seed, f"water/{site.document.site}", times, 360 * MINUTE)
    # Without through-flow the shaft power warms the casing: a first-order rise towards boiling.
    shut = np.where(running, wrong["dead-head"], 0.0)
    return {
        "running": running.astype(np.float64),
        "suction_pressure": state.suction[k],
        "pressure": state.discharge[k],
        "flow": flow,
        "speed": n * rated_speed,
        "current": current,
        "voltage": voltage,
        "power": power,
        "vibration": vibration,
        "bearing_temperature": lagged(room + np.where(running, heat, 0.0), STEP, BEARING_LAG),
        "temperature": water + lagged(60.0 * shut, STEP, 30 * MINUTE),
    }


def _valve(
    site: Site, seed: int, faults: Sequence[Injection], state: State, k: int, valve: Mounted
) -> dict[str, Floats]:
    times, tag = state.times, valve.tag
    link = state.links[valve.link]
    inlet, outlet = state.begins[link], state.ends[link]
    before = state.pressure[inlet]
    # Both transmitters sit on the valve's flanges, at one height; the node behind it may lie higher or lower.
    behind = state.pressure[outlet] + BAR_PER_METRE * (state.elevation[outlet] - state.elevation[inlet])
    friction = 1.0 + 1.5 * intensity(faults, "valve-friction", tag, times)
    dn = np.array([[valve.entry.design.get("dn", 100.0)]])
    drop = np.maximum(before - behind, 0.0)
    torque = stem_torque(state.position[[k]], state.command[[k]], drop[None, :], dn, friction[None, :])[0]
    hot = 60.0 * intensity(faults, "critical-flow", tag, times)
    water = site.document.temperature + 0.3 * drift(seed, f"water/{site.document.site}", times, 360 * MINUTE)
    broken = intensity(faults, "flow-sensor-fault", tag, times)
    wire = intensity(faults, "pressure-sensor-fault", tag, times)
    flow = state.flow[link] * (1.0 + 0.4 * broken)
    pressure = before - 7.0 * wire
    return {
        "position": state.position[k] + 20.0 * intensity(faults, "position-sensor-fault", tag, times),
        "position_command": state.command[k],
        "pressure": np.where(wire > 0.0, np.maximum(pressure, _BROKEN["pressure"]), pressure),
        "outlet_pressure": behind,
        "flow": np.where(broken >= 0.8, _BROKEN["flow"], flow),
        "torque": torque,
        "stroke_time": _stroke_time(faults, state, k, valve),
        "temperature": water + hot,
    }


def _stroke_time(faults: Sequence[Injection], state: State, k: int, valve: Mounted) -> Floats:
    """Seconds that the last stroke took, by full travel, as a positioner tells it: of moves that take three seconds or
    more."""
    slow = (1.0 - 0.99 * intensity(faults, "servomotor-leak", valve.tag, state.times)) * (
        1.0 - 0.95 * intensity(faults, "supply-pressure-drop", valve.tag, state.times)
    )
    took = np.minimum(valve.entry.design.get("stroke_time", 60.0) / slow, _SLOWEST_STROKE)
    moved = np.abs(np.diff(state.position[k], prepend=state.position[k][0])) >= 100.0 * 3.0 / took
    moved[0] = True
    return np.asarray(took[np.maximum.accumulate(np.where(moved, np.arange(len(took)), 0))])


def _logger(state: State, logger: Mounted) -> dict[str, Floats]:
    if logger.node:
        pressure = state.pressure[state.nodes[logger.node]]
        return {"pressure": pressure, "pressure_max": pressure, "pressure_min": pressure}
    link = state.links[logger.link]
    pressure = state.pressure[state.begins[link]]
    return {"pressure": pressure, "pressure_max": pressure, "pressure_min": pressure, "flow": state.flow[link]}


def _extremes(true: dict[str, Floats], shown: dict[str, Floats]) -> dict[str, Floats]:
    """The highest and the lowest that a logger's gauge showed since its sample before; it samples fast inside."""
    found: dict[str, Floats] = {}
    for metric, extreme in (("pressure_max", np.maximum), ("pressure_min", np.minimum)):
        beyond = (true[metric] - true["pressure"]) * INSTRUMENTS[metric].factor
        each = np.round(shown["pressure"] + beyond, INSTRUMENTS[metric].decimals)
        within = np.concatenate([np.repeat(each[:1], _LOGGED - 1), each])
        found[metric] = extreme.reduce(sliding_window_view(within, _LOGGED), axis=1)
    return found


def _hammer(state: State, mounted: Mounted, faults: Sequence[Injection], true: dict[str, Floats]) -> None:
    """A wave goes through the nodes next to where water is stopped: up in one sample, down in the next."""
    for fault in faults:
        if fault.fault != "water-hammer" or not _beside(state, mounted, state.nodes[fault.target]):
            continue
        rise = surge(_HAMMER_VELOCITY * fault.intensity(state.times), wave_speed(200.0, 6.0, DUCTILE_IRON))
        phase = (state.times - fault.since) % _HAMMER
        # A sample falls somewhere into the wave, which is damped within seconds.
        wave = np.where(phase < MINUTE, 0.6 * rise, np.where(phase < 2 * MINUTE, -0.4 * rise, 0.0))
        # Whoever samples faster than it dies away sees its first peak, and the reflected one.
        peak = np.where(phase < MINUTE, rise, 0.0)
        trough = np.where((phase >= MINUTE) & (phase < 2 * MINUTE), -rise, 0.0)
        waves = {"pressure": wave, "outlet_pressure": wave, "pressure_max": peak, "pressure_min": trough}
        for metric, change in waves.items():
            if metric in true:
                true[metric] = np.maximum(true[metric] + change, -0.97)


def _beside(state: State, mounted: Mounted, node: int) -> bool:
    own = {state.nodes[mounted.node]} if mounted.node else set()
    if mounted.link:
        own = {int(state.begins[state.links[mounted.link]]), int(state.ends[state.links[mounted.link]])}
    if node in own:
        return True
    touching = (state.begins == node) | (state.ends == node)
    return bool(own & {*state.begins[touching].tolist(), *state.ends[touching].tolist()})


def _instrument(seed: int, tag: str, metric: str, true: Floats, times: Integers, faults: Sequence[Injection]) -> Floats:
    """What an instrument shows, in its wire unit, with the faults that it has."""
    target = f"{tag}/{metric}"
    mine = [fault for fault in faults if fault.target == target and CATALOGUE[fault.fault].on is On.INSTRUMENT]
    # What a fault of the valve has made of its transmitter: a broken wire.
    broken = true == _BROKEN.get(metric, np.inf)
    if not mine:
        return _with_broken(metric, measure(seed, tag, metric, true, times), broken)
    usual = max(abs(float(np.median(true))), 0.25 * _USUAL.get(metric, 1.0))
    value = true.copy()
    for fault in mine:
        size = fault.intensity(times)
        if fault.fault == "sensor-offset":
            value = value - 0.2 * usual * size
        elif fault.fault == "sensor-drift":
            value = value + 0.1 * usual * size * np.maximum(times - fault.since, 0) / DAY
        elif fault.fault == "sensor-noise":
            spread = uniform(seed, f"{target}/noise", times // SECOND) + uniform(
                seed, f"{target}/noise2", times // SECOND
            )
            value = value + usual * size * (spread - 1.0) / np.sqrt(1.5)
        elif fault.fault == "sensor-spikes":
            struck = uniform(seed, f"{target}/spikes", times // SECOND) < 0.1
            value = np.where(struck, value * (1.0 + size), value)
        elif fault.fault == "sensor-range":
            broken = broken | (size > 0.0)
    shown = _with_broken(metric, measure(seed, tag, metric, value, times), broken)
    for fault in mine:
        if fault.fault == "sensor-freeze":
            during = fault.intensity(times) > 0.0
            if during.any():
                shown = np.where(during, shown[int(np.argmax(during))], shown)
    return shown


def _with_broken(metric: str, shown: Floats, broken: NDArray[np.bool_]) -> Floats:
    """What cannot be measured stands beyond the range that instruments end at."""
    return np.where(broken, _BROKEN.get(metric, -1e6) * INSTRUMENTS[metric].factor, shown) if broken.any() else shown
