"""One rule, compiled: its closures over the slots of a plan, and what delays make of what they say. Pure.

Which rules meet a sample, and with which values, is in `alerts.evaluation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import NamedTuple

from alerts.closures import Calculate, Slots, Verdict, calculation, contributors, relaxed, strict, why_unknown
from alerts.expression import Comparison, Numeric, Operand, Read, operands
from alerts.rules import Rule
from devices.alarm import Alarm
from devices.model import Instant


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


Failed = Callable[[str, Exception | str], None]
"""Told of a rule that raised an error, or why it could not be calculated."""


class CompiledRule:
    """A rule with its closures over a plan's slots."""

    __slots__ = (
        "ages", "because", "index", "limit", "names", "off_delay", "on_delay", "reads", "relaxed", "root", "rule",
        "shown", "slots", "strict", "validity", "windows",
    )  # fmt: skip

    def __init__(self, index: int, rule: Rule, slots: Slots, validity: Instant) -> None:
        condition = rule.parsed
        self.index = index
        self.rule = rule
        self.root = condition.root
        self.names = slots
        self.strict = strict(condition, slots)
        self.relaxed = relaxed(condition, slots, rule.deadbands) if rule.deadbands else self.strict
        last_known = [o for o in condition.operands if not o.is_given and _expires(o)]
        # A rule of one metric meets only samples that hold it, so its value is never old; but a bad one may be newest.
        alone = len(condition.metrics) == 1 and not any(f.function == "quality" for f in condition.features)
        self.slots = () if alone else tuple(slots[o.name] for o in last_known)
        self.windows = tuple(slots[f.name] for f in condition.features if f.window)
        self.ages = tuple((slots[f.name], slots[f.metric]) for f in condition.features if f.function == "age")
        self.reads = tuple((o.name, slots[o.name]) for o in condition.operands)
        self.validity = rule.validity or validity
        self.on_delay = rule.on_delay
        self.off_delay = rule.off_delay
        self.shown, self.limit = _shown(rule, slots)
        self.because = contributors(condition, slots)

    def why(self, values: Sequence[float | None]) -> str | None:
        """Why the condition cannot be calculated though everything that it reads is there; None if that is not so."""
        known: dict[str, float] = {}
        for name, slot in self.reads:
            value = values[slot]
            if value is None:
                return None
            known[name] = value
        return why_unknown(self.rule.parsed, known)

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
        value = self.shown(values)
        words = rule.words(value, self.limit(values), self.because(values))
        raised = Alarm(rule.rule, device, rule.priority, words, since, at, None, value)
        return RuleState(raised, None, 0, at, known=True), raised


_NORMAL = RuleState(None, None, 0, 0, known=True)


def active(states: Iterable[RuleState | None]) -> list[Alarm]:
    """The occurrences that are not over in these states."""
    return [state.alarm for state in states if state is not None and state.alarm is not None]


def _expires(read: Read) -> bool:
    """Whether its value stands only for the validity: windows and ages have a time of their own."""
    return isinstance(read, Operand) or read.function in ("previous", "quality")


def _shown(rule: Rule, slots: Slots) -> tuple[Calculate, Calculate]:
    """What an alarm shows the value of, and its limit."""
    leading = rule.parsed.leading
    if rule.shows_calculated and leading is not None:
        is_measured = any(not operand.is_given for operand in operands(leading.left))
        sides = (leading.left, leading.right) if is_measured else (leading.right, leading.left)
        return calculation(sides[0], slots), calculation(sides[1], slots)
    return itemgetter(slots[rule.shown]), _limit(leading, rule.shown, slots)


def _limit(leading: Comparison | None, shown: str, slots: Slots) -> Calculate:
    """The side of the leading comparison that what is shown is compared with."""
    if leading is None:
        return lambda _: None
    return calculation(leading.left if _is_limit(leading.left, leading.right, shown) else leading.right, slots)


def _is_limit(side: Numeric, other: Numeric, shown: str) -> bool:
    named = {operand.name for operand in operands(side) if not operand.is_given}
    opposite = {operand.name for operand in operands(other) if not operand.is_given}
    return (not named and bool(opposite)) or (shown in opposite and shown not in named)
