"""`headworks storage …`: what the database holds and how it fares."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from devices.model import moment
from headworks import clock
from headworks.running import database_url
from headworks.settings import load_settings
from storage import status as storage_status
from storage.database import connect
from storage.maintenance import TASKS

app = typer.Typer(help="The database: sizes, aggregates, maintenance.", no_args_is_help=True)
out = Console(highlight=False)


@app.callback()
def _group() -> None:
    """A group, also while it has a single command."""


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,  # noqa: FBT002
) -> None:
    """Edition, sizes, bytes a reading, chunks, how far the aggregates are, and what maintenance did last."""
    with connect(database_url(load_settings()), application="headworks storage") as connection:
        found = storage_status.status(connection)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2, default=lambda value: value.isoformat()))
        return
    out.print(f"{found.server.edition} {found.server.version}, {_size(found.bytes)}")
    table = Table("table", "rows", "size", "chunks", "from (UTC)", "to (UTC)", box=None, pad_edge=False)
    for entry in found.tables:
        table.add_row(
            entry.name, f"{entry.rows:,}", _size(entry.bytes), str(entry.chunks or ""), _time(entry.oldest),
            _time(entry.newest),
        )  # fmt: skip
    out.print(table)
    if found.bytes_per_reading is not None:
        out.print(f"{found.bytes_per_reading:.1f} bytes a reading, indexes included")
    if found.columnstore is not None:
        state = found.columnstore
        share = f", {_size(state.before)} became {_size(state.after)}" if state.chunks else ""
        out.print(f"Columnstore: {state.chunks} chunks of readings{share}")
    hours, days = found.closed_to.get("hour"), found.closed_to.get("day")
    out.print(
        f"Aggregates: hours stored up to {_time(hours) or 'none yet'}, days up to {_time(days) or 'none yet'},"
        f" {found.due:,} buckets due"
    )
    runs = Table("maintenance", "last run (UTC)", "took", "rows", "next", "result", box=None, pad_edge=False)
    now = moment(clock.now())
    for task in TASKS:
        run = found.runs.get(task.name)
        if run is None:
            runs.add_row(task.name, "never", "", "", "with the platform", "")
            continue
        wait = task.interval / 1e6 - (now - run.began_at).total_seconds()
        runs.add_row(
            task.name, _time(run.began_at), f"{run.seconds:.2f} s", f"{run.rows:,}",
            f"in {wait:.0f} s" if wait > 0 else "when the platform runs", run.error or "ok",
        )  # fmt: skip
    out.print(runs)
    for spool, at in found.spooled.items():
        out.print(f"Spool {spool} was last drained at {_time(at)}")


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
