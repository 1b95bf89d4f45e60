"""`headworks replay`: a recorded file, or what `headworks record` has kept, through the gateways of a platform."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from devices.duration import parse_duration
from devices.model import Instant
from headworks import clock
from headworks.cli_simulate import Via, _progress, _register, _until_stopped, mqtt_url_of
from headworks.settings import Settings, load_settings
from simulators.mapping import load_mapping
from simulators.replay import Replayed, ReplayError, replay
from simulators.replay_sender import Way
from simulators.uplink_recording import Contents, RecordingError, is_recording, read_recording, survey
from simulators.uplink_replay import Changes, Resent, parse_names, replay_recording


def replay_file(
    file: Annotated[
        Path, typer.Argument(help="A recording of `record`, or a CSV or Parquet table", exists=True, dir_okay=False)
    ],
    mapping: Annotated[
        Path | None, typer.Option("--map", help="What a table's columns mean: a YAML file, or `skab` or `nab`")
    ] = None,
    via: Annotated[
        Via | None, typer.Option(help="The way to the platform [default: as it came; a table: mqtt]")
    ] = None,
    speed: Annotated[float, typer.Option(min=0, help="Times real time; 0 is as fast as it is acknowledged")] = 0.0,
    identities: Annotated[
        Path | None, typer.Option(help="Of a recording: a file of lines `old = new`, one * allowed on both sides")
    ] = None,
    rename: Annotated[list[str] | None, typer.Option(help="Of a recording: one such line; repeatable")] = None,
    shift: Annotated[
        str | None, typer.Option(help="Of a recording: later by 7d, earlier by -7d, `now`: as if it began now")
    ] = None,
    register: Annotated[bool, typer.Option("--register", help="Register a recording's devices first")] = False,  # noqa: FBT002
    restart: Annotated[bool, typer.Option("--restart", help="From the beginning, not from where it stopped")] = False,  # noqa: FBT002
    ledger: Annotated[Path | None, typer.Option(help="Of a table: write down every acknowledgement here")] = None,
) -> None:
    """Send a file through the gateways; Ctrl-C stops it, and the next run goes on from there."""
    settings = load_settings()
    recorded = is_recording(file)
    if recorded == (mapping is not None):
        text = "a recording needs no --map" if recorded else "a table needs a --map that says what its columns mean"
        raise typer.BadParameter(f"{file}: {text}", param_hint="--map")
    name = hashlib.sha256(f"{file.absolute()}|{via or ('' if recorded else Via.MQTT)}".encode()).hexdigest()[:16]
    checkpoint = settings.state_dir / "replay" / f"{name}.json"
    if restart:
        checkpoint.unlink(missing_ok=True)
    try:
        if recorded:
            changes = Changes(_names(identities, rename or []), _shift(shift, file))
            done: Replayed = _recording(settings, file, via, checkpoint, changes, speed, register=register)
        else:
            assert mapping is not None
            done = _table(settings, file, mapping, via or Via.MQTT, checkpoint, speed, ledger)
    except (ReplayError, RecordingError, OSError) as error:
        typer.echo(f"headworks: {error}", err=True)
        raise typer.Exit(2) from None
    if not done.complete:
        typer.echo("stopped; run the same command again to go on from here")
        raise typer.Exit(130)


def _table(
    settings: Settings, file: Path, mapping: Path, via: Via, checkpoint: Path, speed: float, ledger: Path | None
) -> Replayed:
    meaning = load_mapping(mapping)
    way = Way(coap=(settings.coap_host, settings.coap_port)) if via is Via.COAP else Way(mqtt_url=mqtt_url_of(settings))
    _register(settings, [target.device() for target in meaning.devices])
    with _progress("rows") as bar:
        task = bar.add_task(file.name, total=None)

        def report(state: Replayed) -> None:
            bar.update(task, completed=state.rows, total=state.total_rows)

        done = _until_stopped(
            lambda stop: replay(file, meaning, way, checkpoint, speed=speed, ledger=ledger, report=report, stop=stop)
        )
    for problem in done.skipped[:20]:
        typer.echo(f"left out: {problem}", err=True)
    if len(done.skipped) > 20:
        typer.echo(f"left out: {len(done.skipped) - 20} more rows", err=True)
    for rejection in done.rejections:
        typer.echo(f"rejected: {rejection}", err=True)
    if done.unmapped:
        typer.echo(f"not in the map, so not sent: {', '.join(done.unmapped)}", err=True)
    if done.empty_cells:
        typer.echo(f"{done.empty_cells} empty cells were left out", err=True)
    typer.echo(
        f"{done.rows} of {done.total_rows} rows; {done.acknowledged} readings acknowledged in {done.uplinks} uplinks"
        + (f", {done.rejected_uplinks} uplinks rejected" if done.rejected_uplinks else "")
    )
    return done


def _recording(
    settings: Settings,
    file: Path,
    via: Via | None,
    checkpoint: Path,
    changes: Changes,
    speed: float,
    *,
    register: bool,
) -> Resent:
    coap = (settings.coap_host, settings.coap_port)
    way = Way(coap if via is not Via.MQTT else None, mqtt_url_of(settings) if via is not Via.COAP else None)
    contents = survey(file)
    if register:
        _register(
            settings,
            [replace(device, identity=changes.rename(device.identity)) for device in contents.devices.values()],
        )
    with _progress("rows") as bar:
        task = bar.add_task(file.name, total=contents.uplinks)

        def report(state: Replayed) -> None:
            bar.update(task, completed=state.rows)

        done = _until_stopped(
            lambda stop: replay_recording(file, way, checkpoint, changes, speed=speed, report=report, stop=stop)
        )
    for rejection in done.rejections:
        typer.echo(f"rejected: {rejection}", err=True)
    for count, what in (
        (done.unsendable, "cannot be sent as messages by this way"),
        (done.unborn, "of Sparkplug have no birth before them: a recording must begin before their edge node is born"),
        (
            done.unprotected,
            "of those rejected came by OSCORE or DTLS and go in clear: take them by --via mqtt, or to a platform where"
            " their devices have no such credential",
        ),
        (done.unchanged, "were sent as they are: their names or times could not be changed"),
        (contents.lost, "are missing in the recording"),
    ):
        if count:
            typer.echo(f"{count} uplinks {what}", err=True)
    if contents.torn:
        typer.echo("the recording ends in a frame that was cut off", err=True)
    typer.echo(f"{done.rows} of {done.total_rows} uplinks; {done.uplinks} sent, {done.rejected_uplinks} rejected")
    return done


def _names(path: Path | None, lines: list[str]) -> tuple[tuple[str, str], ...]:
    found = parse_names(lines, "--rename")
    return found if path is None else found + parse_names(path.read_text("utf-8").splitlines(), str(path))


def _shift(text: str | None, file: Path) -> Instant | None:
    if text is None:
        return None
    if text == "now":
        first = next(read_recording(file, Contents()), None)
        return clock.now() - first[0].received_at if first else 0
    try:
        return -parse_duration(text[1:]) if text.startswith("-") else parse_duration(text.removeprefix("+"))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--shift") from None
