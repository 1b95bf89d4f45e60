"""`headworks profiles …`: device types from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from devices.decode import decode
from devices.document import DocumentError, suggest
from devices.duration import format_duration
from devices.errors import DecodeError
from devices.metrics import CATALOGUE
from devices.model import Codec, Device, Instant, Report, Transport, Uplink, moment
from devices.normalize import normalize
from devices.profile import Profile, json_schema, load_profile
from headworks import clock
from headworks.profiles import load_profile_files, profile_files
from headworks.settings import load_settings

app = typer.Typer(
    help="Device types: check files, list and show what is installed, try a payload.", no_args_is_help=True
)
out = Console(highlight=False)


def _installed() -> dict[str, Profile]:
    return load_profile_files(load_settings().profiles)


def _find(name: str) -> Profile:
    """An installed profile by its name, or the profile in a file."""
    profiles = _installed()
    if name in profiles:
        return profiles[name]
    if Path(name).is_file():
        return load_profile(Path(name).read_text("utf-8"), name)
    typer.echo(f"headworks: there is no profile {name!r}{suggest(name, list(profiles))}", err=True)
    raise typer.Exit(1)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A profile file or a folder of them", exists=True)],
) -> None:
    """Check profile files; every problem is printed with its file, line and column."""
    problems: list[str] = []
    files = profile_files(path)
    for file in files:
        try:
            load_profile(file.read_text("utf-8"), str(file))
        except DocumentError as error:
            problems += error.problems
        except UnicodeDecodeError as error:
            problems.append(f"{file}: {error}")
    if problems:
        raise DocumentError(problems)
    typer.echo(f"{len(files)} profile{'s are' if len(files) > 1 else ' is'} valid")


@app.command("list")
def list_() -> None:
    """List the device types that are installed."""
    print_profiles(_installed())


@app.command()
def show(name: str) -> None:
    """Show one device type: reporting, sleep, metrics and ranges."""
    print_profile(_find(name))


@app.command()
def schema() -> None:
    """Print the JSON Schema of profiles, for editors that complete and check YAML."""
    typer.echo(json_schema(), nl=False)


@app.command("try")
def try_(
    profile: Annotated[str, typer.Argument(help="An installed profile, or a profile file")],
    hex_: Annotated[str | None, typer.Option("--hex", help="The payload as hexadecimal digits")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="The payload in a file, as it is", exists=True, dir_okay=False)
    ] = None,
    content_format: Annotated[int | None, typer.Option(help="CoAP content format, e.g. 42, 110, 112")] = None,
) -> None:
    """Show what a payload would become: each field by its bytes, measurements, readings, and what is wrong."""
    if (hex_ is None) == (file is None):
        raise typer.BadParameter("give the payload with either --hex or --file")
    try:
        payload = file.read_bytes() if file else bytes.fromhex((hex_ or "").replace(":", " "))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--hex") from None
    if not explain_payload(_find(profile), payload, content_format, clock.now()):
        raise typer.Exit(1)


def explain_payload(profile: Profile, payload: bytes, content_format: int | None, now: Instant) -> bool:
    """Print what becomes of a payload; whether all of it becomes readings."""
    if profile.codec is Codec.FRAME and content_format in (None, 42):
        explanation = profile.frame_decoder.explain(payload, now)
        table = Table("bytes", "hex", "element", "meaning", box=None, pad_edge=False)
        for part in explanation.fields:
            where = f"{part.start}" if part.end - part.start == 1 else f"{part.start}–{part.end - 1}"
            table.add_row(where, part.raw.hex(" "), part.name, part.meaning)
        out.print(table)
        out.print()
    try:
        reports = decode(Uplink(Transport.COAP, payload, now, content_format=content_format), profile)
    except DecodeError as error:
        out.print(f"refused, {error.reason.value}: {error.detail}", markup=False, soft_wrap=True)
        return False
    complete = [_print_report(report, profile, now) for report in reports]
    return all(complete)


def _print_report(report: Report, profile: Profile, now: Instant) -> bool:
    for label, text in (
        ("identity", report.identity),
        ("sequence", report.sequence),
        ("sent at", report.sent_at and moment(report.sent_at).isoformat()),
    ):
        if text is not None:
            out.print(f"{label:10}{text}", markup=False)
    readings, rejects, _ = normalize(report, Device("urn:dev:trial", profile.profile), profile, now)
    table = Table("reading", "value", "unit", "quality", "measured at (UTC)", box=None, pad_edge=False)
    for reading in readings:
        unit = CATALOGUE[reading.metric].unit
        at = f"{moment(reading.measured_at):%F %T}"
        table.add_row(reading.metric, f"{reading.value:.6g}", unit, reading.quality.name.lower(), at)
    if readings:
        out.print(table)
    elif not rejects:
        out.print("nothing to store: the payload is acknowledged and kept nowhere")
    for reject in rejects:
        out.print(f"refused, {reject.reason.value}: {reject.detail}", markup=False, soft_wrap=True)
    return not rejects


def print_profiles(profiles: dict[str, Profile]) -> None:
    """The table of device types."""
    table = Table("profile", "kind", "codec", "title", "metrics", box=None, pad_edge=False)
    for profile in profiles.values():
        table.add_row(
            profile.profile, profile.kind.value, profile.codec.value, profile.title, str(len(profile.metrics))
        )
    out.print(table)


def print_profile(profile: Profile) -> None:
    """One device type in full."""
    sleep = profile.sleep.model_dump(mode="json", exclude_none=True) if profile.sleep else {}
    for label, text in (
        ("profile", profile.profile),
        ("title", profile.title),
        ("kind", profile.kind.value),
        ("codec", profile.codec.value),
        ("sampling", format_duration(profile.reporting.sampling)),
        ("interval", format_duration(profile.reporting.interval)),
        ("sleep", json.dumps(sleep).strip("{}").replace('"', "") if sleep else "does not sleep, or is not declared"),
    ):
        out.print(f"{label:10}{text}", markup=False)
    out.print()
    table = Table("metric", "unit", "sensor range", "process range", "further names", box=None, pad_edge=False)
    for name, spec in profile.metrics.items():
        ranges = [f"{limits[0]:g} … {limits[1]:g}" if limits else "" for limits in (spec.sensor, spec.process)]
        table.add_row(name, CATALOGUE[name].unit, *ranges, ", ".join(spec.names))
    out.print(table)
