"""`headworks alarms …`: work on alarms from the command line; each step is written to the journal with who and why."""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict
from datetime import UTC
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alerts import lifecycle as steps
from alerts.lifecycle import LifecycleError
from devices.alarm import Priority, Suppression, SuppressionKind
from devices.duration import parse_duration
from devices.model import Instant, moment
from headworks import clock
from headworks.running import database_url
from headworks.settings import load_settings
from storage import contact, lifecycle
from storage.database import Connection, connect
from storage.lifecycle import ListedAlarm

app = typer.Typer(help="Alarms: list, show, acknowledge, shelve, suppress, take out of service.", no_args_is_help=True)
out = Console(highlight=False)

By = Annotated[str, typer.Option(help="Who does this; the login name if not given")]
Reason = Annotated[str, typer.Option(help="Why: it stands in the journal")]
Device = Annotated[str, typer.Argument(help="The device's identity")]


def _connect() -> Connection:
    return connect(database_url(load_settings()), application="headworks alarms")


def _duration(text: str) -> Instant:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _fail(message: str) -> typer.Exit:
    typer.echo(f"headworks: {message}", err=True)
    return typer.Exit(1)


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Also what is normal again")] = False,  # noqa: FBT002
    hidden: Annotated[bool, typer.Option("--suppressed", help="Also what is shelved or suppressed")] = False,  # noqa: FBT002
    site: Annotated[str | None, typer.Option()] = None,
    device: Annotated[str | None, typer.Option(help="Identity or tag")] = None,
    rule: Annotated[str | None, typer.Option()] = None,
    priority: Annotated[Priority | None, typer.Option()] = None,
    last: Annotated[str | None, typer.Option(help="Only what was raised within this time, e.g. 7d")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,  # noqa: FBT002
) -> None:
    """What needs work, in the order to work on it: unacknowledged first, then by priority and age."""
    since = None if last is None else clock.now() - _duration(last)
    with _connect() as connection:
        found = lifecycle.alarms(
            connection,
            only_open=not everything,
            suppressed=hidden,
            site=site,
            device=device,
            rule=rule,
            priority=priority,
            since=since,
            limit=limit,
        )
    if as_json:
        typer.echo(json.dumps([_plain(alarm) for alarm in found], indent=2))
        return
    table = Table(
        "no.", "priority", "state", "tag", "site", "what", "raised (UTC)", "over (UTC)", box=None, pad_edge=False
    )
    for alarm in found:
        table.add_row(
            str(alarm.number),
            alarm.priority.value,
            _state(alarm),
            Text(alarm.tag or alarm.device),
            Text(alarm.site),
            Text(alarm.message),
            _time(alarm.raised_at),
            _time(alarm.cleared_at),
        )
    out.print(table if found else "No alarms.")


@app.command()
def show(number: int) -> None:
    """One alarm with its guidance and every line of its journal."""
    with _connect() as connection:
        alarm = _one(connection, number)
        lines = lifecycle.lines(connection, number)
        sequence = lifecycle.sequence(connection, number)
    first_out = ""
    if sequence is not None:
        place, count, first = sequence
        which = (
            "this one" if first.number == number else f"{first.number}, {first.title} on {first.tag or first.device}"
        )
        first_out = f"{which} (this is number {place} of {count} in the unit)"
    for label, text in (
        ("alarm", f"{alarm.number}: {alarm.title} ({alarm.rule})"),
        ("device", f"{alarm.tag or alarm.device} at {alarm.site or 'no site'} ({alarm.device})"),
        ("what", alarm.message),
        ("state", f"{_state(alarm)}, priority {alarm.priority.value}"),
        (
            "since",
            f"{_time(alarm.since)}, raised {_time(alarm.raised_at)}, over {_time(alarm.cleared_at) or 'not yet'} (UTC)",
        ),
        *([("first out", first_out)] if first_out else []),
        ("cause", alarm.guidance.get("cause", "")),
        ("consequence", alarm.guidance.get("consequence", "")),
        ("action", alarm.guidance.get("corrective_action", "")),
    ):
        out.print(f"{label:13}{text}", markup=False)
    table = Table("journal", "at (UTC)", "written (UTC)", "by", "detail", box=None, pad_edge=False)
    for line in lines:
        detail = ", ".join(f"{key}: {value}" for key, value in line.detail.items() if isinstance(value, str))
        at, written = (f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}" for when in (line.at, line.recorded_at))
        table.add_row(line.kind, at, written, Text(line.actor), Text(detail))
    out.print(table)


@app.command()
def outages(
    everything: Annotated[bool, typer.Option("--all", help="Also what is over and acknowledged")] = False,  # noqa: FBT002
) -> None:
    """Outages of whole paths (a gateway, a transport) that are on, or that nobody has acknowledged."""
    with _connect() as connection:
        found = contact.outages(connection, ended=everything)
    table = Table("path", "since (UTC)", "over (UTC)", "devices", "acknowledged", box=None, pad_edge=False)
    for outage in found:
        over = _time(outage.ended_at)
        if outage.ended_at is not None and outage.ended_at < outage.raised_at:
            over = "it was none"
        by = " ".join(word for word in (_time(outage.acked_at), outage.acked_by, outage.comment) if word)
        table.add_row(Text(outage.path), _time(outage.since), over, str(outage.devices), Text(by))
    out.print(table if found else "No outage.")


@app.command("ack-outage")
def ack_outage(
    path: Annotated[str, typer.Argument(help="As `alarms outages` shows it")],
    comment: Annotated[str, typer.Option()] = "",
    by: By = "",
) -> None:
    """Acknowledge the outages of a path: somebody has seen them and knows what to do."""
    with _connect() as connection:
        done = contact.acknowledge_outages(connection, path, by or getpass.getuser(), comment)
    if not done:
        raise _fail(
            f"there is no outage of {path!r} that nobody has acknowledged; see `headworks alarms outages --all`"
        )
    typer.echo(f"{path}: acknowledged")


@app.command()
def ack(
    numbers: Annotated[list[int], typer.Argument(help="One or several, as `alarms list` shows them")],
    comment: Annotated[str, typer.Option()] = "",
    by: By = "",
) -> None:
    """Acknowledge alarms: somebody has seen them and knows what to do."""
    with _connect() as connection:
        done = lifecycle.acknowledge(connection, numbers, by or getpass.getuser(), comment)
    for number in numbers:
        typer.echo(f"{number}: {'acknowledged' if number in done else 'not there, or acknowledged before'}")
    if not done:
        raise typer.Exit(1)


@app.command()
def reset(number: int, comment: Annotated[str, typer.Option()] = "", by: By = "") -> None:
    """Release a latched alarm after its cause is mended."""
    with _connect() as connection:
        try:
            steps.check_reset(_one(connection, number).state)
        except LifecycleError as error:
            raise _fail(f"alarm {number} cannot be reset: {error}") from None
        if not lifecycle.reset(connection, number, by or getpass.getuser(), comment):
            raise _fail(f"alarm {number} has changed meanwhile; look again")
    typer.echo(f"{number}: reset")


@app.command()
def comment(number: int, text: str, by: By = "") -> None:
    """Add a remark to an alarm's journal."""
    with _connect() as connection:
        if not lifecycle.comment(connection, number, by or getpass.getuser(), text):
            raise _fail(f"there is no alarm {number}")
    typer.echo(f"{number}: noted")


@app.command()
def shelve(
    rule: Annotated[str, typer.Argument(help="The rule's name")],
    device: Device,
    reason: Reason,
    duration: Annotated[str, typer.Option("--for", help="How long, e.g. 2h")] = "8h",
    one_shot: Annotated[bool, typer.Option("--one-shot", help="End with the next return to normal")] = False,  # noqa: FBT002
    by: By = "",
) -> None:
    """Keep one nuisance alarm of a device quiet for a time; it is judged and written down all the same."""
    now = clock.now()
    until = now + _duration(duration)
    try:
        steps.check_shelving(now, until, reason)
    except LifecycleError as error:
        raise _fail(str(error)) from None
    _suppress(Suppression(SuppressionKind.SHELVED, rule, device, until, reason, by or getpass.getuser(), one_shot))
    typer.echo(f"{rule} of {device} is shelved until {_time(until)} UTC")


@app.command()
def unshelve(rule: str, device: Device, reason: Reason, by: By = "") -> None:
    """End shelving before its time."""
    _release(SuppressionKind.SHELVED, rule, device, by, reason)


@app.command()
def suppress(
    device: Device,
    reason: Reason,
    rule: Annotated[str | None, typer.Option(help="Only this rule; every rule if not given")] = None,
    duration: Annotated[str | None, typer.Option("--for", help="How long; until it is ended if not given")] = None,
    by: By = "",
) -> None:
    """Suppress by design: the plant's present state makes these alarms meaningless."""
    until = None if duration is None else clock.now() + _duration(duration)
    _suppress(Suppression(SuppressionKind.SUPPRESSED, rule, device, until, reason, by or getpass.getuser()))
    typer.echo(f"{rule or 'every rule'} of {device} is suppressed")


@app.command()
def unsuppress(device: Device, reason: Reason, rule: Annotated[str | None, typer.Option()] = None, by: By = "") -> None:
    """End a suppression by design."""
    _release(SuppressionKind.SUPPRESSED, rule, device, by, reason)


@app.command("out-of-service")
def out_of_service(device: Device, reason: Reason, by: By = "") -> None:
    """Take a device's alarms out of service for maintenance."""
    _suppress(Suppression(SuppressionKind.OUT_OF_SERVICE, None, device, None, reason, by or getpass.getuser()))
    typer.echo(f"the alarms of {device} are out of service")


@app.command("in-service")
def in_service(device: Device, reason: Reason, by: By = "") -> None:
    """Put a device's alarms into service again."""
    _release(SuppressionKind.OUT_OF_SERVICE, None, device, by, reason)


@app.command()
def suppressed() -> None:
    """What is shelved, suppressed or out of service now: by whom, until when and why."""
    with _connect() as connection:
        found = lifecycle.suppressions(connection)
    table = Table("how", "rule", "device", "until (UTC)", "by", "reason", box=None, pad_edge=False)
    for entry in found:
        how = entry.kind.value.replace("_", " ") + (" (one shot)" if entry.one_shot else "")
        table.add_row(
            how, entry.rule or "every rule", Text(entry.device), _time(entry.until) or "ended by hand",
            Text(entry.by), Text(entry.reason),
        )  # fmt: skip
    out.print(table if found else "Nothing is suppressed.")


def _one(connection: Connection, number: int) -> ListedAlarm:
    found = lifecycle.alarms(connection, number=number)
    if not found:
        raise _fail(f"there is no alarm {number}; `headworks alarms list --all` shows them")
    return found[0]


def _suppress(suppression: Suppression) -> None:
    _check_reason(suppression.reason)
    with _connect() as connection:
        if not lifecycle.suppress(connection, suppression):
            raise _fail(f"{suppression.device!r} is not registered; `headworks devices list` shows what is")


def _release(kind: SuppressionKind, rule: str | None, device: str, by: str, reason: str) -> None:
    _check_reason(reason)
    with _connect() as connection:
        if not lifecycle.release(connection, kind, rule, device, by or getpass.getuser(), reason):
            raise _fail("there is no such suppression; `headworks alarms suppressed` shows them")
    typer.echo("ended")


def _check_reason(reason: str) -> None:
    try:
        steps.check_reason(reason)
    except LifecycleError as error:
        raise _fail(str(error)) from None


def _state(alarm: ListedAlarm) -> str:
    words = [alarm.state.value, *(kind.value for kind in alarm.suppressions)]
    return ", ".join(word.replace("_", " ") for word in words)


def _time(at: Instant | None) -> str:
    return "" if at is None else f"{moment(at):%Y-%m-%d %H:%M:%S}"


def _plain(alarm: ListedAlarm) -> dict[str, object]:
    found: dict[str, object] = asdict(alarm)
    for name in ("since", "raised_at", "cleared_at", "recorded_at"):
        at = getattr(alarm, name)
        found[name] = None if at is None else moment(at).isoformat()
    return found
