"""A site plays its time: controllers, actuators and EPANET, minute by minute, with faults where they bite.

The true state only; what instruments show of it is in `site_view`. The same seed gives the same state. A network has
memory (tanks, controllers): unlike the waterworks' a run depends on where it begins, two hours before `start`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from devices.model import DAY, HOUR, MINUTE, Instant
from simulators.catalogue import CATALOGUE, On
from simulators.cavitation import choked_drop, head_left, npsh_available, npsh_required
from simulators.curves import BAR_PER_METRE, opening_factor
from simulators.demand import local_hour
from simulators.epanet import Hydraulics, Network
from simulators.injection import Injection, intensity
from simulators.noise import Floats, Integers, drift
from simulators.site import PUMP, VALVE, Control, Mounted, Site

STEP: Instant = MINUTE
WARM_UP: Instant = 2 * HOUR
"""Controllers and bearings have settled by then."""
SHUT_OFF = 4.0 / 3.0
"""EPANET's one-point curve: the head without flow over that of the rated point."""
BURST, BACKGROUND, DRAW = 300.0, 2.0, 60.0
"""m³/h (at 1 bar) of a burst and a background leak, m³/h of an illegal draw; of severity 1."""
STRAINER = 14.0
"""m of head at rated flow that a clogged strainer takes."""
_BOILING = -0.97
"""bar: the suction of a pump whose source has gone."""
_SPEED_GAIN, _VALVE_GAIN, _FLOW_GAIN = 0.02, 3.0, 8.0
"""Per minute: share of speed a bar, % of travel a bar, % of travel for all of the flow."""
_SLOWEST = 0.5
_STAGE_UP, _STAGE_DOWN = 1.1, 0.85
"""Of rated flow a pump: when one more is started, and when those that stay could do it."""
_SETTLE = 15
"""Minutes between two changes of staging."""


@dataclass(frozen=True)
class State:
    """What is true at a site, [asset or node or link, time], canonical units; assets in the order of `Site.of`."""

    times: Integers
    nodes: dict[str, int]
    links: dict[str, int]
    begins: Integers
    ends: Integers
    elevation: Floats
    """m, of nodes."""
    pressure: Floats
    flow: Floats
    velocity: Floats
    """m/s in links, 0 in pumps."""
    running: Floats
    speed: Floats
    head: Floats
    """m that a pump adds between its flanges."""
    suction: Floats
    discharge: Floats
    pump_flow: Floats
    boiling: Floats
    """0…1, how much a pump cavitates."""
    command: Floats
    position: Floats


def play(site: Site, seed: int, faults: Sequence[Injection], start: Instant, end: Instant) -> State:
    """The state at whole minutes in [start, end). `ValueError` for a fault whose target the site does not have."""
    if not start < end:
        raise ValueError("the run ends before it begins")
    first = -(-start // STEP) * STEP
    times = np.arange(first - WARM_UP, end, STEP, dtype=np.int64)
    if first >= end:
        raise ValueError("no sample falls into this time range: make it a minute at least")
    begins = (int(times[0]) + site.document.utc_offset) % DAY
    with Network(site.network, step=STEP, begins=begins) as network:
        check_faults(site, network, faults)
        run = _Run(site, network, seed, faults, times)
        for at in range(len(times)):
            run.minute(at)
        return run.state(WARM_UP // STEP)


def check_faults(site: Site, network: Network, faults: Sequence[Injection]) -> None:
    """`ValueError` for a fault whose target is not in the site, or cannot have it."""
    tags = {one.tag: one.entry.profile for one in site.mounted}
    for fault in faults:
        on = CATALOGUE[fault.fault].on
        known = {
            On.PUMP: tags.get(fault.target) == PUMP,
            On.VALVE: tags.get(fault.target) == VALVE,
            On.NODE: fault.target in network.junctions,
            On.LINK: fault.target in network.link,
            On.INSTRUMENT: "/" in fault.target and fault.target.split("/")[0] in tags,
        }[on]
        if not known:
            raise ValueError(
                f"‘{fault.target}’ is nothing in this site that can have ‘{fault.fault}’: it is put on a {on}"
            )


class _Run:
    def __init__(self, site: Site, network: Network, seed: int, faults: Sequence[Injection], times: Integers) -> None:
        self._site, self._net, self._seed, self._times = site, network, seed, times
        self._faults = list(faults)
        self._pumps, self._valves = site.of(PUMP), site.of(VALVE)
        self._hour = local_hour(times, site.document.utc_offset)
        count = len(times)
        self._wrong = {
            (fault.fault, fault.target): intensity(self._faults, fault.fault, fault.target, times) for fault in faults
        }
        # One drift for each node that draws; a district's customers do not agree from minute to minute.
        stolen = {target for fault, target in self._wrong if fault == "illegal-draw"}
        self._draws = bool(stolen)
        self._drawn = [n for n in network.junctions if network.demand[network.node[n]] > 0.0 or n in stolen]
        noise = site.document.demand_noise
        self._factors = np.array([
            1.0 + noise * 0.6 * drift(seed, f"{site.document.site}/{name}/hours", times, HOUR)
            + noise * 0.8 * drift(seed, f"{site.document.site}/{name}/minutes", times, 4 * MINUTE)
            for name in self._drawn
        ]).reshape(len(self._drawn), count)  # fmt: skip
        pumps, valves = len(self._pumps), len(self._valves)
        self._pump_link = np.array([network.link[one.link] for one in self._pumps], dtype=np.int64)
        self._valve_link = np.array([network.link[one.link] for one in self._valves], dtype=np.int64)
        self._rated_flow = _design(self._pumps, "rated_flow")
        self._rated_head = _design(self._pumps, "rated_head")
        self._npsh = _design(self._pumps, "npsh_required", 3.0)
        self._kvs = _design(self._valves, "kv")
        self._stroke = _design(self._valves, "stroke_time", 60.0)
        self._recovery = _design(self._valves, "fl", 0.9)
        tags = [one.tag for one in self._valves]
        self._control: list[tuple[Control, list[int]]] = []
        self._staged: list[tuple[Control, list[int]]] = []
        for control in site.document.controls:
            places = [k for k, one in enumerate(self._pumps) if one.tag in control.on]
            if places:
                self._staged.append((control, places))
            else:
                self._control.append((control, [k for k, tag in enumerate(tags) if _named(tag, control.on)]))
        self._on = np.ones(pumps, dtype=np.bool_)
        self._set_speed = np.full(pumps, 0.85)
        self._managed = np.zeros(pumps, dtype=np.bool_)
        for _, places in self._staged:
            self._on[places] = False
            self._on[places[0]] = True
            self._managed[places] = True
        self._changed = [-_SETTLE] * len(self._staged)
        self._asked = np.full(valves, 60.0)
        self._stem = np.full(valves, 60.0)
        self._drop = np.zeros(pumps)
        self._choke = np.ones(valves)
        self._last: Hydraulics | None = None
        of_pumps = ("running", "speed", "head", "suction", "discharge", "pump_flow", "boiling")
        self._rows: dict[str, Floats] = {
            **{name: np.zeros((pumps, count)) for name in of_pumps},
            **{name: np.zeros((valves, count)) for name in ("command", "position")},
            "pressure": np.zeros((len(network.nodes), count)),
            "flow": np.zeros((len(network.links), count)),
        }
        self._closed: set[str] = set()

    def _at(self, fault: str, target: str, at: int) -> float:
        series = self._wrong.get((fault, target))
        return 0.0 if series is None else float(series[at])

    def _all(self, fault: str, assets: Sequence[Mounted], at: int) -> Floats:
        if not any(kind == fault for kind, _ in self._wrong):
            return np.zeros(len(assets))
        return np.array([self._at(fault, one.tag, at) for one in assets])

    def minute(self, at: int) -> None:
        """One step: command, move, solve, keep."""
        self._command_pumps(at)
        self._command_valves(at)
        self._move(at)
        self._set_network(at)
        now = self._net.step()
        self._keep(at, now)
        self._last = now

    def _command_pumps(self, at: int) -> None:
        if self._last is None:
            return
        for number, (control, places) in enumerate(self._staged):
            assert control.pressure is not None
            on = [k for k in places if self._on[k]]
            missing = control.pressure - self._last.pressure[self._net.node[control.pressure_at]]
            change = np.clip(_SPEED_GAIN * missing, -0.05, 0.05)
            for k in places:
                self._set_speed[k] = np.clip(self._set_speed[k] + change, _SLOWEST, 1.0)
            if at - self._changed[number] < _SETTLE:
                continue
            through = max(0.0, float(sum(self._rows["pump_flow"][k, at - 1] for k in on)))
            speed = float(np.mean(self._set_speed[on]))
            rated = float(np.mean(self._rated_flow[places]))
            waiting = [k for k in places if not self._on[k]]
            if waiting and (through > _STAGE_UP * rated * len(on) or (speed >= 0.999 and missing > 0.1)):
                self._on[waiting[0]] = True
                self._changed[number] = at
            elif len(on) > 1 and through < _STAGE_DOWN * rated * (len(on) - 1) and missing < 0.1:
                self._on[on[-1]] = False
                self._changed[number] = at

    def _command_valves(self, at: int) -> None:
        for control, places in self._control:
            shut = control.open_hours is not None and not _within(self._hour[at], control.open_hours)
            for k in places:
                if shut:
                    self._asked[k] = 0.0
                elif control.opening is not None:
                    self._asked[k] = control.opening
                elif self._last is not None:
                    if self._asked[k] == 0.0:
                        self._asked[k] = 40.0
                    if control.flow is not None:
                        through = self._last.flow[self._valve_link[k]]
                        change = _FLOW_GAIN * (control.flow - through) / control.flow
                    else:
                        assert control.pressure is not None
                        held = self._last.pressure[self._net.node[control.pressure_at]]
                        change = _VALVE_GAIN * (control.pressure - held)
                    self._asked[k] = np.clip(self._asked[k] + np.clip(change, -4.0, 4.0), 2.0, 100.0)

    def _move(self, at: int) -> None:
        """Stems follow their commands in one minute, as far as actuator and packing let them."""
        valves = self._valves
        if not valves:
            return
        wanted = np.round(self._asked * 2.0) / 2.0
        self._rows["command"][:, at] = wanted
        target = wanted - 25.0 * self._all("transducer-fault", valves, at)
        target = target + 40.0 * self._all("positioner-feedback-fault", valves, at)
        target = target + 30.0 * self._all("spring-fault", valves, at)
        bent, supply = self._all("bent-rod", valves, at), self._all("supply-pressure-drop", valves, at)
        highest = 100.0 - 60.0 * bent - 80.0 * self._all("diaphragm-perforation", valves, at) - 50.0 * supply
        lowest = 40.0 * self._all("seat-sedimentation", valves, at)
        target = np.clip(target, lowest, np.maximum(np.clip(highest, 0.0, 100.0), lowest))
        slow = (1.0 - 0.99 * self._all("servomotor-leak", valves, at)) * (1.0 - 0.95 * supply)
        step = 100.0 * 60.0 / self._stroke * slow
        band = 100.0 * self._all("valve-friction", valves, at) + 10.0 * bent
        error = target - self._stem
        moves = (np.abs(error) > band) | (band <= 0.0)
        self._stem = self._stem + np.where(moves, np.clip(error, -step, step), 0.0)
        self._rows["position"][:, at] = self._stem

    def _set_network(self, at: int) -> None:
        net = self._net
        night = 1.0 <= self._hour[at] < 4.0
        for place, name in enumerate(self._drawn):
            extra = DRAW * self._at("illegal-draw", name, at) if night and self._draws else 0.0
            net.set_demand(name, self._factors[place, at], extra)
        self._set_pumps(at)
        self._set_valves(at)
        self._set_leaks(at)
        for fault, target in self._wrong:
            if fault == "valve-left-closed":
                shut = self._at(fault, target, at) >= 0.5
                if shut != (target in self._closed):
                    net.set_closed(target, closed=shut)
                    (self._closed.add if shut else self._closed.discard)(target)

    def _set_pumps(self, at: int) -> None:
        speed = np.where(self._on, self._set_speed, 0.0)
        self._rows["speed"][:, at] = speed
        dry, dead = self._all("dry-run", self._pumps, at), self._all("dead-head", self._pumps, at)
        worn = 1.0 - 0.35 * self._all("impeller-wear", self._pumps, at)
        highest = SHUT_OFF * self._rated_head
        # What is lost before and behind the impeller lowers the curve as a lower speed would.
        left = np.square(speed) * worn * (1.0 - dry) * (1.0 - dead) - self._drop / highest
        effective = np.sqrt(np.maximum(left, 0.0))
        for k, pump in enumerate(self._pumps):
            if self._managed[k] or at == 0 or effective[k] < 0.999 * speed[k] or (pump.link in self._closed):
                stopped = effective[k] < 0.1
                if stopped:
                    self._net.set_speed(pump.link, 0.0)
                    self._closed.add(pump.link)
                else:
                    self._net.set_speed(pump.link, float(effective[k]))
                    self._closed.discard(pump.link)

    def _set_valves(self, at: int) -> None:
        valves = self._valves
        if not valves:
            return
        seat = np.maximum(
            0.15 * self._all("seat-erosion", valves, at), 0.08 * self._all("valve-internal-leak", valves, at)
        )
        plug = np.maximum(opening_factor(self._stem), seat) * (1.0 - 0.95 * self._all("valve-clogging", valves, at))
        around = 0.5 * self._all("bypass-open", valves, at)
        kv = (plug + around) * self._kvs * self._choke
        for k, valve in enumerate(valves):
            self._net.set_conductance(valve.link, float(kv[k]) if kv[k] > 1e-4 * self._kvs[k] else 0.0)

    def _set_leaks(self, at: int) -> None:
        net = self._net
        leaks: dict[str, float] = {}
        for fault, target in self._wrong:
            size = self._at(fault, target, at)
            if fault == "burst":
                leaks[target] = leaks.get(target, 0.0) + BURST * size
            elif fault == "background-leak":
                leaks[target] = leaks.get(target, 0.0) + BACKGROUND * size
            elif fault in ("valve-external-leak", "pressure-change"):
                k = next(k for k, one in enumerate(self._valves) if one.tag == target)
                node = net.nodes[net.begins[self._valve_link[k]]]
                share = 0.05 if fault == "valve-external-leak" else 4.0
                leaks[node] = leaks.get(node, 0.0) + share * self._kvs[k] * size
        for node, conductance in leaks.items():
            net.set_emitter(node, conductance)

    def _keep(self, at: int, now: Hydraulics) -> None:
        rows, net = self._rows, self._net
        rows["pressure"][:, at], rows["flow"][:, at] = now.pressure, now.flow
        if len(self._pumps):
            self._keep_pumps(at, now)
        if len(self._valves):
            links = self._valve_link
            before, behind = now.pressure[net.begins[links]], now.pressure[net.ends[links]]
            hot = self._site.document.temperature + 60.0 * self._all("critical-flow", self._valves, at)
            most, drop = choked_drop(before, hot, self._recovery), np.maximum(before - behind, 1e-6)
            # Beyond the choked drop the flow is that of the choked drop; half a step at a time, as the drop follows it.
            wanted = np.minimum(1.0, np.sqrt(most / drop))
            self._choke = np.clip(0.5 * self._choke + 0.5 * wanted, 0.05, 1.0)

    def _keep_pumps(self, at: int, now: Hydraulics) -> None:
        rows, net, links = self._rows, self._net, self._pump_link
        speed = rows["speed"][:, at]
        # A pump that the file's own controls have stopped.
        stopped = (now.closed[links] > 0.0) & np.array([one.link not in self._closed for one in self._pumps])
        running = (speed > 0.0) & ~(stopped & ~self._managed)
        flow = np.where(running, now.flow[links], 0.0)
        source = np.maximum(now.pressure[net.begins[links]], _BOILING)
        dry, dead = self._all("dry-run", self._pumps, at), self._all("dead-head", self._pumps, at)
        clogged, gone = self._all("strainer-clogging", self._pumps, at), self._all("pump-cavitation", self._pumps, at)
        worn = 1.0 - 0.35 * self._all("impeller-wear", self._pumps, at)
        strainer = STRAINER * clogged * np.square(flow / self._rated_flow)
        suction = source - BAR_PER_METRE * strainer
        suction = np.where(running, suction - np.maximum(suction - _BOILING, 0.0) * np.maximum(gone, 0.7 * dry), source)
        suction = np.maximum(suction, _BOILING)
        curve = SHUT_OFF * np.square(speed) * worn - (SHUT_OFF - 1.0) * np.square(flow / self._rated_flow)
        ideal = np.maximum(curve * self._rated_head * (1.0 - dry), 0.0)
        available = npsh_available(suction, self._site.document.temperature)
        margin = available / np.maximum(npsh_required(flow, speed, self._rated_flow, self._npsh), 1e-3)
        kept = np.where(running, head_left(margin), 1.0)
        head = np.where(running, ideal * kept, 0.0)
        lost = (
            np.where(running, (source - suction) / BAR_PER_METRE + ideal * (1.0 - kept), 0.0)
            * (dry < 0.5)
            * (dead < 0.5)
        )
        self._drop = 0.7 * self._drop + 0.3 * lost
        passing = self._all("check-valve-passing", self._pumps, at)
        behind = now.pressure[net.ends[links]]
        back = (
            0.15
            * passing
            * self._rated_flow
            * np.sqrt(np.maximum(behind - source, 0.0) / np.maximum(self._rated_head * BAR_PER_METRE, 0.1))
        )
        rows["running"][:, at] = running
        rows["speed"][:, at] = np.where(running, speed, 0.0)
        rows["head"][:, at] = head
        rows["suction"][:, at] = suction
        rows["discharge"][:, at] = np.where(running, suction + BAR_PER_METRE * head, np.maximum(behind, 0.0))
        rows["pump_flow"][:, at] = np.where(running, flow, -back)
        rows["boiling"][:, at] = np.where(running, np.clip((1.3 - margin) / 0.5, 0.0, 1.0), 0.0)

    def state(self, skip: int) -> State:
        """All that was kept, without the first steps."""
        rows = {name: values[:, skip:] for name, values in self._rows.items()}
        area = np.pi * np.square(self._net.diameter / 1e3) / 4.0
        speed = np.divide(
            rows["flow"] / 3600.0, area[:, None], out=np.zeros_like(rows["flow"]), where=area[:, None] > 0
        )
        return State(
            times=self._times[skip:], nodes=self._net.node, links=self._net.link, begins=self._net.begins,
            ends=self._net.ends, elevation=self._net.elevation, velocity=speed, **rows,
        )  # fmt: skip


def _design(assets: Sequence[Mounted], key: str, default: float = 1.0) -> Floats:
    return np.array([one.entry.design.get(key, default) for one in assets])


def _named(tag: str, patterns: Sequence[str]) -> bool:

    return any(fnmatchcase(tag, pattern) for pattern in patterns)


def _within(hour: float, hours: tuple[float, float]) -> bool:
    begin, end = hours
    return begin <= hour < end if begin <= end else hour >= begin or hour < end
