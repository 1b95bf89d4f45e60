"""Rules are changed while the platform runs: after SIGHUP all files are in use, or none, and everybody can see it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from devices.codecs.senml import encode_cbor
from devices.model import MINUTE, SECOND, Instant, Measurement, moment
from simulators.coap_client import CoapClient
from storage import journal
from storage.database import connect
from tests.acceptance.faults.harness import Platform
from tests.conftest import PUMP
from tests.integration.test_gateways import eventually

T0 = 1_785_000_000 * SECOND

RULE = """\
rule: {name}
title: Bearing warm
applies_to: {{kind: pump}}
condition: bearing_temperature > {limit}
on_delay: 2m
off_delay: 2m
message: "At {{value}} {{unit}}"
priority: low
alarm_class: equipment
guidance: {{cause: Grease., consequence: Wear., corrective_action: Look., time_to_respond: 1d}}
"""
SHIPPED = "bearing-temperature-high"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    folder = tmp_path / "rules"
    folder.mkdir()
    return folder


Start = Callable[[], Platform]


@pytest.fixture
def start(registered: str, broker_url: str, tmp_path: Path, rules: Path) -> Iterator[Start]:
    """A platform on the folder of rules as it is by then."""
    platform = Platform(
        registered,
        broker_url,
        tmp_path / "platform.log",
        environment={"HEADWORKS_RULES": str(rules), "HEADWORKS_STATE_DIR": str(tmp_path)},
    )

    def begin() -> Platform:
        platform.start()
        eventually(platform.healthy, "the platform is up")
        return platform

    yield begin
    if platform.running:
        platform.kill()


def send(platform: Platform, first: int, *values: float, metric: str = "bearing_temperature") -> None:
    """One uplink with a value a minute, from the minute `first` on."""
    entries = [Measurement(metric, None, value, T0 + (first + number) * MINUTE) for number, value in enumerate(values)]

    async def main() -> None:
        client = CoapClient(random.Random(), ack_timeout=0.5)
        await client.open("127.0.0.1", platform.coap)
        assert (await client.post(PUMP.identity, 112, encode_cbor(PUMP.identity, entries))).stored
        client.close()

    asyncio.run(main())


def reload(platform: Platform, outcome: str) -> None:
    """Tell it to read its rules anew, and wait until it has."""
    assert platform.process is not None
    before = len(events(platform, f"rules.{outcome}"))
    platform.process.send_signal(signal.SIGHUP)
    eventually(lambda: len(events(platform, f"rules.{outcome}")) > before, f"rules are {outcome}")


def events(platform: Platform, event: str) -> list[dict[str, Any]]:
    written = platform.log.read_text("utf-8").splitlines(keepends=True)
    lines = (json.loads(line) for line in written if line.endswith("}\n"))  # the last one may be half there
    return [line for line in lines if line["event"] == event]


def alarms(url: str) -> list[tuple[str, int, int | None]]:
    """Rule, and the minutes in which it was raised and cleared."""

    def minute(at: Instant) -> int:
        return (at - T0) // MINUTE

    with connect(url) as connection:
        return [
            (one.rule, minute(one.raised_at), None if one.cleared_at is None else minute(one.cleared_at))
            for one in journal.all_occurrences(connection)
        ]


def judged(platform: Platform, count: int) -> None:
    """Wait until so many readings have met the rules: from then on, no alarm means that none was raised."""
    eventually(lambda: platform.metric("headworks_readings_judged_total") >= count, f"{count} readings are judged")


def test_a_changed_file_is_in_use_for_who_is_heard_of_next(start: Start, registered: str, rules: Path) -> None:
    (rules / "own.yaml").write_text(RULE.format(name="bearing-warm", limit=90), "utf-8")
    platform = start()
    send(platform, 0, 70, 70, 70, 70)
    judged(platform, 4)
    assert alarms(registered) == []

    (rules / "own.yaml").write_text(RULE.format(name="bearing-warm", limit=60), "utf-8")
    (rules / "more.yaml").write_text(RULE.format(name="bearing-tepid", limit=50), "utf-8")
    reload(platform, "taken")
    assert platform.metric("headworks_rules") == 2
    send(platform, 4, 40, 40, 40, 40)
    # Each of the new rules has judged what was stored before it, too.
    both = [("bearing-tepid", 2, 6), ("bearing-warm", 2, 6)]
    eventually(lambda: sorted(alarms(registered)) == both, "the new rules have judged")


def test_a_broken_file_changes_nothing_and_everybody_can_see_it(start: Start, registered: str, rules: Path) -> None:
    (rules / "own.yaml").write_text(RULE.format(name="bearing-warm", limit=60), "utf-8")
    platform = start()
    send(platform, 0, 40, 40)

    broken = rules / "broken.yaml"
    broken.write_text(RULE.format(name="bearing-hot", limit="'3 bar'"), "utf-8")
    (rules / "own.yaml").write_text(RULE.format(name="bearing-warm", limit=99), "utf-8")
    reload(platform, "refused")
    where = f"{broken}:4:"  # the line of the condition
    [refused] = events(platform, "rules.refused")
    assert re.match(rf"{re.escape(where)}\d+: .*bar", refused["why"])
    assert refused["level"] == "error"
    answer = httpx.get(f"http://127.0.0.1:{platform.http}/healthz")
    assert answer.status_code == 503
    assert answer.json()["parts"]["rule_files"].startswith("refused when last read, those from before go on: " + where)
    assert platform.metric("headworks_rules_refused") == 1
    assert platform.metric("headworks_rules") == 1
    # Not only the broken file: the good one beside it is not in use either.
    send(platform, 2, 70, 70, 70)
    eventually(lambda: alarms(registered) == [("bearing-warm", 4, None)], "the rules from before go on")

    broken.unlink()
    reload(platform, "taken")
    eventually(platform.healthy, "the health check takes it back")
    assert platform.metric("headworks_rules_refused") == 0
    send(platform, 5, 70)
    eventually(lambda: alarms(registered) == [], "by the rule as it is now, it never was")


def test_an_override_is_taken_as_a_rule_is(start: Start, registered: str, rules: Path) -> None:
    file_of_all = rules / "own.yaml"
    file_of_all.write_text("- include: shipped\n", "utf-8")
    platform = start()

    def override(minute: int, change: str) -> None:
        since = moment(T0 + minute * MINUTE).isoformat()
        with file_of_all.open("a", encoding="utf-8") as file:
            file.write(f"- {{override: {SHIPPED}, tag: P-1*, valid_from: {since}, reason: tried, {change}}}\n")

    def called() -> list[tuple[int, int | None]]:
        return [(raised, cleared) for rule, raised, cleared in alarms(registered) if rule == SHIPPED]

    send(platform, 0, *[90.0] * 30)
    eventually(lambda: len(called()) == 1, "the shipped rule calls")
    [(raised, _)] = called()

    override(30, "setpoints: {high: 95}")
    reload(platform, "taken")
    send(platform, 30, *[90.0] * 60)
    eventually(lambda: called()[0][1] is not None, "90 °C is no alarm from then on")
    [(again, cleared)] = called()
    assert again == raised, "the past keeps what was valid then"
    assert cleared is not None
    assert cleared >= 30

    good = file_of_all.read_text("utf-8")
    override(90, "setpoints: {hihg: 20}")
    reload(platform, "refused")
    assert "hihg" in platform.parts()["rule_files"]
    file_of_all.write_text(good, "utf-8")
    override(90, "enabled: false")
    reload(platform, "taken")
    before = platform.metric("headworks_readings_judged_total")
    send(platform, 90, *[99.0] * 60)
    judged(platform, int(before) + 60)
    assert called() == [(raised, cleared)], "it is switched off"
    assert platform.parts()["rule_files"] == "ok"


def test_rules_that_come_back_to_what_they_were_have_changed_no_alarm(
    start: Start, registered: str, rules: Path
) -> None:
    text = RULE.format(name="bearing-warm", limit=60)
    (rules / "own.yaml").write_text(text, "utf-8")
    platform = start()
    send(platform, 0, 70, 70, 70, 40, 40, 40)
    eventually(lambda: alarms(registered) == [("bearing-warm", 2, 5)], "raised and cleared")
    for _ in range(2):
        reload(platform, "taken")
        send(platform, 0, 70)  # what it has sent already, once more
        send(platform, 3, 40, 40, 40, 40)
    with connect(registered) as connection:
        kinds = connection.execute("SELECT kind FROM alarm_event ORDER BY alarm_event_id").fetchall()
    assert kinds == [("raised",), ("cleared",)]


def pending_hangup(process: subprocess.Popen[bytes]) -> bool:
    """Whether a SIGHUP is still on its way to a process, as the kernel sees it."""
    return _signals(process, "ShdPnd")


def hears_hangups(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has a handler for SIGHUP, as the kernel sees it."""
    return _signals(process, "SigCgt")


def _signals(process: subprocess.Popen[bytes], name: str) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text("ascii")
    [mask] = [line.split()[1] for line in status.splitlines() if line.startswith(name)]
    return bool(int(mask, 16) >> (signal.SIGHUP - 1) & 1)


@contextmanager
def database_that_keeps_a_start_waiting(url: str) -> Iterator[Callable[[], bool]]:
    """No platform can be ready meanwhile; gives whether one is waiting."""

    def waits() -> bool:
        waiting = "application_name = 'headworks migrate' AND wait_event_type = 'Lock'"
        with connect(url) as connection:
            return bool(connection.execute(f"SELECT FROM pg_stat_activity WHERE {waiting}".encode()).fetchall())

    with connect(url) as holding, holding.transaction():
        holding.execute("LOCK TABLE schema_migration IN ACCESS EXCLUSIVE MODE")
        yield waits


def test_a_reload_that_is_asked_for_while_it_starts_is_done_when_it_is_up(
    registered: str, broker_url: str, tmp_path: Path, rules: Path
) -> None:
    (rules / "own.yaml").write_text(RULE.format(name="bearing-warm", limit=60), "utf-8")
    environment = {"HEADWORKS_RULES": str(rules), "HEADWORKS_STATE_DIR": str(tmp_path)}
    platform = Platform(registered, broker_url, tmp_path / "platform.log", environment=environment)
    with database_that_keeps_a_start_waiting(registered) as waits:
        platform.start()
        process = platform.process
        assert process is not None
        try:
            eventually(lambda: hears_hangups(process), "it hears signals")
            process.send_signal(signal.SIGHUP)
            eventually(waits, "it waits for the database")
            process.send_signal(signal.SIGHUP)
            eventually(lambda: not pending_hangup(process), "it has heard that, too")
            assert platform.running
        except BaseException:
            platform.kill()
            raise
    try:
        eventually(platform.healthy, "the platform is up", 60)
        eventually(lambda: len(events(platform, "rules.taken")) == 1, "it has read its rules anew")
    finally:
        platform.kill()


@contextmanager
def on_a_terminal(platform: Platform, state: Path) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], None]]]:
    """The platform on a terminal of its own, and what closes that."""
    ours, theirs = os.openpty()
    environment = platform.settings() | {"HEADWORKS_STATE_DIR": str(state)}
    with platform.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", ON_A_TERMINAL, sys.executable],
            env=environment, stdin=theirs, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    os.close(theirs)
    try:
        yield process, lambda: os.close(ours)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_closed_terminal_ends_it_and_is_no_reload(registered: str, broker_url: str, tmp_path: Path) -> None:
    platform = Platform(registered, broker_url, tmp_path / "platform.log")
    with on_a_terminal(platform, tmp_path) as (process, close):
        eventually(platform.healthy, "the platform is up", 60)
        process.send_signal(signal.SIGHUP)
        eventually(lambda: len(events(platform, "rules.taken")) == 1, "the terminal is there: that was a reload")
        close()
        assert process.wait(60) == 0
    assert events(platform, "platform.stopped")
    assert len(events(platform, "rules.taken")) == 1


def test_a_terminal_that_is_closed_while_it_starts_ends_it(registered: str, broker_url: str, tmp_path: Path) -> None:
    platform = Platform(registered, broker_url, tmp_path / "platform.log")
    with (
        database_that_keeps_a_start_waiting(registered) as waits,
        on_a_terminal(platform, tmp_path) as (process, close),
    ):
        eventually(waits, "it waits for the database")
        process.send_signal(signal.SIGHUP)
        close()
        assert process.wait(60) != 0
    assert not events(platform, "platform.ready")


# Standard input becomes the terminal of the new session, and then the platform takes its place.
ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], [sys.argv[1], "-m", "headworks", "serve"])
"""


def test_a_rule_that_cannot_be_calculated_is_named_and_counted_and_the_others_go_on(
    start: Start, registered: str, rules: Path
) -> None:
    (rules / "own.yaml").write_text(RULE.format(name="bearing-warm", limit=60), "utf-8")
    odd = RULE.format(name="odd", limit=1).replace("bearing_temperature >", "bearing_temperature / flow >")
    (rules / "odd.yaml").write_text(odd.replace("{unit}", ""), "utf-8")
    platform = start()
    send(platform, 0, 0, 0, 0, metric="flow")
    send(platform, 0, 70, 70, 70)
    eventually(lambda: alarms(registered) == [("bearing-warm", 2, None)], "the other rule calls")
    eventually(lambda: platform.parts()["rules"] == "failing: odd", "the health check names it")
    assert platform.metric("headworks_rule_failures") == 3
    odd = odd.replace("bearing_temperature / flow", "bearing_temperature")
    (rules / "odd.yaml").write_text(odd, "utf-8")
    reload(platform, "taken")
    eventually(platform.healthy, "with the rule mended all is well")
    assert platform.metric("headworks_rule_failures") == 0
