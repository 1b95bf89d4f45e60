"""What `headworks demo` shows while it runs: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from devices.alarm import Priority
from devices.errors import UnavailableError
from devices.model import Transport, moment
from simulators.plant import Plant
from simulators.run import Config, Progress
from storage import audit, journal
from storage.database import connect

_REFRESH_SECONDS = 0.5
_LINE_SECONDS = 5.0
_ALARMS_SHOWN = 8
# ISA-101: grey is normal, colour only for what is abnormal; the priority stands as a word too.
_COLOURS = {Priority.HIGH: "bold red", Priority.MEDIUM: "yellow", Priority.LOW: "magenta"}


class View:
    """Shows progress as the devices see it, and stored readings and alarms as the database has them."""

    def __init__(self, console: Console, database_url: str, plant: Plant, config: Config) -> None:
        self._console = console
        self._url = database_url
        self._tags = {asset.device.identity: asset.device.tag for asset in plant.assets}
        self._config = config
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Show where the simulation is, if it is time to."""
        now = time.monotonic()
        if now - self._shown_at < (_REFRESH_SECONDS if self._live else _LINE_SECONDS):
            return
        self._shown_at = now
        if self._live is not None:
            self._live.update(self._table(progress), refresh=True)
        else:
            acknowledged = sum(progress.acknowledged.values())
            self._console.print(
                f"{moment(progress.at):%F %H:%M} UTC: {acknowledged} readings acknowledged", markup=False
            )

    def finish(self, what: str) -> None:
        """Say what is being waited for."""
        if self._live is not None:
            self._live.update(Text(what), refresh=True)
        else:
            self._console.print(what)

    def _table(self, progress: Progress) -> RenderableType:
        stored, alarms = self._database()
        played = (progress.at - self._config.start) / (self._config.end - self._config.start)
        numbers = Table.grid(padding=(0, 2))
        numbers.add_row(
            "plant time", f"{moment(progress.at):%F %H:%M} UTC", ProgressBar(total=1, completed=played, width=40)
        )
        for transport in Transport:
            sent, acknowledged = progress.sent[transport], progress.acknowledged[transport]
            numbers.add_row(transport.value.upper(), f"{sent:,} readings sent", f"{acknowledged:,} acknowledged")
        numbers.add_row("database", f"{stored:,} stored", f"{len(alarms)} alarms")
        return Group(numbers, Text(), *alarms[-_ALARMS_SHOWN:])

    def _database(self) -> tuple[int, list[Text]]:
        try:
            with connect(self._url, application="headworks demo") as connection:
                stored = audit.readings_logged(connection)
                alarms = journal.all_occurrences(connection)
        except UnavailableError:
            return 0, []
        lines = []
        for alarm in alarms:
            state = "active" if alarm.cleared_at is None else f"over at {moment(alarm.cleared_at):%H:%M}"
            text = f"{moment(alarm.raised_at):%H:%M}  {alarm.priority.value:7}{self._tags.get(alarm.device, ''):8}"
            style = _COLOURS[alarm.priority] if alarm.cleared_at is None else "dim"
            lines.append(Text(f"{text}{alarm.message}  ({state})", style=style))
        return stored, lines
