"""`headworks quarantine …`: what could not be stored, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from devices.model import Reason, moment
from headworks import clock
from headworks.options import parse_time
from headworks.profiles import load_profile_files
from headworks.redecode import explain, redecode
from headworks.running import database_url
from headworks.settings import load_settings
from storage import quarantine
from storage.database import Connection, connect
from storage.quarantine import Selection
from storage.writer import Writer

app = typer.Typer(help="What could not be stored: list, show, redecode, purge.", no_args_is_help=True)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Identity = Annotated[str | None, typer.Option(help="Only this device's")]
Why = Annotated[Reason | None, typer.Option("--reason", help="Only with this reason")]
Since = Annotated[str | None, typer.Option(help="Only received at or after this time (UTC)")]
Until = Annotated[str | None, typer.Option(help="Only received before this time (UTC)")]


def _connect() -> Connection:
    return connect(database_url(load_settings()), application="headworks quarantine")


def _selection(identity: str | None, reason: Reason | None, since: str | None, until: str | None) -> Selection:
    return Selection(identity, reason, parse_time(since, "--since"), parse_time(until, "--until"))


@app.command("list")
def list_(
    identity: Identity = None,
    reason: Why = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="How many lines at the most")] = 50,
    each: Annotated[bool, typer.Option("--each", help="Every record, newest first, in place of groups")] = False,  # noqa: FBT002
) -> None:
    """List the quarantine, by reason and identity; with --each record by record."""
    selection = _selection(identity, reason, since, until)
    with _connect() as connection:
        if each:
            table = Table("number", "received at (UTC)", "reason", "identity", "detail", box=None, pad_edge=False)
            for record in quarantine.records(connection, selection, limit):
                at = f"{moment(record.uplink.received_at):%F %T}"
                table.add_row(
                    str(record.number), at, record.reason.value, _text(record.identity or "–"), _text(record.detail)
                )
        else:
            table = Table("records", "bytes", "reason", "identity", "first (UTC)", "last", box=None, pad_edge=False)
            for group in quarantine.summary(connection, selection, limit):
                table.add_row(
                    str(group.records), str(group.bytes), group.reason, _text(group.identity or "–"),
                    f"{group.first:%F %T}", f"{group.last:%F %T}",
                )  # fmt: skip
        lost = quarantine.dropped(connection)
    if table.row_count:
        out.print(table)
    else:
        typer.echo("nothing in quarantine matches" if selection != Selection() else "the quarantine is empty")
    for entry in lost:
        typer.echo(
            f"counted, not kept: {entry.records} × {entry.reason} of {_text(entry.scope)} ({entry.bytes} bytes,"
            f" {entry.first:%F %T} to {entry.last:%F %T}), as the share was full"
        )


@app.command()
def show(number: Annotated[int, typer.Argument(help="The number that `list --each` gives")]) -> None:
    """Show one record: its bytes, why it is here, and what would become of it now."""
    with _connect() as connection:
        record = quarantine.one(connection, number)
        if record is None:
            typer.echo(
                f"headworks: there is no record {number}; `headworks quarantine list --each` shows all", err=True
            )
            raise typer.Exit(1)
        batch = explain(connection, load_profile_files(load_settings().profiles), record)
    uplink = record.uplink
    for name, value in (
        ("reason", record.reason.value),
        ("detail", record.detail),
        ("identity", record.identity or "none"),
        ("established by", uplink.transport.value if uplink.identity else "nobody: the payload claims it"),
        ("received at", f"{moment(uplink.received_at):%F %T.%f} UTC"),
        ("source", uplink.source),
        ("content format", uplink.content_format if uplink.content_format is not None else "none"),
        ("codec", uplink.codec.value if uplink.codec else "by content format and profile"),
        ("bytes", len(uplink.payload)),
    ):
        typer.echo(f"{name:16}{_text(str(value))}")
    for line in hex_view(uplink.payload):
        typer.echo(line)
    readings = sum(len(entry.readings) for entry in batch.uplinks)
    typer.echo(f"now: {readings} readings can be stored")
    for problem in batch.quarantine:
        typer.echo(f"now: {problem.reason.value}: {_text(problem.detail)}")


@app.command("redecode")
def redecode_(
    identity: Identity = None,
    reason: Why = None,
    since: Since = None,
    until: Until = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would come of it")] = False,  # noqa: FBT002
) -> None:
    """Try again what is in quarantine, with today's registry and profiles; what decodes is stored and leaves."""
    selection = _selection(identity, reason, since, until)
    url = database_url(load_settings())
    writer = Writer(url)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with connect(url, application="headworks quarantine") as connection, Progress(*columns, console=err) as bar:
            task = bar.add_task("records", total=quarantine.count(connection, selection))
            result = redecode(
                connection,
                writer,
                load_profile_files(load_settings().profiles),
                selection,
                until=clock.now(),
                dry_run=dry_run,
                advanced=lambda count: bar.advance(task, count),
            )
    finally:
        writer.close()
    typer.echo(
        f"{'would release' if dry_run else 'released'} {result.released} records: {result.stored} readings"
        f" {'to store' if dry_run else 'stored'}, {result.known} known before; {result.kept} records stay"
    )


@app.command()
def purge(
    identity: Identity = None,
    reason: Why = None,
    since: Since = None,
    until: Until = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,  # noqa: FBT002
) -> None:
    """Delete records for good."""
    selection = _selection(identity, reason, since, until)
    with _connect() as connection:
        count = quarantine.count(connection, selection)
    if count == 0:
        typer.echo("nothing in quarantine matches")
        return
    if not yes:
        typer.confirm(f"Delete {count} records for good?", abort=True)
    with _connect() as connection:  # a new one: a server ends an idle session while the user thinks
        typer.echo(f"deleted {quarantine.purge(connection, selection)} records")


def _text(value: str) -> str:
    """What came from outside, without control characters that would drive a terminal."""
    return "".join(letter if letter.isprintable() else "·" for letter in value)


def hex_view(payload: bytes, limit: int = 4096) -> list[str]:
    """Sixteen bytes a line: offset, hexadecimal, ASCII; at most `limit` bytes."""
    lines = []
    for offset in range(0, min(len(payload), limit), 16):
        part = payload[offset : offset + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in part)
        lines.append(f"{offset:08x}  {part.hex(' '):47}  {text}")
    if len(payload) > limit:
        lines.append(f"… {len(payload) - limit} more bytes")
    return lines
