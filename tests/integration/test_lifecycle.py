"""Alarms at work on a real database: every step has its journal line; a suppression only keeps people undisturbed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path

import pytest
from psycopg import Connection
from typer.testing import CliRunner

from alerts.lifecycle import state
from alerts.rulefiles import load_rules, shipped_rules
from devices.alarm import Alarm, AlarmChange, AlarmState, ChangeKind, Priority, Suppression, SuppressionKind
from devices.model import MINUTE, SECOND, Instant, instant
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


SUPPRESSIONS = {
    SuppressionKind.SHELVED: ("shelved", "unshelved"),
    SuppressionKind.SUPPRESSED: ("suppressed", "unsuppressed"),
    SuppressionKind.OUT_OF_SERVICE: ("out_of_service", "in_service"),
}


def test_every_transition_is_a_line_with_who_when_and_why(registered: str) -> None:
    with connect(registered) as connection:
        lifecycle.define(connection, [definition(rule) for rule in shipped_rules()])
        connection.execute("UPDATE alarm_rule SET latching = true WHERE rule = %s", (RULE,))
        begin = clock.now()
        number = raised(connection, alarm(begin))
        lifecycle.acknowledge(connection, [number], "ann", "on my way")
        for kind, by in zip(SUPPRESSIONS, ("bob", "cid", "dan"), strict=True):
            until = begin + 60 * MINUTE
            assert lifecycle.suppress(connection, Suppression(kind, RULE, PUMP.identity, until, f"why {kind}", by))
            assert lifecycle.release(connection, kind, RULE, PUMP.identity, by.upper(), f"{kind} no more")
        journal.record(
            connection,
            [AlarmChange(ChangeKind.AMENDED, alarm(begin), replace(alarm(begin), since=begin - 2 * MINUTE))],
            None,
        )
        after = replace(alarm(begin, begin + MINUTE), since=begin - 2 * MINUTE)
        journal.record(connection, [AlarmChange(ChangeKind.CLEARED, replace(after, cleared_at=None), after)], None)
        lifecycle.reset(connection, number, "eve", "seal replaced")
        lifecycle.comment(connection, number, "fay", "spare ordered")
        journal.record(connection, [AlarmChange(ChangeKind.RETRACTED, after, None)], None)
        lines = lifecycle.lines(connection, number)
    assert [(line.kind, line.actor, line.detail.get("comment") or line.detail.get("reason")) for line in lines] == [
        ("raised", "engine", None),
        ("acknowledged", "ann", "on my way"),
        ("shelved", "bob", "why shelved"),
        ("unshelved", "BOB", "shelved no more"),
        ("suppressed", "cid", "why suppressed"),
        ("unsuppressed", "CID", "suppressed no more"),
        ("out_of_service", "dan", "why out_of_service"),
        ("in_service", "DAN", "out_of_service no more"),
        ("amended", "engine", None),
        ("cleared", "engine", None),
        ("reset", "eve", "seal replaced"),
        ("commented", "fay", "spare ordered"),
        ("retracted", "engine", None),
    ]
    # When: of the engine's it is sample time, of people's the moment that they acted.
    assert {line.kind: instant(line.at) for line in lines if line.actor == "engine"} == {
        "raised": begin,
        "amended": begin,
        "cleared": begin + MINUTE,
        "retracted": begin,
    }
    assert all(begin <= instant(line.at) <= instant(line.recorded_at) for line in lines if line.actor != "engine")
    # Why an alarm was amended or taken back: what it was before.
    told = {line.kind: line.detail for line in lines if line.actor == "engine"}
    assert told["raised"]["value"] == 91.0
    assert all(isinstance(told[kind]["before"], dict) for kind in ("amended", "retracted"))


def test_what_a_rule_says_reaches_whoever_works_on_its_alarm(registered: str) -> None:
    (one,) = load_rules(
        """
rule: own
title: Own alarm
condition: flow > 1
message: m
latching: true
priority: high
severity: 990
alarm_class: environment
guidance: {cause: the cause, consequence: the consequence, corrective_action: the action, time_to_respond: 20m}
""",
        "own.yaml",
    )
    with connect(registered) as connection:
        lifecycle.define(connection, [definition(one)])
        number = raised(connection, alarm(rule="own"))
        row = connection.execute(
            "SELECT a.latching, a.severity, a.alarm_class, time_to_respond FROM alarm a JOIN alarm_rule USING (rule)"
        ).fetchone()
        listed = lifecycle.alarms(connection, number=number)[0]
    assert row == (True, 990, "environment", timedelta(minutes=20))
    assert (listed.title, listed.guidance) == (
        "Own alarm",
        {"cause": "the cause", "consequence": "the consequence", "corrective_action": "the action"},
    )


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
        assert lifecycle.release(connection, SuppressionKind.SHELVED, RULE, PUMP.identity, "kim", "tested")
        assert not lifecycle.release(connection, SuppressionKind.SHELVED, RULE, PUMP.identity, "kim", "tested")
        assert lifecycle.suppressions(connection) == []
        assert kinds(connection, number) == ["shelved", "raised", "unshelved"]


def test_what_was_over_before_it_was_known_is_told_only_where_it_has_to_be_acknowledged(registered: str) -> None:
    known = {rule.rule: rule for rule in shipped_rules()}
    with connect(registered) as connection:
        lifecycle.define(connection, [definition(rule) for rule in known.values()])
        for name in known:
            raised(connection, alarm(cleared=T0 + MINUTE, rule=name))
        rows = connection.execute("SELECT rule, annunciated_at IS NOT NULL FROM alarm").fetchall()
    told = {str(name): bool(known_to_people) for name, known_to_people in rows}
    assert told == {name: rule.told_when_over for name, rule in known.items()}
    assert set(told.values()) == {True, False}


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


SUPPRESSING = {
    "unshelve": ["unshelve", RULE, PUMP.identity],
    "unsuppress": ["unsuppress", PUMP.identity],
    "in-service": ["in-service", PUMP.identity],
    "shelve": ["shelve", RULE, PUMP.identity],
    "suppress": ["suppress", PUMP.identity],
    "out-of-service": ["out-of-service", PUMP.identity],
}


@pytest.mark.parametrize("words", SUPPRESSING.values(), ids=SUPPRESSING.keys())
def test_nothing_is_suppressed_and_no_suppression_ended_without_a_reason(
    words: list[str], registered: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", f"postgresql:///?{registered.replace(' ', '&')}")
    monkeypatch.setenv("HEADWORKS_STATE_DIR", str(tmp_path))
    before = []
    if words[0] in ("unshelve", "unsuppress", "in-service"):
        before = [
            Suppression(SuppressionKind.OUT_OF_SERVICE, None, PUMP.identity, None, "overhaul", "kim"),
            Suppression(SuppressionKind.SHELVED, RULE, PUMP.identity, clock.now() + 60 * MINUTE, "on test", "kim"),
            Suppression(SuppressionKind.SUPPRESSED, None, PUMP.identity, None, "standby", "kim"),
        ]
    with connect(registered) as connection:
        for entry in before:
            assert lifecycle.suppress(connection, entry)
        for given in ([], ["--reason", " "], ["--reason", ""]):
            result = CliRunner().invoke(app, ["alarms", *words, *given])
            assert result.exit_code != 0
            assert "reason" in result.output
        found = sorted(lifecycle.suppressions(connection), key=lambda entry: entry.kind)
        assert found == before


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
    run("unshelve", RULE, PUMP.identity, "--reason", "test is over")
    run("comment", str(number), "looked at it")
    shown = run("show", str(number))
    assert all(word in shown for word in ("raised", "seen", "shelved", "unshelved", "test is over", "looked at it"))
    assert '"number": 1' in run("list", "--json")
    run("out-of-service", PUMP.identity, "--reason", "overhaul")
    run("in-service", PUMP.identity, "--reason", "overhauled")
    run("suppress", PUMP.identity, "--reason", "standby", "--rule", "dry-run")
    run("unsuppress", PUMP.identity, "--rule", "dry-run", "--reason", "on duty")
    assert runner.invoke(app, ["alarms", "shelve", RULE, "urn:nobody", "--reason", "x"]).exit_code == 1
