"""Candidate rules over stored history, reading from the database included: readings per second.

Run it with `make bench`; the parts apart: `python -m tests.benchmarks.bench_backtest URL`.
"""

from __future__ import annotations

import sys
import time

from alerts.backtest import Backtest
from alerts.rulefiles import shipped_rules
from alerts.rules import Rule
from devices.model import DAY, MINUTE, Device, Instant, moment
from devices.profile import shipped_profiles
from headworks import backtesting
from storage.database import Connection, connect
from storage.registry import register, sync_metrics
from tests.benchmarks.figures import Figure

THRESHOLD_TARGET = 2_000_000
WINDOW_TARGET = 300_000
_DEVICES, _METRICS, _SAMPLES = 80, ("pressure", "flow", "vibration"), 30_000
_START: Instant = 1_770_000_000_000_000
_CONDITIONS = {
    "thresholds": ("pressure < 2", "vibration > 7", "flow > 150"),  # of which the first one calls
    "thresholds_that_all_call": ("pressure < 2", "vibration > 6", "flow > 6"),
    "windows": ("avg(pressure, '1h') < 2.5", "stdev(flow, '1h') > 20", "slope(vibration, '6h') > 1"),
}


def run(url: str) -> list[Figure]:
    """Every device's history under three rules with thresholds, and under three with windows."""
    with connect(url) as connection:
        devices = _fill(connection)
        try:
            return [
                Figure(f"backtest_{kind}", _rate(connection, devices, _rules(kind)), "readings/s", target, "the target")
                for kind, target in (
                    ("thresholds", THRESHOLD_TARGET),
                    ("thresholds_that_all_call", THRESHOLD_TARGET),
                    ("windows", WINDOW_TARGET),
                )
            ]
        finally:
            _empty(connection, devices)


def _rules(kind: str) -> list[Rule]:
    model = next(rule for rule in shipped_rules() if rule.rule == "pump-vibration-high").model_dump()
    return [
        Rule.model_validate(
            model | {"rule": f"bench-{n}", "condition": text, "metric": None, "deadband": 0.0, "setpoints": {}}
        )
        for n, text in enumerate(_CONDITIONS[kind])
    ]


def _rate(connection: Connection, devices: list[Device], rules: list[Rule]) -> float:
    """Readings that the rules ask for, per second."""
    backtest = Backtest(rules, shipped_profiles())
    begin, count, alarms = time.perf_counter(), 0, 0
    for portion in backtesting.judge(connection, devices, [backtest], _START, _START + 42 * DAY):
        count += portion.readings
        alarms += len(portion.alarms[0])
    seconds = time.perf_counter() - begin
    assert count == len(devices) * len(_METRICS) * _SAMPLES
    assert alarms
    return count / seconds


def _fill(connection: Connection) -> list[Device]:
    sync_metrics(connection)
    devices = [Device(f"urn:bench:backtest:{n}", "centrifugal-pump", site="backtest") for n in range(_DEVICES)]
    register(connection, devices, shipped_profiles())
    connection.execute(
        "INSERT INTO reading (measured_at, device_id, metric_id, value, quality)"
        " SELECT %s + n * interval '2 minutes', d.device_id, m.metric_id,"
        " 4 + 2 * sin(n / 50.0 + m.metric_id) + 0.5 * sin(n * 7.3), 192"
        " FROM device d, metric m, generate_series(0, %s) n WHERE d.site = 'backtest' AND m.name = ANY(%s)",
        (moment(_START), _SAMPLES - 1, list(_METRICS)),
    )
    connection.execute("VACUUM ANALYZE reading")  # as it is once the writing is over
    return devices


def _empty(connection: Connection, devices: list[Device]) -> None:
    names = [device.identity for device in devices]
    connection.execute(
        "DELETE FROM reading WHERE device_id IN (SELECT device_id FROM device WHERE identity = ANY(%s))"
        " AND measured_at BETWEEN %s AND %s",
        (names, moment(_START), moment(_START + 2 * MINUTE * _SAMPLES)),
    )
    connection.execute("DELETE FROM device WHERE identity = ANY(%s)", (names,))


if __name__ == "__main__":
    for figure in run(sys.argv[1]):
        print(figure.as_dict())
