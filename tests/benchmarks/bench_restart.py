"""What pumps with two weeks of readings cost when the engine meets them, with and without what it keeps over a restart;
and how long an alarm takes while it reads the pasts of others, as their rules have changed, or those of their groups.

Run it with `make bench`; alone: `python -m tests.benchmarks.bench_restart URL`.
"""

from __future__ import annotations

import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence

from alerts.engine import Engine
from alerts.rules import Rule
from devices.batch import Batch, UplinkRecord
from devices.model import DAY, MINUTE, SECOND, Device, Instant, Reading, Transport, Uplink, moment
from headworks import clock
from headworks.run import tune
from storage.database import connect
from storage.registry import register, sync_metrics
from storage.writer import Writer
from tests.benchmarks.bench_alarms import LATENCY_TARGET, PROFILES, Bench
from tests.benchmarks.figures import Figure

PUMPS = 40
DAYS = 14
ALARMS = 150
"""In the time that the pasts of the others take, about."""
TOGETHER = Rule.model_validate(
    {
        "rule": "pumps-together",
        "title": "A site delivers too much",
        "group": {"by": "site", "roles": {"pump": {"kind": "pump", "several": True}}},
        "condition": "sum(pump.flow) > 5000",
        "message": "{value} {unit}",
        "priority": "low",
        "guidance": {"cause": "c", "consequence": "q", "corrective_action": "a", "time_to_respond": "1h"},
    }
)
_VALUES = {"pressure": 4.0, "flow": 90.0, "vibration": 2.0, "current": 12.0, "power": 10.0, "temperature": 18.0,
           "speed": 1480.0}  # fmt: skip


def run(url: str) -> list[Figure]:
    """Milliseconds a pump, and the latency."""
    fleet = [Device(f"urn:dev:restart:{n}", "centrifugal-pump", site=f"restart {n // 10}") for n in range(PUMPS)]
    with connect(url) as connection:
        sync_metrics(connection)
        register(connection, fleet, PROFILES)
    now = clock.now()
    _fill(url, fleet, now - DAYS * DAY)
    tune()  # as every platform does
    first = _meet(url, fleet, now)
    second = _meet(url, fleet, now + MINUTE)
    others = _while_others_are_met(
        url, fleet, now + 2 * MINUTE, lambda rules: [_overridden(rule, fleet[1:]) for rule in rules]
    )
    groups = _while_others_are_met(url, fleet, now + 2 * MINUTE + ALARMS * 3 * SECOND, lambda rules: [*rules, TOGETHER])
    return [
        Figure("engine_meets_pump_with_two_weeks", 1_000 * first / PUMPS, "ms"),
        Figure(
            "engine_goes_on_with_pump", 1_000 * second / PUMPS, "ms", 1_000 * first / PUMPS, "meeting it with its past"
        ),
        Figure("alarm_latency_p99_while_others_are_met", others, "ms", LATENCY_TARGET, "the target without that"),
        Figure("alarm_latency_p99_while_groups_are_met", groups, "ms", LATENCY_TARGET, "the target without that"),
    ]


def _fill(url: str, fleet: Sequence[Device], begin: Instant) -> None:
    """Seven metrics every five minutes."""
    chance, writer = random.Random(1), Writer(url)
    for day in range(DAYS):
        for device in fleet:
            at = begin + day * DAY
            readings = [
                Reading(device.identity, metric, at + n * 5 * MINUTE, value * (1 + 0.02 * chance.random()))
                for n in range(DAY // (5 * MINUTE))
                for metric, value in _VALUES.items()
            ]
            uplink = Uplink(Transport.COAP, b"x", at + DAY)
            writer.commit(Batch([UplinkRecord(uplink, device.identity, readings)]))
    writer.close()


def _meet(url: str, fleet: Sequence[Device], at: Instant) -> float:
    """Seconds until an engine has judged an uplink of each that was committed before its start."""
    writer = Writer(url)
    for device in fleet:
        readings = [Reading(device.identity, metric, at, value) for metric, value in _VALUES.items()]
        writer.commit(Batch([UplinkRecord(Uplink(Transport.COAP, b"x", at), device.identity, readings)]))
    writer.close()
    bench = Bench(url)
    seconds = bench.start()
    bench.close()
    return seconds


def _while_others_are_met(
    url: str, fleet: Sequence[Device], at: Instant, change: Callable[[Sequence[Rule]], Sequence[Rule]]
) -> float:
    """The 99th percentile, in milliseconds, of one pump's alarms after a change of the rules by which others must be
    met."""
    bench = Bench(url)
    bench.start()
    bench.seconds.clear()
    for device in fleet:
        bench.send_of(device.identity, at, hot=False)
    assert bench.engine.wait_idle(120)
    taken = threading.Event()
    bench.engine.exchange(Engine(change(bench.rules), PROFILES), taken.set)
    assert taken.wait(30)
    for device in fleet[1:]:
        bench.send_of(device.identity, at + SECOND, hot=False)
    for number in range(1, ALARMS + 1):
        bench.send_of(fleet[0].identity, at + 2 * number * SECOND, hot=True)
        bench.send_of(fleet[0].identity, at + (2 * number + 1) * SECOND, hot=False)
        time.sleep(0.05)
    assert bench.engine.wait_idle(300)
    bench.close()
    return statistics.quantiles([1_000 * one for one in bench.seconds], n=100)[98]


def _overridden(rule: Rule, devices: Sequence[Device]) -> Rule:
    if rule.rule != "bearing-temperature-high":
        return rule
    (name,) = rule.setpoints
    override = {
        "devices": [device.identity for device in devices],
        "valid_from": moment(0).isoformat(),
        "setpoints": {name: "130 degC"},
        "reason": "measured",
    }
    return Rule.model_validate(rule.model_dump() | {"overrides": [override]})


if __name__ == "__main__":
    for figure in run(sys.argv[1]):
        print(f"{figure.name}: {figure.value:,.3g} {figure.unit}")
