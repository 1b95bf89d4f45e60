"""`headworks storm`: a whole fleet reports at the top of the hour, and the command says what it met."""

from __future__ import annotations

import ipaddress
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from devices.duration import parse_duration
from devices.model import SECOND, Device
from headworks import clock
from headworks.cli_simulate import mqtt_url_of
from headworks.profiles import load_profile_files
from headworks.running import database_url
from headworks.settings import Settings, load_settings
from simulators.storm import Report, Shape, Storm, Tally
from simulators.storm_payload import DIGITS, IDENTITY, PROFILE, identity
from simulators.storm_run import Clocks, Targets, run_storm
from storage import registry, removal
from storage.database import connect

err = Console(highlight=False, stderr=True)

_SITE = "storm"
_AT_ONCE = 20_000


class Speaks(StrEnum):
    """What the devices speak."""

    COAP = "coap"
    MQTT = "mqtt"
    BOTH = "both"


def storm(
    devices: Annotated[int, typer.Option(min=1, max=10**DIGITS - 1, help="How many")] = 10_000,
    within: Annotated[str, typer.Option(help="How long it takes until all have come; 0 is as fast as answered")] = "1m",
    transport: Annotated[Speaks, typer.Option(help="What they speak; with `both`, half of them each")] = Speaks.COAP,
    target: Annotated[
        list[str] | None,
        typer.Option(help="coap://host:port or mqtt(s)://host:port, in place of the settings' own"),
    ] = None,
    shape: Annotated[Shape, typer.Option(help="`hour`: most in the first fifth; `even`: evenly")] = Shape.HOUR,
    loss: Annotated[float, typer.Option(min=0, max=0.9, help="Share of CoAP datagrams lost each way")] = 0.0,
    seed: Annotated[int, typer.Option(help="Same seed, same arrivals")] = 1,
    under_way: Annotated[int, typer.Option(min=0, help="Devices that wait at the same time; 0 is no bound")] = 0,
    ack_timeout: Annotated[float, typer.Option(min=0.1, help="Seconds; cellular devices use 10 to 20")] = 2.0,
    ports: Annotated[int, typer.Option(min=0, max=3500, help="Source ports; 0 is as few as possible")] = 0,
    rebind: Annotated[bool, typer.Option("--rebind", help="Retransmissions come from other ports (NAT)")] = False,  # noqa: FBT002
    series: Annotated[
        str | None, typer.Option(help="Use the devices of this series, registered already wherever the target is")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove all storm devices and their data, and end")] = False,  # noqa: FBT002
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here")] = None,
    elsewhere: Annotated[bool, typer.Option("--elsewhere", help="The target is not this machine, but mine")] = False,  # noqa: FBT002
) -> None:
    """Let a fleet of virtual devices report at once, with the retransmissions that real ones would make."""
    settings = load_settings()
    if remove:
        _remove(database_url(settings))
        return
    try:
        seconds = parse_duration(within) / SECOND
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--within") from None
    targets = _targets(settings, transport, target or [], elsewhere=elsewhere)
    name = series or _register(settings, devices)
    plan = Storm(
        name, devices, seconds, shape, seed, under_way or (1_000 if seconds == 0 else 0), loss, ack_timeout, ports,
        rebind,
    )  # fmt: skip
    clocks = Clocks(time.monotonic, time.process_time, clock.now() / SECOND - time.monotonic())
    with _bar() as bar, interrupted() as stopped:
        task = bar.add_task("", total=devices)
        before = (0.0, 0)

        def report(state: Report) -> None:
            nonlocal before
            rate = (state.acknowledged - before[1]) / max(1e-3, state.seconds - before[0])
            before = (state.seconds, state.acknowledged)
            bar.update(task, completed=state.finished, description=_line(state, rate))

        done = run_storm(plan, targets, clocks, report, lambda: bool(stopped))
    for transport_name, tally in done.tallies.items():
        _tell(transport_name, tally, done.seconds)
    found = done.as_dict()
    power = found["battery"]
    assert isinstance(power, dict)
    typer.echo(
        f"batteries: {power['watt_hours']} Wh, {power['watt_hours_of_repeats']} of it for repeats; "
        f"{power['days_of_life_per_device']} days of battery life a device"
    )
    typer.echo(
        f"{done.finished} of {devices} in {done.seconds:.1f} s; "
        f"the sender took {found['sender_cpu_microseconds_per_uplink']} µs of processor time an uplink"
    )
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    if series is None:
        typer.echo("the devices stay registered: use them again, or `headworks storm --remove`", err=True)
    if stopped:
        raise typer.Exit(130)
    if not done.complete:
        typer.echo("not every device came to its end in time", err=True)
        raise typer.Exit(1)


def _targets(settings: Settings, transport: Speaks, given: list[str], *, elsewhere: bool) -> Targets:
    """Where to send, as addresses; `typer.BadParameter` for a target that is not this machine, unless allowed."""
    by_scheme = {urlsplit(one).scheme.replace("mqtts", "mqtt"): one for one in given}
    if unknown := by_scheme.keys() - {"coap", "mqtt"}:
        raise typer.BadParameter(
            f"a storm speaks coap://, mqtt:// and mqtts://, not {', '.join(sorted(unknown))}", param_hint="--target"
        )
    ways = set(by_scheme) or ({"coap", "mqtt"} if transport is Speaks.BOTH else {transport.value})
    coap = mqtt = None
    if "coap" in ways:
        parts = urlsplit(by_scheme.get("coap", f"coap://{settings.coap_host}:{settings.coap_port}"))
        coap = _address(parts.hostname or "", parts.port or 5683, socket.SOCK_DGRAM, elsewhere=elsewhere)
    if "mqtt" in ways:
        mqtt = by_scheme.get("mqtt") or mqtt_url_of(settings)
        parts = urlsplit(mqtt)
        port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        _address(parts.hostname or "", port, socket.SOCK_STREAM, elsewhere=elsewhere)
    return Targets(coap, mqtt)


def _address(host: str, port: int, kind: socket.SocketKind, *, elsewhere: bool) -> tuple[str, int]:
    try:
        found = socket.getaddrinfo("127.0.0.1" if host == "0.0.0.0" else host, port, type=kind)  # noqa: S104 - as a client
    except OSError as error:
        raise typer.BadParameter(f"{host}: {error}", param_hint="--target") from None
    address = str(found[0][4][0])
    if not elsewhere and not ipaddress.ip_address(address).is_loopback:
        raise typer.BadParameter(
            f"{host} is not this machine: a storm there is an attack unless it is yours; say --elsewhere if it is",
            param_hint="--target",
        )
    return address, port


def _register(settings: Settings, count: int) -> str:
    """The series to use: the one that is there, with as many devices as are needed, or a new one.

    A new series has a name of its own: what a running platform remembers of one that was removed is never used again.
    """
    with connect(database_url(settings), application="headworks storm") as connection:
        there = removal.series(connection, IDENTITY)
        name = max(there, key=lambda one: there[one], default="")
        name = name or f"{clock.now() // SECOND:x}"[-7:]
        missing = range(there.get(name, 0), count)
        profiles = load_profile_files(settings.profiles)
        with _bar() as bar:
            task = bar.add_task("registering devices", total=len(missing))
            for start in range(missing.start, missing.stop, _AT_ONCE):
                part = range(start, min(start + _AT_ONCE, missing.stop))
                batch = [Device(identity(name, n), PROFILE, tag=f"S-{n:07}", site=_SITE) for n in part]
                registry.register(connection, batch, profiles)
                bar.advance(task, len(part))
    return name


def _remove(url: str) -> None:
    with connect(url, application="headworks storm") as connection, _bar() as bar:
        total = sum(removal.series(connection, IDENTITY).values())
        task = bar.add_task("removing devices", total=total)
        for count in removal.remove(connection, IDENTITY):
            bar.advance(task, count)
    typer.echo(f"removed {total} devices and everything of them")


def _line(state: Report, rate: float) -> str:
    tallies = state.tallies.values()
    return (
        f"{rate:,.0f}/s acknowledged, {sum(t.retransmissions for t in tallies)} sent again, "
        f"{sum(t.later for t in tallies)} put off, {sum(sum(t.refused.values()) for t in tallies)} refused, "
        f"{sum(t.given_up for t in tallies)} given up"
    )


def _tell(name: str, tally: Tally, seconds: float) -> None:
    found = tally.as_dict()["latency_seconds"]
    assert isinstance(found, dict)
    typer.echo(
        f"{name}: {tally.acknowledged} of {tally.devices} acknowledged, "
        f"{tally.acknowledged / max(seconds, 1e-3):,.0f}/s; "
        f"{tally.retransmissions} sent again, {tally.later} put off, {tally.given_up} given up"
        + (f", {tally.unfinished} unfinished" if tally.unfinished else "")
        + "".join(f", {count} × {code}" for code, count in tally.refused.items())
    )
    typer.echo(
        "  from first transmission to answer: " + ", ".join(f"{key} {value:g} s" for key, value in found.items())
    )


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=err
    )


@contextmanager
def interrupted() -> Iterator[list[int]]:
    """What SIGINT and SIGTERM came meanwhile, in place of an exception."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
