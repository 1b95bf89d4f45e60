"""Unit tests of rules as data: series in, alarms out. Pure; `headworks rules test` runs them.

A series is written compactly, sample after sample: `5` one sample, `5*10` ten of them, `5..9*5` a ramp of five from 5
to 9, `_*3` a gap of three, `5~0.2*60` sixty that wander up to 0.2 from 5, `7!` a bad and `7?` an uncertain one. What is
late is delivered late, through the engine itself, and must end in the same alarms.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from alerts.engine import Engine, judge
from alerts.expression import plain
from alerts.groups import judge_group
from alerts.occurrences import applied
from alerts.rules import Rule
from alerts.scopes import compose
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
    device: str | None = Field(default=None, description="Only this one's; every device's if absent")


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
    area: str = ""
    unit: str = ""
    design: dict[str, float] = Field(default_factory=dict)

    def device(self) -> Device:
        """As the registry has it."""
        return Device(
            self.identity,
            self.profile,
            tag=self.tag,
            site=self.site,
            area=self.area,
            unit=self.unit,
            design=self.design,
        )


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
            if plain(name) not in CATALOGUE:
                raise ValueError(f"unknown metric ‘{name}’{suggest(plain(name), list(CATALOGUE))}")
        return series


class RuleTests(DocumentModel):
    """The tests of one rule."""

    rule: str
    device: TestedDevice | None = None
    devices: dict[str, TestedDevice] = Field(
        default_factory=dict,
        description="For a rule on a group: its devices by a name, which stands before the metric in the series, as in"
        " inlet.flow. They are in one unit, unless they say otherwise",
    )
    step: Annotated[Duration, Field(gt=0)] = MINUTE
    tests: tuple[Case, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_or_several(self) -> RuleTests:
        if (self.device is None) == (not self.devices):
            raise ValueError("name the device under test, or devices for a rule on a group")
        for case in self.tests:
            for name in case.series:
                named = name.rpartition(".")[0]
                if self.devices and named not in self.devices:
                    raise ValueError(f"‘{name}’: write <device>.<metric>; the devices are {', '.join(self.devices)}")
                if not self.devices and named:
                    raise ValueError(f"‘{name}’: there is one device, so write {plain(name)}")
        return self


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
        problems = (
            [f"there is no rule ‘{tests.rule}’{suggest(tests.rule, list(rules))}"]
            if rule is None
            else _run(case, tests, rule, profiles)
        )
        yield Outcome(tests.rule, case.test, tuple(problems))


def _run(case: Case, tests: RuleTests, rule: Rule, profiles: Mapping[str, Profile]) -> list[str]:
    devices = _devices(case, tests)
    for name, device in devices.items():
        profile = profiles.get(device.profile)
        if profile is None:
            return [f"there is no profile ‘{device.profile}’{suggest(device.profile, list(profiles))}"]
        measured = {metric for metric in case.series if metric.rpartition(".")[0] == name}
        if unknown := sorted(metric for metric in measured if plain(metric) not in profile.metrics):
            return [f"the profile ‘{profile.profile}’ has no {', '.join(map(plain, unknown))}"]
    if rule.group is None:
        if tests.devices:
            return ["the rule is not on a group: name the device under test"]
        (device,) = devices.values()
        if not rule.fits(device, profiles[device.profile]):
            return ["the rule is not for this device"]
        return _check(case, case.step or tests.step, rule, devices, profiles, partial(_one, rule, device, profiles))
    scopes, without = compose([rule], devices.values(), profiles)
    if len(scopes) != 1:
        reasons = list(without.get(rule.rule, ()))
        return ["; ".join(reasons) or f"these devices are {len(scopes)} groups; a test is about one"]
    return _check(case, case.step or tests.step, rule, devices, profiles, partial(judge_group, scopes[0]))


def _one(rule: Rule, device: Device, profiles: Mapping[str, Profile], measured: Sequence[Reading]) -> list[Alarm]:
    return judge(rule, device, profiles[device.profile], measured)


def _devices(case: Case, tests: RuleTests) -> dict[str, Device]:
    """The devices under test by the names that the series have for them."""
    if not tests.devices:
        tested = case.device or tests.device
        assert tested is not None
        return {"": tested.device()}
    found: dict[str, Device] = {}
    for name, tested in tests.devices.items():
        device = tested.device()
        found[name] = replace(
            device,
            identity=name,
            tag=device.tag or name,
            site=device.site or "site",
            area=device.area or "area",
            unit=device.unit or "unit",
        )
    return found


def readings(case: Case, step: Instant, devices: Mapping[str, Device]) -> list[Reading]:
    """Everything that the devices of a test measure; they go by the names before the metrics."""
    return [
        Reading(
            devices[name.rpartition(".")[0]].identity,
            plain(name),
            START + series.start + number * (series.every or step),
            *sample,
        )
        for name, series in case.series.items()
        for number, sample in enumerate(expand(series.values))
        if sample is not None
    ]


def _check(
    case: Case,
    step: Instant,
    rule: Rule,
    devices: Mapping[str, Device],
    profiles: Mapping[str, Profile],
    define: Callable[[Sequence[Reading]], list[Alarm]],
) -> list[str]:
    measured = readings(case, step, devices)
    found = define(measured)
    journal, kinds, failing = _deliver(case, measured, rule, devices, profiles)
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
    case: Case,
    measured: Sequence[Reading],
    rule: Rule,
    devices: Mapping[str, Device],
    profiles: Mapping[str, Profile],
) -> tuple[list[Alarm], list[ChangeKind], Mapping[str, str]]:
    """Hand the readings to an engine as they arrive: in an uplink for each reporting interval, and some late."""
    registered = {device.identity: device for device in devices.values()}
    intervals = {name: profiles[device.profile].reporting.interval for name, device in registered.items()}
    uplinks: dict[tuple[Instant, Instant, str], list[Reading]] = defaultdict(list)
    for reading in measured:
        at = reading.measured_at - START
        late = [one for one in case.late if one.device in (None, reading.device) and one.since <= at < one.until]
        delay = max((one.by for one in late), default=0)
        interval = intervals[reading.device]
        sent = at // interval
        uplinks[(sent + 1) * interval + delay, sent, reading.device].append(reading)
    stored: dict[str, list[Reading]] = defaultdict(list)
    held: list[Alarm] = []
    kinds: list[ChangeKind] = []
    engine = Engine([rule], profiles)
    mates = list(registered.values())

    def history(identity: str, since: Instant | None) -> list[Reading]:
        return [r for r in stored[identity] if since is None or r.measured_at >= since]

    for (_, _, identity), uplink in sorted(uplinks.items(), key=lambda entry: entry[0]):
        stored[identity] += uplink
        changes = engine.apply(uplink, registered, history, lambda _: held, mates=lambda _: mates)
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
