"""The embedded servers' life, on the real ones: every way a run can end, and that the next one begins."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import psycopg
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from deploy.provision import Installation
from headworks.embedded import EmbeddedBroker, EmbeddedPostgres, EmbeddedServiceError
from headworks.embedded.process import GuardedProcess, Home, service_account

CHECKOUT = Path(__file__).resolve().parents[2]
_number = itertools.count(1)


@pytest.fixture
def home(scratch: Path) -> Path:
    """A folder of this test's own, not made yet."""
    return scratch / f"embedded-{next(_number)}"


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return re.search(r"^State:\s+Z", status, re.MULTILINE) is None


def parent(pid: int) -> int:
    found = re.search(r"^PPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text("ascii"), re.MULTILINE)
    assert found
    return int(found.group(1))


def running_on(home: Path) -> list[int]:
    """Every process that works below a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            folder = (process / "cwd").readlink()
        except OSError:
            continue
        if folder.is_relative_to(home):
            found.append(int(process.name))
    return found


def pid_of(server: EmbeddedPostgres | EmbeddedBroker) -> int:
    assert server.pid is not None
    return server.pid


def query(server: EmbeddedPostgres, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


_PLATFORM = """
import json, os, select, signal, sys
from pathlib import Path
from deploy.provision import provision
from headworks.embedded import EmbeddedBroker, EmbeddedPostgres
signal.signal(signal.SIGINT, lambda *_: None)
home = Path(sys.argv[1])
installation = provision(print)
with EmbeddedPostgres(installation, home / "pg") as postgres, EmbeddedBroker(installation, home / "mq") as broker:
    if "fork" in sys.argv:
        ready, write = os.pipe()
        if os.fork() == 0:
            select.select([ready], [], [], 60)  # outlives its parent, but not for ever
            os._exit(0)
    print(json.dumps({"postgres": postgres.pid, "broker": broker.pid, "url": postgres.url}), flush=True)
    sys.stdin.read()
"""


@contextmanager
def platform(home: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, int], str]]:
    """Another process that runs both servers until its standard input ends."""
    home.mkdir(mode=0o711)
    process = subprocess.Popen(
        [sys.executable, "-c", _PLATFORM, str(home), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
        env=os.environ | {"HEADWORKS_WEBHOOK_URL": "https://user:secret@hooks.example"},
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the platform did not start"
        said = json.loads(line)
        try:
            yield process, {"postgres": said["postgres"], "broker": said["broker"]}, said["url"]
        finally:
            process.kill()


def test_data_and_address_survive_a_restart(installation: Installation, home: Path) -> None:
    server = EmbeddedPostgres(installation, home)
    with server:
        address = server.url
        query(server, "CREATE TABLE kept (x int)")
        query(server, "INSERT INTO kept VALUES (7)")
    assert running_on(home) == []
    with server:
        assert server.url == address
        assert query(server, "SELECT x FROM kept") == [(7,)]


def test_commits_are_durable_and_text_is_unicode_in_utc(installation: Installation, home: Path) -> None:
    with EmbeddedPostgres(installation, home) as server:
        names = ("fsync", "full_page_writes", "synchronous_commit", "server_encoding", "TimeZone", "listen_addresses")
        values = [query(server, f"SELECT current_setting('{name}')")[0][0] for name in names]
        assert values == ["on", "on", "on", "UTF8", "UTC", ""]
        assert query(server, "SELECT upper('débit µ')") == [("DÉBIT Μ",)]


def test_timescaledb_is_there_in_the_edition_that_the_installation_names(
    installation: Installation, home: Path
) -> None:
    if installation.edition == "postgresql":
        pytest.skip("the services were fetched as wheels, which have no TimescaleDB")
    with EmbeddedPostgres(installation, home) as server:
        query(server, "CREATE EXTENSION timescaledb")
        assert query(server, "SELECT current_setting('timescaledb.license')") == [("apache",)]
        assert query(server, "SELECT current_setting('timescaledb.telemetry_level')") == [("off",)]
        query(server, "CREATE TABLE readings (measured_at timestamptz NOT NULL, value float8)")
        query(server, "SELECT create_hypertable('readings', by_range('measured_at'))")


def test_only_the_servers_user_can_enter_its_folders_and_that_user_can_write_nowhere_else(
    installation: Installation, home: Path
) -> None:
    with EmbeddedPostgres(installation, home):
        for path in home.iterdir():
            mode = path.stat().st_mode
            if path.is_dir():
                assert mode & 0o077 == 0, path
            assert mode & 0o022 == 0, path
            if os.geteuid() == 0:
                assert (path.stat().st_uid != 0) == path.is_dir(), path
        assert home.stat().st_mode & 0o066 == 0
        assert home.stat().st_uid == os.geteuid()


def test_a_server_gets_nothing_of_our_environment(home: Path) -> None:
    with platform(home) as (_, pids, _):
        for pid in pids.values():
            assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize("arguments", [[], ["fork"]], ids=["alone", "with a forked child that outlives it"])
def test_a_killed_platform_leaves_nothing_running_and_can_start_again(
    installation: Installation, home: Path, arguments: list[str]
) -> None:
    with platform(home, *arguments) as (process, pids, address):
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS x")
        guards = {name: parent(pid) for name, pid in pids.items()}
        process.kill()
        process.wait()
        # At once: the servers of the dead platform may still be stopping.
        with EmbeddedPostgres(installation, home / "pg") as server, EmbeddedBroker(installation, home / "mq"):
            assert query(server, "SELECT x FROM kept") == [(7,)]
            for name, pid in {**pids, **{f"{name}'s guard": pid for name, pid in guards.items()}}.items():
                assert not alive(pid), name


def test_a_killed_guard_leaves_nothing_running(installation: Installation, home: Path) -> None:
    home.mkdir(mode=0o711)
    with (
        EmbeddedPostgres(installation, home / "pg") as postgres,
        EmbeddedBroker(installation, home / "mq") as broker,
        closing(psycopg.connect(postgres.url)) as busy,
    ):
        busy.execute("SELECT 1")
        for server in (postgres, broker):
            os.kill(parent(pid_of(server)), signal.SIGKILL)
        until(lambda: running_on(home) == [], "the servers' end")
        assert postgres.pid is None
        assert broker.pid is None


def test_ctrl_c_in_the_terminal_does_not_reach_the_servers(home: Path) -> None:
    with platform(home) as (process, pids, address):
        os.killpg(process.pid, signal.SIGINT)
        with psycopg.connect(address) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert all(alive(pid) for pid in pids.values())


def test_a_platform_that_ends_in_order_stops_its_servers_in_order(home: Path) -> None:
    with platform(home) as (process, pids, _):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0
        assert not any(alive(pid) for pid in pids.values())
    assert "database system is shut down" in (home / "pg" / "postgres.log").read_text("utf-8")


def test_a_killed_server_recovers_what_was_committed(installation: Installation, home: Path) -> None:
    server = EmbeddedPostgres(installation, home)
    with server:
        query(server, "CREATE TABLE kept AS SELECT generate_series(1, 10000) AS x")
        with closing(psycopg.connect(server.url)) as busy:
            busy.execute("INSERT INTO kept SELECT generate_series(1, 10000)")  # never committed
            os.kill(pid_of(server), signal.SIGKILL)
            until(lambda: server.pid is None, "the server's end")
            server.start()
        assert query(server, "SELECT count(*) FROM kept") == [(10_000,)]


def test_a_second_platform_on_the_same_folder_is_told_who_has_it(installation: Installation, home: Path) -> None:
    home.mkdir(mode=0o711)
    with EmbeddedPostgres(installation, home / "pg") as first, EmbeddedBroker(installation, home / "mq") as broker:
        for second, holder in (
            (EmbeddedPostgres(installation, home / "pg"), first),
            (EmbeddedBroker(installation, home / "mq"), broker),
        ):
            with pytest.raises(
                EmbeddedServiceError, match=rf"process {holder.pid}, started by process {os.getpid()}\b"
            ):
                second.start()
        assert query(first, "SELECT 1") == [(1,)]


def test_a_server_started_by_other_means_is_left_alone(installation: Installation, home: Path) -> None:
    with EmbeddedPostgres(installation, home):
        pass
    account = service_account(home / "data", nameless=True)
    other = subprocess.Popen(
        [installation.postgres_bin / "postgres", "-D", home / "data", "-k", home / "socket", "-c", "listen_addresses="],
        user=None if account is None else account.user,
        stderr=subprocess.DEVNULL,
        cwd=home,
    )
    with other:
        try:
            until(lambda: "ready" in _lock_file(home), "the other server's readiness")
            with pytest.raises(EmbeddedServiceError, match=rf"process {other.pid}, runs on"):
                EmbeddedPostgres(installation, home).start()
            assert other.poll() is None
        finally:
            other.send_signal(signal.SIGINT)


def _lock_file(home: Path) -> str:
    file = home / "data" / "postmaster.pid"
    return file.read_text("utf-8") if file.exists() else ""


def test_a_stale_lock_file_whose_number_another_program_has_now_is_no_obstacle(
    installation: Installation, home: Path
) -> None:
    server = EmbeddedPostgres(installation, home)
    with server:
        left = _lock_file(home)
        pid = pid_of(server)
    account = service_account(home / "data", nameless=True)
    with subprocess.Popen(["sleep", "60"], user=None if account is None else account.user, cwd="/") as other:
        try:
            file = home / "data" / "postmaster.pid"
            file.write_text(left.replace(str(pid), str(other.pid), 1), "utf-8")
            with server:
                assert query(server, "SELECT 1") == [(1,)]
        finally:
            other.kill()


def test_a_half_made_data_directory_is_put_aside(installation: Installation, home: Path) -> None:
    (home / "data" / "base").mkdir(parents=True)
    (home / "data" / "PG_VERSION").write_text("17\n", "ascii")
    (home / "data.new" / "base").mkdir(parents=True)
    account = service_account(home / "data", nameless=installation.nameless_bin is not None)
    if account is not None:
        for path in (home / "data", *home.rglob("data*/*")):
            os.chown(path, account.user, account.group)
    with EmbeddedPostgres(installation, home) as server:
        assert query(server, "SELECT 1") == [(1,)]
    assert (home / "data.incomplete-1" / "PG_VERSION").exists()
    assert not (home / "data.new").exists()


def test_a_damaged_database_is_not_replaced_by_an_empty_one(installation: Installation, home: Path) -> None:
    server = EmbeddedPostgres(installation, home, settings={"fsync": "off"})
    with server:
        pass
    (home / "data" / "global" / "pg_control").unlink()
    with pytest.raises(EmbeddedServiceError, match=r"is damaged .* put back a backup"):
        server.start()


def test_data_of_another_version_is_not_touched(installation: Installation, home: Path) -> None:
    server = EmbeddedPostgres(installation, home, settings={"fsync": "off"})
    with server:
        pass
    (home / "data" / "PG_VERSION").write_text("12\n", "ascii")
    with pytest.raises(EmbeddedServiceError, match="holds data of PostgreSQL 12"):
        server.start()


def test_what_does_not_start_says_why_in_the_logs_words(installation: Installation, home: Path) -> None:
    server = EmbeddedPostgres(installation, home, settings={"shared_buffers": "plenty", "fsync": "off"})
    with pytest.raises(EmbeddedServiceError) as error:
        server.start()
    assert "postgres.log" in str(error.value)
    assert 'invalid value for parameter "shared_buffers": "plenty"' in str(error.value)
    # And nothing is held: with the setting put right it starts.
    with EmbeddedPostgres(installation, home) as repaired:
        assert query(repaired, "SELECT 1") == [(1,)]


def test_a_long_path_is_no_obstacle(installation: Installation, home: Path) -> None:
    deep = home / ("plant-" * 15)
    home.mkdir(mode=0o711)
    with EmbeddedPostgres(installation, deep, settings={"fsync": "off"}) as server:
        assert query(server, "SELECT 1") == [(1,)]
        sockets = Path(server.url.partition("host=")[2])
        assert not sockets.is_relative_to(home)
        assert sockets.stat().st_mode & 0o077 == 0
    assert not sockets.exists()


def test_a_folder_that_the_servers_user_cannot_reach_is_named(installation: Installation, home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root's servers run as another user")
    home.mkdir(mode=0o700)
    with pytest.raises(EmbeddedServiceError, match=f"cannot enter {home}; set HEADWORKS_STATE_DIR"):
        EmbeddedPostgres(installation, home / "pg").start()


def test_a_server_that_does_not_heed_is_made_to(home: Path) -> None:
    container = Home(home, None, "a deaf server")
    container.prepare()
    container.hold()
    process = GuardedProcess("a deaf server", container, home / "log", stages=[(signal.SIGTERM, 0.2)], orphan=9)
    process.start(["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"])
    process.await_ready(lambda: b"deaf" in process.written(), 60)
    pid = process.pid
    assert pid is not None
    process.stop()
    assert not alive(pid)
    assert "no end 0.2 s after SIGTERM" in (home / "log").read_text("utf-8")


def test_a_program_that_is_not_there_is_named(home: Path) -> None:
    container = Home(home, None, "nothing")
    container.prepare()
    container.hold()
    process = GuardedProcess("nothing", container, home / "log", stages=[], orphan=9)
    process.start([home / "no-such-program"])
    with pytest.raises(EmbeddedServiceError, match=r"cannot run .*no-such-program: .*No such file"):
        process.await_ready(lambda: False, 10)


# The broker


def client(broker: EmbeddedBroker, name: str, *, expiry: int = 0) -> tuple[paho.Client, list[bytes], threading.Event]:
    """A connected MQTT 5 client, what it has received, and whether the broker knew its session."""
    received: list[bytes] = []
    connected, known = threading.Event(), threading.Event()
    found = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)

    def on_connect(_: object, __: object, flags: paho.ConnectFlags, *___: object) -> None:
        if flags.session_present:
            known.set()
        connected.set()

    found.on_connect = on_connect
    found.on_message = lambda _, __, message: received.append(bytes(message.payload))
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = expiry
    host, _, port = broker.url.removeprefix("mqtt://").partition(":")
    found.connect(host, int(port), clean_start=False, properties=properties)
    found.loop_start()
    assert connected.wait(60)
    return found, received, known


def close(*clients: paho.Client) -> None:
    for one in clients:
        one.disconnect()
        one.loop_stop()


@pytest.fixture
def broker(installation: Installation, home: Path) -> EmbeddedBroker:
    if installation.mosquitto is None:
        pytest.skip("the services were fetched as wheels: the Python broker keeps no sessions over a restart")
    return EmbeddedBroker(installation, home)


def test_messages_queued_for_a_session_survive_a_restart(broker: EmbeddedBroker) -> None:
    # More than the 1,000 above which mosquitto drops by default, in silence.
    wanted = [str(number).encode() for number in range(2_500)]
    with broker:
        subscriber, _, _ = client(broker, "gateway", expiry=3600)
        subscribed = threading.Event()
        subscriber.on_subscribe = lambda *_: subscribed.set()
        subscriber.subscribe("plant/#", qos=1)
        assert subscribed.wait(60)
        close(subscriber)
        publisher, _, _ = client(broker, "device")
        for info in [publisher.publish("plant/p101", payload, qos=1) for payload in wanted]:
            info.wait_for_publish(60)
        close(publisher)
    with broker:
        subscriber, received, known = client(broker, "gateway", expiry=3600)
        until(lambda: len(received) >= len(wanted), "all queued messages")
        close(subscriber)
    assert known.is_set()
    assert received == wanted


def test_the_broker_says_what_it_is(broker: EmbeddedBroker) -> None:
    assert re.fullmatch(r"mosquitto \d+\.\d+\.\d+", broker.version)


def test_the_broker_keeps_its_port_as_long_as_nobody_else_has_it(broker: EmbeddedBroker) -> None:
    with broker:
        first = broker.url
    with broker:
        assert broker.url == first
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(first.rpartition(":")[2])))
        other.listen()
        with broker:
            assert broker.url != first


def test_the_port_that_was_asked_for_goes_before_the_last_one(installation: Installation, home: Path) -> None:
    with EmbeddedBroker(installation, home) as broker:
        first = broker.url
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        wanted = int(probe.getsockname()[1])
    with EmbeddedBroker(installation, home, port=wanted) as broker:
        assert broker.url == f"mqtt://127.0.0.1:{wanted}" != first


def test_the_broker_is_reached_by_this_machine_only(broker: EmbeddedBroker) -> None:
    with broker:
        port = int(broker.url.rpartition(":")[2])
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
        listening = [fields[1] for fields in sockets if fields[3] == "0A" and fields[1].endswith(f":{port:04X}")]
        assert listening == [f"0100007F:{port:04X}"]
