"""Rules at work on the samples of one device, in sample time. Pure; everything that judges goes through here.

A sample is what a device measured at one instant. A rule meets the samples that hold one of its metrics; of its other
metrics it takes the last known value, as long as that is valid. What it then says (true, false, unknown) stands until
the rule's next sample, but no longer than the validity: only such time counts towards a delay. Unknown keeps what is:
it neither advances a delay (no evidence) nor starts it again (no evidence against).

Where the readings come from, and in which order, is the business of `alerts.engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import isfinite
from operator import itemgetter
from typing import NamedTuple

from alerts.closures import Calculate, Slots, Verdict, calculation, relaxed, strict
from alerts.expression import Comparison, Numeric, operands
from alerts.rules import Rule
from devices.alarm import Alarm
from devices.model import Device, Instant, Reading

NEVER: Instant = -(2**62)
"""When a value that was never measured was measured."""
ALWAYS: Instant = 2**62
"""When a value of the nameplate was measured: it is never too old."""

_CHOICES = 256
"""Combinations of metrics whose rules are remembered; devices use a handful."""

sample_time = itemgetter(2)
"""The `measured_at` of a reading, as a sort key."""


class RuleState(NamedTuple):
    """One rule on one device. None stands for the normal state: not active, and nothing that counts towards it.

    `alarm` is the active occurrence. `since` is the first sample of the run that counts towards the next transition
    (to raised, or to cleared while active), None if there is none; `elapsed` is how much known time it has, `at` its
    newest sample, and `known` whether the condition was known there.
    """

    alarm: Alarm | None
    since: Instant | None
    elapsed: Instant
    at: Instant
    known: bool


Failed = Callable[[str, Exception], None]
"""Told of a rule that raised an error."""


class CompiledRule:
    """A rule with its closures over a plan's slots."""

    __slots__ = ("index", "limit", "off_delay", "on_delay", "relaxed", "rule", "shown", "slots", "strict", "validity")

    def __init__(self, index: int, rule: Rule, slots: Slots, validity: Instant) -> None:
        condition = rule.parsed
        self.index = index
        self.rule = rule
        self.strict = strict(condition, slots)
        self.relaxed = relaxed(condition, slots, rule.deadbands) if rule.deadbands else self.strict
        # A rule of one metric meets only samples that hold it, so its value is never old.
        self.slots = tuple(slots[name] for name in condition.metrics) if len(condition.metrics) > 1 else ()
        self.validity = rule.validity or validity
        self.on_delay = rule.on_delay
        self.off_delay = rule.off_delay
        self.shown = slots[rule.shown_metric]
        self.limit = _limit(condition.leading, rule.shown_metric, slots)

    def step(
        self, state: RuleState | None, verdict: Verdict, at: Instant, values: Sequence[float | None], device: str
    ) -> tuple[RuleState | None, Alarm | None]:
        """The state after a sample at which the condition was `verdict`, and the occurrence that was raised or cleared
        there. For an active alarm `verdict` is that of the relaxed condition."""
        alarm, since, elapsed, newest, known = state or _NORMAL
        if since is not None and known:
            elapsed += min(at - newest, self.validity)
        if verdict is None:
            return (state if since is None else RuleState(alarm, since, elapsed, at, known=False)), None
        if verdict is (alarm is not None):  # it confirms what is: a run that had begun is over
            if alarm is None:
                return None, None
            return (state if since is None else RuleState(alarm, None, 0, at, known=True)), None
        if since is None:
            since, elapsed = at, 0
        if elapsed < (self.on_delay if alarm is None else self.off_delay):
            return RuleState(alarm, since, elapsed, at, known=True), None
        if alarm is not None:
            return None, replace(alarm, cleared_at=at)
        rule = self.rule
        value = values[self.shown]
        words = rule.words(value, self.limit(values))
        raised = Alarm(rule.rule, device, rule.priority, words, since, at, None, value)
        return RuleState(raised, None, 0, at, known=True), raised


_NORMAL = RuleState(None, None, 0, 0, known=True)


class Plan:
    """The rules of one kind of device, compiled together; shared by all devices with the same profile and rules.

    A device's values are kept by slot: one for each metric that a rule names, and one for each nameplate entry.
    """

    def __init__(self, rules: Sequence[Rule], validity: Instant) -> None:
        names = dict.fromkeys(operand for rule in rules for operand in rule.parsed.operands)
        self.slots = {operand.name: number for number, operand in enumerate(names)}
        self.metrics = {name: slot for name, slot in self.slots.items() if not name.startswith("design.")}
        self.design = {name.removeprefix("design."): s for name, s in self.slots.items() if name not in self.metrics}
        self.rules = tuple(CompiledRule(number, rule, self.slots, validity) for number, rule in enumerate(rules))
        self.names = frozenset(rule.rule for rule in rules)
        self.meets = [0] * len(self.slots)
        for compiled in self.rules:
            for name in compiled.rule.parsed.metrics:
                self.meets[self.slots[name]] |= 1 << compiled.index
        self._chosen: dict[int, tuple[CompiledRule, ...]] = {}

    def chosen(self, mask: int) -> tuple[CompiledRule, ...]:
        """The rules whose bits are set."""
        found = self._chosen.get(mask)
        if found is None:
            if len(self._chosen) >= _CHOICES:
                self._chosen.clear()
            found = self._chosen[mask] = tuple(rule for rule in self.rules if mask >> rule.index & 1)
        return found

    def relevant(self, readings: Iterable[Reading]) -> list[Reading]:
        """The readings that feed a condition: of a metric that a rule names, and not bad; by sample time."""
        metrics = self.metrics
        return sorted((r for r in readings if r[1] in metrics and r[4]), key=sample_time)


class Memory:
    """What the past of one device amounts to: its last known values and the state of each rule."""

    __slots__ = ("device", "plan", "states", "times", "values")

    def __init__(self, plan: Plan, device: Device) -> None:
        self.plan = plan
        self.device = device.identity
        self.times: list[Instant] = [NEVER] * len(plan.slots)
        self.values: list[float | None] = [None] * len(plan.slots)
        self.states: list[RuleState | None] = [None] * len(plan.rules)
        for name, slot in plan.design.items():
            self.times[slot] = ALWAYS
            self.values[slot] = _number(device.design.get(name))

    def clear(self) -> None:
        """Forget every reading; the nameplate stays."""
        for slot in self.plan.metrics.values():
            self.times[slot] = NEVER
            self.values[slot] = None
        self.states = [None] * len(self.plan.rules)

    def judge(self, at: Instant, mask: int, moved: list[Alarm], failed: Failed) -> None:
        """Let the rules of `mask` meet the sample at `at`, whose values are in; what is raised or cleared goes to
        `moved`."""
        states = self.states
        for rule in self.plan.chosen(mask):
            values: Sequence[float | None] = self.values
            if rule.slots:
                oldest = at - rule.validity
                times = self.times
                for slot in rule.slots:
                    if times[slot] < oldest:
                        values = self._valid(rule.slots, oldest)
                        break
            index = rule.index
            state = states[index]
            try:
                verdict = rule.strict(values) if state is None or state[0] is None else rule.relaxed(values)
                if state is None and not verdict:
                    continue
                states[index], alarm = rule.step(state, verdict, at, values, self.device)
            except Exception as error:  # a defect of one rule must not end the others
                failed(rule.rule.rule, error)
                continue
            if alarm is not None:
                moved.append(alarm)

    def _valid(self, slots: Sequence[int], oldest: Instant) -> list[float | None]:
        values = self.values.copy()
        for slot in slots:
            if self.times[slot] < oldest:
                values[slot] = None
        return values

    @property
    def active(self) -> list[Alarm]:
        """The occurrences that are not over."""
        return active(self.states)


def active(states: Iterable[RuleState | None]) -> list[Alarm]:
    """The occurrences that are not over in these states."""
    return [state.alarm for state in states if state is not None and state.alarm is not None]


def _number(value: object) -> float | None:
    """A nameplate entry; what is no finite number is as good as missing."""
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def _limit(leading: Comparison | None, shown: str, slots: Slots) -> Calculate:
    """The side of the leading comparison that the shown metric is compared with."""
    if leading is None:
        return lambda _: None
    return calculation(leading.left if _is_limit(leading.left, leading.right, shown) else leading.right, slots)


def _is_limit(side: Numeric, other: Numeric, shown: str) -> bool:
    named = {operand.name for operand in operands(side) if not operand.is_design}
    opposite = {operand.name for operand in operands(other) if not operand.is_design}
    return (not named and bool(opposite)) or (shown in opposite and shown not in named)
