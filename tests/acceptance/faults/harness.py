"""The rig: database, broker and platform as processes that a test may end by their ids, and the judge afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from alerts.backtest import occurrences
from alerts.rulefiles import shipped_rules
from deploy.provision import Installation
from devices.model import Device
from devices.profile import shipped_profiles
from headworks.embedded import EmbeddedBroker, EmbeddedPostgres
from storage import audit, history, journal, registry
from storage.database import Connection, connect
from storage.migrate import migrate
from tests.acceptance.faults.senders import T0, Key, Pack, Senders, fleet
from tests.integration.test_gateways import eventually
from tests.ports import free_port

_MEMORY = 128 << 20
"""Bytes that a platform may grow by in a run: its queue holds 32 MiB of payloads, each with its overhead."""

_number = count(1)


@dataclass
class Platform:
    """`headworks serve` as a process that a test may kill and start again."""

    database_url: str
    broker_url: str
    log: Path
    coap: int = field(default_factory=lambda: free_port(socket.SOCK_DGRAM))
    http: int = field(default_factory=lambda: free_port(socket.SOCK_STREAM))
    process: subprocess.Popen[bytes] | None = None
    spool: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    grown: int = 0
    """Bytes by which the largest of its processes grew."""

    def settings(self) -> dict[str, str]:
        """The environment that it is started with."""
        address = self.database_url
        if "://" not in address:
            address = f"postgresql:///?{address.replace(' ', '&')}"
        return os.environ | {
            "HEADWORKS_DATABASE_URL": address,
            "HEADWORKS_MQTT_URL": self.broker_url, "HEADWORKS_COAP_PORT": str(self.coap),
            "HEADWORKS_HTTP_PORT": str(self.http), "HEADWORKS_LOG_FORMAT": "json",
            "HEADWORKS_SPOOL": str(self.spool or self.log.with_suffix(".spool")),
            "HEADWORKS_KEEP_READINGS_DAYS": "0",  # the senders' samples are of 2015
            "HEADWORKS_CHECKPOINT_SECONDS": "1",  # so that kills hit the engine's rounds
        } | self.environment  # fmt: skip

    def start(self) -> None:
        environment = self.settings()
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
        code = self.process.wait(60)
        assert self.process.stdin is not None
        self.process.stdin.close()
        return code

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def parts(self) -> Mapping[str, str]:
        """What the health check says of each part; empty where it does not answer."""
        try:
            found: dict[str, dict[str, str]] = httpx.get(f"http://127.0.0.1:{self.http}/healthz", timeout=10).json()
        except (httpx.TransportError, ValueError):
            return {}
        return found["parts"]

    def healthy(self) -> bool:
        parts = self.parts()
        return bool(parts) and all(state == "ok" for state in parts.values())

    def answers(self) -> bool:
        """Whether it is up, well or not."""
        return bool(self.parts())

    def metric(self, name: str) -> float:
        """A number of /metrics, summed over its labels; 0 where it is not there (yet)."""
        try:
            text = httpx.get(f"http://127.0.0.1:{self.http}/metrics", timeout=10).text
        except httpx.TransportError:
            return 0.0
        lines = [line for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def resident(self) -> int:
        """Bytes of memory that its process has; 0 where it is gone."""
        try:
            assert self.process is not None
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1])
        except (OSError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGESIZE")


@contextmanager
def watched(platforms: Sequence[Platform]) -> Iterator[None]:
    """Sample the platforms' memory, each process against what it had when it was up for a second."""
    ended = threading.Event()
    first: dict[int, int] = {}

    def sample() -> None:
        while not ended.wait(0.25):
            for platform in platforms:
                if platform.process is None or not (now := platform.resident()):
                    continue
                pid = platform.process.pid
                if pid not in first:
                    if platform.answers():
                        first[pid] = now
                else:
                    platform.grown = max(platform.grown, now - first[pid])

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


@dataclass
class Rig:
    """One run: a database of its own, a broker, some platforms and their senders."""

    server: EmbeddedPostgres
    broker: EmbeddedBroker
    database_url: str
    folder: Path
    devices: list[Device]
    platforms: list[Platform] = field(default_factory=list)
    senders: list[Senders] = field(default_factory=list)
    long: bool = False
    """Whether this is `make test-faults`."""

    @property
    def socket(self) -> Path:
        """The database's unix socket."""
        host = parse_qs(urlsplit(self.server.url).query)["host"][0]
        return Path(host) / ".s.PGSQL.5432"

    def through(self, port: int) -> str:
        """The database's address behind a proxy."""
        return f"postgresql://headworks@127.0.0.1:{port}/{conninfo_to_dict(self.database_url)['dbname']}"

    def platform(
        self, *, database: str | None = None, broker: str | None = None, spool: Path | None = None
    ) -> Platform:
        """Start a platform and wait until it is well."""
        name = f"platform-{len(self.platforms)}"
        platform = Platform(
            database or self.database_url, broker or self.broker.url, self.folder / f"{name}.log", spool=spool
        )
        self.platforms.append(platform)
        platform.start()
        self.await_health(platform)
        return platform

    def await_health(self, platform: Platform, seconds: float = 120) -> None:
        """Wait until everything is well, the spool drained into the database included."""
        try:
            eventually(
                lambda: platform.healthy() and platform.metric("headworks_spool_waiting") == 0,
                "the platform is well",
                seconds,
            )
        except AssertionError as error:
            ended = None if platform.process is None else platform.process.poll()
            error.add_note(f"{platform.parts()}, exit code {ended}, log: {platform.log.read_text()[-3000:]}")
            raise

    def send(self, coap: Sequence[int], brokers: Sequence[str], devices: Sequence[Device] | None = None) -> Senders:
        """Let the devices send."""
        senders = Senders(coap, brokers, devices or self.devices, seed=next(_number))
        self.senders.append(senders)
        senders.start()
        return senders

    def recovered(self, senders: Senders, before: float) -> dict[str, Any]:
        """See that it is back to itself, and to its speed: a fixed work is acknowledged without one refusal. Not at the
        first try: what was answered while the fault lasted may arrive after it. How fast that was, as a share of
        `before`, is judged in long runs only: other programs use the machine too."""
        deadline = time.monotonic() + 60
        while True:
            refused = senders.tally.refused
            after = senders.speed()
            refused = senders.tally.refused - refused
            if not refused and (after >= before / 2 or not self.long):
                break
            assert time.monotonic() < deadline, (
                f"still {refused} refused, {after:.0f} uplinks a second, {before:.0f} before the fault"
            )
        return {"speed_after": round(after / before, 2)}

    def judge(self, *, excused: Set[tuple[str, int]] = frozenset(), logged_before: int = 0) -> dict[str, Any]:
        """End the senders, let the platform finish, and compare: what was acknowledged is stored, once; the journal is
        that of an engine that sees the same readings undisturbed; memory stayed within bounds.

        `excused` are uplinks that the broker acknowledged and may have lost with its memory: they are only counted.
        `logged_before` readings were there before the run, without a log.
        """
        for senders in self.senders:
            senders.finish()
        for platform in self.platforms:
            if platform.running:
                self.await_health(platform)
        acknowledged = [pack for senders in self.senders for pack in senders.tally.acknowledged]
        promised = [key for pack in acknowledged if pack not in excused for key in Pack(*pack).keys]
        with connect(self.database_url) as connection:
            # What the broker acknowledged is with the broker first: it arrives.
            self._await_stored(connection, promised)
            found = audit.compare(connection, promised)
            lost = audit.compare(connection, [Pack(*pack).keys[0] for pack in excused]).missing if excused else 0
            counts = audit.counts(connection)
            logged = connection.execute("SELECT sum(readings), sum(duplicates) FROM uplink").fetchone()
            assert (found.missing, found.twice) == (0, 0)
            assert counts.readings == counts.distinct_readings
            assert counts.quarantined == {}
            assert logged is not None
            assert logged[0] == counts.readings - logged_before, "the log and the readings were committed together"
            eventually(lambda: audit.judged_up_to_date(connection), "everything stored is judged", 120)
            alarms = self._compare_journal(connection)
        grown = max(platform.grown for platform in self.platforms)
        assert grown < _MEMORY, f"the platform's memory grew by {grown >> 20} MiB"
        for platform in self.platforms:
            log = platform.log.read_text()
            for defect in ("pipeline.defect", "spool.defect", "spool.damaged", "answer_failed"):
                assert f'"{defect}"' not in log, defect
        return {
            "uplinks_acknowledged": sum(senders.count for senders in self.senders),
            "readings_acknowledged": found.promised,
            "missing": found.missing,
            "twice": found.twice,
            **({"lost_by_the_broker": lost} if excused else {}),
            "repeats_sent": sum(senders.tally.repeated for senders in self.senders),
            "duplicates_recognised": int(str(logged[1])),
            "refused_5.03": sum(senders.tally.refused for senders in self.senders),
            "unanswered": sum(senders.tally.unanswered for senders in self.senders),
            "alarms": alarms,
            "memory_growth_mib": round(grown / (1 << 20), 1),
        }

    def _await_stored(self, connection: Connection, promised: Sequence[Key]) -> None:
        deadline = time.monotonic() + 120
        while (missing := audit.compare(connection, promised).missing) and time.monotonic() < deadline:
            time.sleep(0.5)
        if not missing:
            return
        lost = [key for key in promised if key[1] == "pressure" and audit.compare(connection, [key]).missing]
        by_broker = set().union(*(senders.tally.by_broker for senders in self.senders))
        lines = [f"{device[-4:]} {'MQTT' if device in by_broker else 'CoAP'} {at}" for device, _, at in lost]
        raise AssertionError(f"{missing} readings are missing, among them {len(lines)} of pressure: {lines[:40]}")

    def _compare_journal(self, connection: Connection) -> int:
        def undisturbed() -> set[tuple[object, ...]]:
            found: set[tuple[object, ...]] = set()
            for device in self.devices:
                readings = history.readings(connection, [device.identity], T0)
                for alarm in occurrences(shipped_rules(), device, shipped_profiles(), readings):
                    found.add((alarm.device, alarm.rule, alarm.raised_at, alarm.cleared_at))
            return found

        def written() -> set[tuple[object, ...]]:
            return {
                (alarm.device, alarm.rule, alarm.raised_at, alarm.cleared_at)
                for alarm in journal.all_occurrences(connection)
            }

        expected, actual = undisturbed(), written()
        assert expected, "the run has alarms to get right"
        assert actual == expected, f"{len(expected - actual)} missing, {len(actual - expected)} too many"
        return len(actual)

    def close(self) -> None:
        """End everything."""
        for platform in self.platforms:
            if platform.running:
                platform.kill()
        self.broker.stop()


Prepare = Callable[[Connection, Sequence[Device]], None]
"""Gives a database its schema and the devices."""


def today(connection: Connection, devices: Sequence[Device]) -> None:
    """The present schema."""
    migrate(connection)
    registry.sync_metrics(connection)
    registry.register(connection, devices, shipped_profiles())


@contextmanager
def rig(
    installation: Installation, server: EmbeddedPostgres, scratch: Path, prepare: Prepare = today, devices: int = 8
) -> Iterator[Rig]:
    """A rig with a fresh database on the server and a broker of its own."""
    number = next(_number)
    name = f"faults_{number}"
    folder = scratch / f"faults-{number}"
    folder.mkdir(mode=0o711)
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    url = make_conninfo(server.url, dbname=name)
    pumps = fleet(devices)
    with connect(url) as connection:
        prepare(connection, pumps)
    broker = EmbeddedBroker(installation, folder / "broker", port=free_port(socket.SOCK_STREAM))
    broker.start()
    found = Rig(server, broker, url, folder, pumps)
    try:
        with watched(found.platforms):
            yield found
    finally:
        found.close()
        for senders in found.senders:
            senders.abandon()


def kill(server: EmbeddedPostgres | EmbeddedBroker) -> None:
    """SIGKILL the server, and wait until it is gone."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: server.pid is None, "the server is gone")


@contextmanager
def slow_commits(database_url: str, seconds: float) -> Iterator[None]:
    """Make every commit of uplinks take this long, at its very end."""
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(
            "CREATE FUNCTION fault_slow() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM pg_sleep({seconds:.3f}); RETURN NULL; END $$;"
            " CREATE CONSTRAINT TRIGGER fault_slow AFTER INSERT ON commit_log DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION fault_slow()".encode()
        )
        try:
            yield
        finally:
            admin.execute("DROP TRIGGER fault_slow ON commit_log; DROP FUNCTION fault_slow()")


def port_of(broker: EmbeddedBroker) -> int:
    """The broker's port."""
    port = urlsplit(broker.url).port
    assert port is not None
    return port
