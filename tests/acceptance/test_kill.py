"""The platform as a process: what a kill and a signal do to its journal and its end.

That nothing acknowledged is lost when it is killed is tested with all other faults, in `faults/`.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.codecs.senml import encode_cbor
from devices.model import SECOND, ContentFormat, Measurement
from devices.profile import shipped_profiles
from simulators.coap_client import CoapClient
from storage import journal
from storage.database import connect
from storage.registry import register
from tests.acceptance.faults.harness import Platform
from tests.conftest import PUMP, VALVE
from tests.integration.test_gateways import eventually

T0 = 1_785_000_000 * SECOND


@pytest.fixture
def platform(registered: str, broker_url: str, tmp_path: Path) -> Iterator[Platform]:
    platform = Platform(registered, broker_url, tmp_path / "platform.log")
    with connect(registered) as connection:
        register(connection, [PUMP, VALVE], shipped_profiles())
    platform.start()
    try:
        eventually(platform.healthy, "the platform is up")
        yield platform
    finally:
        if platform.process is not None and platform.process.poll() is None:
            platform.kill()


def test_after_a_kill_the_journal_is_as_without_it(platform: Platform, registered: str) -> None:
    def send(first: int, count: int, value: float) -> None:
        entries = [
            Measurement("bearing_temperature", None, value, T0 + (first + i) * 60 * SECOND) for i in range(count)
        ]

        async def main() -> None:
            client = CoapClient(random.Random(), ack_timeout=0.5)
            await client.open("127.0.0.1", platform.coap)
            payload = encode_cbor(PUMP.identity, entries)
            assert (await client.post(PUMP.identity, ContentFormat.SENML_CBOR, payload)).stored
            client.close()

        asyncio.run(main())

    send(0, 10, 60.0)
    send(10, 30, 90.0)
    platform.kill()  # perhaps before the engine has seen the last uplink
    platform.start()
    eventually(platform.healthy, "the platform is back")
    send(40, 30, 60.0)

    def occurrences() -> list[tuple[str, bool]]:
        with connect(registered) as connection:
            return [(alarm.rule, alarm.cleared_at is not None) for alarm in journal.all_occurrences(connection)]

    eventually(lambda: occurrences() == [("bearing-temperature-high", True)], "raised once and cleared")
    with connect(registered) as connection:
        kinds = connection.execute("SELECT kind FROM alarm_event ORDER BY alarm_event_id").fetchall()
    assert [kind for (kind,) in kinds] == ["raised", "cleared"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_stops_in_order(platform: Platform, number: signal.Signals) -> None:
    assert platform.stop(number) == 0
    log = platform.log.read_text()
    assert '"platform.stopped"' in log
    assert "Traceback" not in log


def test_it_ends_when_its_standard_input_is_closed(platform: Platform) -> None:
    assert platform.process is not None
    assert platform.process.stdin is not None
    platform.process.stdin.close()
    assert platform.process.wait(60) == 0
