"""`headworks dashboards …`: put the dashboards onto a Grafana server, or into files for import by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dashboards.__main__ import files
from dashboards.grafana import OUR_VERSION, Grafana, GrafanaError
from dashboards.language import LANGUAGES, Language
from dashboards.push import DATA_SOURCE_UID, data_source, exported, plan, plugin, prepared, shown

app = typer.Typer(help="Dashboards: push them to Grafana, export them to files.", no_args_is_help=True)
out = Console(highlight=False, soft_wrap=True)


class Words(StrEnum):
    """Which languages; `both` are two folders beside each other."""

    EN = "en"
    ZH = "zh"
    BOTH = "both"


Chosen = Annotated[Words, typer.Option(help="English, Chinese, or both beside each other in a folder each")]


def _boards(chosen: Words) -> dict[Language, dict[str, Mapping[str, object]]]:
    return {
        language: {name: json.loads(text) for name, text in files(language).items()}
        for language in LANGUAGES
        if chosen in (language, Words.BOTH)
    }


def _fail(message: str) -> typer.Exit:
    typer.echo(f"headworks: {message}", err=True)
    return typer.Exit(1)


@app.command()
def push(
    url: Annotated[str, typer.Option(help="Grafana's address, with its path if it has one")],
    token: Annotated[
        str,
        typer.Option(
            envvar="GRAFANA_TOKEN",
            help="A service account's token. As an option it is seen by everybody on this machine: set the variable",
        ),
    ],
    database_url: Annotated[
        str | None,
        typer.Option(
            envvar="GRAFANA_DATABASE_URL",
            help="The database as Grafana reaches it, with a log-in that may only read (role headworks_reader);"
            " without it the data source is left as it is",
        ),
    ] = None,
    plain: Annotated[bool, typer.Option(help="The database has no TimescaleDB")] = False,  # noqa: FBT002
    language: Chosen = Words.EN,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, change nothing")] = False,  # noqa: FBT002
) -> None:
    """Bring data source, folder and dashboards of a Grafana up to date. What is as it should be is left alone."""
    try:
        with Grafana(url, token) as grafana:
            asked = grafana.version()
            if asked < OUR_VERSION:
                ours = ".".join(map(str, OUR_VERSION))
                out.print(f"Grafana {'.'.join(map(str, asked))} is older than {ours}: some panels may look otherwise.")
            source = None
            if database_url is not None:
                source = data_source(database_url, plugin(asked), timescaledb=not plain)
            elif grafana.data_source(DATA_SOURCE_UID) is None:
                out.print(
                    f"There is no data source ‘{DATA_SOURCE_UID}’ yet: give --database-url, or choose another one."
                )
            boards = {
                spoken: [prepared(board, plugin(asked)) for board in named.values()]
                for spoken, named in _boards(language).items()
            }
            changes = 0
            for change in plan(grafana, source, boards, f"headworks {version('headworks')}"):
                changes += 1
                verb = "create" if change.is_new else "update"
                out.print(f"{'would ' if dry_run else ''}{verb} {change.what} {change.name}", markup=False)
                for line in shown(change.lines):
                    out.print(f"    {line}", markup=False)
                if not dry_run:
                    change.apply()
            out.print(
                f"{changes} {'would change' if dry_run else 'changed'}" if changes else "Everything is up to date."
            )
            if source is not None and not dry_run and (problem := grafana.data_source_health(DATA_SOURCE_UID)):
                raise _fail(f"Grafana cannot use the data source: {problem}")
    except (GrafanaError, ValueError) as error:
        raise _fail(str(error)) from None


@app.command()
def export(
    directory: Annotated[Path, typer.Argument(help="Where to; it is made if it is not there")],
    language: Chosen = Words.EN,
) -> None:
    """Write the dashboards as files for Grafana's Dashboards, New, Import; of both languages in a folder each."""
    several = _boards(language)
    for path, board in (
        (directory / spoken / name if len(several) > 1 else directory / name, board)
        for spoken, named in several.items()
        for name, board in named.items()
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(exported(board), indent=2, ensure_ascii=False) + "\n", "utf-8")
        out.print(str(path), markup=False)
