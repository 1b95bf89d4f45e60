"""`headworks devices held | approve | calibrate | contact`: what happens to a device after it has first spoken."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from devices.document import suggest
from devices.inventory import check_device
from devices.metrics import CATALOGUE
from devices.model import Calibration, Device, Reason, moment
from headworks import clock
from headworks.options import parse_time
from headworks.profiles import load_profile_files
from headworks.redecode import redecode
from headworks.running import database_url
from headworks.settings import load_settings
from storage import contact as store
from storage import quarantine, registry
from storage.database import connect
from storage.quarantine import Selection
from storage.writer import Writer

out = Console(highlight=False)


def held(limit: Annotated[int, typer.Option(min=1, help="How many at the most")] = 100) -> None:
    """List who has sent without being registered: what it sent waits in quarantine."""
    with connect(database_url(load_settings()), application="headworks devices") as connection:
        groups = quarantine.summary(connection, Selection(reason=Reason.UNKNOWN_DEVICE), limit)
    table = Table("identity", "uplinks", "first (UTC)", "last", box=None, pad_edge=False)
    for group in groups:
        if group.identity:
            table.add_row(
                "".join(letter if letter.isprintable() else "·" for letter in group.identity),
                str(group.records), f"{group.first:%F %T}", f"{group.last:%F %T}",
            )  # fmt: skip
    if table.row_count:
        out.print(table)
    else:
        typer.echo("nobody waits: every device that has sent is registered")


def contact(site: Annotated[str | None, typer.Option(help="Only this site")] = None) -> None:
    """Show who is heard of, and of whom it is known why not: asleep, late, cut off, flat battery, out of coverage."""
    with connect(database_url(load_settings()), application="headworks devices") as connection:
        rows = store.states(connection, site)
    table = Table("site", "tag", "identity", "contact", "since (UTC)", box=None, pad_edge=False)
    for row in rows:
        since = "" if row.since is None else f"{row.since:%F %T}"
        table.add_row(row.site, row.tag, row.identity, row.state.replace("_", " "), since)
    if rows:
        out.print(table)
    else:
        typer.echo("no active devices: add one with `headworks devices add`", err=True)


def approve(
    identity: Annotated[str, typer.Argument(help="As `headworks devices held` shows it")],
    profile: Annotated[str, typer.Option(help="Its device type; `headworks devices profiles` lists them")],
    tag: Annotated[str, typer.Option(help="Its tag on the plant's drawings, e.g. P-101")] = "",
    site: Annotated[str, typer.Option()] = "",
    area: Annotated[str, typer.Option()] = "",
    unit: Annotated[str, typer.Option()] = "",
) -> None:
    """Register a device, and decode and store what of it waits in quarantine."""
    settings = load_settings()
    profiles = load_profile_files(settings.profiles)
    device = Device(identity, profile, tag, site, area, unit)
    try:
        check_device(device, profiles)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    url = database_url(settings)
    writer = Writer(url)
    try:
        with connect(url, application="headworks devices") as connection:
            if identity in registry.find(connection, [identity]):
                typer.echo(
                    f"headworks: {identity!r} is registered already; `headworks devices add` changes it", err=True
                )
                raise typer.Exit(1)
            registry.register(connection, [device], profiles)
            result = redecode(connection, writer, profiles, Selection(identity), until=clock.now())
    finally:
        writer.close()
    typer.echo(f"registered {identity}: {result.stored} readings stored, {result.kept} records stay in quarantine")


def calibrate(
    identity: Annotated[str, typer.Argument(help="The device's identity")],
    metric: Annotated[str, typer.Argument(help="Which of its metrics")],
    gain: Annotated[float, typer.Option(help="What values are multiplied by")] = 1.0,
    offset: Annotated[float, typer.Option(help="What is added then, in the metric's canonical unit")] = 0.0,
    since: Annotated[
        str | None, typer.Option("--from", help="For samples from this time on (UTC); now if absent")
    ] = None,
    note: Annotated[str, typer.Option(help="Who, by which certificate")] = "",
) -> None:
    """Correct what a device says of a metric from now on; what is stored stays as it is."""
    if metric not in CATALOGUE:
        raise typer.BadParameter(f"there is no metric {metric!r}{suggest(metric, list(CATALOGUE))}")
    if gain == 0:
        raise typer.BadParameter("a gain of 0 would leave nothing of the values", param_hint="--gain")
    now = clock.now()
    begin = parse_time(since, "--from") or now
    with connect(database_url(load_settings()), application="headworks devices") as connection:
        try:
            done = registry.calibrate(connection, identity, metric, Calibration(begin, gain, offset), note)
        except ValueError as error:
            typer.echo(f"headworks: {error}", err=True)
            raise typer.Exit(1) from None
    if not done:
        typer.echo(f"headworks: {identity!r} is not registered; `headworks devices list` shows what is", err=True)
        raise typer.Exit(1)
    typer.echo(
        f"{identity}: {metric} is {gain:g} × value + {offset:g} {CATALOGUE[metric].unit} from {moment(begin):%F %T} on"
    )
    if begin < now:
        typer.echo("what was sampled since then and is stored already stays as it is", err=True)
