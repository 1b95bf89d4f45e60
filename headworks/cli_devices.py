"""`headworks devices …`: the registry from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from devices.credential import CredentialKind
from devices.document import suggest
from devices.inventory import check_device, parse_inventory, write_inventory
from devices.model import Device, moment
from headworks.cli_profiles import print_profile, print_profiles
from headworks.cli_register import approve, calibrate, contact, held
from headworks.keys import KeyFileError, load_seal
from headworks.profiles import load_profile_files
from headworks.running import database_url
from headworks.settings import Settings, load_settings
from storage import credentials, registry
from storage.credentials import NoSuchDeviceError
from storage.database import Connection, connect

app = typer.Typer(
    help="The device registry: add, import, export, list, show, held, approve, calibrate, rotate, retire.",
    no_args_is_help=True,
)
for command in (held, approve, calibrate, contact):
    app.command()(command)
out = Console(highlight=False)
_SHORTEST = 8


def _connect() -> Connection:
    return connect(database_url(load_settings()), application="headworks devices")


@app.command()
def add(
    identity: Annotated[str, typer.Argument(help="What the device calls itself, e.g. urn:dev:imei:867000000000001")],
    profile: Annotated[str, typer.Option(help="Its device type; `headworks devices profiles` lists them")],
    tag: Annotated[str, typer.Option(help="Its tag on the plant's drawings, e.g. P-101")] = "",
    site: Annotated[str, typer.Option()] = "",
    area: Annotated[str, typer.Option()] = "",
    unit: Annotated[str, typer.Option()] = "",
    manufacturer: Annotated[str, typer.Option()] = "",
    model: Annotated[str, typer.Option()] = "",
    serial: Annotated[str, typer.Option()] = "",
    gateway: Annotated[str, typer.Option(help="The identity of the device that speaks for this one")] = "",
    design: Annotated[list[str] | None, typer.Option(help="Nameplate data, e.g. --design pn=16 (repeatable)")] = None,
) -> None:
    """Register a device, or change what is registered under its identity."""
    data: dict[str, float] = {}
    for entry in design or []:
        name, _, value = entry.partition("=")
        try:
            data[name] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{entry!r} is not of the form name=number", param_hint="--design") from None
    device = Device(identity, profile, tag, site, area, unit, manufacturer, model, serial, gateway, data)
    profiles = load_profile_files(load_settings().profiles)
    try:
        check_device(device, profiles)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with _connect() as connection:
        registry.register(connection, [device], profiles)
    typer.echo(f"registered {identity}")


@app.command("import")
def import_(
    table: Annotated[Path, typer.Argument(help="A CSV file as `export` writes it", exists=True, dir_okay=False)],
) -> None:
    """Register all devices of a table, or none of them if a row is wrong."""
    profiles = load_profile_files(load_settings().profiles)
    devices = parse_inventory(table.read_text("utf-8"), str(table), profiles)
    with _connect() as connection:
        registry.register(connection, devices, profiles)
    typer.echo(f"registered {len(devices)} devices")


@app.command()
def export(site: Annotated[str | None, typer.Option(help="Only this site")] = None) -> None:
    """Print the registry as a CSV table."""
    with _connect() as connection:
        devices = [entry.device for entry in registry.all_devices(connection, site)]
    typer.echo(write_inventory(devices), nl=False)


@app.command("list")
def list_(site: Annotated[str | None, typer.Option(help="Only this site")] = None) -> None:
    """List the registered devices."""
    with _connect() as connection:
        entries = registry.all_devices(connection, site)
    table = Table("site", "tag", "identity", "profile", "status", box=None, pad_edge=False)
    for entry in entries:
        device = entry.device
        table.add_row(device.site, device.tag, device.identity, device.profile, device.status.value)
    out.print(table)
    if not entries:
        typer.echo("no devices yet: add one with `headworks devices add`", err=True)


@app.command()
def show(identity: str) -> None:
    """Show one device and its latest readings."""
    with _connect() as connection:
        entry = registry.find(connection, [identity]).get(identity)
        if entry is None:
            typer.echo(f"headworks: {identity!r} is not registered; `headworks devices list` shows what is", err=True)
            raise typer.Exit(1)
        latest = registry.latest(connection, entry.device_id)
    device = entry.device
    for name in (
        "identity",
        "profile",
        "tag",
        "site",
        "area",
        "unit",
        "manufacturer",
        "model",
        "serial",
        "gateway",
        "status",
    ):
        typer.echo(f"{name:14}{getattr(device, name)}")
    for name, value in sorted(device.design.items()):
        typer.echo(f"design.{name:7}{value:g}")
    for metric, steps in sorted(device.calibrations.items()):
        for step in steps:
            typer.echo(
                f"calibration   {metric} × {step.gain:g} + {step.offset:g} from {moment(step.since):%F %T} UTC on"
            )
    table = Table("metric", "value", "unit", "quality", "NE 107", "measured at (UTC)", box=None, pad_edge=False)
    for reading in latest:
        table.add_row(
            reading.metric, f"{reading.value:.6g}", reading.unit, reading.quality.name.lower(), reading.quality.ne107,
            f"{reading.measured_at:%F %T}",
        )  # fmt: skip
    out.print(table)


@app.command()
def retire(identity: str) -> None:
    """Refuse a device's uplinks from now on; its history stays."""
    with _connect() as connection:
        done = registry.retire(connection, identity)
    typer.echo(f"retired {identity}" if done else f"headworks: {identity!r} is not registered", err=not done)
    raise typer.Exit(0 if done else 1)


@app.command()
def rotate(
    identity: Annotated[str, typer.Argument(help="The device's identity")],
    kind: Annotated[
        CredentialKind,
        typer.Option(help="oscore, psk for CoAP over DTLS, mqtt, a ThingsBoard token, or iotda for Huawei's"),
    ] = CredentialKind.OSCORE,
    given: Annotated[  # noqa: FBT002
        bool, typer.Option("--given", help="mqtt, token, iotda: take the secret that it has from the standard input")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the credential away instead")] = False,  # noqa: FBT002
) -> None:
    """Give a device a new secret, and print it this once; the last one is void within half a minute.

    A device with a secret for CoAP is not heard there without it.
    """
    settings = load_settings()
    try:
        with _connect() as connection:
            if remove:
                done = credentials.remove(connection, identity, kind)
                typer.echo(f"{identity} has no {kind.value} credential" + (" any more" if done else ""))
                return
            found = _new_secret(connection, settings, identity, kind, _given_secret(kind) if given else None)
    except (NoSuchDeviceError, KeyFileError, ValueError) as error:
        typer.echo(f"headworks: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(json.dumps({"identity": identity} | found, indent=2))
    if kind is CredentialKind.MQTT:
        typer.echo("write the broker's files anew: headworks broker files", err=True)


def _given_secret(kind: CredentialKind) -> str:
    if kind in (CredentialKind.OSCORE, CredentialKind.PSK):
        raise ValueError(f"a secret for {kind.value} is made here and goes to the device, not the other way")
    secret = sys.stdin.readline().strip()
    if len(secret) < _SHORTEST:
        raise ValueError(f"the standard input has no secret of at least {_SHORTEST} characters")
    return secret


def _new_secret(
    connection: Connection, settings: Settings, identity: str, kind: CredentialKind, given: str | None
) -> dict[str, str]:
    """Make it, and say what the device needs to know."""
    match kind:
        case CredentialKind.MQTT:
            user, password = credentials.make_mqtt(connection, identity, given)
            return {"user": user, "password": password}
        case CredentialKind.TOKEN:
            return {"token": credentials.make_token(connection, identity, given)}
        case CredentialKind.IOTDA:
            return {"secret": credentials.make_iotda(connection, load_seal(settings.key_path), identity, given)}
        case CredentialKind.PSK:
            key = credentials.make_psk(connection, load_seal(settings.key_path), identity)
            return {"psk_identity": identity, "psk": key.decode(), "psk_hex": key.hex()}
        case CredentialKind.OSCORE:
            keys = credentials.make_oscore(connection, load_seal(settings.key_path), identity)
            return {
                "sender_id": keys.device_id.hex(),
                "recipient_id": keys.server_id.hex(),
                "master_secret": keys.secret.hex(),
                "master_salt": keys.salt.hex(),
                "aead": "AES-CCM-16-64-128",
                "hkdf": "SHA-256",
            }


@app.command()
def profiles(name: Annotated[str | None, typer.Argument(help="Show this one in full")] = None) -> None:
    """List the device types that are installed, or show one."""
    installed = load_profile_files(load_settings().profiles)
    if name is None:
        print_profiles(installed)
        return
    if name not in installed:
        typer.echo(f"headworks: there is no profile {name!r}{suggest(name, list(installed))}", err=True)
        raise typer.Exit(1)
    print_profile(installed[name])
