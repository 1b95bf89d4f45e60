"""Alarms at work on a real database: every step has its journal line; a suppression only keeps people undisturbed."""

from __future__ import annotations

from decimal import Decimal
from itertools import product
from pathlib import Path

import pytest
from psycopg import Connection
from typer.testing import CliRunner

from alerts.lifecycle import state
from alerts.rulefiles import shipped_rules
from devices.alarm import Alarm, AlarmChange, AlarmState, ChangeKind, Priority, Suppression, SuppressionKind
from devices.model import MINUTE, SECOND, Instant
from headworks import clock
from headworks.cli import app
from headworks.judging import definition
from storage import journal, lifecycle
from storage.database import connect
from tests.conftest import PUMP, VALVE

T0 = 1_790_000_000 * SECOND
RULE = "bearing-temperature-high"


def alarm(at: Instant = T0, cleared: Instant | None = None, rule: str = RULE, device: str = PUMP.identity) -> Alarm:
    return Alarm(rule, device, Priority.HIGH, "too hot", at - MINUTE, at, cleared, 91.0)


def raised(connection: Connection, found: Alarm) -> int:
    journal.record(connection, [AlarmChange(ChangeKind.RAISED, None, found)], None)
    row = connection.execute("SELECT max(alarm_id) FROM alarm").fetchone()
    assert row is not None
    return int(row[0])


def cleared(connection: Connection, found: Alarm, at: Instant) -> None:
    after = alarm(found.raised_at, at, found.rule, found.device)
    journal.record(connection, [AlarmChange(ChangeKind.CLEARED, found, after)], None)


def kinds(connection: Connection, number: int) -> list[str]:
    return [line.kind for line in lifecycle.lines(connection, number)]


def now_state(connection: Connection, number: int) -> AlarmState:
    return lifecycle.alarms(connection, number=number)[0].state


def test_the_view_derives_the_same_state_as_the_pure_function(registered: str) -> None:
    with connect(registered) as connection:
        number = raised(connection, alarm())
        for active, acknowledged, latching, reset in product([True, False], repeat=4):
            connection.execute(
                "UPDATE alarm SET cleared_at = CASE WHEN %s THEN NULL ELSE raised_at END, latching = %s,"
                " acked_at = CASE WHEN %s THEN now() END, reset_at = CASE WHEN %s THEN now() END",
                (active, latching, acknowledged, reset),
            )
            expected = state(active=active, acknowledged=acknowledged, latching=latching, reset=reset)
            assert now_state(connection, number) is expected


def test_an_alarms_life_is_written_line_by_line(registered: str) -> None:
    with connect(registered) as connection:
        number = raised(connection, alarm())
        assert now_state(connection, number) is AlarmState.UNACKNOWLEDGED
        assert lifecycle.acknowledge(connection, [number, 999], "kim", "on my way") == [number]
        assert lifecycle.acknowledge(connection, [number], "lee") == [], "the first one stands"
        cleared(connection, alarm(), T0 + MINUTE)
        assert now_state(connection, number) is AlarmState.NORMAL
        assert lifecycle.comment(connection, number, "kim", "bearing greased")
        lines = lifecycle.lines(connection, number)
        found = lifecycle.alarms(connection, number=number)[0]
    assert [(line.kind, line.actor) for line in lines] == [
        ("raised", "engine"),
        ("acknowledged", "kim"),
        ("cleared", "engine"),
        ("commented", "kim"),
    ]
    assert lines[1].detail == {"comment": "on my way"}
    assert found.acknowledged_by == "kim"


def test_a_latching_alarm_stays_until_it_is_reset(registered: str) -> None:
    with connect(registered) as connection:
        rules = [definition(rule) for rule in shipped_rules()]
        lifecycle.define(connection, rules)
        connection.execute("UPDATE alarm_rule SET latching = true WHERE rule = %s", (RULE,))
        number = raised(connection, alarm())
        assert not lifecycle.reset(connection, number, "kim"), "a live condition is not cleared by a reset"
        cleared(connection, alarm(), T0 + MINUTE)
        assert now_state(connection, number) is AlarmState.UNACKNOWLEDGED
        assert not lifecycle.reset(connection, number, "kim"), "not before it is acknowledged"
        lifecycle.acknowledge(connection, [number], "kim")
        assert now_state(connection, number) is AlarmState.LATCHED
        assert lifecycle.reset(connection, number, "kim", "seal replaced")
        assert now_state(connection, number) is AlarmState.NORMAL
        assert kinds(connection, number) == ["raised", "cleared", "acknowledged", "reset"]


def test_a_shelved_alarm_is_judged_and_written_but_not_told(registered: str) -> None:
    with connect(registered) as connection:
        shelved = Suppression(
            SuppressionKind.SHELVED, RULE, PUMP.identity, clock.now() + 60 * MINUTE, "pump is on test", "kim"
        )
        assert lifecycle.suppress(connection, shelved)
        assert lifecycle.suppressions(connection) == [shelved]
        number = raised(connection, alarm())
        other = raised(connection, alarm(device=VALVE.identity))
        rows = connection.execute(
            "SELECT alarm_id, suppressed_by, annunciated_at IS NOT NULL FROM alarm ORDER BY 1"
        ).fetchall()
        assert rows == [(number, "shelved", False), (other, None, True)]
        assert [a.number for a in lifecycle.alarms(connection, suppressed=False)] == [other]
        assert lifecycle.alarms(connection, number=number)[0].suppressions == (SuppressionKind.SHELVED,)
        assert lifecycle.release(connection, SuppressionKind.SHELVED, RULE, PUMP.identity, "kim")
        assert not lifecycle.release(connection, SuppressionKind.SHELVED, RULE, PUMP.identity, "kim")
        assert lifecycle.suppressions(connection) == []
        assert kinds(connection, number) == ["shelved", "raised", "unshelved"]


def test_shelving_ends_by_time_and_the_journal_says_so(registered: str) -> None:
    with connect(registered) as connection:
        lifecycle.suppress(
            connection,
            Suppression(SuppressionKind.SHELVED, RULE, PUMP.identity, clock.now() + MINUTE, "noise", "kim"),
        )
        number = raised(connection, alarm())
        assert lifecycle.expire(connection) == 0
        connection.execute(
            "UPDATE alarm_suppression SET began_at = now() - interval '2 hours', until_at = now() - interval '1 hour'"
        )
        assert lifecycle.suppressions(connection) == [], "over at once, also before anybody writes it down"
        assert lifecycle.expire(connection) == 1
        assert lifecycle.expire(connection) == 0
        assert kinds(connection, number)[-1] == "unshelved"


def test_a_one_shot_shelving_ends_with_the_return_to_normal(registered: str) -> None:
    with connect(registered) as connection:
        lifecycle.suppress(
            connection,
            Suppression(
                SuppressionKind.SHELVED, RULE, PUMP.identity, clock.now() + 60 * MINUTE, "noise", "kim", one_shot=True
            ),
        )
        number = raised(connection, alarm())
        cleared(connection, alarm(), T0 + MINUTE)
        assert lifecycle.suppressions(connection) == []
        assert kinds(connection, number) == ["shelved", "raised", "cleared", "unshelved"]


def test_out_of_service_covers_every_rule_of_a_device(registered: str) -> None:
    with connect(registered) as connection:
        entry = Suppression(SuppressionKind.OUT_OF_SERVICE, None, PUMP.identity, None, "overhaul", "kim")
        assert lifecycle.suppress(connection, entry)
        assert not lifecycle.suppress(
            connection, Suppression(SuppressionKind.OUT_OF_SERVICE, None, "urn:nobody", None, "overhaul", "kim")
        )
        raised(connection, alarm(rule="dry-run"))
        assert connection.execute("SELECT suppressed_by FROM alarm").fetchall() == [("out_of_service",)]


def test_the_kpis_count_what_people_were_told(registered: str) -> None:
    with connect(registered) as connection:
        for number in range(12):  # a flood: more than ten in ten minutes, and chattering
            raised(connection, alarm(clock.now() - (20 - number) * SECOND, clock.now(), f"rule-{number % 2}"))
        connection.execute("UPDATE alarm SET annunciated_at = date_trunc('hour', now()) - interval '5 minutes'")
        raised(connection, alarm(T0 - 10**13, rule="old"))
        lifecycle.suppress(
            connection, Suppression(SuppressionKind.OUT_OF_SERVICE, None, VALVE.identity, None, "overhaul", "kim")
        )
        raised(connection, alarm(clock.now(), device=VALVE.identity))  # nobody was told
        lifecycle.acknowledge(connection, [1], "kim")
        [kpi] = connection.execute(
            "SELECT alarms, most_per_10min, flood_share > 0, round(top10_share::numeric, 6), chattering, stale,"
            " unacknowledged FROM alarm_kpi WHERE site = 'North'"
        ).fetchall()
        assert kpi == (13, 12, True, 1, 2, 1, 12)
        assert connection.execute("SELECT priority, alarms, target FROM alarm_priority_share").fetchall() == [
            ("high", 13, Decimal("0.05"))
        ]
        assert connection.execute("SELECT tag, alarms, most_per_10min FROM alarm_asset_rate").fetchall() == [
            ("P-101", 13, 12)
        ]


def test_the_first_out_of_what_called_one_after_another_is_told(
    registered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = clock.now() - 60 * MINUTE
    with connect(registered) as connection:
        connection.execute("UPDATE device SET site = 'East', area = 'House', unit = 'Station'")
        last = raised(connection, alarm(begin + 14 * MINUTE))
        first = raised(connection, alarm(begin, rule="pump-dry-run"))
        middle = raised(connection, alarm(begin + 7 * MINUTE, device=VALVE.identity))
        later = raised(connection, alarm(begin + 40 * MINUTE, rule="pump-dry-run"))
        told = {number: lifecycle.sequence(connection, number) for number in (first, middle, last, later)}
        connection.execute("UPDATE device SET unit = 'Other' WHERE identity = %s", (VALVE.identity,))
        apart = lifecycle.sequence(connection, middle)
    assert [one and (one[0], one[1], one[2].number) for one in told.values()] == [
        (1, 3, first),
        (2, 3, first),
        (3, 3, first),
        None,
    ]
    assert apart is None
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", f"postgresql:///?{registered.replace(' ', '&')}")
    with connect(registered) as connection:
        connection.execute("UPDATE device SET unit = 'Station'")
    shown = CliRunner().invoke(app, ["alarms", "show", str(last)], env={"COLUMNS": "200"})
    assert f"first out    {first}, pump-dry-run on " in shown.output
    assert "(this is number 3 of 3 in the unit)" in shown.output


def test_the_command_line_works_on_alarms(registered: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with connect(registered) as connection:
        number = raised(connection, alarm())
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", f"postgresql:///?{registered.replace(' ', '&')}")
    monkeypatch.setenv("HEADWORKS_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()

    def run(*words: str) -> str:
        result = runner.invoke(app, ["alarms", *words])
        assert result.exit_code == 0, result.output
        return result.output

    assert "too hot" in run("list")
    assert "acknowledged" in run("ack", str(number), "--comment", "seen", "--by", "kim")
    assert runner.invoke(app, ["alarms", "ack", str(number)]).exit_code == 1
    assert "does not clear a live condition" in runner.invoke(app, ["alarms", "reset", str(number)]).output
    run("shelve", RULE, PUMP.identity, "--reason", "on test", "--for", "2h", "--by", "kim")
    assert "on test" in run("suppressed")
    assert "No alarms." in run("list")
    assert "acknowledged, shelved" in run("list", "--suppressed")
    run("unshelve", RULE, PUMP.identity)
    run("comment", str(number), "looked at it")
    shown = run("show", str(number))
    assert all(word in shown for word in ("raised", "seen", "shelved", "unshelved", "looked at it"))
    assert '"number": 1' in run("list", "--json")
    run("out-of-service", PUMP.identity, "--reason", "overhaul")
    run("in-service", PUMP.identity)
    run("suppress", PUMP.identity, "--reason", "standby", "--rule", "dry-run")
    run("unsuppress", PUMP.identity, "--rule", "dry-run")
    assert runner.invoke(app, ["alarms", "shelve", RULE, "urn:nobody", "--reason", "x"]).exit_code == 1
