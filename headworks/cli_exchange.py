"""`headworks export` and `headworks import`: readings to and from CSV and Parquet files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from devices.document import DocumentError
from devices.model import DAY, Instant, moment
from headworks import clock
from headworks.options import parse_time
from headworks.running import database_url
from headworks.settings import load_settings
from storage import exchange
from storage.database import connect
from storage.exchange import Block
from storage.export import Choice, NothingSelectedError
from storage.export import export as export_blocks
from storage.importing import Conflict, Importer, RowsError

err = Console(stderr=True, highlight=False)
_SHOWN = 10


def export(
    file: Annotated[Path, typer.Argument(help="Ends in .csv or .parquet; replaced when the new one is whole")],
    device: Annotated[list[str] | None, typer.Option(help="Only this identity (repeatable)")] = None,
    site: Annotated[str | None, typer.Option(help="Only this site's devices")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Only this metric (repeatable)")] = None,
    since: Annotated[str | None, typer.Option(help="Only samples at or after this time (UTC)")] = None,
    until: Annotated[str | None, typer.Option(help="Only samples before this time (UTC)")] = None,
) -> None:
    """Write readings to a CSV or Parquet file, whatever their number, as they are at one moment."""
    choice = Choice(
        device or (), site, metric or (), parse_time(since, "--since"), parse_time(until, "--until")
    )  # fmt: skip
    exchange.check_suffix(file)
    url = database_url(load_settings())
    rows = 0
    with connect(url, application="headworks export") as connection, _bar() as bar:
        task = bar.add_task("devices", total=None)
        try:
            with exchange.writing(file, version("headworks")) as sink:
                for block in export_blocks(
                    connection, choice, lambda done, total: bar.update(task, completed=done, total=total)
                ):
                    sink.write(block)
                    rows += len(block)
                    bar.update(task, description=f"{rows} readings")
        except NothingSelectedError as error:
            raise typer.BadParameter(str(error)) from None
    typer.echo(f"wrote {rows} readings to {file}")


def import_(
    file: Annotated[Path, typer.Argument(help="A file as `headworks export` writes it", exists=True, dir_okay=False)],
    rejects: Annotated[
        Path | None, typer.Option(help="Where rows go that contradict what is stored [default: FILE.rejects.csv]")
    ] = None,
) -> None:
    """Store the readings of a CSV or Parquet file; what is stored already is known, so it may be run again."""
    target = rejects or file.with_name(file.name + ".rejects.csv")
    result = Totals()
    settings = load_settings()
    url = database_url(settings)
    total = exchange.count_rows(file)
    with connect(url, application="headworks import") as connection, _Rejects(target) as book, _bar() as bar:
        importer = Importer(connection)
        task = bar.add_task("readings", total=total)
        for block in exchange.ahead(exchange.read(file)):
            try:
                done = importer.write(block, clock.now())
            except (RowsError, DocumentError) as error:
                raise DocumentError([*_places(file, block, error), result.text()]) from None
            book.write(block, done.conflicts)
            result.stored += done.stored
            result.duplicates += done.duplicates
            result.conflicts += len(done.conflicts)
            oldest = int(block.measured_at.min())
            result.oldest = oldest if result.oldest is None else min(result.oldest, oldest)
            bar.update(task, completed=result.rows, description=f"{result.rows} readings")
    typer.echo(result.text())
    keep = settings.keep_readings_days
    if keep and result.oldest is not None and result.oldest < clock.now() - keep * DAY:
        typer.echo(
            f"headworks: readings older than {keep} days (the oldest is of {moment(result.oldest):%Y-%m-%d}) are in the"
            " aggregates for ever, but themselves are taken out within the hour;"
            " to keep them set HEADWORKS_KEEP_READINGS_DAYS=0 before the platform runs again",
            err=True,
        )
    if result.conflicts:
        typer.echo(f"headworks: {result.conflicts} readings contradict what is stored; they are in {target}", err=True)
        raise typer.Exit(1)


@dataclass(slots=True)
class Totals:
    """What became of the rows so far."""

    stored: int = 0
    duplicates: int = 0
    conflicts: int = 0
    oldest: Instant | None = None
    """Sample time of the oldest reading."""

    @property
    def rows(self) -> int:
        """All of them."""
        return self.stored + self.duplicates + self.conflicts

    def text(self) -> str:
        """As people read it."""
        return f"stored {self.stored} readings; {self.duplicates} were known before, {self.conflicts} contradict"


def _places(file: Path, block: Block, error: RowsError | DocumentError) -> list[str]:
    if isinstance(error, DocumentError):
        return [f"{exchange.place(file, block, 0)} and {len(block) - 1} rows after it: {error}"]
    problems = [f"{exchange.place(file, block, row)}: {text}" for row, text in error.problems]
    more = len(problems) - _SHOWN
    return problems[:_SHOWN] + ([f"… and {more} more"] if more > 0 else [])


class _Rejects:
    """The file of contradicting rows; made with the first of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def __enter__(self) -> _Rejects:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, block: Block, conflicts: list[Conflict]) -> None:
        if not conflicts:
            return
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8", newline="")
            self._file.write(",".join(("row", *exchange.COLUMNS[:-1], "stored_value")) + "\n")
        lines = csv.writer(self._file, lineterminator="\n")
        for conflict in conflicts:
            row = conflict.row
            name, unit = block.metrics[block.metric[row]]
            lines.writerow(
                (
                    block.first + row, block.identities[block.identity[row]], name, unit,
                    exchange.text_of(int(block.measured_at[row])), repr(float(block.value[row])), repr(conflict.stored),
                )
            )  # fmt: skip


@contextmanager
def _bar() -> Iterator[Progress]:
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=err) as bar:
        yield bar
