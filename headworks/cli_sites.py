"""`headworks sites …`: what is known of a site beyond its name."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headworks.running import database_url
from headworks.settings import check_time_zone, load_settings
from storage import api_queries_plant, display
from storage.database import connect

app = typer.Typer(help="Sites: list them, say where they are and which units they read.", no_args_is_help=True)
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
    time_zone: Annotated[
        str | None, typer.Option(help="A name of the IANA database, as Asia/Shanghai; empty takes it back")
    ] = None,
    position: Annotated[
        str | None,
        typer.Option(help="On the map: degrees north and east, as 31.23,121.47; empty takes it back"),
    ] = None,
    pressure_unit: Annotated[
        str | None, typer.Option(help="What its people read, as kPa: dashboards show it; empty takes it back")
    ] = None,
    flow_unit: Annotated[str | None, typer.Option(help="The same of flows, as l/s")] = None,
) -> None:
    """Say where a site is, in which time zone, and in which units its people read. What is not given stays."""
    if time_zone:
        try:
            check_time_zone(time_zone)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    place = _position(position) if position else (None, None)
    with connect(database_url(load_settings()), application="headworks sites") as connection:
        if site not in {row.site for row in api_queries_plant.sites(connection)}:
            typer.echo(f"headworks: no device has the site {site!r}; `headworks sites list` shows them", err=True)
            raise typer.Exit(1)
        for quantity, unit in (("pressure", pressure_unit), ("flow", flow_unit)):
            known = display.units(connection, quantity)
            if unit and unit not in known:
                raise typer.BadParameter(f"{unit!r} is no unit of {quantity} here; choose of {', '.join(known)}")
        if time_zone is not None:
            api_queries_plant.set_time_zone(connection, site, time_zone or None)
        shown = display.site_displays(connection).get(site, display.SiteDisplay())
        if position is not None:
            shown = replace(shown, latitude=place[0], longitude=place[1])
        if pressure_unit is not None:
            shown = replace(shown, pressure_unit=pressure_unit or None)
        if flow_unit is not None:
            shown = replace(shown, flow_unit=flow_unit or None)
        display.set_display(connection, site, shown)
        zone = api_queries_plant.time_zones(connection).get(site, "HEADWORKS_TIME_ZONE")
    where = "no position" if shown.latitude is None else f"{shown.latitude:.5f}, {shown.longitude:.5f}"
    typer.echo(f"{site}: {zone}; {where}; {shown.pressure_unit or 'bar'}, {shown.flow_unit or 'm³/h'}")


def _position(text: str) -> tuple[float, float]:
    """Degrees north and east; `BadParameter` for what is none."""
    try:
        north, east = (float(part) for part in text.split(","))
    except ValueError:
        north = east = math.nan
    if not (-90 <= north <= 90 and -180 <= east <= 180):
        raise typer.BadParameter(f"{text!r} is no position; write degrees north and east, as 31.23,121.47")
    return north, east
