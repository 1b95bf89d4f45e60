"""`headworks rules …`: alarm rules from the command line."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from alerts.bands import setpoint_value
from alerts.expression import plain
from alerts.learning import learn as teach
from alerts.rulefiles import TESTS, json_schema, shipped_rules
from alerts.rules import Rule
from alerts.ruletests import RuleTests, load_tests, run
from devices.document import DocumentError, suggest
from devices.duration import format_duration
from devices.model import DAY, Device, Instant, moment
from devices.profile import Profile
from headworks import clock
from headworks.cli_backtest import parse_moment
from headworks.profiles import load_profile_files
from headworks.running import database_url
from headworks.service import load_rule_files
from headworks.settings import load_settings
from storage import history, registry
from storage.database import connect

app = typer.Typer(
    help="Alarm rules: check files, test them, list what applies, explain one.",
    no_args_is_help=True,
)
out = Console(highlight=False, soft_wrap=True)

Files = Annotated[
    Path | None,
    typer.Argument(
        help="A rule file or a folder of them; else those of HEADWORKS_RULES, else the shipped ones", exists=True
    ),
]


@app.command()
def check(path: Files = None) -> None:
    """Check rule files; every problem is printed with its file, line and column."""
    settings = load_settings()
    rules = load_rule_files(path or settings.rules)
    profiles = load_profile_files(settings.profiles)
    unknown = [f"{rule.rule}: {why}" for rule in rules for why in _unknown_profiles(rule, profiles)]
    if unknown:
        raise DocumentError(unknown)
    for note in _notes(rules, profiles.values(), settings.keep_readings_days * DAY):
        typer.echo(f"note: {note}", err=True)
    overridden = sum(1 for rule in rules if rule.overrides)
    told = f", {overridden} of them with overrides" if overridden else ""
    typer.echo(f"{len(rules)} {'rule is' if len(rules) == 1 else 'rules are'} valid{told}")


def _unknown_profiles(rule: Rule, profiles: Mapping[str, Profile]) -> Iterator[str]:
    """A rule for a device type that is not installed would never call, and nobody would know."""
    selections = [rule.applies_to, *(rule.group.roles.values() if rule.group else ())]
    for name in dict.fromkeys(name for selection in selections for name in selection.profiles):
        if name not in profiles:
            yield f"there is no profile ‘{name}’{suggest(name, list(profiles))}; `headworks profiles list` shows them"


def _notes(rules: Sequence[Rule], profiles: Collection[Profile], kept: Instant) -> Iterator[str]:
    """What contradicts how devices of the installed types sample, or how long readings are kept (0 is for ever)."""
    for rule in rules:
        longest = max((feature.window for feature in rule.parsed.features), default=0)
        if 0 < kept < longest:
            yield (
                f"{rule.rule}: its window of {format_duration(longest)} is longer than readings are kept"
                f" ({format_duration(kept)}); raise HEADWORKS_KEEP_READINGS_DAYS"
            )
        chosen = rule.applies_to
        fitting = [
            profile
            for profile in profiles
            if chosen.kind in (None, profile.kind)
            and (not chosen.profiles or profile.profile in chosen.profiles)
            and profile.metrics.keys() >= set(rule.parsed.metrics)
        ]
        if not fitting:
            continue
        fastest = min(profile.reporting.sampling for profile in fitting)
        contrary = rule.contradiction(sampling=fastest)
        if contrary is not None:
            yield f"{rule.rule}: where a sample is taken every {format_duration(fastest)}, {contrary}"
        if rule.validity is not None and rule.validity < fastest and rule.on_delay > rule.validity:
            samples = -(-rule.on_delay // rule.validity) + 1
            yield (
                f"{rule.rule}: a value stands for {format_duration(rule.validity)}, and the next one comes after"
                f" {format_duration(fastest)}, so that the on-delay of {format_duration(rule.on_delay)} takes {samples}"
                f" samples ({format_duration((samples - 1) * fastest)}); give a longer validity or a shorter on-delay"
            )


@app.command("list")
def list_(path: Files = None) -> None:
    """List the rules with their conditions, and where they have other set-points."""
    rules = load_rule_files(path or load_settings().rules)
    table = Table("rule", "priority", "condition", "on-delay", "off-delay", box=None, pad_edge=False)
    if any(rule.overrides for rule in rules):
        table.add_column("overrides")
    for rule in rules:
        delays = format_duration(rule.on_delay), format_duration(rule.off_delay)
        over = [f"{one.what} for {one.who} since {_instant(one.valid_from)}" for one in rule.overrides]
        table.add_row(rule.rule, rule.priority.value, " ".join(rule.condition.split()), *delays, "; ".join(over))
    Console(highlight=False).print(table)


@app.command()
def explain(
    name: str,
    path: Files = None,
    device: Annotated[str | None, typer.Option(help="Tag or identity: which set-points hold there")] = None,
) -> None:
    """Explain one rule: what it is for, what it reads, its set-points, and what to do when it calls."""
    rules = load_rule_files(path or load_settings().rules)
    rule = next((rule for rule in rules if rule.rule == name), None)
    if rule is None:
        typer.echo(f"headworks: there is no rule {name!r}{suggest(name, [rule.rule for rule in rules])}", err=True)
        raise typer.Exit(1)
    found = None if device is None else _registered(device)
    for label, text in _lines(rule, found, clock.now()):
        out.print(f"{label:13}{text}", markup=False)


def _registered(name: str) -> Device:
    """The device with a tag or identity."""
    with connect(database_url(load_settings()), application="headworks rules explain") as connection:
        known = [entry.device for entry in registry.all_devices(connection)]
    fitting = [one for one in known if name in (one.identity, one.tag)]
    if len(fitting) != 1:
        why = "several devices have the tag" if fitting else "there is no device"
        typer.echo(f"headworks: {why} {name!r}; give an identity: `headworks devices list` shows them", err=True)
        raise typer.Exit(1)
    return fitting[0]


@app.command()
def test(
    path: Annotated[
        Path | None,
        typer.Argument(help="A folder of rules with *.test.yaml, or one such file; else the shipped ones", exists=True),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="The rules to test, if they are not beside the tests", exists=True)
    ] = None,
    rule: Annotated[str | None, typer.Option(help="Only the tests of this rule")] = None,
) -> None:
    """Run the unit tests of rules: series in, alarms out."""
    path = path or load_settings().rules
    beside = path.parent if path is not None and path.is_file() else path
    known = {one.rule: one for one in load_rule_files(rules or beside)}
    profiles = load_profile_files(load_settings().profiles)
    tests = [one for one in _tests(path) if rule in (None, one.rule)]
    if not tests:
        typer.echo(f"headworks: there are no tests here; they are in files whose names end with {TESTS}", err=True)
        raise typer.Exit(1)
    outcomes = [outcome for one in tests for outcome in run(one, known, profiles)]
    failed = [outcome for outcome in outcomes if outcome.problems]
    for outcome in failed:
        for problem in outcome.problems:
            typer.echo(f"{outcome.rule}: {outcome.test}: {problem}", err=True)
    # Those that are included have their tests where they come from.
    elsewhere = {one.rule for one in shipped_rules()} if path is not None else set()
    untested = sorted(set(known) - elsewhere - {one.rule for one in tests})
    if rule is None and untested:
        typer.echo(f"without a test: {', '.join(untested)}")
    of = "1 rule" if len(tests) == 1 else f"{len(tests)} rules"
    typer.echo(f"{len(outcomes) - len(failed)} of {len(outcomes)} tests of {of} passed")
    if failed:
        raise typer.Exit(1)


@app.command()
def learn(
    name: Annotated[str, typer.Argument(help="A rule that lists features")],
    path: Annotated[Path, typer.Argument(help="Its file, or the folder", exists=True)],
    device: Annotated[list[str], typer.Option(help="Tag or identity; once for each device of a group")],
    since: Annotated[str, typer.Option(help="Begin of the clean period: a date, or a duration before now")],
    until: Annotated[str, typer.Option(help="Its end; now if absent")] = "0",
    explained: Annotated[float, typer.Option(min=0.5, max=1, help="Share of the variance that is kept")] = 1.0,
    quantile: Annotated[float, typer.Option(min=0.5, max=1, help="Share of clean samples within the limits")] = 0.99,
    to: Annotated[Path | None, typer.Option(help="The model's file; NAME.model.json beside the rule if absent")] = None,
) -> None:
    """Teach a rule what is usual by a period in which all was well; writes its model."""
    settings = load_settings()
    rule = next((one for one in load_rule_files(path, with_models=False) if one.rule == name), None)
    if rule is None:
        typer.echo(f"headworks: there is no rule {name!r} in {path}", err=True)
        raise typer.Exit(1)
    now = clock.now()
    begin, end = parse_moment(since, now), parse_moment(until, now)
    with connect(database_url(settings), application="headworks rules learn") as connection:
        known = [entry.device for entry in registry.all_devices(connection, None)]
        chosen = [one for one in known if one.identity in device or (one.tag and one.tag in device)]
        missing = [one for one in device if not any(one in (found.identity, found.tag) for found in chosen)]
        if missing:
            typer.echo(f"headworks: there is no device {', '.join(missing)}", err=True)
            raise typer.Exit(1)
        metrics = sorted({plain(metric) for metric in rule.parsed.metrics})
        stretch = history.stretch(connection, [one.identity for one in chosen], metrics, begin, end)
    readings = [reading for past in stretch.values() for reading in past.readings()]
    try:
        model = teach(
            rule, load_profile_files(settings.profiles), [(chosen, readings)], explained=explained, quantile=quantile
        )
    except ValueError as error:
        typer.echo(f"headworks: {error}", err=True)
        raise typer.Exit(1) from None
    target = to or (path if path.is_dir() else path.parent) / f"{name}.model.json"
    target.write_text(model.model_dump_json(indent=2) + "\n", "utf-8")
    samples = sum(period.samples for period in model.taught)
    typer.echo(f"{target}: learnt from {samples} samples; name it in the rule, as in model: {target.name}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of rules, for editors that complete and check YAML."""
    typer.echo(json_schema(), nl=False)


def _tests(path: Path | None) -> Iterator[RuleTests]:
    problems: list[str] = []
    if path is None:
        found = sorted((f for f in files("alerts").joinpath("library").iterdir()), key=lambda f: f.name)
        named = [(f.name, f.read_text("utf-8")) for f in found if f.name.endswith(TESTS)]
    else:
        listed = [path] if path.is_file() else sorted(path.rglob(f"*{TESTS}"))
        named = [(str(file), file.read_text("utf-8")) for file in listed]
    for name, text in named:
        try:
            yield from load_tests(text, name)
        except DocumentError as error:
            problems += error.problems
    if problems:
        raise DocumentError(problems)


def _instant(at: Instant) -> str:
    return moment(at).isoformat().replace("+00:00", "Z")


def _lines(rule: Rule, device: Device | None, now: Instant) -> Iterator[tuple[str, str]]:
    """What is to be said of a rule; of its overrides, where a device is given, only those that are for it."""
    condition = rule.parsed
    chosen = rule.applies_to.model_dump(mode="json", exclude_defaults=True)
    group = rule.group
    yield "rule", rule.rule
    yield "title", rule.title
    if group is None:
        yield "applies to", ", ".join(f"{name} {value}" for name, value in chosen.items()) or "every device"
    else:
        yield "applies to", f"devices of one {group.by.value} together; the alarm is about the first role"
        for role, chosen_by in group.roles.items():
            named = chosen_by.model_dump(mode="json", exclude_defaults=True, exclude={"several"})
            each = ", ".join(f"{name} {value}" for name, value in named.items()) or "every device"
            yield "role", f"{role}: {each}{' (several)' if chosen_by.several else ''}"
    yield "condition", " ".join(rule.condition.split())
    yield "meets", f"every sample with {' or '.join(condition.metrics)}"
    if group is not None:
        waits = "two of the longest reporting intervals" if group.patience is None else format_duration(group.patience)
        yield "waits", f"until a moment is known of all, or for {waits}"
    past = [feature.name for feature in condition.features]
    if past:
        yield "remembers", ", ".join(past)
    needed = sorted({read.name for read in rule.given})
    if needed:
        yield "needs", ", ".join(needed)
    for name, setpoint in rule.setpoints.items():
        yield "set-point", f"{name} = {setpoint.value}{f'  ({setpoint.description})' if setpoint.description else ''}"
    for override in rule.overrides:
        if device is not None and not override.covers(device):
            continue
        yield (
            "override",
            f"{override.what} for {override.who} from {_instant(override.valid_from)}: {override.reason}",
        )
    if device is not None:
        for name in rule.setpoints:
            value = setpoint_value(rule, name, device, now)
            told = "unknown: its nameplate lacks what that is made from" if value is None else f"{value:.6g}"
            yield "holds now", f"{name} = {told} on {device.tag or device.identity}"
    if rule.deadbands:
        yield "deadband", ", ".join(f"{name} {width:g}" for name, width in rule.deadbands.items())
    yield "delays", f"on {format_duration(rule.on_delay)}, off {format_duration(rule.off_delay)}"
    yield "latching", "until it is reset" if rule.latching else "no"
    yield "priority", f"{rule.priority.value} (severity {rule.severity}), class {rule.alarm_class.value}"
    yield "cause", rule.guidance.cause
    yield "consequence", rule.guidance.consequence
    yield "action", rule.guidance.corrective_action
    yield "respond in", format_duration(rule.guidance.time_to_respond)
