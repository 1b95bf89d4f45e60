"""A rule on a group through the live engine and the database, over a restart, and the same by a backtest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from typer.testing import CliRunner

from alerts.engine import Engine
from alerts.live import LiveEngine
from alerts.notify import Notifier
from alerts.rulefiles import shipped_rules
from alerts.rules import Rule
from devices.batch import Batch, UplinkRecord
from devices.model import MINUTE, SECOND, Device, Instant, Reading, Transport, Uplink
from devices.profile import shipped_profiles
from headworks import clock
from headworks.cli import app
from headworks.judging import Journal
from headworks.session import Session
from storage import journal, registry
from storage.database import connect
from storage.writer import Writer

T0 = 1_790_000_000 * SECOND - 1_790_000_000 * SECOND % MINUTE
PROFILES = shipped_profiles()
PLACE: dict[str, Any] = {"site": "East", "area": "Zone 1", "unit": "Station"}
PUMP = Device("urn:dev:imei:7", "centrifugal-pump", tag="P-7", design={"rated_flow": 50.0}, **PLACE)
METER = Device("urn:dev:imei:8", "flow-pressure-logger", tag="FT-8", **PLACE)
ELSEWHERE = Device("urn:dev:imei:9", "flow-pressure-logger", tag="FT-9", **(PLACE | {"unit": "Garden"}))
RULE = next(rule for rule in shipped_rules() if rule.rule == "pump-without-flow")


@pytest.fixture
def writer(database_url: str) -> Iterator[Writer]:
    with connect(database_url) as connection:
        registry.sync_metrics(connection)
        registry.register(connection, [PUMP, METER, ELSEWHERE], PROFILES)
    writer = Writer(database_url)
    yield writer
    writer.close()


def say(writer: Writer, device: Device, metric: str, values: list[float], first: int, step: int = 1) -> None:
    readings = [
        Reading(device.identity, metric, T0 + (first + number * step) * MINUTE, value)
        for number, value in enumerate(values)
    ]
    received: Instant = readings[-1].measured_at + MINUTE
    writer.commit(Batch([UplinkRecord(Uplink(Transport.COAP, b"", received), device.identity, readings)]))


def judge(database_url: str, rules: list[Rule]) -> None:
    """A platform's engine, from its start until everything is judged."""
    session = Session(database_url, "test")

    def devices(identities: object) -> dict[str, Device]:
        with connect(database_url) as connection:
            return {one: found.device for one, found in registry.find(connection, list(identities)).items()}  # type: ignore[call-overload]

    ports = Journal(session, rules, [], PROFILES).ports(devices)
    engine = LiveEngine(Engine(rules, PROFILES), ports, Notifier(rules, clock.now, lambda _r, _d: None), monotonic)
    engine.start()
    assert engine.wait_idle(60)
    engine.close(5)
    session.close()


def minutes(database_url: str) -> list[tuple[str, float, float | None]]:
    with connect(database_url) as connection:
        return [
            (
                alarm.device,
                (alarm.raised_at - T0) / MINUTE,
                None if alarm.cleared_at is None else (alarm.cleared_at - T0) / MINUTE,
            )
            for alarm in journal.all_occurrences(connection)
        ]


def test_a_pump_runs_and_the_meter_that_comes_hours_later_saw_no_flow(
    writer: Writer, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(writer, PUMP, "running", [1.0] * 180, 0)
    judge(database_url, [RULE])
    assert minutes(database_url) == [], "what the meter saw is not known yet"
    say(writer, METER, "flow", [0.0] * 4, 0, step=15)
    judge(database_url, [RULE])
    assert minutes(database_url) == [(PUMP.identity, 15, None)]
    say(writer, ELSEWHERE, "flow", [40.0] * 12, 0, step=15)
    judge(database_url, [RULE])
    assert minutes(database_url) == [(PUMP.identity, 15, None)], "another unit's meter says nothing about it"
    say(writer, METER, "flow", [40.0] * 8, 60, step=15)
    judge(database_url, [RULE])
    assert minutes(database_url) == [(PUMP.identity, 15, 75)]

    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps([RULE.model_dump(mode="json", exclude_defaults=True)]), "utf-8")
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", f"postgresql:///?{database_url.replace(' ', '&')}")
    since, until = (f"2026-09-{day}" for day in ("21", "22"))
    monkeypatch.setattr(clock, "now", lambda: T0 + 600 * MINUTE)
    shown = CliRunner().invoke(
        app, ["backtest", str(rules), "--since", since, "--until", until, "--against", "journal", "--json"]
    )
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    assert (told["gained"], told["lost"], told["shifted"], told["unchanged"]) == ([], [], [], 1)
