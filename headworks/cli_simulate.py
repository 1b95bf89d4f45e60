"""`headworks simulate`: virtual devices against a running platform; and what other senders need, too."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from devices.model import HOUR, SECOND, Device, moment
from headworks import clock
from headworks.profiles import load_profile_files
from headworks.running import find_running
from headworks.settings import Settings, SettingsError, load_settings
from simulators import run
from simulators.plant import build
from storage import registry
from storage.database import connect

out = Console(highlight=False, stderr=True)

T = TypeVar("T")


class Via(StrEnum):
    """The way to the platform."""

    COAP = "coap"
    MQTT = "mqtt"


def simulate(
    scenario: Annotated[
        str | None,
        typer.Argument(help="A scenario file, or a shipped one by its name; without it, a waterworks as below says"),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(min=0, help="Of a scenario: times real time; 0 is as fast as it is acknowledged"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Same seed, same plant, same faults [default: 1, or the scenario's]")
    ] = None,
    pumps: Annotated[int, typer.Option(min=0, max=500)] = 12,
    valves: Annotated[int, typer.Option(min=0, max=500)] = 12,
    hours: Annotated[float, typer.Option(min=0.1, max=168, help="How much of the plant's time, ending now")] = 24.0,
    seconds: Annotated[
        float, typer.Option(min=0, help="How long that takes to play; 0 is as fast as it is acknowledged")
    ] = 60.0,
    faults: Annotated[bool, typer.Option("--faults/--no-faults", help="With injected faults")] = True,  # noqa: FBT002
    folder: Annotated[Path, typer.Option(help="Where ground truth and the ledger of acknowledgements go")] = Path(
        "build"
    ),
) -> None:
    """Let a simulated plant's devices report to the running platform: a scenario, or a waterworks by CoAP and MQTT."""
    settings = load_settings()
    if scenario is not None:
        from headworks.scenarios import simulate_scenario  # needs EPANET, which the rest of this does not

        _until_stopped(lambda stop: simulate_scenario(settings, scenario, seed, speed, folder, stop))
        return
    if speed is not None:
        raise typer.BadParameter("is for scenarios; --seconds says how long this takes", param_hint="--speed")
    seed = 1 if seed is None else seed
    mqtt_url = mqtt_url_of(settings)
    end = clock.now() // SECOND * SECOND
    folder.mkdir(parents=True, exist_ok=True)
    config = run.Config(
        start=end - round(hours * HOUR), end=end, coap_host=settings.coap_host, coap_port=settings.coap_port,
        mqtt_url=mqtt_url, ledger=folder / "ledger.jsonl", truth=folder / "truth.jsonl", seed=seed, pumps=pumps,
        valves=valves, play_seconds=seconds, with_faults=faults,
    )  # fmt: skip
    config.ledger.unlink(missing_ok=True)
    _register(settings, [asset.device for asset in build(seed, pumps, valves).assets])

    with _progress("plant time") as bar:
        task = bar.add_task("", total=config.end - config.start)

        def report(progress: run.Progress) -> None:
            text = f"{moment(progress.at):%F %T} UTC, {sum(progress.acknowledged.values())} readings acknowledged"
            bar.update(task, completed=progress.at - config.start, description=text)

        done = _until_stopped(lambda stop: run.simulate(config, time.monotonic, report, stop))
    for transport, sent in done.sent.items():
        typer.echo(f"{transport.value}: {sent} readings sent, {done.acknowledged[transport]} acknowledged")
    typer.echo(f"faults are in {config.truth}, acknowledgements in {config.ledger}")


def mqtt_url_of(settings: Settings) -> str:
    """The broker to send to: the one the settings name, else that of the platform running here."""
    if settings.mqtt_url is not None:
        return settings.mqtt_url.get_secret_value()
    running = find_running(settings.state_dir)
    if running is None:
        raise SettingsError(
            "no platform runs here: start `headworks up` in another terminal, or set HEADWORKS_MQTT_URL"
        )
    return running.mqtt_url


def _register(settings: Settings, devices: list[Device]) -> None:
    """Register what is not registered yet, where the database is at hand."""
    running = find_running(settings.state_dir)
    url = settings.database_url.get_secret_value() if settings.database_url else running and running.database_url
    if not url:
        out.print("The database is not at hand here: the devices have to be registered already.")
        return
    with connect(url, application="headworks register") as connection:
        known = registry.find(connection, [device.identity for device in devices])
        fresh = [device for device in devices if device.identity not in known]
        registry.register(connection, fresh, load_profile_files(settings.profiles))


def _progress(unit: str) -> Progress:
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    if unit == "rows":
        columns += [MofNCompleteColumn(), TextColumn(unit)]
    return Progress(*columns, TimeRemainingColumn(), console=out)


def _until_stopped(work: Callable[[asyncio.Event], Awaitable[T]]) -> T:
    """Run a coroutine that ends early and in order on SIGINT or SIGTERM."""

    async def main() -> T:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        return await work(stop)

    return asyncio.run(main())
