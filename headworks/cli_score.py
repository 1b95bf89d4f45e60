"""`headworks score`: the alarm journal beside the ground truth, as a table, JSON and a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from devices.alarm import Alarm, Priority
from devices.duration import parse_duration
from devices.model import SECOND, Instant, instant, moment
from headworks.running import database_url
from headworks.settings import load_settings
from simulators.score import MILD, Baseline, Rate, Score, Summary
from simulators.score import score as judge
from simulators.score_page import duration, page, percent, rate
from simulators.truth import TruthError, read_truth
from storage import journal as stored
from storage import registry
from storage.database import connect

out = Console(highlight=False)


class _Line(msgspec.Struct):
    """What is needed of an alarm; more, as `headworks alarms list --json` gives it, is passed over."""

    rule: str
    device: str
    raised_at: Annotated[datetime, msgspec.Meta(tz=True)]
    cleared_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    message: str = ""


def score(
    truth: Annotated[Path, typer.Argument(help="Ground truth, as a simulation writes it", exists=True, dir_okay=False)],
    journal: Annotated[
        Path | None,
        typer.Option(
            help="Alarms as JSON (a list, or one a line) instead of the platform's journal", exists=True, dir_okay=False
        ),
    ] = None,
    grace: Annotated[str, typer.Option(help="An alarm raised this long after a fault is still its own")] = "30m",
    mild: Annotated[
        float, typer.Option(min=0, max=1, help="Faults up to this severity need not be found")
    ] = MILD,
    seed: Annotated[int, typer.Option(help="Of the random baseline")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,  # noqa: FBT002
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures; it needs nothing else")] = None,
    least_recall: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit with 1 where less of the faults were found")
    ] = None,
    least_precision: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit with 1 where less of the alarms were right")
    ] = None,
) -> None:  # fmt: skip
    """Say how many faults were found and how soon, which alarms were false, and what chance alone would get."""
    try:
        span = parse_duration(grace)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--grace") from None
    try:
        known = read_truth(truth)
        alarms, tags = _alarms(journal)
        result = judge(known, alarms, grace=span, mild=mild, seed=seed)
    except TruthError as error:
        for line in str(error).splitlines():
            typer.echo(f"headworks: {line}", err=True)
        raise typer.Exit(2) from None
    if known.watched is None:
        typer.echo("the ground truth does not say who was watched: only its faulty devices are judged", err=True)
    if html is not None:
        html.write_text(page(result, f"Alarms judged by {truth.name}", tags), "utf-8")
    if as_json:
        typer.echo(json.dumps(plain(result), indent=2))
    else:
        _print(result, tags)
        if html is not None:
            out.print(f"The page is {html}.")
    problems = [
        f"{name} is {percent(share.value)}, at least {percent(least)} was asked for"
        for name, share, least in (
            ("recall", result.total.recall, least_recall),
            ("precision", result.total.precision, least_precision),
        )
        if least is not None and (share.value or 0.0) < least
    ]
    for problem in problems:
        typer.echo(f"headworks: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def _alarms(journal: Path | None) -> tuple[list[Alarm], dict[str, str]]:
    """The alarms to judge, and what people call the devices."""
    if journal is not None:
        return read_alarms(journal), {}
    with connect(database_url(load_settings()), application="headworks score") as connection:
        alarms = stored.all_occurrences(connection)
        devices = [entry.device for entry in registry.all_devices(connection, None)]
    return alarms, {device.identity: f"{device.site} {device.tag}".strip() for device in devices if device.tag}


def read_alarms(path: Path) -> list[Alarm]:
    """A file of alarms. `TruthError` (the other half of a score) where a line is not one."""
    text = path.read_text("utf-8")
    try:
        if text.lstrip().startswith("["):
            lines = msgspec.json.decode(text, type=list[_Line])
        else:
            lines = []
            for number, line in enumerate(text.splitlines(), 1):
                if line.strip():
                    try:
                        lines.append(msgspec.json.decode(line, type=_Line))
                    except ValueError as error:
                        raise TruthError(f"{path}:{number}: {error}") from None
    except msgspec.MsgspecError as error:
        raise TruthError(f"{path}: {error}") from None
    return [
        Alarm(
            line.rule, line.device, Priority.LOW, line.message, instant(line.raised_at), instant(line.raised_at),
            None if line.cleared_at is None else instant(line.cleared_at),
        )
        for line in lines
    ]  # fmt: skip


def plain(result: Score) -> dict[str, Any]:
    """A score as JSON data; spans in seconds."""
    return {
        "watched": {
            "from": moment(result.watched.begins).isoformat(),
            "until": moment(result.watched.ends).isoformat(),
            "devices": len(result.watched.devices),
        },
        **_summary(result.total),
        "mild_recall": _rate(result.mild),
        "faults": {fault: _summary(one) for fault, one in result.faults.items()},
        "rules": {
            rule: {"alarms": one.alarms, "false": one.false, "false_per_device_month": one.false_per_device_month}
            for rule, one in result.rules.items()
        },
        "baselines": {
            name: {
                "recall": one.recall,
                "precision": one.precision,
                "false_per_device_month": one.false_per_device_month,
            }
            for name, one in result.baselines.items()
        },
        "events": [
            {
                "event": one.event.name,
                "fault": one.event.fault,
                "severity": one.event.severity,
                "from": moment(one.event.begins).isoformat(),
                "until": moment(one.event.ends).isoformat(),
                "found_by": None if one.first is None else one.first.rule,
                "delay": _seconds(one.delay),
                "alarms": one.alarms,
            }
            for one in result.events
        ],
        "false_alarms": [
            {"rule": alarm.rule, "device": alarm.device, "raised_at": moment(alarm.raised_at).isoformat()}
            for alarm in result.false
        ],
        "left_out": result.left_out,
        "points": {
            "faulty_time_alarmed": result.faulty_time_alarmed,
            "healthy_time_alarmed": result.healthy_time_alarmed,
        },
    }


def _summary(one: Summary) -> dict[str, Any]:
    return {
        "recall": _rate(one.recall),
        "precision": _rate(one.precision),
        "delay_median": _seconds(one.delay_median),
        "delay_p95": _seconds(one.delay_p95),
        "alarms_per_event": one.alarms_per_event,
        "false_per_device_month": one.false_per_device_month,
    }


def _rate(value: Rate) -> dict[str, Any]:
    return {"value": value.value, "hits": value.hits, "of": value.of, "interval95": list(value.interval)}


def _seconds(span: Instant | None) -> float | None:
    return None if span is None else span / SECOND


def _print(result: Score, tags: Mapping[str, str]) -> None:
    total = result.total
    faults = Table("fault", "found", "delay, median", "p95", "alarms a fault", box=None, pad_edge=False)
    for name, one in (*result.faults.items(), ("all", total)):
        counts = "–" if one.alarms_per_event is None else f"{one.alarms_per_event:g}"
        faults.add_row(name, rate(one.recall), duration(one.delay_median), duration(one.delay_p95), counts)
    out.print(faults, "")
    rules = Table("rule", "alarms", "false", "false a device and month", box=None, pad_edge=False)
    for rule, figures in result.rules.items():
        rules.add_row(rule, str(figures.alarms), str(figures.false), f"{figures.false_per_device_month:.3g}")
    out.print(rules, "")
    mine = Baseline(total.recall.value, total.precision.value, total.false_per_device_month or 0.0)
    beside = Table("", "recall", "precision", "false a device and month", box=None, pad_edge=False)
    for name, base in (("these alarms", mine), *result.baselines.items()):
        beside.add_row(name, percent(base.recall), percent(base.precision), f"{base.false_per_device_month:.3g}")
    out.print(beside, "")
    for alarm in result.false[:20]:
        where = tags.get(alarm.device, alarm.device)
        out.print(f"false: {alarm.rule} on {where}, {moment(alarm.raised_at):%Y-%m-%d %H:%M:%S} UTC", markup=False)
    if len(result.false) > 20:
        out.print(f"false: {len(result.false) - 20} more")
    if result.left_out:
        out.print(f"{result.left_out} alarms were raised where or when nobody watched")
