"""Promise 1 by force: the platform is killed with SIGKILL while devices send, and nothing acknowledged is missing.

The senders are processes and sockets outside of the one that is killed; they keep every acknowledgement they got.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from devices.codecs.senml import encode_cbor
from devices.model import SECOND, ContentFormat, Measurement
from devices.profile import shipped_profiles
from simulators.coap_client import CoapClient, NoAnswerError
from simulators.mqtt_client import MqttClient
from storage import audit, journal
from storage.database import connect
from storage.registry import register
from tests.conftest import PUMP, VALVE
from tests.integration.test_gateways import eventually, free_port

T0 = 1_785_000_000 * SECOND
KILLS = int(os.environ.get("HEADWORKS_KILLS", "4"))


@dataclass
class Platform:
    """`headworks serve` as a process that a test may kill and start again."""

    database_url: str
    broker_url: str
    log: Path
    coap: int = field(default_factory=lambda: free_port(socket.SOCK_DGRAM))
    http: int = field(default_factory=lambda: free_port(socket.SOCK_STREAM))
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = os.environ | {
            "HEADWORKS_DATABASE_URL": f"postgresql:///?{self.database_url.replace(' ', '&')}",
            "HEADWORKS_MQTT_URL": self.broker_url, "HEADWORKS_COAP_PORT": str(self.coap),
            "HEADWORKS_HTTP_PORT": str(self.http), "HEADWORKS_LOG_FORMAT": "json",
            "HEADWORKS_SPOOL": str(self.log.with_name("spool.db")),
        }  # fmt: skip
        with self.log.open("ab") as file:
            command = [sys.executable, "-m", "headworks", "serve", "--until-eof"]
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=file, stderr=file)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stdin is not None
        self.process.stdin.close()
        return code

    def healthy(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.http}/healthz", timeout=2).is_success
        except httpx.TransportError:
            return False


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


class Senders:
    """One CoAP and one MQTT device that send without a pause and remember what was acknowledged."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.acknowledged: list[tuple[str, str, int]] = []
        self._rng = random.Random(1)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._coap(stop)), asyncio.create_task(self._mqtt(stop))]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    def _pack(self, identity: str, metric: str, number: int) -> tuple[bytes, list[tuple[str, str, int]]]:
        times = [T0 + (number * 8 + i) * SECOND for i in range(8)]
        entries = [Measurement(metric, None, float(number), at) for at in times]
        return encode_cbor(identity, entries, number), [(identity, metric, at) for at in times]

    async def _coap(self, stop: asyncio.Event) -> None:
        client = CoapClient(self._rng, ack_timeout=0.3)
        await client.open("127.0.0.1", self._platform.coap)
        number = 0
        while not stop.is_set():
            payload, keys = self._pack(PUMP.identity, "pressure", number)
            try:
                answer = await client.post(PUMP.identity, ContentFormat.SENML_CBOR, payload)
            except NoAnswerError:
                continue  # the same uplink again, as a device would
            if answer.stored:
                self.acknowledged += keys
                number += 1
            elif answer.later:
                await asyncio.sleep(0.1)
            else:
                raise AssertionError(answer)
        client.close()

    async def _mqtt(self, stop: asyncio.Event) -> None:
        client = MqttClient(self._platform.broker_url, "kill-test")
        client.open()
        number = 0
        while not stop.is_set():
            payload, keys = self._pack(VALVE.identity, "torque", number)
            assert await client.publish(VALVE.identity, payload)
            self.acknowledged += keys
            number += 1
            await asyncio.sleep(0.002)
        client.close()


def test_killed_at_random_moments_nothing_acknowledged_is_missing_or_there_twice(
    platform: Platform, registered: str
) -> None:
    senders = Senders(platform)
    rng = random.Random(time.time_ns())

    async def main() -> None:
        async with senders.sending():
            for _ in range(KILLS):
                await asyncio.sleep(rng.uniform(0.1, 1.0))
                platform.kill()
                platform.start()
                await asyncio.to_thread(eventually, platform.healthy, "the platform is back")
            await asyncio.sleep(0.5)

    asyncio.run(main())
    assert len(senders.acknowledged) > 100 * KILLS

    def compare() -> audit.Comparison:
        with connect(registered) as connection:
            return audit.compare(connection, senders.acknowledged)

    # What the broker acknowledged is with the broker first: it arrives.
    eventually(lambda: compare().missing == 0, "everything acknowledged is stored", 60)
    found = compare()
    print(f"{KILLS} kills, {found.promised} readings acknowledged, {found.missing} missing, {found.twice} twice")
    assert (found.missing, found.twice) == (0, 0)
    with connect(registered) as connection:
        counts = audit.counts(connection)
    assert counts.readings == counts.distinct_readings
    assert counts.quarantined == {}


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
    send(10, 30, 95.0)
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
    assert platform.process.wait(30) == 0
