"""`headworks notify …`: what people are told, and what could not be delivered."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alerts.webhook import Outcome
from devices.model import moment
from headworks import clock
from headworks.running import database_url
from headworks.settings import load_settings
from headworks.telling import webhook_of
from storage import outbox
from storage.database import connect

app = typer.Typer(help="Announcements: try a channel, list and retry dead letters.", no_args_is_help=True)
out = Console(highlight=False)


@app.command()
def dead() -> None:
    """List the announcements that were given up, oldest first."""
    with connect(database_url(load_settings()), application="headworks notify") as connection:
        letters = outbox.dead(connection)
        waiting = outbox.counts(connection)["waiting"]
    table = Table(
        "no.", "channel", "event", "what", "device", "since (UTC)", "attempts", "why", box=None, pad_edge=False
    )
    for letter in letters:
        table.add_row(
            str(letter.number), letter.channel, letter.event, Text(letter.title), Text(letter.tag),
            f"{letter.created_at:%Y-%m-%d %H:%M:%S}", str(letter.attempts), Text(letter.why),
        )  # fmt: skip
    out.print(table if letters else "No dead letters.")
    out.print(f"{waiting} wait for delivery")


@app.command()
def retry(
    numbers: Annotated[
        list[int] | None, typer.Argument(help="As `notify dead` shows them; all if none is given")
    ] = None,
) -> None:
    """Try dead letters again."""
    with connect(database_url(load_settings()), application="headworks notify") as connection:
        count = outbox.revive(connection, numbers or None)
    typer.echo(f"{count} will be tried again")


@app.command()
def test() -> None:
    """Post a test message to the webhook of the settings, and say what it answered."""
    webhook = webhook_of(load_settings())
    if webhook is None:
        typer.echo("headworks: no webhook is set; set HEADWORKS_WEBHOOK_URL", err=True)
        raise typer.Exit(1)
    now = clock.now()
    attempt = webhook.send(
        f"test-{now}", {"event": "test", "title": "Headworks can reach you", "announced_at": moment(now).isoformat()}
    )
    webhook.close()
    if attempt.outcome is not Outcome.DELIVERED:
        typer.echo(f"headworks: {webhook.receiver}: {attempt.why}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{webhook.receiver} took it")
