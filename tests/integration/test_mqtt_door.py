"""The MQTT door: devices of other platforms come with the login that they have, and speak for nobody else."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import ssl
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from typer.testing import CliRunner

from devices.codecs import iotda
from devices.codecs.senml import encode_json
from devices.credential import Grant, Login
from devices.errors import UnavailableError
from devices.model import Measurement, Uplink, moment
from devices.profile import shipped_profiles
from headworks import clock
from headworks.cli import app
from headworks.service import Doors
from ingest import mqtt_door
from ingest.mqtt_door import MqttDoor
from ingest.outcome import Outcome, Verdict
from ingest.pipeline import Done
from storage.database import connect
from storage.registry import register
from tests.conftest import PUMP, VALVE
from tests.integration.certificates import self_signed
from tests.integration.test_gateways import T0, eventually, printed, query, running
from tests.integration.test_peers import run_peer
from tests.integration.test_quarantine import as_url
from tests.peers.start import peer

V3, V5 = MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5
TOKEN = "A1_TEST_TOKEN"
SECRET = "a secret from elsewhere"


@pytest.fixture
def rotate(registered: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """`headworks devices rotate`, and what it prints."""
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", as_url(registered))
    monkeypatch.setenv("HEADWORKS_KEY_FILE", str(tmp_path / "secret.key"))

    def run(*arguments: str, given: str = "") -> dict[str, str]:
        more = ["--given"] if given else []
        result = CliRunner().invoke(app, ["devices", "rotate", *arguments, *more], input=f"{given}\n")
        assert result.exit_code == 0, result.output
        return printed(result.stdout)

    return run


@pytest.fixture
def doors(registered: str, broker_url: str, tmp_path: Path) -> Iterator[Doors]:
    with running(registered, broker_url, mqtt_door_port=0, key_file=tmp_path / "secret.key") as doors:
        yield doors


class Device:
    """A device by paho: what it was answered, in order."""

    def __init__(
        self, port: int, user: str, password: str | None = None, client_id: str = "", protocol: MQTTProtocolVersion = V5
    ) -> None:
        self.connected: list[int] = []
        self.published: list[int] = []
        self.ended: list[int] = []
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol, reconnect_on_failure=False
        )
        self._client.max_inflight_messages_set(1_000)
        self._client.username_pw_set(user, password)
        self._client.on_connect = lambda _, __, ___, reason, ____: self.connected.append(reason.value)
        self._client.on_publish = lambda _, __, ___, reason, ____: self.published.append(reason.value)
        self._client.on_disconnect = lambda _, __, ___, reason, ____: self.ended.append(reason.value)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        eventually(lambda: bool(self.connected), "it is answered")

    def publish(self, topic: str, payload: bytes, qos: int = 1) -> int:
        """The reason code of its acknowledgement."""
        before = len(self.published)
        self._client.publish(topic, payload, qos=qos)
        eventually(lambda: len(self.published) > before, "it is acknowledged")
        return self.published[-1]

    def subscribe(self, topic: str) -> list[int]:
        granted: list[int] = []
        self._client.on_subscribe = lambda _, __, ___, reasons, ____: granted.extend(one.value for one in reasons)
        self._client.subscribe(topic, 1)
        eventually(lambda: bool(granted), "its subscription is answered")
        return granted

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def pressure(url: str) -> list[tuple[object, ...]]:
    return query(
        url,
        "SELECT d.tag, r.value FROM reading r JOIN device d USING (device_id) JOIN metric m USING (metric_id)"
        " WHERE m.name = 'pressure' ORDER BY r.measured_at",
    )


def senml(identity: str, value: float = 400_000.0) -> bytes:
    return encode_json(identity, [Measurement("pressure", "Pa", value, T0)])


@pytest.mark.parametrize("protocol", [V3, V5])
def test_it_speaks_under_its_password_and_is_acknowledged_after_the_commit(
    registered: str, rotate: Callable[..., dict[str, str]], doors: Doors, protocol: MQTTProtocolVersion
) -> None:
    made = rotate(PUMP.identity, "--kind", "mqtt")
    assert doors.mqtt_door
    with Device(doors.mqtt_door, made["user"], made["password"], protocol=protocol) as device:
        assert device.connected == [0]
        assert device.publish(f"headworks/{PUMP.identity}/telemetry", senml(PUMP.identity)) == 0
        assert pressure(registered) == [("P-101", 4.0)]
        assert device.publish("v1/devices/me/telemetry", b'{"ts":1780000060000,"values":{"pressure":5}}') == 0
        assert pressure(registered) == [("P-101", 4.0), ("P-101", 5.0)]


def test_it_speaks_for_nobody_else(registered: str, rotate: Callable[..., dict[str, str]], doors: Doors) -> None:
    rotate(PUMP.identity, "--kind", "token", given=TOKEN)
    assert doors.mqtt_door
    with Device(doors.mqtt_door, TOKEN) as device:
        assert device.publish(f"headworks/{VALVE.identity}/telemetry", senml(VALVE.identity)) == 0x87
        gateway = json.dumps({VALVE.identity: [{"ts": 1780000000000, "values": {"travel": 5}}]}).encode()
        assert device.publish("v1/gateway/telemetry", gateway) == 0x87
    reasons = query(registered, "SELECT reason, authenticated FROM quarantine")
    assert reasons == [("identity_mismatch", PUMP.identity)] * 2
    assert query(registered, "SELECT count(*) FROM reading") == [(0,)]


def test_what_cannot_be_read_is_in_quarantine_and_not_sent_again(
    registered: str, rotate: Callable[..., dict[str, str]], doors: Doors
) -> None:
    rotate(PUMP.identity, "--kind", "token", given=TOKEN)
    assert doors.mqtt_door
    with Device(doors.mqtt_door, TOKEN) as device:
        assert device.publish("v1/devices/me/telemetry", b"no json") == 0x99
    assert query(registered, "SELECT reason FROM quarantine") == [("malformed",)]


@pytest.mark.parametrize(("protocol", "code"), [(V3, 0x86), (V5, 0x86)])
def test_a_wrong_login_is_refused(
    rotate: Callable[..., dict[str, str]], doors: Doors, protocol: MQTTProtocolVersion, code: int
) -> None:
    made = rotate(PUMP.identity, "--kind", "mqtt")
    assert doors.mqtt_door
    for user, password in ((made["user"], "wrong"), (made["user"], None), ("nobody", "x"), (PUMP.identity, "")):
        with Device(doors.mqtt_door, user, password, protocol=protocol) as device:
            assert device.connected == [code]


def test_a_new_secret_ends_the_sessions_of_the_last_one(
    rotate: Callable[..., dict[str, str]],
    registered: str,
    broker_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mqtt_door, "FRESH_SECONDS", 0.05)
    rotate(PUMP.identity, "--kind", "token", given=TOKEN)
    with running(registered, broker_url, mqtt_door_port=0, key_file=tmp_path / "secret.key") as doors:
        assert doors.mqtt_door
        with Device(doors.mqtt_door, TOKEN) as device:
            assert device.publish("v1/devices/me/telemetry", b'{"pressure":4}') == 0
            rotate(PUMP.identity, "--kind", "token")
            eventually(lambda: bool(device.ended), "it is put out")
            assert device.ended == [0x87]
        with Device(doors.mqtt_door, TOKEN) as device:
            assert device.connected == [0x86]


def test_the_same_client_again_takes_the_place_of_its_first_connection(
    rotate: Callable[..., dict[str, str]], doors: Doors
) -> None:
    rotate(PUMP.identity, "--kind", "token", given=TOKEN)
    assert doors.mqtt_door
    with Device(doors.mqtt_door, TOKEN, client_id="one") as first, Device(doors.mqtt_door, TOKEN, client_id="one"):
        eventually(lambda: first.ended == [0x8E], "the first one ends")


def test_subscriptions_are_granted_and_other_topics_acknowledged_and_counted(
    rotate: Callable[..., dict[str, str]], doors: Doors
) -> None:
    rotate(PUMP.identity, "--kind", "token", given=TOKEN)
    assert doors.mqtt_door
    with Device(doors.mqtt_door, TOKEN) as device:
        assert device.subscribe("v1/devices/me/rpc/request/+") == [1]
        assert device.publish("v1/devices/me/attributes", b'{"firmware":"1.2"}') == 0


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return self_signed(tmp_path / "door.pem")


# Clients that we did not write.


def test_a_thingsboard_device_changes_its_host_name_only(
    registered: str, rotate: Callable[..., dict[str, str]], doors: Doors
) -> None:
    rotate(PUMP.identity, "--kind", "token", given=TOKEN)
    told = run_peer("thingsboard", "thingsboard_device.py", str(doors.mqtt_door), TOKEN, str(T0 // 1000))
    assert told == "published True\n"
    assert pressure(registered) == [("P-101", 4.0), ("P-101", 4.1), ("P-101", 4.2)]


def test_a_thingsboard_gateway_speaks_for_its_devices_only(
    registered: str, rotate: Callable[..., dict[str, str]], doors: Doors
) -> None:
    with connect(registered) as connection:
        register(connection, [replace(PUMP, gateway=VALVE.identity)], shipped_profiles())
    rotate(VALVE.identity, "--kind", "token", given=TOKEN)
    told = run_peer("thingsboard", "thingsboard_device.py", str(doors.mqtt_door), TOKEN, str(T0 // 1000), PUMP.identity)
    assert told == "published True\n"
    assert pressure(registered) == [("P-101", 4.0), ("P-101", 4.1), ("P-101", 4.2)]


def test_an_iotda_device_logs_in_with_the_hour(
    registered: str, rotate: Callable[..., dict[str, str]], doors: Doors
) -> None:
    rotate(PUMP.identity, "--kind", "iotda", given=SECRET)
    now = moment(clock.now())
    topic = f"$oc/devices/{PUMP.identity}/sys/properties/report"
    report = {"services": [{"service_id": "pump", "properties": {"pressure": 4}, "event_time": "20260801T101112Z"}]}
    assert doors.mqtt_door
    client_id, password = iotda.client_id(PUMP.identity, now, checked=True), iotda.password(SECRET, now)
    with Device(doors.mqtt_door, PUMP.identity, password, client_id, V3) as device:
        assert device.publish(topic, json.dumps(report).encode()) == 0
    assert pressure(registered) == [("P-101", 4.0)]
    late = now - datetime.timedelta(hours=5)
    for client_id, code in (
        (iotda.client_id(PUMP.identity, late, checked=True), 0x86),
        (iotda.client_id(PUMP.identity, late), 0),  # of a device without a clock
    ):
        with Device(doors.mqtt_door, PUMP.identity, iotda.password(SECRET, late), client_id) as device:
            assert device.connected == [code]


def test_huaweis_own_sdk_over_tls(
    registered: str, rotate: Callable[..., dict[str, str]], broker_url: str, tmp_path: Path, certificate: Path
) -> None:
    sdk = os.environ.get("HEADWORKS_TEST_IOTDA_SDK")
    if not sdk:
        pytest.skip("Huawei's SDK is on no package index: HEADWORKS_TEST_IOTDA_SDK names a folder with it")
    rotate(PUMP.identity, "--kind", "iotda", given=SECRET)
    key = tmp_path / "secret.key"
    with running(
        registered, broker_url, mqtt_door_port=8883, mqtt_door_cert=certificate, key_file=key
    ) as doors:  # the SDK insists
        arguments = (str(doors.mqtt_door), PUMP.identity, SECRET, str(certificate), "4.5")
        with peer(Path(sdk), "iotda_device.py", *arguments):
            eventually(lambda: pressure(registered) == [("P-101", 4.5)], "its property is stored")


def test_over_tls_with_a_certificate(
    registered: str, rotate: Callable[..., dict[str, str]], broker_url: str, tmp_path: Path, certificate: Path
) -> None:
    made = rotate(PUMP.identity, "--kind", "mqtt")
    with running(registered, broker_url, mqtt_door_port=0, mqtt_door_cert=certificate) as doors:
        context = ssl.create_default_context(cafile=str(certificate))
        context.check_hostname = False
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.username_pw_set(made["user"], made["password"])
        client.tls_set_context(context)
        client.connect("127.0.0.1", doors.mqtt_door or 0)
        client.loop_start()
        try:
            client.publish(f"headworks/{PUMP.identity}/telemetry", senml(PUMP.identity), qos=1).wait_for_publish(60)
        finally:
            client.disconnect()
            client.loop_stop()
        assert pressure(registered) == [("P-101", 4.0)]


# The door by itself: what happens when the rest of the platform cannot go on.


class Known:
    """A registry that can be away."""

    def __init__(self) -> None:
        self.away = False

    def login(self, shown: Login) -> Grant | None:
        if self.away:
            raise UnavailableError("away")
        return Grant(shown.username, "token", "1") if shown.username == TOKEN else None

    def still_good(self, grants: Collection[Grant]) -> set[Grant]:
        return set(grants)


def test_while_nothing_can_be_stored_nothing_is_acknowledged_and_who_is_known_comes_in(
    loop_thread: Callable[[MqttDoor], int],
) -> None:
    taken: list[Uplink] = []
    answer = [Outcome(Verdict.UNAVAILABLE)]

    def submit(uplink: Uplink, done: Done) -> None:
        taken.append(uplink)
        done(answer[0])

    known = Known()
    port = loop_thread(MqttDoor("127.0.0.1", 0, known, submit, lambda: T0))
    with Device(port, TOKEN, client_id="one") as device:
        device._client.publish("v1/devices/me/telemetry", b"{}", qos=1)
        eventually(lambda: bool(device.ended), "the connection ends")
        assert (device.ended, device.published) == ([0x89], [])
    known.away = True
    answer[0] = Outcome(Verdict.STORED)
    with Device(port, TOKEN, client_id="one") as device:
        assert device.publish("v1/devices/me/telemetry", b"{}") == 0
    with Device(port, TOKEN, client_id="two") as device:
        assert device.connected == [0x88], "nobody can say who that is"
    assert [uplink.authenticated for uplink in taken] == [TOKEN, TOKEN]


def test_only_so_many_messages_wait_and_the_rest_stay_with_the_device(loop_thread: Callable[[MqttDoor], int]) -> None:
    waiting: list[Done] = []
    port = loop_thread(MqttDoor("127.0.0.1", 0, Known(), lambda _, done: waiting.append(done), lambda: T0))
    with Device(port, TOKEN, protocol=V3) as device:
        for _ in range(200):
            device._client.publish("v1/devices/me/telemetry", b"{}", qos=1)
        eventually(lambda: len(waiting) == mqtt_door.IN_FLIGHT, "the door is full")
        answered = 0
        while answered < 200:
            eventually(lambda: len(waiting) > answered, "more is read")  # noqa: B023 - asked at once
            assert len(waiting) - answered <= mqtt_door.IN_FLIGHT
            waiting[answered](Outcome(Verdict.STORED))
            answered += 1
        eventually(lambda: len(device.published) == 200, "all is acknowledged")


@pytest.fixture
def loop_thread() -> Iterator[Callable[[MqttDoor], int]]:
    """Opens a door in an event loop of another thread; returns its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    opened: list[MqttDoor] = []

    def open_door(door: MqttDoor) -> int:
        opened.append(door)
        return asyncio.run_coroutine_threadsafe(door.open(), loop).result(60)

    yield open_door
    for door in opened:
        asyncio.run_coroutine_threadsafe(door.close(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)
    loop.close()
