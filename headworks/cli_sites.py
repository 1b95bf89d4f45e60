"""`headworks sites …`: what is known of a site beyond its name."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headworks.running import database_url
from headworks.settings import check_time_zone, load_settings
from storage import api_queries_plant
from storage.database import connect

app = typer.Typer(help="Sites: list them, say which time zone they are in.", no_args_is_help=True)
out = Console(highlight=False)


@app.command("list")
def list_() -> None:
    """Every site that has a device: its time zone, its assets, and how many of them have an alarm."""
    settings = load_settings()
    with connect(database_url(settings), application="headworks sites") as connection:
        found = api_queries_plant.sites(connection)
    table = Table("site", "time zone", "assets", "with an alarm", "not heard of", box=None, pad_edge=False)
    for row in found:
        table.add_row(
            Text(row.site or "(none)"), row.time_zone or f"{settings.time_zone} (HEADWORKS_TIME_ZONE)",
            str(row.assets), str(row.alarmed), str(row.not_heard),
        )  # fmt: skip
    out.print(table if found else "No sites; a device's --site makes one.")


@app.command("set")
def set_(
    site: Annotated[str, typer.Argument(help="As devices name it")],
    time_zone: Annotated[str, typer.Option(help="A name of the IANA database, as Asia/Shanghai; empty takes it back")],
) -> None:
    """Say which time zone a site is in: the console shows its times so."""
    if time_zone:
        try:
            check_time_zone(time_zone)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    with connect(database_url(load_settings()), application="headworks sites") as connection:
        if site not in {row.site for row in api_queries_plant.sites(connection)}:
            typer.echo(f"headworks: no device has the site {site!r}; `headworks sites list` shows them", err=True)
            raise typer.Exit(1)
        api_queries_plant.set_time_zone(connection, site, time_zone or None)
    typer.echo(f"{site}: {time_zone or 'HEADWORKS_TIME_ZONE'}")
