"""`headworks simulate SCENARIO`: devices and credentials into the registry, then the run and what it shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from devices.credential import CredentialKind, OscoreKeys
from devices.duration import format_duration
from devices.model import DAY, MINUTE, Instant, instant, moment
from headworks import clock
from headworks.cli_simulate import mqtt_url_of
from headworks.keys import load_seal
from headworks.profiles import load_profile_files
from headworks.running import database_url
from headworks.settings import Settings, SettingsError
from simulators.firmware import Unit
from simulators.scenario import Credential, Protocol
from simulators.scenario_plant import Played, Scenario, load_scenario, play
from simulators.scenario_run import Progress, Target, run_scenario
from storage import credentials, registry
from storage.database import connect

out = Console(highlight=False, stderr=True)

_REFRESH_SECONDS, _LINE_SECONDS = 0.5, 5.0
_LOGINS = (Protocol.THINGSBOARD, Protocol.IOTDA)


async def simulate_scenario(
    settings: Settings, name: str, seed: int | None, speed: float | None, folder: Path, stop: asyncio.Event
) -> None:
    """Run it; `typer.Exit` with 130 where it was stopped."""
    scenario = await asyncio.to_thread(load_scenario, name, seed, load_profile_files(settings.profiles))
    pace = scenario.document.speed if speed is None else speed
    begin = beginning(scenario, pace, clock.now())
    out.print(f"building {format_duration(scenario.document.duration)} of {len(scenario.units)} devices …")
    target = await asyncio.to_thread(prepare, settings, scenario, folder)
    played = await asyncio.to_thread(play, scenario, begin)
    with View(played) as view:
        done = await run_scenario(played, target, pace, folder, (time.monotonic, clock.now), view.show, stop)
    _summarise(played, done, folder)
    if not done.complete:
        typer.echo("stopped; what was answered until then is in the ledger")
        raise typer.Exit(130)


def beginning(scenario: Scenario, speed: float, now: Instant) -> Instant:
    """When the plant's time begins; `SettingsError` where it would overtake ours, as no platform takes the future."""
    document = scenario.document
    real = 0.0 < speed <= 1.0
    if document.start is None:
        return (now if real else now - document.duration) // MINUTE * MINUTE
    start = instant(document.start)
    if start > now or (not real and start + document.duration > now):
        latest = now if real else now - document.duration
        raise SettingsError(
            f"{scenario.positions.locate(['start'])}: at this speed the run would reach into the future: "
            f"begin at {moment(latest):%FT%TZ} or before, or leave ‘start’ out"
        )
    return start


def prepare(settings: Settings, scenario: Scenario, folder: Path) -> Target:
    """Register the scenario's devices and make their credentials; `SettingsError` for a door that it needs."""
    units = scenario.units
    door = ""
    if any(unit.fleet.protocol in _LOGINS for unit in units):
        if not settings.mqtt_door_port:
            raise SettingsError(
                "the scenario has devices of ThingsBoard or IoTDA, which log in at the MQTT door: set "
                "HEADWORKS_MQTT_DOOR_PORT here and for the platform"
            )
        scheme = "mqtts" if settings.mqtt_door_cert else "mqtt"
        door = f"{scheme}://{settings.mqtt_door_host}:{settings.mqtt_door_port}"
    oscore: dict[str, OscoreKeys] = {}
    secrets: dict[str, str] = {}
    with connect(database_url(settings), application="headworks simulate") as connection:
        registry.register(connection, [unit.device for unit in units], load_profile_files(settings.profiles))
        for unit in units:
            identity, fleet = unit.device.identity, unit.fleet
            if fleet.credential is Credential.OSCORE:
                oscore[identity] = credentials.make_oscore(connection, load_seal(settings.key_path), identity)
            elif fleet.protocol is Protocol.COAP:
                # One of an earlier run would make the platform deaf to it.
                credentials.remove(connection, identity, CredentialKind.OSCORE)
            elif fleet.protocol is Protocol.THINGSBOARD:
                secrets[identity] = credentials.make_token(connection, identity)
            elif fleet.protocol is Protocol.IOTDA:
                secrets[identity] = credentials.make_iotda(connection, load_seal(settings.key_path), identity)
    # A context made anew begins its numbers anew, so what is left of the last one must not be found.
    state = folder / "oscore" / f"{clock.now()}"
    return Target(
        (settings.coap_host, settings.coap_port), mqtt_url_of(settings), door, oscore, secrets, state
    )  # fmt: skip


class View:
    """A live table on a terminal, a line now and then elsewhere."""

    def __init__(self, played: Played) -> None:
        self._played = played
        self._live = Live(console=out, auto_refresh=False, transient=True) if out.is_terminal else None
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Show where the run is, if it is time to."""
        now = time.monotonic()
        if now - self._shown_at < (_REFRESH_SECONDS if self._live else _LINE_SECONDS):
            return
        self._shown_at = now
        if self._live is not None:
            self._live.update(self._table(progress), refresh=True)
            return
        acknowledged = sum(counts.acknowledged for counts in progress.by.values())
        waiting = sum(counts.waiting for counts in progress.by.values())
        text = f"{moment(progress.at):%F %T} UTC: {acknowledged} readings acknowledged, {waiting} uplinks waiting"
        out.print(text, soft_wrap=True)

    def _table(self, progress: Progress) -> RenderableType:
        played = self._played
        share = (progress.at - played.start) / (played.end - played.start)
        wrong = sorted(
            {f"{line.fault}: {line.event.split(' at ')[-1].split(' from ')[0]}" for line in played.truth.faults
             if line.begins <= progress.at < line.ends}
        )  # fmt: skip
        head = Text(f"{played.scenario.document.scenario}, {moment(progress.at):%F %T} UTC")
        lines = [Text(f"wrong now  {name}") for name in wrong[:8]]
        return Group(head, ProgressBar(total=1.0, completed=share), _counts(progress), *lines)


def _counts(progress: Progress) -> Table:
    table = Table("protocol", "uplinks", "readings", "acknowledged", "waiting", "dropped", "refused", "repeated",
                  box=None, pad_edge=False)  # fmt: skip
    for protocol, counts in progress.by.items():
        promised = f"{counts.unpromised} (QoS 0)" if counts.unpromised else str(counts.acknowledged)
        numbers = (counts.waiting, counts.dropped, counts.rejected, counts.repeated)
        table.add_row(protocol.value, str(counts.written), str(counts.readings), promised, *map(str, numbers))
    return table


def _summarise(played: Played, done: Progress, folder: Path) -> None:
    plant = max((played.end if done.complete else done.at) - played.start, MINUTE) // MINUTE * MINUTE
    Console(highlight=False).print(_counts(done))
    units: Sequence[Unit] = played.scenario.units
    daily = done.energy / len(units) * DAY / plant if units else 0.0
    typer.echo(
        f"{format_duration(plant)} of {len(units)} devices in {done.seconds:.1f} s; "
        f"{done.retransmitted} retransmissions, {done.unanswered} uplinks tried again later; "
        f"{daily:.1f} J a device and day for the radio"
    )
    typer.echo(f"ground truth is in {folder / 'truth.jsonl'}, acknowledgements in {folder / 'ledger.jsonl'}")
