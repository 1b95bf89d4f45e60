"""The HTTP API on a real server and a real database: who may what, alarms in pages that stay right, trends, live
updates, and its own description kept to the letter."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from typer.testing import CliRunner

from alerts.rulefiles import shipped_rules
from devices.alarm import Alarm, AlarmChange, Announcement, ChangeKind, Priority
from devices.batch import Batch, QuarantineRecord, UplinkRecord
from devices.model import DAY, HOUR, MINUTE, SECOND, Instant, Quality, Reading, Reason, Transport, Uplink
from devices.profile import shipped_profiles
from headworks import clock
from headworks.api.context import Context, Ports
from headworks.cli import app as commands
from headworks.http import HttpDoor
from headworks.judging import definition
from ingest.limits import Rate
from storage import api_queries, journal, lifecycle, outbox, tokens
from storage.database import Connection, connect
from storage.exchange import Block
from storage.importing import Importer
from storage.tokens import Role
from storage.writer import Writer
from tests.conftest import PUMP, VALVE

RULES = [rule for rule in shipped_rules() if rule.rule in ("bearing-temperature-high", "pump-dry-run", "battery-low")]
Ask = Callable[..., httpx.Response]


@pytest.fixture
def now() -> Instant:
    return clock.now() // SECOND * SECOND


@pytest.fixture
def context(registered: str) -> Context:
    return Context(
        Ports(
            registered,
            health=lambda: {"database": "ok"},
            rules=lambda: RULES,
            failing=dict,
            idle=dict,
            profiles=shipped_profiles(),
            now=clock.now,
            time_zone="Asia/Shanghai",
        )
    )


@pytest.fixture
def base(context: Context) -> Iterator[str]:
    door = HttpDoor("127.0.0.1", 0, lambda: {"database": "ok"}, context)
    port = door.open()
    door.start()
    yield f"http://127.0.0.1:{port}/api/v1"
    door.close(5)


@pytest.fixture
def keys(registered: str) -> dict[Role, str]:
    with connect(registered) as connection:
        lifecycle.define(connection, [definition(rule) for rule in RULES])
        return {role: tokens.make(connection, role.value, role, "test") for role in Role}


@pytest.fixture
def ask(base: str, keys: dict[Role, str]) -> Iterator[Ask]:
    with httpx.Client(base_url=base, timeout=60) as client:

        def asking(method: str, path: str, role: Role | None = Role.ADMIN, **more: Any) -> httpx.Response:
            headers = {} if role is None else {"Authorization": f"Bearer {keys[role]}"}
            return client.request(method, path, headers=headers | more.pop("headers", {}), **more)

        yield asking


def raised(url: str, *alarms: Alarm) -> list[int]:
    with connect(url) as connection:
        journal.record(connection, [AlarmChange(ChangeKind.RAISED, None, alarm) for alarm in alarms], None)
        rows = connection.execute(
            "SELECT alarm_id FROM alarm ORDER BY alarm_id DESC LIMIT %s", (len(alarms),)
        ).fetchall()
    return [int(str(number)) for (number,) in reversed(rows)]


def alarm(at: Instant, rule: str = "bearing-temperature-high", device: str = PUMP.identity) -> Alarm:
    return Alarm(rule, device, Priority.HIGH, "Bearing at 91 °C", at - MINUTE, at, None, 91.0)


def store(url: str, readings: list[Reading]) -> None:
    writer = Writer(url)
    uplink = Uplink(Transport.COAP, b"", readings[-1].measured_at)
    writer.commit(Batch([UplinkRecord(uplink, readings[0].device, readings)]))
    writer.close()


def bring_in(url: str, identity: str, at: Instant) -> None:
    """A reading that a file had, and no device sent."""
    here, good = np.zeros(1, np.int32), np.full(1, Quality.GOOD, np.int16)
    block = Block([identity], [("pressure", "bar")], here, here, np.array([at]), np.full(1, 4.5), good)
    with connect(url) as connection:
        Importer(connection).write(block, at)


# --- who may what


@pytest.mark.parametrize(
    ("method", "path", "body", "least"),
    [
        ("GET", "/alarms", None, Role.VIEWER),
        ("GET", "/sites", None, Role.VIEWER),
        ("POST", "/alarms/acknowledge", {"alarms": [1]}, Role.OPERATOR),
        ("POST", "/alarms/shelve", {"alarms": [1], "length": "1h", "reason": "test"}, Role.OPERATOR),
        ("POST", "/suppressions", {"kind": "suppressed", "device": PUMP.identity, "reason": "x"}, Role.ENGINEER),
        ("GET", "/quarantine/1", None, Role.ENGINEER),
        ("GET", "/audit", None, Role.ADMIN),
        ("GET", "/tokens", None, Role.ADMIN),
        ("POST", "/tokens", {"name": "kim", "role": "viewer"}, Role.ADMIN),
    ],
)
def test_each_role_may_do_what_those_before_it_may(
    method: str, path: str, body: dict[str, Any] | None, least: Role, ask: Ask
) -> None:
    for role in Role:
        answer = ask(method, path, role, json=body)
        assert (answer.status_code == 403) is not role.covers(least), (role, answer.text)
        if answer.status_code == 403:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["detail"].startswith("this needs the role ")
            assert answer.json()["detail"].endswith(f"; yours is {role.value}")


def test_without_a_token_there_is_nothing(ask: Ask, base: str) -> None:
    for headers in ({}, {"Authorization": "Bearer hw_nonsense"}, {"Authorization": "Basic eDp5"}):
        answer = httpx.get(f"{base}/alarms", headers=headers, timeout=60)
        assert answer.status_code == 401
        assert "Bearer" in answer.headers["www-authenticate"]
        assert answer.json()["status"] == 401


def test_guessing_tokens_is_slowed_down(ask: Ask) -> None:
    answers = [ask("GET", "/alarms", None, headers={"Authorization": f"Bearer hw_{n}"}) for n in range(20)]
    assert answers[0].status_code == 401
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_a_revoked_token_is_void_at_once(ask: Ask) -> None:
    made = ask("POST", "/tokens", json={"name": "kim", "role": "operator", "length": "1d"})
    assert made.status_code == 201, made.text
    secret = made.json()["token"]
    assert secret.startswith("hw_")
    shown = {"Authorization": f"Bearer {secret}"}
    assert ask("GET", "/alarms", None, headers=shown).status_code == 200
    assert ask("DELETE", "/tokens/kim").status_code == 204
    assert ask("GET", "/alarms", None, headers=shown).status_code == 401
    assert secret not in ask("GET", "/tokens").text
    actions = [(line["action"], line["target"], line["outcome"]) for line in ask("GET", "/audit").json()["items"]]
    assert actions[:2] == [("token.revoke", "kim", "done"), ("token.add", "kim", "done")]


def test_only_hashes_of_tokens_are_stored(registered: str, keys: dict[Role, str]) -> None:
    with connect(registered) as connection:
        held = connection.execute("SELECT encode(hash, 'escape'), name FROM api_token").fetchall()
    assert len(held) == len(keys)
    assert not [row for row in held if any(key in str(row) for key in keys.values())]


def test_the_consoles_session_needs_its_csrf_token_to_change_anything(
    ask: Ask, base: str, keys: dict[Role, str], registered: str, now: Instant
) -> None:
    (number,) = raised(registered, alarm(now))
    with httpx.Client(base_url=base, timeout=60) as browser:
        assert browser.post("/session", json={"token": "hw_wrong"}).status_code == 401
        opened = browser.post("/session", json={"token": keys[Role.OPERATOR]})
        assert opened.status_code == 200, opened.text
        cookie = opened.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert browser.get("/alarms").status_code == 200
        path = f"/alarms/{number}/acknowledge"
        assert browser.post(path, json={}).status_code == 403
        csrf = browser.get("/session").json()["csrf"]
        assert browser.post(path, json={}, headers={"X-CSRF-Token": csrf}).status_code == 200
        assert browser.delete("/session", headers={"X-CSRF-Token": csrf}).status_code == 204
        assert browser.get("/alarms").status_code == 401
    assert ask("GET", f"/alarms/{number}").json()["alarm"]["state"] == "acknowledged"


def test_every_answer_has_the_headers_that_browsers_need(base: str) -> None:
    for path in ("/api/v1/alarms", "/healthz", "/"):
        headers = httpx.get(base.removesuffix("/api/v1") + path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


# --- alarms


def test_an_alarm_is_worked_on_and_every_step_is_written(ask: Ask, registered: str, now: Instant) -> None:
    (number,) = raised(registered, alarm(now - HOUR))
    shown = ask("GET", "/alarms").json()["items"][0]
    assert (shown["number"], shown["state"], shown["tag"], shown["priority"]) == (
        number,
        "unacknowledged",
        "P-101",
        "high",
    )
    assert shown["guidance"]["corrective_action"]
    done = ask("POST", f"/alarms/{number}/acknowledge", Role.OPERATOR, json={"comment": "on my way"})
    assert done.json()["state"] == "acknowledged"
    again = ask("POST", f"/alarms/{number}/acknowledge", Role.OPERATOR, json={})
    assert (again.status_code, again.json()["detail"]) == (409, "it was acknowledged before")
    assert ask("POST", f"/alarms/{number}/comment", Role.OPERATOR, json={"comment": "greased"}).status_code == 200
    assert ask("POST", f"/alarms/{number}/reset", Role.OPERATOR, json={}).status_code == 409
    assert ask("POST", "/alarms/999999/acknowledge", Role.OPERATOR, json={}).status_code == 404
    lines = ask("GET", f"/alarms/{number}").json()["journal"]
    assert [(line["kind"], line["actor"]) for line in lines] == [
        ("raised", "engine"),
        ("acknowledged", "operator"),
        ("commented", "operator"),
    ]
    trail = ask("GET", "/audit").json()["items"]
    assert [(line["action"], line["outcome"]) for line in trail[:3]][-1] == ("alarm.comment", "done")


def test_a_shelved_alarm_leaves_the_list_until_it_is_released(ask: Ask, registered: str, now: Instant) -> None:
    (number,) = raised(registered, alarm(now - HOUR))
    body = {"alarms": [number, 424242], "length": "2h", "reason": "bearing is ordered"}
    outcome = ask("POST", "/alarms/shelve", Role.OPERATOR, json=body).json()
    assert outcome == {"done": [number], "refused": [{"alarm": 424242, "why": "there is no alarm of this number"}]}
    assert ask("GET", "/alarms").json()["items"] == []
    assert [a["number"] for a in ask("GET", "/alarms?suppressed=true").json()["items"]] == [number]
    (held,) = ask("GET", "/suppressions").json()["items"]
    assert (held["kind"], held["by"], held["reason"]) == ("shelved", "operator", "bearing is ordered")
    body = {"kind": "shelved", "rule": "bearing-temperature-high", "device": PUMP.identity}
    for reason in ({}, {"reason": ""}, {"reason": " "}):
        assert ask("POST", "/suppressions/release", Role.OPERATOR, json=body | reason).status_code == 422
    assert len(ask("GET", "/suppressions").json()["items"]) == 1
    body["reason"] = "bearing is new"
    assert ask("POST", "/suppressions/release", Role.OPERATOR, json=body).json()["items"] == []
    ended = ask("GET", f"/alarms/{number}").json()["journal"][-1]
    assert (ended["kind"], ended["actor"], ended["detail"]) == ("unshelved", "operator", {"reason": "bearing is new"})
    trail = ask("GET", "/audit").json()["items"][0]
    assert trail["detail"] == {"rule": "bearing-temperature-high", "reason": "bearing is new"}
    assert ask("POST", "/suppressions/release", Role.OPERATOR, json=body).status_code == 409
    assert len(ask("GET", "/alarms").json()["items"]) == 1


@pytest.mark.parametrize("order", ["number", "work"])
def test_pages_stay_right_while_alarms_come_and_go(order: str, ask: Ask, registered: str, now: Instant) -> None:
    numbers = raised(registered, *(alarm(now - DAY + n * MINUTE) for n in range(25)))
    seen: list[int] = []
    cursor = None
    while True:
        page = ask(
            "GET", "/alarms", params={"limit": 10, "order": order} | ({"cursor": cursor} if cursor else {})
        ).json()
        seen += [one["number"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
        raised(registered, alarm(now - len(seen) * SECOND))
        ask("POST", "/alarms/acknowledge", json={"alarms": [seen[0]]})
    # In the order of work an alarm that is acknowledged meanwhile moves down, and is met there again.
    assert order == "work" or len(seen) == len(set(seen)), "none twice"
    assert set(numbers) <= set(seen), "none of those that stayed is missed"
    assert ask("GET", "/alarms?cursor=nonsense").status_code == 422


Told = Iterator[tuple[str, dict[str, Any]]]


@contextmanager
def listening(base: str, key: str) -> Iterator[Told]:
    """The live updates as they come: name and data."""
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.stream("GET", f"{base}/events", headers=headers, timeout=60) as answer:

        def told() -> Told:
            name = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    yield name, json.loads(line[6:])

        yield told()


def test_live_updates_name_what_has_changed(base: str, keys: dict[Role, str], registered: str, now: Instant) -> None:
    raised(registered, alarm(now - HOUR))
    with listening(base, keys[Role.VIEWER]) as told:
        assert next(told) == ("hello", {})
        (number,) = raised(registered, alarm(now))
        assert next(told) == ("alarms", {"numbers": [number], "suppressions": False})


def test_whoever_is_greeted_misses_nothing_from_then_on(
    base: str, keys: dict[Role, str], registered: str, now: Instant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look at the journal takes long: it is over before the greeting, so that no alarm falls in between."""
    looking, go_on = threading.Event(), threading.Event()
    look = api_queries.newest_line

    def slowly(connection: Connection) -> int:
        looking.set()
        assert go_on.wait(60)
        return look(connection)

    monkeypatch.setattr(api_queries, "newest_line", slowly)
    greeted: list[str] = []

    def listen() -> None:
        with listening(base, keys[Role.VIEWER]) as told:
            greeted.append(next(told)[0])

    thread = threading.Thread(target=listen)
    thread.start()
    assert looking.wait(60)
    raised(registered, alarm(now))
    assert greeted == []
    go_on.set()
    thread.join(60)
    assert greeted == ["hello"]


# --- plant


def test_trends_come_within_their_budget_of_points(ask: Ask, registered: str, now: Instant) -> None:
    store(registered, [Reading(PUMP.identity, "pressure", now - n * MINUTE, 4.0 + n % 3) for n in range(240, 0, -1)])
    path = f"/devices/{PUMP.identity}/series"
    raw = ask("GET", path, params={"metric": "pressure", "points": 500}).json()
    assert (raw["aggregated"], len(raw["at"]), raw["unit"]) == (False, 240, "bar")
    few = ask("GET", path, params={"metric": "pressure", "points": 50}).json()
    assert few["aggregated"]
    assert 2 <= len(few["at"]) <= 50
    assert sum(few["readings"]) == 240
    assert min(few["least"]) == 4.0
    assert max(few["greatest"]) == 6.0
    assert ask("GET", path, params={"metric": "presure"}).status_code == 404
    assert ask("GET", "/devices/urn:none/series", params={"metric": "pressure"}).status_code == 404


def test_what_there_is_and_how_it_is(ask: Ask, registered: str, now: Instant) -> None:
    store(registered, [Reading(PUMP.identity, "pressure", now, 4.5, Quality.UNCERTAIN)])
    raised(registered, alarm(now))
    assert [site["site"] for site in ask("GET", "/sites").json()["items"]] == ["North"]
    assets = ask("GET", "/assets", params={"q": "P-1"}).json()["items"]
    assert [one["tag"] for one in assets] == ["P-101"]
    device = ask("GET", f"/devices/{PUMP.identity}").json()
    assert (device["kind"], device["time_zone"], device["design"]) == ("pump", "Asia/Shanghai", {"pn": 16.0})
    (latest,) = ask("GET", f"/devices/{PUMP.identity}/latest").json()["items"]
    assert (latest["value"], latest["status"], latest["ne107"]) == (4.5, "uncertain", "out of specification")
    limits = ask("GET", f"/devices/{PUMP.identity}/limits").json()["items"]
    assert "bearing_temperature" in {one["metric"] for one in limits}
    assert ask("GET", "/rules").json()["items"][0]["open"] >= 0
    assert ask("GET", "/kpis").status_code == 200
    assert ask("GET", "/fleet").status_code == 200
    assert {one["identity"] for one in ask("GET", "/contact").json()["items"]} == {PUMP.identity, VALVE.identity}


def test_who_spoke_for_the_first_time_is_heard_before_that_is_judged(ask: Ask, registered: str, now: Instant) -> None:
    def shown() -> dict[str, tuple[str, str, bool]]:
        """Of each device its state on the pages of assets, of one device and of contact, and whether it has a time."""
        contact = {one["identity"]: one for one in ask("GET", "/contact").json()["items"]}
        found = {}
        for asset in ask("GET", "/assets").json()["items"]:
            device = ask("GET", f"/devices/{asset['identity']}").json()
            line = contact[asset["identity"]]
            assert device["contact"] == line["state"]
            found[asset["tag"]] = (asset["contact"], device["contact"], device["heard_at"] is not None)
        return found

    never = ("never_heard", "never_heard", False)
    assert shown() == {"P-101": never, "FV-201": never}
    store(registered, [Reading(PUMP.identity, "pressure", now, 4.5)])
    bring_in(registered, VALVE.identity, now)
    assert shown() == {"P-101": ("heard", "heard", True), "FV-201": never}, "an import is nobody's word"
    assert ask("GET", "/fleet").json()["counts"] == {"heard": 1, "never_heard": 1}
    heard = ask("GET", "/contact", params={"state": "heard"}).json()["items"]
    assert [(one["identity"], one["since"]) for one in heard] == [(PUMP.identity, None)]


def test_the_quarantine_is_listed_without_payloads(ask: Ask, registered: str, now: Instant) -> None:
    writer = Writer(registered)
    uplink = Uplink(Transport.MQTT, b"\xff\x00secret", now, PUMP.identity, source="headworks/x")
    writer.commit(Batch([], [QuarantineRecord(uplink, Reason.MALFORMED, "no CBOR", PUMP.identity)]))
    writer.close()
    (listed,) = ask("GET", "/quarantine", Role.VIEWER).json()["items"]
    assert listed["reason"] == "malformed"
    assert "payload_hex" not in listed
    whole = ask("GET", f"/quarantine/{listed['number']}", Role.ENGINEER).json()
    assert bytes.fromhex(whole["payload_hex"]) == uplink.payload


def test_dead_letters_and_lost_paths_are_alarms_of_the_platform(
    ask: Ask, registered: str, monkeypatch: pytest.MonkeyPatch, context: Context
) -> None:
    assert ask("GET", "/platform/alarms", Role.VIEWER).json()["items"] == []
    told = {"rule": "r", "device": {"identity": PUMP.identity}}
    with connect(registered) as connection:
        outbox.put(connection, [Announcement("k", "raised", "r", PUMP.identity, Priority.HIGH, told)], ["duty-mail"])
        [letter] = outbox.claim(connection, "duty-mail", 1)
        outbox.give_up(connection, letter.number, "it answered 410")
        connection.execute("INSERT INTO outage (path, since, raised_at, devices) VALUES ('coap', now(), now(), 7)")
    ports = replace(
        context.ports, health=lambda: {"broker": "not connected", "rules": "x"}, failing=lambda: {"r": "no"}
    )
    monkeypatch.setattr(context, "ports", ports)
    found = ask("GET", "/platform/alarms", Role.VIEWER).json()["items"]
    assert [(one["kind"], one["name"], one["priority"], one["count"]) for one in found] == [
        ("channel", "duty-mail", "high", 1),
        ("path", "coap", "high", 7),
        ("rule", "r", "medium", None),
        ("part", "broker", "medium", None),
    ]
    with connect(registered) as connection:
        outbox.revive(connection)
    assert "channel" not in {one["kind"] for one in ask("GET", "/platform/alarms").json()["items"]}


def test_too_many_requests_are_told_when_to_come_again(
    ask: Ask, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "_requests", Rate(0.1, 5))
    answers = [ask("GET", "/session", Role.VIEWER) for _ in range(7)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1
    assert ask("GET", "/session", Role.ADMIN).status_code == 200, "another token is not slowed down by it"


# --- tokens by command, and the description


def test_tokens_by_command(registered: str, monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", f"postgresql:///?{registered.replace(' ', '&')}")
    run = CliRunner().invoke
    made = run(commands, ["tokens", "add", "lee", "--role", "engineer", "--for", "90d"])
    assert made.exit_code == 0, made.output
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
    assert httpx.get(f"{base}/session", headers=headers).json()["role"] == "engineer"
    assert run(commands, ["tokens", "add", "lee"]).exit_code == 1
    assert "lee" in run(commands, ["tokens", "list"]).output
    assert run(commands, ["tokens", "revoke", "lee"]).exit_code == 0
    assert httpx.get(f"{base}/session", headers=headers).status_code == 401


CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
STREAMS_AND_SESSIONS = ("/events", "/session")
"""A stream has no end, and a session's cookie would take the token's place."""


def test_the_api_keeps_to_its_own_description(
    base: str, keys: dict[Role, str], registered: str, now: Instant, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random requests by the description, right and wrong ones: every answer is one that it foretells, none is 5xx."""
    monkeypatch.setattr(Context, "wait", lambda _self, _token: 0.0)
    raised(registered, alarm(now), alarm(now - HOUR, "pump-dry-run"))
    headers = {"Authorization": f"Bearer {keys[Role.ADMIN]}"}
    schema = schemathesis.openapi.from_url(f"{base}/openapi.json")
    operations: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    assert len(operations) > 25

    for operation in operations:
        if operation.path in STREAMS_AND_SESSIONS:
            continue

        @seed(1)
        @settings(
            max_examples=5,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy())
        def ask_at_random(case: Any) -> None:
            case.call_and_validate(base_url=base, headers=headers, checks=CHECKS)

        ask_at_random()
