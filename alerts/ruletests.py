"""Unit tests of rules as data: series in, alarms out. Pure; `headworks rules test` runs them.

A series is written compactly, sample after sample: `5` one sample, `5*10` ten of them, `5..9*5` a ramp of five from 5
to 9, `_*3` a gap of three, `5~0.2*60` sixty that wander up to 0.2 from 5, `7!` a bad and `7?` an uncertain one. What is
late is delivered late, through the engine itself, and must end in the same alarms.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from alerts.engine import Engine, judge
from alerts.occurrences import applied
from alerts.rules import Rule
from devices.alarm import Alarm, ChangeKind
from devices.document import DocumentError, DocumentModel, load_yaml, suggest, validate
from devices.duration import Duration, format_duration
from devices.metrics import CATALOGUE
from devices.model import MINUTE, Device, Instant, Quality, Reading, instant
from devices.profile import Profile

START: Instant = instant(datetime(2026, 1, 5, tzinfo=UTC))
"""When every test begins: a Monday at midnight."""
LONGEST = 200_000
"""Samples of a series, at most."""

_NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
_TOKEN = re.compile(
    rf"(?:(?P<gap>_)|(?P<first>{_NUMBER})(?:\.\.(?P<last>{_NUMBER}))?(?:~(?P<noise>{_NUMBER}))?(?P<quality>[!?])?)"
    r"(?:\*(?P<count>\d+))?"
)
_GOLDEN = 0.6180339887498949
"""Multiples of the golden section, without their whole part, spread evenly and never repeat: noise that is the same in
every run."""

Sample = tuple[float, Quality] | None


def expand(text: str) -> list[Sample]:
    """The samples of a series; None is a gap. `ValueError` with the part that is not understood."""
    found: list[Sample] = []
    for token in text.split():
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise ValueError(
                f"‘{token}’ is no part of a series: write for example 5, 5x10, 5..9x5, 5~0.2x60, 7! or _x3"
            )
        count = int(match["count"] or 1)
        if len(found) + count > LONGEST:
            raise ValueError(f"the series is longer than {LONGEST} samples")
        if match["gap"]:
            found += [None] * count
            continue
        first, last = float(match["first"]), float(match["last"] or match["first"])
        noise = float(match["noise"] or 0)
        quality = {"!": Quality.BAD, "?": Quality.UNCERTAIN}.get(match["quality"] or "", Quality.GOOD)
        for number in range(count):
            wander = noise * (2 * ((len(found) * _GOLDEN) % 1) - 1) if noise else 0.0
            found.append((first + (last - first) * (number / (count - 1) if count > 1 else 0) + wander, quality))
    return found


class Series(DocumentModel):
    """One metric's samples."""

    values: str
    every: Annotated[Duration, Field(gt=0)] | None = None
    start: Annotated[Duration, Field(ge=0)] = 0

    @field_validator("values", mode="after")
    @classmethod
    def _values_fit(cls, values: str) -> str:
        expand(values)
        return values


class Late(DocumentModel):
    """Samples that arrive later than they should."""

    since: Annotated[Duration, Field(ge=0)]
    until: Duration
    by: Annotated[Duration, Field(gt=0)]


class Expected(DocumentModel):
    """One alarm, its times counted from the start; without `cleared` it is still active at the end."""

    raised: Annotated[Duration, Field(ge=0)]
    cleared: Duration | None = None
    since: Duration | None = None
    value: float | None = None
    message: str | None = None


class TestedDevice(DocumentModel):
    """The device that a test is about."""

    profile: str
    identity: str = "device-under-test"
    tag: str = ""
    site: str = ""
    design: dict[str, float] = Field(default_factory=dict)


def _series(value: object) -> object:
    return value if isinstance(value, Mapping | Series) else {"values": str(value)}


class Case(DocumentModel):
    """One test: what the device measured, and the alarms that this is."""

    test: str = Field(min_length=1, description="What the rule is to do, in words")
    series: dict[str, Annotated[Series, BeforeValidator(_series)]] = Field(min_length=1)
    late: tuple[Late, ...] = ()
    alarms: tuple[Expected, ...] = Field(description="Every alarm of the rule, oldest first; [] if there is none")
    journal: tuple[ChangeKind, ...] | None = Field(
        default=None, description="The lines of the journal in the order in which they are written"
    )
    step: Annotated[Duration, Field(gt=0)] | None = None
    device: TestedDevice | None = None

    @field_validator("series", mode="after")
    @classmethod
    def _metrics_exist(cls, series: dict[str, Series]) -> dict[str, Series]:
        for name in series:
            if name not in CATALOGUE:
                raise ValueError(f"unknown metric ‘{name}’{suggest(name, list(CATALOGUE))}")
        return series


class RuleTests(DocumentModel):
    """The tests of one rule."""

    rule: str
    device: TestedDevice
    step: Annotated[Duration, Field(gt=0)] = MINUTE
    tests: tuple[Case, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test went; without problems it has passed."""

    rule: str
    test: str
    problems: tuple[str, ...]


def load_tests(text: str, source: str) -> list[RuleTests]:
    """The tests of a document, which holds those of one rule or a list of such; `DocumentError` with every problem."""
    root, positions = load_yaml(text, source)
    if isinstance(root, Mapping):
        return [validate(root, positions, RuleTests)]
    if not isinstance(root, list) or not root:
        raise DocumentError([f"{source}:1:1: a document holds the tests of one rule (a mapping) or a list of such"])
    found: list[RuleTests] = []
    problems: list[str] = []
    for number, entry in enumerate(root):
        try:
            found.append(validate(entry, positions, RuleTests, at=(number,)))
        except DocumentError as error:
            problems += error.problems
    if problems:
        raise DocumentError(problems)
    return found


def run(tests: RuleTests, rules: Mapping[str, Rule], profiles: Mapping[str, Profile]) -> Iterator[Outcome]:
    """Run the tests of one rule."""
    rule = rules.get(tests.rule)
    for case in tests.tests:
        tested = case.device or tests.device
        profile = profiles.get(tested.profile)
        if rule is None:
            problems = [f"there is no rule ‘{tests.rule}’{suggest(tests.rule, list(rules))}"]
        elif profile is None:
            problems = [f"there is no profile ‘{tested.profile}’{suggest(tested.profile, list(profiles))}"]
        else:
            device = Device(tested.identity, tested.profile, tag=tested.tag, site=tested.site, design=tested.design)
            if unknown := sorted(set(case.series) - set(profile.metrics)):
                problems = [f"the profile ‘{profile.profile}’ has no {', '.join(unknown)}"]
            elif not rule.fits(device, profile):
                problems = ["the rule is not for this device"]
            else:
                problems = _check(case, case.step or tests.step, rule, device, profile)
        yield Outcome(tests.rule, case.test, tuple(problems))


def readings(case: Case, step: Instant, device: str) -> list[Reading]:
    """Everything that the device of a test measures."""
    return [
        Reading(device, metric, START + series.start + number * (series.every or step), *sample)
        for metric, series in case.series.items()
        for number, sample in enumerate(expand(series.values))
        if sample is not None
    ]


def _check(case: Case, step: Instant, rule: Rule, device: Device, profile: Profile) -> list[str]:
    measured = readings(case, step, device.identity)
    found = judge(rule, device, profile, measured)
    journal, kinds, failing = _deliver(case, measured, rule, device, profile)
    problems = [f"the rule fails: {why}" for why in failing.values()]
    if journal != found:
        problems.append("delivered late, other alarms come out: this is a defect of the engine, please report it")
    if len(found) != len(case.alarms) or not all(map(_fits, found, case.alarms)):
        problems.append(_differs("alarms", [_wanted(w) for w in case.alarms], [_told(a) for a in found]))
    if case.journal is not None and list(case.journal) != kinds:
        problems.append(_differs("the journal", [k.value for k in case.journal], [k.value for k in kinds]))
    return problems


def _differs(what: str, wanted: Sequence[str], found: Sequence[str]) -> str:
    return f"{what}: expected [{', '.join(wanted)}], found [{', '.join(found)}]"


def _deliver(
    case: Case, measured: Sequence[Reading], rule: Rule, device: Device, profile: Profile
) -> tuple[list[Alarm], list[ChangeKind], Mapping[str, str]]:
    """Hand the readings to an engine as they arrive: in an uplink for each reporting interval, and some late."""
    interval = profile.reporting.interval
    uplinks: dict[tuple[Instant, Instant], list[Reading]] = defaultdict(list)
    for reading in measured:
        at = reading.measured_at - START
        delay = max((late.by for late in case.late if late.since <= at < late.until), default=0)
        sent = at // interval
        uplinks[(sent + 1) * interval + delay, sent].append(reading)
    stored: list[Reading] = []
    held: list[Alarm] = []
    kinds: list[ChangeKind] = []
    engine = Engine([rule], {profile.profile: profile})

    def history(_: str, since: Instant | None) -> list[Reading]:
        return [r for r in stored if since is None or r.measured_at >= since]

    for _, uplink in sorted(uplinks.items(), key=lambda entry: entry[0]):
        stored += uplink
        changes = engine.apply(uplink, {device.identity: device}, history, lambda _: held)
        held[:] = applied(held, changes)
        kinds += [change.kind for change in changes]
    return held, kinds, engine.failing


def _fits(alarm: Alarm, wanted: Expected) -> bool:
    cleared = None if alarm.cleared_at is None else alarm.cleared_at - START
    return (
        alarm.raised_at - START == wanted.raised
        and cleared == wanted.cleared
        and (wanted.since is None or alarm.since - START == wanted.since)
        and (wanted.value is None or (alarm.value is not None and abs(alarm.value - wanted.value) < 1e-6))
        and (wanted.message is None or alarm.message == wanted.message)
    )


def _told(alarm: Alarm) -> str:
    parts = {"since": alarm.since, "raised": alarm.raised_at, "cleared": alarm.cleared_at}
    times = [f"{name}: {format_duration(at - START)}" for name, at in parts.items() if at is not None]
    value = [] if alarm.value is None else [f"value: {alarm.value:.6g}"]
    return "{" + ", ".join([*times, *value]) + "}"


def _wanted(wanted: Expected) -> str:
    given: dict[str, Any] = wanted.model_dump(mode="json", exclude_none=True)
    return "{" + ", ".join(f"{name}: {value}" for name, value in given.items()) + "}"
