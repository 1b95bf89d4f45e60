"""The wiring: the only module that knows the concrete classes of every room and puts them together.

A `Platform` is the whole of it in one process: gateways, pipeline, engine, notifier and the HTTP door. Where its
database and broker come from is `headworks.servers`' business.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
from prometheus_client import Counter, Gauge

from alerts.engine import Engine
from alerts.live import LiveEngine
from alerts.rulefiles import TESTS, RuleFile, assemble, read_rule_file, shipped_rules
from alerts.rules import Rule
from devices.batch import Batch, Committed
from devices.document import DocumentError
from devices.errors import UnavailableError
from devices.model import Device, Uplink
from devices.profile import Profile
from headworks import clock
from headworks.api.context import Context, Ports
from headworks.credentials import Credentials
from headworks.heartbeat import heartbeat
from headworks.http import HttpDoor
from headworks.judging import Journal, version
from headworks.oidc.configuration import configuration
from headworks.profiles import load_profile_files
from headworks.session import Session
from headworks.settings import Settings, SettingsError, UnknownDevices, check_certificate
from headworks.tap import Tap
from headworks.telling import Telling
from headworks.upkeep import Upkeep
from ingest.coap import CoapGateway, Limits
from ingest.directory import Directory
from ingest.mqtt import Broker, MqttGateway
from ingest.mqtt_door import MqttDoor
from ingest.oscore import Oscore
from ingest.pipeline import Done, Pipeline
from ingest.sparkplug import SparkplugHost
from ingest.topics import FILTERS
from storage import transactions
from storage.database import Server, connect, server
from storage.maintenance import TASKS, Keep
from storage.migrate import migrate
from storage.registry import find, sync_metrics
from storage.spool import Spool, SpoolTakenError
from storage.writer import Writer

log = structlog.get_logger()

RULES = Gauge("headworks_rules", "Rules in use")
RELOADS = Counter("headworks_rules_reloads", "Times that the rule files were read anew", ["outcome"])
REFUSED = Gauge("headworks_rules_refused", "1 while the rule files as last read are refused and those before go on")
FAILURES = Gauge("headworks_rule_failures", "Samples that a rule could not judge since its set is in use", ["rule"])

T = TypeVar("T")


def prepare(database_url: str) -> Server:
    """Bring the schema and the metric catalogue up to date; returns what the database is."""
    with connect(database_url, application="headworks migrate") as connection:
        applied = migrate(connection)
        if applied:
            log.info("database.migrated", applied=applied)
        ahead = transactions.go_on(connection)
        if ahead is not None:
            log.info("database.restored", hint="its transactions are another server's; numbers go on", ahead=ahead)
        sync_metrics(connection)
        return server(connection)


def load_rule_files(path: Path | None, *, with_models: bool = True) -> list[Rule]:
    """The rules of a file, or of all YAML files of a folder, with the shipped ones where a file includes them; the
    shipped ones where none is named.

    Models stand in files beside their rules; without them rules are what `rules learn` begins with. `DocumentError`
    where any is not valid: rules are taken all or not at all.
    """
    if path is None:
        return shipped_rules()
    files = sorted(f for f in path.rglob("*.yaml") if not f.name.endswith(TESTS)) if path.is_dir() else [path]
    if not files:
        raise DocumentError([f"{path}: there is no *.yaml file in this folder"])
    documents: list[RuleFile] = []
    problems: list[str] = []
    for file in files:
        try:
            beside = partial(_model, file.parent) if with_models else (lambda _: None)
            documents.append(read_rule_file(file.read_text("utf-8"), str(file), beside))
        except DocumentError as error:
            problems += error.problems
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{file}: {error}")
    if problems:
        raise DocumentError(problems)
    return assemble(documents)


def _model(folder: Path, name: str) -> str:
    """A file beside the rules, or below them: nothing else of the machine can be named in a rule file."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError("a model's file stands beside its rule, or in a folder below")
    return path.read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Doors:
    """Where a running platform can be reached."""

    coap: str
    mqtt: str
    http: str
    mqtt_door: int | None = None
    """The port of our own MQTT door, where there is one."""


class Platform:
    """Everything between the wire and the journal, in one process."""

    def __init__(self, settings: Settings, database_url: str, mqtt_url: str) -> None:
        self._settings = settings
        self._broker = Broker.parse(mqtt_url)
        self._profiles: Mapping[str, Profile] = load_profile_files(settings.profiles)
        self._lookup = Session(database_url, "headworks registry")
        self._judging = Session(database_url, "headworks engine")
        self._writer = Writer(database_url)
        self._rules = load_rule_files(settings.rules)
        RULES.set(len(self._rules))
        self._reloading = threading.Lock()
        self._refused = ""
        self._telling = Telling(settings, database_url, self._rules, self._broker)
        self._contacting = Session(database_url, "headworks contact")
        self._journal = Journal(self._judging, self._rules, self._telling.channels, self._profiles, self._contacting)
        ports = self._journal.ports(self._devices)
        self._version = version()
        self._judge = self._new_engine(self._rules)
        self._engine = LiveEngine(self._judge, ports, self._telling, time.monotonic, settings.checkpoint_seconds)
        directory = Directory(self._devices, time.monotonic)
        self._spool_problem = ""
        self._spool = self._open_spool()
        self._pipeline = Pipeline(
            self._writer.commit,
            directory.resolve,
            self._profiles,
            self._hand_over,
            time.monotonic,
            spool=self._spool,
            hold=settings.unknown_devices is UnknownDevices.HOLD,
        )
        self._tap = Tap(settings.tap_path)
        self._credentials = Session(database_url, "headworks credentials")
        credentials = Credentials(self._credentials, settings.key_path)
        self._coap = CoapGateway(
            settings.coap_host,
            settings.coap_port,
            self._submit_at_once,
            clock.now,
            shared=bool(settings.instance),
            limits=Limits(settings.coap_source_rate, settings.coap_device_rate),
            oscore=Oscore(credentials),
        )
        self._coaps = (
            CoapGateway(
                settings.coap_host,
                settings.coaps_port,
                self._submit_at_once,
                clock.now,
                shared=bool(settings.instance),
                limits=Limits(settings.coap_source_rate, settings.coap_device_rate),
                keys=credentials,
            )
            if settings.coaps_port is not None
            else None
        )
        self._door = self._open_door(credentials)
        self._mqtt = MqttGateway(
            self._broker,
            self._submit_patiently,
            clock.now,
            instance=settings.instance,
            filters=settings.mqtt_topics.split() or FILTERS,
        )
        self._sparkplug = (
            SparkplugHost(self._broker, settings.sparkplug_host, self._submit_patiently, clock.now)
            if settings.sparkplug_host
            else None
        )
        self._upkeeping = Session(database_url, "headworks upkeep")
        self._upkeep = Upkeep(
            self._upkeeping,
            Keep(settings.keep_readings_days, settings.keep_uplinks_days, settings.keep_quarantine_days),
            (*TASKS, heartbeat(settings, clock.now(), self._spool, self._failing)),
        )
        self._http = HttpDoor(
            settings.http_host,
            settings.http_port,
            self.health,
            Context(self._ports(database_url)),
            settings.http_cert,
            settings.http_key,
        )

    def _ports(self, database_url: str) -> Ports:
        check_certificate(self._settings)
        return Ports(
            database_url,
            health=self.health,
            rules=lambda: self._rules,
            failing=self._failing,
            idle=lambda: self._engine.idle,
            profiles=self._profiles,
            now=clock.now,
            time_zone=self._settings.time_zone,
            grafana_url=self._settings.grafana_url,
            oidc=configuration(self._settings),
            secure=self._settings.console_address.startswith("https:"),
        )

    def _new_engine(self, rules: Sequence[Rule]) -> Engine:
        return Engine(rules, self._profiles, version=self._version)

    def reload(self) -> None:
        """Read the rules again and judge by them from now on: all of them, or, where one is not valid, none; the health
        check says so until a set is taken. Takes as long as reading the files does."""
        with self._reloading:  # of two calls the later one decides
            try:
                rules = load_rule_files(self._settings.rules)
                engine = self._new_engine(rules)
            except DocumentError as error:
                self._refuse(error.problems)
                return
            except Exception as error:  # a defect of ours must not leave people with what they believe to be new rules
                log.exception("rules.defect")
                self._refuse([f"{type(error).__name__}: {error}"])
                return

            def taken() -> None:
                self._rules, self._judge = rules, engine
                FAILURES.clear()
                self._telling.replace(rules)
                self._journal.replace(rules)
                RULES.set(len(rules))
                RELOADS.labels("taken").inc()
                log.info("rules.taken", rules=len(rules))

            self._refused = ""
            REFUSED.set(0)
            self._engine.exchange(engine, taken)

    def _refuse(self, problems: Sequence[str]) -> None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        self._refused = f"refused when last read, those from before go on: {problems[0]}{more}"
        REFUSED.set(1)
        RELOADS.labels("refused").inc()
        log.error("rules.refused", why="\n".join(problems), hint="`headworks rules check` says the same")

    def _open_door(self, credentials: Credentials) -> MqttDoor | None:
        settings = self._settings
        if settings.mqtt_door_port is None:
            return None
        tls = None
        if settings.mqtt_door_cert is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            try:
                tls.load_cert_chain(settings.mqtt_door_cert, settings.mqtt_door_key)
            except (OSError, ssl.SSLError) as error:
                raise SettingsError(
                    f"HEADWORKS_MQTT_DOOR_CERT, HEADWORKS_MQTT_DOOR_KEY: no certificate with its key there: {error}"
                ) from None
        return MqttDoor(
            settings.mqtt_door_host, settings.mqtt_door_port, credentials, self._submit_at_once, clock.now, tls=tls
        )

    def _open_spool(self) -> Spool | None:
        """The spool, unless it is off. One that cannot be opened (a full disk, perhaps) must not keep a platform from
        starting whose database is well: it runs without, and says so."""
        path = self._settings.spool_path
        if path is None:
            return None
        try:
            return Spool(path, self._settings.spool_bytes, self._writer.drained)
        except SpoolTakenError:
            raise
        except UnavailableError as error:
            self._spool_problem = str(error)
            log.error("spool.off", why=self._spool_problem, hint="mend that and restart; until then nothing is spooled")  # noqa: TRY400 - the reason is in it
            return None

    async def run(self, stop: asyncio.Event, ready: Callable[[Doors], None]) -> None:
        """Serve until `stop` is set; then finish what was taken in, answer it, and end.

        `OSError` where a port is taken.
        """
        port = self._http.open()
        await self._coap.open()
        if self._coaps:
            await self._coaps.open()
        door = await self._door.open() if self._door else None
        self._telling.start()
        self._upkeep.start()
        self._engine.start()
        self._pipeline.start()
        self._tap.open()
        self._mqtt.start()
        if self._sparkplug:
            self._sparkplug.start()
        self._http.start()
        try:
            ready(
                Doors(
                    f"coap://{self._settings.coap_host}:{self._settings.coap_port}",
                    f"mqtt://{self._broker.host}:{self._broker.port}",
                    f"{'https' if self._settings.http_cert else 'http'}://{self._settings.http_host}:{port}",
                    door,
                )
            )
            await stop.wait()
        finally:
            await self._close()
            await asyncio.to_thread(self._http.close, 5)

    async def _close(self) -> None:
        """In the order of the flow, so that what was acknowledged is judged and what is judged is told."""
        log.info("platform.stopping")
        if self._sparkplug:
            await asyncio.to_thread(self._sparkplug.stop_taking)
        await asyncio.to_thread(self._pipeline.close, 10)
        await self._coap.close()
        if self._coaps:
            await self._coaps.close()
        if self._door:
            await self._door.close()
        await asyncio.to_thread(self._mqtt.close)
        if self._sparkplug:
            await asyncio.to_thread(self._sparkplug.close)
        await asyncio.to_thread(self._engine.close, 10)
        await asyncio.to_thread(self._contacting.cancel)
        await asyncio.to_thread(self._telling.close, 5)
        await asyncio.to_thread(self._upkeep.close, 5)
        await asyncio.to_thread(self._tap.close)
        held = (
            self._writer,
            self._lookup,
            self._judging,
            self._contacting,
            self._upkeeping,
            self._credentials,
            self._spool,
        )
        for connection in held:
            if connection is not None:
                connection.close()
        log.info("platform.stopped")

    def health(self) -> dict[str, str]:
        """The state of each part, for `/healthz`."""
        keeping = (
            f"{self._pipeline.spooled} uplinks wait in the spool" if self._spool else "uplinks are refused or wait"
        )
        return {
            "database": "ok" if self._pipeline.available else f"the last commit failed; {keeping}",
            "spool": self._spool_problem or "ok",
            **(
                {"sparkplug": "ok" if self._sparkplug.connected else "not on line as a host at the broker"}
                if self._sparkplug
                else {}
            ),
            "broker": "ok" if self._mqtt.connected else "not connected; it keeps what devices send",
            "announcements": (
                f"{dead} could not be delivered; see `headworks notify dead`"
                if (dead := self._telling.dead_letters)
                else "ok"
            ),
            "rules": "ok" if not (failing := self._failing()) else f"failing: {', '.join(sorted(failing))}",
            "rule_files": self._refused or "ok",
        }

    def _failing(self) -> dict[str, str]:
        """Rules that could not judge some samples: why, and how many."""
        counted = self._judge.failures
        for rule, count in counted.items():
            FAILURES.labels(rule).set(count)
        return {rule: f"{why} ({counted[rule]} samples)" for rule, why in self._judge.failing.items()}

    def _submit_at_once(self, uplink: Uplink, done: Done) -> None:
        self._tap.take(uplink)
        self._pipeline.submit(uplink, done, patient=False)

    def _submit_patiently(self, uplink: Uplink, done: Done) -> None:
        self._tap.take(uplink)
        self._pipeline.submit(uplink, done, patient=True)

    def _hand_over(self, batch: Batch, committed: Committed) -> None:
        readings = [reading for record in batch.uplinks for reading in record.readings]
        if readings and not committed.refused:
            self._engine.hand_over(committed.transaction, readings)
        # With something refused, the log knows better than the batch what was stored: the next scan judges that.

    def _devices(self, identities: Sequence[str]) -> Mapping[str, Device]:
        found = self._lookup.run(lambda connection: find(connection, identities))
        return {identity: entry.device for identity, entry in found.items()}
