"""The gateways on real sockets, a real broker and a real database, driven by peers that we did not write."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiocoap
import httpx
import paho.mqtt.client as paho
import psycopg
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from deploy.provision import Installation
from devices.codecs.senml import encode_cbor, encode_json
from devices.model import SECOND, Measurement
from devices.profile import shipped_profiles
from headworks.service import Doors, Platform
from headworks.settings import Settings
from storage.database import connect
from storage.registry import register
from tests.conftest import PUMP, VALVE
from tests.ports import free_port

T0 = 1_780_000_000 * SECOND


def eventually(question: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Poll for a condition of another process: long enough for one that starts on a machine with much else to do."""
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


def printed(output: str) -> dict[str, Any]:
    """The JSON object that a command printed, among the log lines of a platform that runs in the same process."""
    begins = re.search(r"^\{", output, re.MULTILINE)
    assert begins is not None, output
    found: dict[str, Any] = json.JSONDecoder().raw_decode(output, begins.start())[0]
    return found


def ask_http(doors: Doors, path: str) -> tuple[int, str]:
    answer = httpx.get(doors.http + path, timeout=60)
    return answer.status_code, answer.text


@contextmanager
def running(
    database_url: str, broker_url: str, *, spool: Path | None = None, healthy: bool = True, **more: Any
) -> Iterator[Doors]:
    """A platform in this process, in an event loop of its own thread; `more` are settings."""
    given: dict[str, Any] = {"keep_readings_days": 0} | more  # samples are of any year, and stay
    settings = Settings(coap_port=free_port(socket.SOCK_DGRAM), http_port=0, spool=str(spool or "off"), **given)
    up = threading.Event()
    found: list[Doors] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def ready(doors: Doors) -> None:
        found.append(doors)
        up.set()

    def main() -> None:
        loop.run_until_complete(Platform(settings, database_url, broker_url).run(stop, ready))
        loop.close()

    thread = threading.Thread(target=main)
    thread.start()
    try:
        assert up.wait(60), "the platform did not come up"
        # Without a subscription the broker has nobody to keep a message for.
        expected = 200 if healthy else 503
        eventually(lambda: ask_http(found[0], "/healthz")[0] == expected, "the gateway is subscribed")
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
    assert not thread.is_alive()


@pytest.fixture
def platform(registered: str, broker_url: str) -> Iterator[Doors]:
    with running(registered, broker_url) as doors:
        yield doors


def coap(
    doors: Doors, path: str, payload: bytes, content_format: int | None, code: aiocoap.Code = aiocoap.POST
) -> aiocoap.Message:
    """One request by aiocoap's own client."""

    async def ask() -> aiocoap.Message:
        context = await aiocoap.Context.create_client_context()
        try:
            message = aiocoap.Message(code=code, uri=doors.coap + path, payload=payload, content_format=content_format)
            return await asyncio.wait_for(context.request(message).response, 60)
        finally:
            await context.shutdown()

    return asyncio.run(ask())


def query(url: str, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(text.encode()).fetchall()


def pack(
    *values: float, metric: str = "pressure", unit: str = "Pa", device: str = PUMP.identity, start: int = T0
) -> bytes:
    entries = [Measurement(metric, unit, value, start + i * SECOND) for i, value in enumerate(values)]
    return encode_json(device, entries)


def test_a_coap_post_is_answered_when_its_readings_are_committed(platform: Doors, registered: str) -> None:
    answer = coap(platform, f"/telemetry/{PUMP.identity}", pack(400_000.0, 410_000.0), 110)
    assert answer.code == aiocoap.CHANGED
    assert query(registered, "SELECT value FROM reading ORDER BY measured_at") == [(4.0,), (4.1,)]


def test_a_coap_post_to_the_root_is_identified_by_its_payload(platform: Doors, registered: str) -> None:
    payload = encode_cbor(VALVE.identity, [Measurement("travel", "%", 50.0, T0)], 3)
    assert coap(platform, "", payload, 112).code == aiocoap.CHANGED
    assert query(registered, "SELECT d.tag, u.sequence FROM uplink u JOIN device d USING (device_id)") == [
        ("FV-201", 3)
    ]


def test_a_backlog_arrives_by_blockwise_transfer_as_one_uplink(platform: Doors, registered: str) -> None:
    assert coap(platform, f"/telemetry/{PUMP.identity}", pack(*map(float, range(1000))), 110).code == aiocoap.CHANGED
    assert query(registered, "SELECT count(*) FROM reading") == [(1000,)]
    assert query(registered, "SELECT readings FROM uplink") == [(1000,)]


BAD = [
    (f"/telemetry/{PUMP.identity}", b"\x00\xff", 110, "4.00", "malformed"),
    (f"/telemetry/{PUMP.identity}", b"", 110, "4.00", "malformed"),
    (f"/telemetry/{PUMP.identity}", b"pressure=4", 0, "4.15", "unsupported_format"),
    ("/telemetry/urn:dev:imei:999", pack(1.0, device="urn:dev:imei:999"), 110, "4.03", "unknown_device"),
    (f"/telemetry/{PUMP.identity}", pack(1.0, device=VALVE.identity), 110, "4.03", "identity_mismatch"),
    (f"/telemetry/{PUMP.identity}", pack(1.0, unit="Cel"), 110, "4.22", "unit_mismatch"),
    (f"/telemetry/{PUMP.identity}", pack(1.0, metric="presure"), 110, "4.22", "unknown_metric"),
    (f"/telemetry/{PUMP.identity}", pack(1.0, start=4_102_444_800 * SECOND), 110, "4.22", "future_time"),
    (f"/telemetry/{PUMP.identity}", b"\x81\xa2\x00\x68pressure\x02\xf9\x7e\x00", 112, "4.22", "not_a_number"),
]


@pytest.mark.parametrize(
    ("path", "payload", "content_format", "code", "reason"), BAD, ids=[f"{b[3]}-{b[4]}" for b in BAD]
)
def test_bad_input_by_coap_has_its_code_and_its_place_in_quarantine(
    platform: Doors, registered: str, path: str, payload: bytes, content_format: int, code: str, reason: str
) -> None:
    answer = coap(platform, path, payload, content_format)
    assert answer.code.dotted == code
    assert answer.payload.decode().startswith(reason)
    assert query(registered, "SELECT reason, payload, transport FROM quarantine") == [(reason, payload, "coap")]
    assert query(registered, "SELECT count(*) FROM reading") == [(0,)]


def test_other_paths_and_methods_are_refused(platform: Doors) -> None:
    assert coap(platform, "/nowhere", b"[]", 110).code == aiocoap.NOT_FOUND
    assert coap(platform, "/telemetry", b"", None, aiocoap.GET).code == aiocoap.METHOD_NOT_ALLOWED
    assert b"</telemetry>" in coap(platform, "/.well-known/core", b"", None, aiocoap.GET).payload


def test_libcoaps_client_is_understood(platform: Doors, registered: str, installation: Installation) -> None:
    client = installation.coap_client
    if client is None:
        pytest.skip("coap-client comes with Debian's packages, and apt is not there")
    for method, path in (("telemetry", f"/telemetry/{PUMP.identity}"), ("root", "/")):
        text = pack(4.0, start=T0 + (method == "root") * SECOND).decode()
        done = subprocess.run(
            [client, "-m", "post", "-t", "110", "-B", "60", "-e", text, platform.coap + path],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "4." not in done.stdout + done.stderr
    assert query(registered, "SELECT count(*) FROM reading") == [(2,)]


def publish(broker_url: str, topic: str, payload: bytes, content_type: str | None = None) -> None:
    """One message by a client of its own, QoS 1, until the broker has it."""
    host, port = broker_url.removeprefix("mqtt://").split(":")
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.connect(host, int(port))
    client.loop_start()
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if content_type:
        properties.ContentType = content_type
    client.publish(topic, payload, qos=1, properties=properties).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def topic_of(identity: str) -> str:
    return f"headworks/{identity}/telemetry"


def test_an_mqtt_message_is_stored(platform: Doors, registered: str, broker_url: str) -> None:
    publish(broker_url, topic_of(PUMP.identity), pack(500_000.0))
    publish(
        broker_url,
        topic_of(VALVE.identity),
        encode_cbor("", [Measurement("travel", "%", 5.0, T0)]),
        "application/senml+cbor",
    )
    eventually(lambda: query(registered, "SELECT count(*) FROM reading") == [(2,)], "both readings are stored")
    assert query(registered, "SELECT DISTINCT transport FROM uplink") == [("mqtt",)]


def test_the_platforms_dialects_arrive_by_their_topics(platform: Doors, registered: str, broker_url: str) -> None:
    child = replace(PUMP, identity="urn:dev:imei:867000000000033", gateway=VALVE.identity)
    with connect(registered) as connection:
        register(connection, [child], shipped_profiles())
    at = "20260801T101112Z"
    report = {"services": [{"service_id": "pump", "properties": {"pressure": "4.5", "speed": 1450}, "event_time": at}]}
    publish(broker_url, f"$oc/devices/{PUMP.identity}/sys/properties/report", json.dumps(report).encode())
    others = {"devices": [{"device_id": child.identity} | report, {"device_id": PUMP.identity} | report]}
    publish(
        broker_url,
        f"$oc/devices/{VALVE.identity}/sys/gateway/sub_devices/properties/report",
        json.dumps(others).encode(),
    )
    telemetry = {"ts": 1_785_600_000_000, "values": {"pressure": 4.25}}
    publish(broker_url, f"v1/devices/{PUMP.identity}/telemetry", json.dumps(telemetry).encode())
    publish(broker_url, "v1/gateway/telemetry", json.dumps({PUMP.identity: [{"flow": 12.0}]}).encode())
    eventually(lambda: query(registered, "SELECT count(*) FROM reading") == [(6,)], "all of them are stored")
    found = query(
        registered,
        "SELECT identity, m.name, value FROM reading JOIN device USING (device_id) JOIN metric m USING (metric_id)"
        " ORDER BY 1, 2, 3",
    )
    pump, behind = PUMP.identity, child.identity
    assert found == [
        (pump, "flow", 12.0), (pump, "pressure", 4.25), (pump, "pressure", 4.5), (pump, "speed", 1450.0),
        (behind, "pressure", 4.5), (behind, "speed", 1450.0),
    ]  # fmt: skip
    assert query(registered, "SELECT reason, identity FROM quarantine") == [("identity_mismatch", pump)], (
        "the gateway spoke for a device that is not its own"
    )


def test_mosquittos_own_publisher_is_understood(
    platform: Doors, registered: str, broker_url: str, installation: Installation
) -> None:
    client = installation.mosquitto_pub
    if client is None:
        pytest.skip("mosquitto_pub comes with Debian's packages, and apt is not there")
    host, port = broker_url.removeprefix("mqtt://").split(":")
    for version in ("mqttv311", "mqttv5"):
        text = pack(4.0, start=T0 + (version == "mqttv5") * SECOND).decode()
        subprocess.run(
            [client, "-V", version, "-h", host, "-p", port, "-q", "1", "-t", topic_of(PUMP.identity), "-m", text],
            check=True, timeout=90,
        )  # fmt: skip
    eventually(lambda: query(registered, "SELECT count(*) FROM reading") == [(2,)], "both readings are stored")


def test_bad_input_by_mqtt_is_quarantined_and_does_not_block_what_follows(
    platform: Doors, registered: str, broker_url: str
) -> None:
    for _, payload, content_format, _, reason in BAD:
        identity = "urn:dev:imei:999" if reason == "unknown_device" else PUMP.identity
        content_type = {0: "text/plain", 110: "application/senml+json", 112: "application/senml+cbor"}[content_format]
        publish(broker_url, topic_of(identity), payload, content_type)
    publish(broker_url, topic_of(PUMP.identity), pack(500_000.0))
    eventually(lambda: query(registered, "SELECT count(*) FROM reading") == [(1,)], "the good one is stored")
    assert query(registered, "SELECT reason, payload FROM quarantine ORDER BY quarantine_id") == [
        (reason, payload) for _, payload, _, _, reason in BAD
    ]


def test_what_was_published_while_the_platform_was_away_is_stored_when_it_is_back(
    registered: str, broker_url: str
) -> None:
    with running(registered, broker_url):
        pass  # leaves its session with the broker
    for number in range(20):
        publish(broker_url, topic_of(PUMP.identity), pack(1e5 * number, start=T0 + number * SECOND))
    with running(registered, broker_url):
        eventually(lambda: query(registered, "SELECT count(*) FROM reading") == [(20,)], "all are stored")


def test_an_alarm_follows_a_reading(platform: Doors, registered: str) -> None:
    entries = [Measurement("bearing_temperature", "Cel", 90.0, T0 + i * 60 * SECOND) for i in range(30)]
    assert (
        coap(platform, f"/telemetry/{PUMP.identity}", encode_json(PUMP.identity, entries), 110).code == aiocoap.CHANGED
    )
    alarms = "SELECT rule, tag FROM alarm JOIN device USING (device_id)"
    eventually(lambda: query(registered, alarms) == [("bearing-temperature-high", "P-101")], "the alarm is raised")
    assert query(registered, "SELECT kind FROM alarm_event") == [("raised",)]


def test_health_and_metrics_are_served(platform: Doors, broker_url: str) -> None:
    eventually(lambda: ask_http(platform, "/healthz")[0] == 200, "healthy")
    assert json.loads(ask_http(platform, "/healthz")[1])["parts"] == dict.fromkeys(
        ("database", "spool", "broker", "announcements", "rules", "rule_files"), "ok"
    )
    assert "headworks_uplinks_total" in ask_http(platform, "/metrics")[1]
