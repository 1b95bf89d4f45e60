"""`headworks backtest`: candidate rules over stored history, against what is in use now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from alerts.backtest import Backtest, Comparison, compare
from alerts.expression import plain
from alerts.groups import judge_group
from alerts.rules import Rule
from alerts.scopes import compose
from devices.alarm import Alarm
from devices.duration import parse_duration
from devices.model import Device, Instant, instant, moment
from headworks import backtesting, clock
from headworks.picture import timeline
from headworks.profiles import load_profile_files
from headworks.running import database_url
from headworks.service import load_rule_files
from headworks.settings import load_settings
from storage import history, journal, registry
from storage.database import Connection, connect

out = Console(highlight=False)


def backtest(
    rules: Annotated[Path, typer.Argument(help="The candidate rules: a file or a folder", exists=True)],
    since: Annotated[str, typer.Option(help="A duration before now (7d) or a date (2026-11-01 or with a time)")] = "7d",
    until: Annotated[str, typer.Option(help="The same; now if not given")] = "0",
    against: Annotated[
        str | None,
        typer.Option(help="Rules to compare with, or “journal” for what was alarmed; those in use if absent"),
    ] = None,
    site: Annotated[str | None, typer.Option(help="Only this site's devices")] = None,
    warm_up: Annotated[str, typer.Option(help="How much before it is judged, for delays and windows")] = "1d",
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,  # noqa: FBT002
    picture: Annotated[Path | None, typer.Option(help="Write a timeline of the differences, as SVG")] = None,
) -> None:
    """Say which alarms these rules would have gained, lost and shifted, and what that does to the operators' load."""
    settings = load_settings()
    candidate = load_rule_files(rules)
    current = None if against == "journal" else load_rule_files(Path(against) if against else settings.rules)
    now = clock.now()
    begin, end = parse_moment(since, now), parse_moment(until, now)
    if begin >= end:
        raise typer.BadParameter("since must lie before until")
    with connect(database_url(settings), application="headworks backtest") as connection:
        devices = [entry.device for entry in registry.all_devices(connection, site)]
        told = journal.all_occurrences(connection) if current is None else []
        names = {device.identity for device in devices}
        found, judged, readings = _judge(
            connection, devices, [candidate, *([current] if current is not None else [])], begin - _span(warm_up), end
        )
    before = found[1] if current is not None else [alarm for alarm in told if alarm.device in names]
    sites = {device.identity: device.site for device in devices}
    result = compare(before, found[0], begin, end, sites)
    if picture is not None:
        tags = {device.identity: device.tag or device.identity for device in devices}
        picture.write_text(timeline(result, begin, end, tags), "utf-8")
    if as_json:
        typer.echo(json.dumps(_plain(result, begin, end, judged, readings), indent=2))
    else:
        _print(result, {device.identity: device for device in devices}, judged, readings)
        if picture is not None:
            out.print(f"The timeline is in {picture}.")


def _judge(
    connection: Connection, devices: Sequence[Device], sets: Sequence[Sequence[Rule]], since: Instant, until: Instant
) -> tuple[list[list[Alarm]], int, int]:
    """The occurrences of each set of rules; how many devices had readings, and how many those were."""
    profiles = load_profile_files(load_settings().profiles)
    found: list[list[Alarm]] = [[] for _ in sets]
    judged = count = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Judging", total=len(devices))
        backtests = [Backtest(rules, profiles) for rules in sets]
        for portion in backtesting.judge(connection, devices, backtests, since, until):
            for alarms, more in zip(found, portion.alarms, strict=True):
                alarms += more
            judged += portion.devices
            count += portion.readings
            progress.advance(task, portion.portion)
        for rules, alarms in zip(sets, found, strict=True):
            scopes, _ = compose(rules, devices, profiles)
            for scope in progress.track(scopes, description="Judging groups"):
                metrics = sorted({plain(metric) for metric in scope.rule.parsed.metrics})
                pasts = history.stretch(connection, list(scope.identities), metrics, since, until)
                alarms += judge_group(scope, (one for past in pasts.values() for one in past.readings()))
    return found, judged, count


def _print(result: Comparison, devices: dict[str, Device], judged: int, readings: int) -> None:
    out.print(f"{readings:,} readings of {judged} devices")
    table = Table("", "rule", "device", "raised (UTC)", "over (UTC)", "before", box=None, pad_edge=False)

    def add(what: str, alarm: Alarm, before: str = "") -> None:
        device = devices.get(alarm.device)
        tag = device.tag if device and device.tag else alarm.device
        table.add_row(what, alarm.rule, Text(tag), _time(alarm.raised_at), _time(alarm.cleared_at), before)

    for alarm in result.gained:
        add("gained", alarm)
    for alarm in result.lost:
        add("lost", alarm)
    for pair in result.shifted:
        add("shifted", pair.candidate, f"{_time(pair.current.raised_at)} to {_time(pair.current.cleared_at)}")
    if table.row_count:
        out.print(table)
    out.print(
        f"{len(result.gained)} gained, {len(result.lost)} lost, {len(result.shifted)} shifted,"
        f" {result.unchanged} unchanged"
    )
    kpis = Table("", "before", "after", box=None, pad_edge=False)
    for label, name, form in (
        ("alarms", "alarms", "{:,}"),
        ("per 10 minutes", "per_period", "{:.3f}"),
        ("most in 10 minutes", "most", "{}"),
        ("share of floods", "flood_share", "{:.2%}"),
        ("share of the top 10", "top10_share", "{:.0%}"),
        ("hours active", "hours_active", "{:,.1f}"),
    ):
        kpis.add_row(label, *(form.format(getattr(side, name)) for side in (result.before, result.after)))
    for priority in ("high", "medium", "low"):
        kpis.add_row(priority, *(str(side.by_priority.get(priority, 0)) for side in (result.before, result.after)))
    out.print(kpis)


def _plain(result: Comparison, since: Instant, until: Instant, devices: int, readings: int) -> dict[str, object]:
    return {
        "since": moment(since).isoformat(),
        "until": moment(until).isoformat(),
        "devices": devices,
        "readings": readings,
        "gained": [_alarm(alarm) for alarm in result.gained],
        "lost": [_alarm(alarm) for alarm in result.lost],
        "shifted": [{"before": _alarm(p.current), "after": _alarm(p.candidate)} for p in result.shifted],
        "unchanged": result.unchanged,
        "kpis": {"before": asdict(result.before), "after": asdict(result.after)},
    }


def _alarm(alarm: Alarm) -> dict[str, object]:
    return {
        "rule": alarm.rule,
        "device": alarm.device,
        "priority": alarm.priority.value,
        "message": alarm.message,
        "since": moment(alarm.since).isoformat(),
        "raised_at": moment(alarm.raised_at).isoformat(),
        "cleared_at": None if alarm.cleared_at is None else moment(alarm.cleared_at).isoformat(),
    }


def _time(at: Instant | None) -> str:
    return "active" if at is None else f"{moment(at):%Y-%m-%d %H:%M:%S}"


def _span(text: str) -> Instant:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def parse_moment(text: str, now: Instant) -> Instant:
    """A date (UTC where it names no zone) or a duration before now."""
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return now - _span(text)
    return instant(date if date.tzinfo else date.replace(tzinfo=UTC))
