"""What a sender sees while something behind the gateways is slow or away, and that all goes on when it is back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiocoap
import psycopg
import pytest

from deploy.provision import Installation
from devices.errors import UnavailableError
from devices.model import SECOND
from devices.profile import shipped_profiles
from headworks.embedded import EmbeddedBroker, EmbeddedPostgres
from headworks.service import Doors, Platform, prepare
from headworks.settings import Settings
from storage.database import connect
from storage.registry import register
from tests.conftest import PUMP
from tests.integration.test_gateways import (
    T0,
    ask_http,
    coap,
    eventually,
    pack,
    publish,
    query,
    running,
    topic_of,
)
from tests.ports import free_port

PATH = f"/telemetry/{PUMP.identity}"


@pytest.fixture
def database(installation: Installation, scratch: Path) -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, which it may stop."""
    server = EmbeddedPostgres(installation, scratch / f"own-{time.monotonic_ns()}")
    server.start()
    prepare(server.url)
    with connect(server.url) as connection:
        register(connection, [PUMP], shipped_profiles())
    yield server
    server.stop()


def test_while_the_database_is_away_coap_says_when_to_come_back_and_mqtt_waits(
    database: EmbeddedPostgres, broker_url: str
) -> None:
    with running(database.url, broker_url) as doors:
        assert coap(doors, PATH, pack(1.0), 110).code == aiocoap.CHANGED
        database.stop()
        answer = coap(doors, PATH, pack(2.0, start=T0 + SECOND), 110)
        assert answer.code == aiocoap.SERVICE_UNAVAILABLE
        assert 0 < answer.opt.max_age < 60
        publish(broker_url, topic_of(PUMP.identity), pack(3.0, start=T0 + 2 * SECOND))
        eventually(lambda: ask_http(doors, "/healthz")[0] == 503, "the health check tells")
        database.start()
        eventually(lambda: coap(doors, PATH, pack(2.0, start=T0 + SECOND), 110).code == aiocoap.CHANGED, "CoAP goes on")
        eventually(lambda: query(database.url, "SELECT count(*) FROM reading") == [(3,)], "MQTT goes on")
        eventually(lambda: ask_http(doors, "/healthz")[0] == 200, "healthy again")


def test_with_a_spool_an_outage_of_the_database_is_nobodys_business(
    database: EmbeddedPostgres, broker_url: str, tmp_path: Path
) -> None:
    with running(database.url, broker_url, spool=tmp_path / "spool.db") as doors:
        database.stop()
        for number in range(20):
            answer = coap(doors, PATH, pack(float(number), start=T0 + number * SECOND), 110)
            assert answer.code == aiocoap.CHANGED
        publish(broker_url, topic_of(PUMP.identity), pack(3.0, start=T0 + 30 * SECOND))
        eventually(lambda: "21 uplinks wait" in ask_http(doors, "/healthz")[1], "the health check tells")
        assert ask_http(doors, "/healthz")[0] == 503
        database.start()
        eventually(lambda: query(database.url, "SELECT count(*) FROM reading") == [(21,)], "the spool is drained")
        assert coap(doors, PATH, pack(9.0, start=T0 + 60 * SECOND), 110).code == aiocoap.CHANGED
        assert query(database.url, "SELECT sum(readings), sum(duplicates) FROM uplink") == [(22, 0)]
        eventually(lambda: ask_http(doors, "/healthz")[0] == 200, "healthy again")


def test_what_was_promised_before_the_end_of_a_process_is_stored_by_the_next(
    database: EmbeddedPostgres, broker_url: str, tmp_path: Path
) -> None:
    with running(database.url, broker_url, spool=tmp_path / "spool.db") as doors:
        database.stop()
        assert coap(doors, PATH, pack(1.0), 110).code == aiocoap.CHANGED
        assert coap(doors, PATH, b"[{}]", 110).code == aiocoap.CHANGED, "what is wrong with it is found later"
    database.start()
    with running(database.url, broker_url, spool=tmp_path / "spool.db"):
        eventually(lambda: query(database.url, "SELECT count(*) FROM reading") == [(1,)], "the spool is drained")
        assert query(database.url, "SELECT reason, payload FROM quarantine") == [("malformed", b"[{}]")]


def test_a_spool_is_of_one_process_only(registered: str, broker_url: str, tmp_path: Path) -> None:
    with running(registered, broker_url, spool=tmp_path / "spool.db"):
        settings = Settings(spool=str(tmp_path / "spool.db"))
        with pytest.raises(UnavailableError, match="another process's; set HEADWORKS_SPOOL"):
            Platform(settings, registered, broker_url)


def test_a_spool_that_cannot_be_opened_does_not_stop_a_platform_whose_database_is_well(
    registered: str, broker_url: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with running(registered, broker_url, spool=tmp_path / "file" / "spool.db", healthy=False) as doors:
        assert coap(doors, PATH, pack(1.0), 110).code == aiocoap.CHANGED
        status, body = ask_http(doors, "/healthz")
        assert (status, "cannot be opened" in body) == (503, True)


def test_a_slow_commit_does_not_keep_other_devices_waiting(registered: str, broker_url: str, tmp_path: Path) -> None:
    with running(registered, broker_url, spool=tmp_path / "spool.db") as doors:
        with psycopg.connect(registered) as blocker:
            blocker.execute("LOCK TABLE latest_pack IN ACCESS EXCLUSIVE MODE")
            with Device(doors) as first:
                first.socket.send(post(1, pack(1.0)))
                assert first.receive().code == aiocoap.EMPTY  # it waits for the lock with its commit
                answer = coap(doors, PATH, pack(2.0, start=T0 + SECOND), 110)
            assert answer.code == aiocoap.CHANGED, "the spool has the second one, while the lock still holds"
            blocker.rollback()
        eventually(lambda: query(registered, "SELECT count(*) FROM reading") == [(2,)], "both are stored")


def test_a_broker_restart_loses_nothing(registered: str, installation: Installation, scratch: Path) -> None:
    broker = EmbeddedBroker(installation, scratch / f"own-{time.monotonic_ns()}", port=free_port(socket.SOCK_STREAM))
    broker.start()
    try:
        with running(registered, broker.url) as doors:
            eventually(lambda: ask_http(doors, "/healthz")[0] == 200, "connected")
            publish(broker.url, topic_of(PUMP.identity), pack(1.0))
            broker.stop()
            broker.start()
            publish(broker.url, topic_of(PUMP.identity), pack(2.0, start=T0 + SECOND))
            eventually(lambda: query(registered, "SELECT count(*) FROM reading") == [(2,)], "both are stored")
    finally:
        broker.stop()


@pytest.fixture
def platform(registered: str, broker_url: str) -> Iterator[Doors]:
    with running(registered, broker_url) as doors:
        yield doors


class Device:
    """A CoAP device that writes its datagrams byte by byte, to repeat and to break them."""

    def __init__(self, doors: Doors) -> None:
        host, port = doors.coap.removeprefix("coap://").split(":")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((host, int(port)))
        self.socket.settimeout(60)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, datagram: bytes) -> aiocoap.Message:
        self.socket.send(datagram)
        return self.receive()

    def receive(self) -> aiocoap.Message:
        return aiocoap.Message.decode(self.socket.recv(2048))

    def stays_silent(self, seconds: float = 0.3) -> bool:
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(2048)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(60)
        return False


def post(mid: int, payload: bytes, *, confirmable: bool = True) -> bytes:
    message = aiocoap.Message(
        code=aiocoap.POST, uri_path=["telemetry", PUMP.identity], content_format=110, payload=payload,
        _mtype=aiocoap.CON if confirmable else aiocoap.NON, _mid=mid, _token=b"tk",
    )  # fmt: skip
    return bytes(message.encode())


def test_a_repeat_gets_the_first_answer_again_and_is_stored_once(platform: Doors, registered: str) -> None:
    with Device(platform) as device:
        answers = [device.ask(post(7, pack(1.0))) for _ in range(2)]
    assert [(a.code, a.mid, a.token, a.mtype) for a in answers] == [(aiocoap.CHANGED, 7, b"tk", aiocoap.ACK)] * 2
    assert query(registered, "SELECT count(*) FROM uplink") == [(1,)]


def test_a_repeat_from_a_new_address_is_known_by_its_readings(platform: Doors, registered: str) -> None:
    for _ in range(2):
        with Device(platform) as device:
            assert device.ask(post(7, pack(1.0, 2.0))).code == aiocoap.CHANGED
    assert query(registered, "SELECT count(*) FROM reading") == [(2,)]
    assert query(registered, "SELECT readings, duplicates FROM uplink ORDER BY xid") == [(2, 0), (0, 2)]


def test_a_slow_commit_is_acknowledged_at_once_and_answered_separately(platform: Doors, registered: str) -> None:
    with psycopg.connect(registered) as blocker, Device(platform) as device:
        blocker.execute("LOCK TABLE latest_pack IN ACCESS EXCLUSIVE MODE")
        device.socket.send(post(9, pack(1.0)))
        early = device.receive()
        assert (early.code, early.mid, early.mtype) == (aiocoap.EMPTY, 9, aiocoap.ACK)
        device.socket.send(post(9, pack(1.0)))  # an impatient repeat while the commit is under way
        blocker.rollback()
        answer = device.receive()
        assert (answer.code, answer.token, answer.mtype) == (aiocoap.CHANGED, b"tk", aiocoap.CON)
        device.socket.send(bytes(aiocoap.Message(code=aiocoap.EMPTY, _mtype=aiocoap.ACK, _mid=answer.mid).encode()))
    assert query(registered, "SELECT count(*) FROM reading") == [(1,)]


def test_a_non_confirmable_post_is_answered_without_acknowledgement(platform: Doors) -> None:
    with Device(platform) as device:
        answer = device.ask(post(11, pack(1.0), confirmable=False))
    assert (answer.code, answer.mtype, answer.token) == (aiocoap.CHANGED, aiocoap.NON, b"tk")


def test_a_ping_is_answered_with_a_reset(platform: Doors) -> None:
    with Device(platform) as device:
        answer = device.ask(b"\x40\x00\x12\x34")
    assert (answer.code, answer.mtype, answer.mid) == (aiocoap.EMPTY, aiocoap.RST, 0x1234)


def test_a_message_format_error_is_reset_if_confirmable_and_ignored_if_not(platform: Doors) -> None:
    with Device(platform) as device:
        answer = device.ask(b"\x40\x02\x12\x34\xff")
        assert (answer.code, answer.mtype, answer.mid) == (aiocoap.EMPTY, aiocoap.RST, 0x1234)
        for datagram in (b"\x50\x02\x12\x34\xff", b"\x40", b"garbage"):
            device.socket.send(datagram)
        assert device.stays_silent()
        assert device.ask(post(13, pack(1.0))).code == aiocoap.CHANGED


def test_an_unknown_critical_option_is_refused(platform: Doors) -> None:
    with Device(platform) as device:
        # Option 65 is critical (odd) and unknown: delta 65 = 13 + 52.
        answer = device.ask(b"\x40\x02\x12\x35\xd1\x34x\xffpayload")
    assert answer.code == aiocoap.BAD_OPTION


def test_many_devices_at_once_are_all_answered(platform: Doors, registered: str) -> None:
    failures: list[object] = []

    def run(number: int) -> None:
        with Device(platform) as device:
            for i in range(20):
                at = T0 + (number * 1000 + i) * SECOND
                answer = device.ask(post(i, pack(1.0, start=at)))
                if answer.code != aiocoap.CHANGED:
                    failures.append(answer)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert query(registered, "SELECT count(*) FROM reading") == [(200,)]
