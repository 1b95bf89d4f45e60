"""“Testing a rule, in ten minutes” in alerts/README.md, done as it stands there, by a new user's own commands."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.codecs.senml import encode_cbor
from devices.model import HOUR, MINUTE, Device, Instant, Measurement
from devices.profile import shipped_profiles
from headworks import clock
from simulators.coap_client import CoapClient
from storage import journal
from storage.database import connect
from storage.registry import register
from tests.acceptance.faults.harness import Platform
from tests.integration.test_gateways import eventually

README = (Path(__file__).parents[2] / "alerts" / "README.md").read_text("utf-8")
WALK = README.split("## Testing a rule, in ten minutes")[1].split("\n## ")[0]
RULE = re.findall(r"```yaml\n(.*?)```", README.split("## Writing a rule")[1], re.DOTALL)[0]
[TESTS] = re.findall(r"```yaml\n(.*?)```", WALK, re.DOTALL)
STEPS = [block.split("\n", 1) for block in re.findall(r"```console\n\$ (.*?)```", WALK, re.DOTALL)]
NAME = "booster-pressure-high"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "booster.yaml").write_text(RULE, "utf-8")
    (tmp_path / "rules" / "booster.test.yaml").write_text(TESTS, "utf-8")
    return tmp_path


def command(line: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    words = shlex.split(line)
    assert words[0] == "headworks"
    environment = os.environ | {"COLUMNS": "120", "HEADWORKS_STATE_DIR": str(folder / "state")} | settings
    return subprocess.run(
        [sys.executable, "-m", "headworks", *words[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_command_prints_what_the_readme_shows(folder: Path) -> None:
    assert [line.split()[2] for line, _ in STEPS] == ["check", "check", "explain", "test"]
    file = folder / "rules" / "booster.yaml"
    for number, (line, shown) in enumerate(STEPS):
        slip = number == 0
        file.write_text(RULE.replace("pressure > 1.1", "presure > 1.1") if slip else RULE, "utf-8")
        ran = command(line, folder)
        assert ran.returncode == (2 if slip else 0), ran.stderr
        assert (ran.stderr if slip else ran.stdout) == shown


def test_the_schema_for_the_editor_is_printed(folder: Path) -> None:
    assert "`headworks rules schema > rule.schema.json`" in WALK
    assert "condition" in json.loads(command("headworks rules schema", folder).stdout)["$defs"]["Rule"]["properties"]


BOOSTER = Device(
    "urn:dev:imei:867000000000041", "centrifugal-pump", tag="P-1", site="east", design={"rated_pressure": 6.0}
)


@pytest.fixture
def platform(registered: str, broker_url: str, folder: Path) -> Iterator[Platform]:
    """A platform that runs with the shipped rules, before the new one is put into its folder."""
    used = folder / "used"
    used.mkdir()
    (used / "shipped.yaml").write_text("include: shipped\n", "utf-8")
    with connect(registered) as connection:
        register(connection, [BOOSTER], shipped_profiles())
    platform = Platform(
        registered,
        broker_url,
        folder / "platform.log",
        environment={"HEADWORKS_RULES": str(used), "HEADWORKS_STATE_DIR": str(folder / "state")},
    )
    platform.start()
    try:
        eventually(platform.healthy, "the platform is up")
        yield platform
    finally:
        if platform.running:
            platform.kill()


def test_a_running_platform_takes_it_and_a_backtest_finds_the_same(
    platform: Platform, registered: str, folder: Path
) -> None:
    (folder / "used" / "booster.yaml").write_text(RULE, "utf-8")
    assert platform.process is not None
    platform.process.send_signal(signal.SIGHUP)
    eventually(lambda: platform.metric("headworks_rules_reloads_total") == 1, "the rules are read anew")
    assert platform.healthy()
    begin = clock.now() // MINUTE * MINUTE - 2 * HOUR
    send(platform, begin)

    def occurrences() -> list[tuple[int, int | None]]:
        with connect(registered) as connection:
            found = [one for one in journal.all_occurrences(connection) if one.rule == NAME]
        return [
            ((one.raised_at - begin) // MINUTE, one.cleared_at and (one.cleared_at - begin) // MINUTE) for one in found
        ]

    # What the first of the rule's own tests says.
    assert "since: 5m, raised: 7m, cleared: 20m" in TESTS
    eventually(lambda: occurrences() == [(7, 20)], "live has the alarm")
    [line] = re.findall(r"`(headworks backtest [^`]*)`", WALK)
    address = f"postgresql:///?{registered.replace(' ', '&')}"
    (folder / "shipped.yaml").write_text("include: shipped\n", "utf-8")
    ran = command(
        line + " --json", folder, HEADWORKS_DATABASE_URL=address, HEADWORKS_RULES=str(folder / "shipped.yaml")
    )
    assert ran.returncode == 0, ran.stderr
    [gained] = json.loads(ran.stdout)["gained"]
    with connect(registered) as connection:
        [live] = [one for one in journal.all_occurrences(connection) if one.rule == NAME]
    assert (gained["rule"], gained["message"]) == (live.rule, live.message)


def send(platform: Platform, begin: Instant) -> None:
    """The series of the rule's first test, as one uplink."""
    assert "running: 1*30, pressure: 6*5 6.8*10 6*15" in TESTS
    pressures = [6.0] * 5 + [6.8] * 10 + [6.0] * 15
    entries = [
        Measurement(metric, None, value, begin + number * MINUTE)
        for number, pressure in enumerate(pressures)
        for metric, value in (("running", 1.0), ("pressure", pressure))
    ]

    async def main() -> None:
        client = CoapClient(random.Random(), ack_timeout=0.5)
        await client.open("127.0.0.1", platform.coap)
        assert (await client.post(BOOSTER.identity, 112, encode_cbor(BOOSTER.identity, entries))).stored
        client.close()

    asyncio.run(main())
