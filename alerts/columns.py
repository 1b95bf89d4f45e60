"""Rules over a device's past in columns, as array operations. Pure; for backtests.

What comes out is what `alerts.evaluation` would find reading by reading: the same numbers are compared by the same
IEEE operations, and delays are sums of whole microseconds. Only where a rule turns is anything done sample by sample.
Rules with physics or with features of the past other than windows are not for here (`fits`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from alerts.closures import threshold_shift
from alerts.compiled import CompiledRule
from alerts.evaluation import Given, Plan, given
from alerts.expression import Arithmetic, Call, Comparison, Deadbands, Feature, Junction, Negative, Not, Number, Operand
from alerts.expression import Numeric as Node
from alerts.expression import Truth as Part
from alerts.window_columns import KINDS_IN_COLUMNS, Numbers, Times, windowed
from devices.alarm import Alarm
from devices.model import Device, Instant, Quality

Flags: TypeAlias = "npt.NDArray[np.bool_]"

Column = tuple[Times, Numbers, "npt.NDArray[np.int16]"]
"""Of one metric by sample time, each instant once: when, what, of which quality."""

_TESTS = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
_CALCULATIONS = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}
_CALLS = ("abs", "min", "max")


class _Said(NamedTuple):
    """Of a part of a condition at every sample: where it is true and where it is false; elsewhere it is unknown."""

    true: Flags
    false: Flags


class _Known(NamedTuple):
    """A number at every sample, and where it is known."""

    value: Numbers
    there: Flags


def fits(node: Part | Node) -> bool:
    """Whether a condition holds nothing but metrics, given values, windows, arithmetic and comparisons."""
    match node:
        case Number() | Operand():
            return True
        case Feature():
            return node.kind in KINDS_IN_COLUMNS
        case Negative() | Not():
            return fits(node.operand)
        case Arithmetic() | Comparison():
            return fits(node.left) and fits(node.right)
        case Junction():
            return all(map(fits, node.parts))
        case Call():
            return node.function in _CALLS and all(map(fits, node.arguments))


def occurrences(plan: Plan, compiled: CompiledRule, device: Device, columns: Mapping[str, Column]) -> list[Alarm]:
    """Every occurrence of a rule of the plan that `fits` on a device whose past is in these columns, oldest first."""
    samples = _Samples(plan, compiled, device, columns)
    if not len(samples.at):
        return []
    rule = compiled.rule
    with np.errstate(all="ignore"):
        raising = samples.said(rule.parsed.root, {}, 1.0)
        keeping = samples.said(rule.parsed.root, rule.deadbands, 1.0) if rule.deadbands else raising
    on = _Turn(samples.at, raising.true, raising.false, compiled.validity, compiled.on_delay)
    off = _Turn(samples.at, keeping.false, keeping.true, compiled.validity, compiled.off_delay)
    found: list[Alarm] = []
    place = 0
    while (raised := on.after(place)) is not None:
        cleared = off.after(raised[1] + 1)
        since, at = int(samples.at[raised[0]]), int(samples.at[raised[1]])
        values = samples.values(raised[1])
        value = compiled.shown(values)
        words = rule.words(value, compiled.limit(values))
        until = None if cleared is None else int(samples.at[cleared[1]])
        found.append(Alarm(rule.rule, device.identity, rule.priority, words, since, at, until, value))
        if cleared is None:
            break
        place = cleared[1] + 1
    return found


class _Turn:
    """Where a rule turns: `goes` counts towards it, `stops` begins anew, and neither is unknown."""

    def __init__(self, at: Times, goes: Flags, stops: Flags, validity: Instant, delay: Instant) -> None:
        self._goes: Sequence[int] = np.flatnonzero(goes).tolist()
        self._delay = delay
        if not delay or not self._goes:
            return
        self._stops: Sequence[int] = np.flatnonzero(stops).tolist()
        counted = np.zeros(len(at), np.int64)
        np.minimum(at[1:] - at[:-1], validity, out=counted[1:])
        counted[1:][~(goes | stops)[:-1]] = 0  # time that was not known counts towards nothing
        self._elapsed = np.cumsum(counted)

    def after(self, place: int) -> tuple[int, int] | None:
        """The first run that begins at a sample or later and lasts for the delay: where it begins, and where it has."""
        goes = self._goes
        while (number := bisect_left(goes, place)) < len(goes):
            first = goes[number]
            if not self._delay:
                return first, first
            due = int(np.searchsorted(self._elapsed, self._elapsed[first] + self._delay))
            then = bisect_left(goes, due, number)
            stop = bisect_left(self._stops, first)
            end = self._stops[stop] if stop < len(self._stops) else len(self._elapsed)
            if then < len(goes) and goes[then] < end:
                return first, goes[then]
            place = end
        return None


class _Samples:
    """The samples that a rule meets, with what is known at each."""

    def __init__(self, plan: Plan, compiled: CompiledRule, device: Device, columns: Mapping[str, Column]) -> None:
        self._compiled = compiled
        self._size = len(plan.slots)
        self._given_from = plan.given_from
        self._given: Given = given(plan, device)
        self._changing = {slot: schedule for changing in self._given.schedule for slot, schedule in changing}
        told: dict[int, tuple[Times, Numbers]] = {}
        for metric in compiled.rule.parsed.metrics:
            if metric in columns:
                at, value, quality = columns[metric]
                good = quality >= Quality.UNCERTAIN
                told[compiled.names[metric]] = (at, value) if good.all() else (at[good], value[good])
        times = [at for at, _ in told.values()]
        self.at: Times = np.unique(np.concatenate(times)) if len(times) > 1 else (times or [np.empty(0, np.int64)])[0]
        self._readings = told
        self._known = {slot: self._at_samples(*one) for slot, one in told.items()}

    def _at_samples(self, at: Times, value: Numbers) -> _Known:
        """The newest value at each sample, as long as it stands."""
        if at is self.at or len(at) == len(self.at):
            return _Known(value, np.ones(len(at), bool))
        if not len(at):
            return self._nothing()
        newest = np.searchsorted(at, self.at, side="right") - 1
        first = np.maximum(newest, 0)
        there = newest >= 0
        if self._compiled.slots:
            there &= self.at - at[first] <= self._compiled.validity
        return _Known(value[first], there)

    def values(self, sample: int) -> list[float | None]:
        """By slot, as the closures read them."""
        found: list[float | None] = [None] * self._size
        found[self._given_from :] = self._given.values
        for slot, schedule in self._changing.items():
            found[slot] = schedule.at(int(self.at[sample]))
        for slot, known in self._known.items():
            found[slot] = float(known.value[sample]) if known.there[sample] else None
        return found

    def said(self, node: Part, deadbands: Deadbands, direction: float) -> _Said:
        """What a part of the condition says at every sample, its thresholds moved as in `alerts.closures`."""
        match node:
            case Comparison():
                left, right = self._number(node.left), self._number(node.right)
                there = left.there & right.there
                holds = _TESTS[node.operator](left.value, right.value + threshold_shift(node, deadbands, direction))
                return _Said(there & holds, there & ~holds)
            case Not():
                inner = self.said(node.operand, deadbands, -direction)
                return _Said(inner.false, inner.true)
            case Junction():
                parts = [self.said(part, deadbands, direction) for part in node.parts]
                every, some = np.logical_and.reduce, np.logical_or.reduce
                if node.operator == "or":
                    every, some = some, every
                return _Said(every([part.true for part in parts]), some([part.false for part in parts]))

    def _number(self, node: Node) -> _Known:
        match node:
            case Number():
                return self._everywhere(node.value)
            case Operand():
                return self._operand(node)
            case Negative():
                inner = self._number(node.operand)
                return _Known(-inner.value, inner.there)
            case Arithmetic():
                left, right = self._number(node.left), self._number(node.right)
                value = _CALCULATIONS[node.operator](left.value, right.value)
                return _Known(value, left.there & right.there & np.isfinite(value))
            case Call():
                return self._call(node)
            case Feature():
                return self._window(node)

    def _operand(self, node: Operand) -> _Known:
        slot = self._compiled.names[node.name]
        if not node.is_given:
            return self._known.get(slot) or self._nothing()
        schedule = self._changing.get(slot)
        if schedule is None:
            return self._everywhere(self._given.values[slot - self._given_from])
        values = np.array([np.nan if value is None else value for value in schedule.values])
        valid = values[np.searchsorted(np.array(schedule.begins, np.int64), self.at, side="right")]
        return _Known(valid, ~np.isnan(valid))

    def _window(self, node: Feature) -> _Known:
        slot = self._compiled.names[node.name]
        if slot not in self._known:
            told = self._readings.get(self._compiled.names[node.metric], (np.empty(0, np.int64), np.empty(0)))
            value = windowed(node.kind, node.window, *told, self.at)
            self._known[slot] = _Known(value, np.isfinite(value))
        return self._known[slot]

    def _call(self, node: Call) -> _Known:
        first, *others = [self._number(argument) for argument in node.arguments]
        if node.function == "abs":
            return _Known(np.abs(first.value), first.there)
        value, there = first
        for other in others:
            value = (np.minimum if node.function == "min" else np.maximum)(value, other.value)
            there = there & other.there
        return _Known(value, there)

    def _everywhere(self, value: float | None) -> _Known:
        if value is None:
            return self._nothing()
        return _Known(np.full(len(self.at), value), np.ones(len(self.at), bool))

    def _nothing(self) -> _Known:
        return _Known(np.zeros(len(self.at)), np.zeros(len(self.at), bool))
