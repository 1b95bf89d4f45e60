"""Lets a storm happen: one loop over the sockets of its fleets, bounded by count and by time."""

from __future__ import annotations

import resource
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simulators.storm import Report, Storm
from simulators.storm_coap import CoapFleet
from simulators.storm_mqtt import MqttFleet

_TICK = 0.001
"""Seconds: what comes within one is done together. It is also the resolution of latencies."""
_REPORT_SECONDS = 0.25
_LAST_ANSWERS_SECONDS = 2.0
"""How long a storm that was told to stop waits for what is under way."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Where it goes: a CoAP gateway, a broker, or both, each with its half of the devices. Addresses, not names."""

    coap: tuple[str, int] | None = None
    mqtt: str | None = None


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks: `monotonic` and `cpu` in seconds, `offset` is what makes `monotonic` seconds since 1970."""

    monotonic: Callable[[], float]
    cpu: Callable[[], float]
    offset: float


def run_storm(
    storm: Storm,
    targets: Targets,
    clocks: Clocks,
    report: Callable[[Report], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Run to the end of every device, of its time, or to `stop`. `OSError` where the way is not there at all."""
    fleets = _fleets(storm, targets, clocks)
    state = Report({name: fleet.tally for name, fleet in fleets.items()})
    # Many ports cost a look at those that have something, not at all of them.
    selector = selectors.DefaultSelector()
    registered: dict[str, list[object]] = {name: [] for name in fleets}
    begin, cpu = clocks.monotonic(), clocks.cpu()
    for fleet in fleets.values():
        fleet.start(begin)
    end: float | None = None
    told = -1.0
    try:
        while True:
            elapsed = clocks.monotonic() - begin
            for name, fleet in fleets.items():
                _register(selector, registered[name], fleet)
            if end is None and (stop() or elapsed > storm.within + storm.patience):
                end = elapsed + (_LAST_ANSWERS_SECONDS if elapsed <= storm.within + storm.patience else 0.0)
            due = min(fleet.work(elapsed, begin=end is None) for fleet in fleets.values())
            if all(fleet.over for fleet in fleets.values()):
                state.complete = True
                break
            if end is not None and (elapsed >= end or all(fleet.idle for fleet in fleets.values())):
                break
            state.seconds, state.cpu_seconds = elapsed, clocks.cpu() - cpu
            if elapsed - told >= _REPORT_SECONDS:
                told = elapsed
                report(state)
            # Waking for each answer would cost more than the answer.
            time.sleep(max(0.0, elapsed + _TICK - (clocks.monotonic() - begin)))
            pause = min(max(due - (clocks.monotonic() - begin), 0.0), 0.05)
            for key, _ in selector.select(pause):
                key.data()
    finally:
        state.seconds, state.cpu_seconds = clocks.monotonic() - begin, clocks.cpu() - cpu
        selector.close()
        for fleet in fleets.values():
            fleet.close()
    report(state)
    return state


def _fleets(storm: Storm, targets: Targets, clocks: Clocks) -> dict[str, CoapFleet | MqttFleet]:
    numbers = np.arange(storm.devices, dtype=np.int64)
    both = targets.coap is not None and targets.mqtt is not None
    fleets: dict[str, CoapFleet | MqttFleet] = {}
    if targets.coap is not None:
        _allow_files()
        own = numbers[::2] if both else numbers
        fleets["coap"] = CoapFleet(storm, own, targets.coap, clocks.monotonic, clocks.offset)
    if targets.mqtt is not None:
        own = numbers[1::2] if both else numbers
        if len(own):
            fleets["mqtt"] = MqttFleet(storm, own, targets.mqtt, clocks.monotonic, clocks.offset)
    return fleets


def _register(selector: selectors.BaseSelector, known: list[object], fleet: CoapFleet | MqttFleet) -> None:
    """Have the selector look at the fleet's sockets; only a broken connection to the broker changes them."""
    if known and (isinstance(fleet, CoapFleet) or not fleet.reconnected):
        return
    for door in known:
        selector.unregister(door)  # type: ignore[arg-type]
    known.clear()
    for door, read in fleet.doors:
        selector.register(door, selectors.EVENT_READ, read)
        known.append(door)
    if isinstance(fleet, MqttFleet):
        fleet.reconnected = False


def _allow_files() -> None:
    """Each source port is an open file: take what this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
