"""`headworks doctor`: looks at what a run needs, and says for each problem what to do about it."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console

from deploy.provision import installed
from devices.document import DocumentError
from devices.errors import UnavailableError
from headworks.broker_trial import BrokerError, reach, try_out
from headworks.profiles import load_profile_files
from headworks.running import find_running
from headworks.service import load_rule_files
from headworks.settings import Settings
from ingest.mqtt import Broker
from storage import audit
from storage.database import Edition, connect, describe, server
from storage.migrate import MigrationError, plan

out = Console(highlight=False)

_DISK_MINIMUM = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `advice` is empty where it is well."""

    what: str
    state: str
    advice: str = ""


def run_doctor(settings: Settings) -> int:
    """Print every finding; 0 where nothing needs doing."""
    ill = 0
    for finding in examine(settings):
        ill += bool(finding.advice)
        out.print(f"{'!!' if finding.advice else 'ok'}  {finding.what:12}{finding.state}", markup=False)
        if finding.advice:
            out.print(f"    {'':12}→ {finding.advice}", markup=False)
    return 1 if ill else 0


def examine(settings: Settings) -> Iterator[Finding]:
    """Everything worth looking at, in the order in which a run would need it."""
    yield Finding("python", ".".join(map(str, sys.version_info[:3])))
    yield _services(settings)
    yield _disk(settings)
    yield _files(settings)
    running = find_running(settings.state_dir)
    if running is None:
        yield _port("coap", settings.coap_host, settings.coap_port, socket.SOCK_DGRAM, "HEADWORKS_COAP_PORT")
        if settings.coaps_port:
            yield _port("coaps", settings.coap_host, settings.coaps_port, socket.SOCK_DGRAM, "HEADWORKS_COAPS_PORT")
        if settings.mqtt_door_port:
            yield _port(
                "mqtt door",
                settings.mqtt_door_host,
                settings.mqtt_door_port,
                socket.SOCK_STREAM,
                "HEADWORKS_MQTT_DOOR_PORT",
            )
        yield _port("http", settings.http_host, settings.http_port, socket.SOCK_STREAM, "HEADWORKS_HTTP_PORT")
    else:
        yield Finding("platform", f"runs here as process {running.pid}")
    database = settings.database_url.get_secret_value() if settings.database_url else running and running.database_url
    if database:
        yield from _database(database)
    broker = settings.mqtt_url.get_secret_value() if settings.mqtt_url else running and running.mqtt_url
    if broker:
        yield from _broker(broker)


def _services(settings: Settings) -> Finding:
    if settings.database_url and settings.mqtt_url:
        return Finding("services", "your own database and broker")
    found = installed(settings.cache_dir)
    if found is None:
        return Finding("services", "not fetched yet", "`make services` fetches TimescaleDB and mosquitto (about 50 MB)")
    if found.mosquitto is None:
        advice = "make apt-get available, or name your own in HEADWORKS_DATABASE_URL and HEADWORKS_MQTT_URL"
        return Finding("services", "PostgreSQL without TimescaleDB, and a slower broker", advice)
    return Finding("services", f"{found.database}, {found.broker}")


def _disk(settings: Settings) -> Finding:
    folder = settings.state_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    state = f"{free / 1e9:.1f} GB free for {settings.state_dir}"
    return Finding("disk", state, "" if free > _DISK_MINIMUM else "free some space, or set HEADWORKS_STATE_DIR")


def _files(settings: Settings) -> Finding:
    try:
        rules, profiles = load_rule_files(settings.rules), load_profile_files(settings.profiles)
    except DocumentError as error:
        return Finding("rules", "rules or profiles are not valid", str(error))
    return Finding("rules", f"{len(rules)} rules, {len(profiles)} profiles")


def _port(name: str, host: str, port: int, kind: socket.SocketKind, variable: str) -> Finding:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            return Finding(name, f"{host}:{port} cannot be used: {error.strerror}", f"choose another with {variable}")
    return Finding(name, f"{host}:{port} is free")


def _database(url: str) -> Iterator[Finding]:
    try:
        with connect(url, application="headworks doctor") as connection:
            pending = plan(connection)
            found = server(connection)
            yield Finding("database", f"{describe(url)}: {found.edition} {found.version}")
            if found.edition is Edition.PLAIN:
                yield Finding("edition", "no TimescaleDB: everything works, large histories are slower and larger")
            if pending:
                yield Finding("schema", f"{len(pending)} migrations missing", "run `headworks migrate`")
                return
            yield Finding("schema", "up to date")
            kept = audit.quarantined(connection)
            text = ", ".join(f"{reason} {count}" for reason, count in kept.items())
            yield Finding("quarantine", text or "empty")
    except (UnavailableError, MigrationError) as error:
        yield Finding("database", str(error), "check HEADWORKS_DATABASE_URL, and that the server runs")


def _broker(url: str) -> Iterator[Finding]:
    broker = Broker.parse(url)
    where = f"{broker.host}:{broker.port}"
    try:
        yield Finding("broker", f"{where}: {reach(broker)}")
        trial = try_out(broker)
    except BrokerError as error:
        advice = "check HEADWORKS_MQTT_URL, its user and password, and that the broker runs"
        yield Finding("broker", f"{where}: {error}", advice)
        return
    if trial.refused:
        # An ACL that lets the platform only read is as it should be; then the settings have to be looked at.
        yield Finding("keeping", f"not tried, as {trial.refused}; max_queued_messages and max_queued_bytes should be 0")
    elif trial.kept < trial.sent:
        yield Finding(
            "keeping",
            f"of {trial.sent} messages for a subscriber that was away, the broker lost {trial.sent - trial.kept}",
            "in mosquitto.conf: max_queued_messages 0, max_queued_bytes 0, persistence true",
        )
    else:
        yield Finding("keeping", f"the broker kept all of {trial.sent} messages for a subscriber that was away")
