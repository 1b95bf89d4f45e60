"""`headworks notify …`: what people are told, and what could not be delivered."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alerts.announcement import Event, render
from alerts.dispatch import explanation
from alerts.routing import json_schema
from alerts.webhook import Outcome
from devices.alarm import Alarm, AlarmChange, ChangeKind
from devices.document import suggest
from devices.model import instant, moment
from headworks import clock
from headworks.running import database_url
from headworks.service import load_rule_files
from headworks.settings import load_settings
from headworks.telling import Closable, channels_of, routing_of, webhook_of
from ingest.mqtt import Broker
from storage import lifecycle, notification, outbox, registry
from storage.database import connect

app = typer.Typer(
    help="Who is told what: explain, check, try a channel; list and retry dead letters.", no_args_is_help=True
)
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
def test(
    channel: Annotated[str | None, typer.Argument(help="A channel of the routing file; all if absent")] = None,
) -> None:
    """Send a test message by each channel, or by one, and say what became of it."""
    settings = load_settings()
    webhook = webhook_of(settings)
    found: dict[str, Closable] = {} if webhook is None else {"webhook": webhook}
    routing = routing_of(settings)
    if routing is not None:
        found |= channels_of(routing, Broker.parse(settings.mqtt_url.get_secret_value()) if settings.mqtt_url else None)
    if channel is not None and channel not in found:
        typer.echo(f"headworks: there is no channel ‘{channel}’{suggest(channel, list(found))}", err=True)
        raise typer.Exit(1)
    if not found:
        typer.echo("headworks: no channel is set; set HEADWORKS_ROUTING or HEADWORKS_WEBHOOK_URL", err=True)
        raise typer.Exit(1)
    now = clock.now()
    failed = 0
    for name, one in found.items():
        if channel in (None, name):
            attempt = one.send(f"test-{name}-{now}", _trial(moment(now).isoformat()))
            taken = attempt.outcome is Outcome.DELIVERED
            failed += not taken
            typer.echo(
                f"{name}: {one.receiver} took it" if taken else f"{name}: {one.receiver}: {attempt.why}", err=not taken
            )
        one.close()
    if failed:
        raise typer.Exit(1)


def _trial(at: str) -> dict[str, object]:
    nowhere = {"identity": "-", "tag": "Headworks", "site": "", "area": "", "unit": ""}
    return {
        "event": "test", "rule": "test", "title": "can reach you", "message": "", "priority": "low", "device": nowhere,
        "announced_at": at,
    }  # fmt: skip


@app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="A routing file; that of HEADWORKS_ROUTING if absent")] = None,
) -> None:
    """Check a routing file, and say what is wrong with line and column."""
    settings = load_settings()
    routing = routing_of(settings.model_copy(update={"routing": file}) if file else settings)
    if routing is None:
        typer.echo("headworks: no routing file; give one, or set HEADWORKS_ROUTING", err=True)
        raise typer.Exit(1)
    for one in channels_of(routing, Broker("localhost", 1883)).values():
        one.close()
    typer.echo(f"valid: {len(routing.channels)} channels, {len(routing.rosters)} rosters, {len(routing.routes)} routes")


@app.command()
def schema() -> None:
    """Print the JSON Schema of routing files, for editors."""
    typer.echo(json_schema(), nl=False)


@app.command()
def explain(
    number: Annotated[int, typer.Argument(help="An alarm, as `headworks alarms list` shows it", metavar="ALARM")],
    at: Annotated[datetime | None, typer.Option(help="As if it came at this time (UTC); now if absent")] = None,
) -> None:
    """Say who would be told of an alarm if it came now, and why; and what became of it so far."""
    settings = load_settings()
    routing = routing_of(settings)
    if routing is None:
        typer.echo("headworks: no routing file is set; set HEADWORKS_ROUTING", err=True)
        raise typer.Exit(1)
    now = clock.now() if at is None else instant(at.replace(tzinfo=at.tzinfo or UTC))
    with connect(database_url(settings), application="headworks notify") as connection:
        found = lifecycle.alarms(connection, number=number)
        if not found:
            typer.echo(f"headworks: there is no alarm {number}; see `headworks alarms list`", err=True)
            raise typer.Exit(1)
        alarm = found[0]
        device = registry.find(connection, [alarm.device])[alarm.device].device
        known = notification.cases_of(connection, {(alarm.rule, alarm.device)})
        on = notification.explaining(connection)
    rule = next((rule for rule in load_rule_files(settings.rules) if rule.rule == alarm.rule), None)
    occurrence = Alarm(alarm.rule, alarm.device, alarm.priority, alarm.message, alarm.since, alarm.raised_at)
    told = render(AlarmChange(ChangeKind.RAISED, None, occurrence), Event.RAISED, device, rule, now)
    out.print(
        Text(f"{alarm.priority.value} · {device.tag or device.identity} · {told['title']} · class {told['class']}")
    )
    if alarm.suppressions:
        out.print(f"Nobody is told while it is {', '.join(alarm.suppressions)}.")
    for line in explanation(routing, told, now, on.values()):
        out.print(Text(line))
    for case in known:
        if (case.rule, case.device) == (alarm.rule, alarm.device):
            out.print(Text(_so_far(case)))


def _so_far(case: notification.CaseRow) -> str:
    due = "" if case.due_at is None else f"; next at {moment(case.due_at):%Y-%m-%d %H:%M:%S} UTC"
    if case.told_at is None:
        return f"So far on {case.route}: held back ({case.held}){due}"
    how = " in a summary" if case.summary else ""
    who, at = ", ".join(case.channels), f"{moment(case.told_at):%Y-%m-%d %H:%M:%S} UTC"
    return f"So far on {case.route}: told{how} at {at} to {who}{due}"
