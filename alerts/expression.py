"""Conditions as small trees whose units have been checked. `alerts.grammar` reads them from text, `alerts.closures`
builds from them what decides."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from alerts.functions import COUNTERS, STATE
from alerts.multivariate import Judgement
from devices.document import suggest
from devices.duration import format_duration
from devices.metrics import CATALOGUE
from devices.model import Instant


class ConditionError(ValueError):
    """The text is no condition; the message says where and what to write instead."""


@dataclass(frozen=True, slots=True)
class Number:
    """A literal, in `unit` if one was written beside it."""

    value: float
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Operand:
    """A metric of the catalogue, `design.<name>` (an entry of the device's nameplate) or `setpoint.<name>` (one of the
    rule's own). In a rule on a group `<role>.<metric>` and `design.<role>.<name>`."""

    name: str
    unit: str | None = None

    @property
    def is_given(self) -> bool:
        """Whether it is of the nameplate or the rule, which never goes stale; else it is measured."""
        return self.name.startswith(("design.", "setpoint."))

    @property
    def subject(self) -> str:
        """What a deadband is given for."""
        return self.name


@dataclass(frozen=True, slots=True)
class Feature:
    """What the past of one metric amounts to: a window of it, its previous value, its age, its quality."""

    function: str
    metric: str
    window: Instant = 0

    @property
    def name(self) -> str:
        """As a rule writes it; the same features have the same name."""
        return (
            f"{self.function}({self.metric}, '{format_duration(self.window)}')"
            if self.window
            else (f"{self.function}({self.metric})")
        )

    @property
    def kind(self) -> str:
        """The window's kind in `alerts.window_kinds.KINDS`."""
        return "increase" if self.function == "rate" and plain(self.metric) in COUNTERS else self.function

    @property
    def is_given(self) -> bool:
        """Never: it is measured."""
        return False

    @property
    def unit(self) -> str:
        """Of the metric; per hour for a rate or slope, seconds for an age."""
        unit = CATALOGUE[plain(self.metric)].unit
        match self.function:
            case "rate" | "slope":
                return f"{unit}/h"
            case "count":
                return STATE
            case "age" | "span":
                return "s"
            case "quality":
                return "quality"
        return unit

    @property
    def subject(self) -> str:
        """What a deadband is given for: the metric, or this feature itself where it is of another unit."""
        return self.metric if self.function in ("avg", "early", "min", "max", "previous") else self.name


Read = Operand | Feature
"""What a condition reads of a device."""


@dataclass(frozen=True, slots=True)
class Negative:
    """Unary minus."""

    operand: Numeric


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """left + - * / right; `text` is how the rule writes it, for explanations."""

    operator: str
    left: Numeric
    right: Numeric
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function of numbers; `text` is how the rule writes it. `sum`, `min` and `max` of one number are over the
    devices of the role that it names, and stand in rules on a group only (`alerts.groups`). `unusual` is of the rule's
    features, and `model` what it was taught; None before that."""

    function: str
    arguments: tuple[Numeric, ...]
    text: str = ""
    model: Judgement | None = None


KNOWN = {"max": "max of the known", "min": "min of the known"}
"""Choices that leave out what is unknown, and are unknown only where all is. No rule writes them: they are what
`alerts.instances` makes of a greatest above a limit, or a least below it, over several devices."""

Numeric = Number | Operand | Feature | Negative | Arithmetic | Call


@dataclass(frozen=True, slots=True)
class Comparison:
    """left operator right, both in `unit` (None: the quotient or product of quantities, or numbers alone)."""

    operator: str
    left: Numeric
    right: Numeric
    unit: str | None

    @property
    def is_ordered(self) -> bool:
        """Whether it has a threshold to relax: equality has none."""
        return self.operator not in ("==", "!=")


@dataclass(frozen=True, slots=True)
class Junction:
    """All (`and`) or any (`or`) of the parts."""

    operator: str
    parts: tuple[Truth, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    operand: Truth


Truth = Comparison | Junction | Not

Deadbands = Mapping[str, float]
"""By metric (or by the feature's text where that has a unit of its own, or by unit for what is calculated): how far a
value must be back inside before its alarm may clear."""


@dataclass(frozen=True)
class Condition:
    """A condition that was read and whose units fit."""

    text: str
    root: Truth

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics it names, in the order of the text."""
        return tuple(dict.fromkeys(metric_of(o) for o in self.operands if not o.is_given))

    @cached_property
    def design(self) -> tuple[str, ...]:
        """The nameplate entries it needs, without their prefix."""
        return tuple(o.name.removeprefix("design.") for o in self.operands if o.name.startswith("design."))

    @cached_property
    def operands(self) -> tuple[Read, ...]:
        """Everything it reads, each once, in the order of the text."""
        return tuple(dict.fromkeys(operands(self.root)))

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """What it reads of the past."""
        return tuple(o for o in self.operands if isinstance(o, Feature))

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Every comparison in the order of the text."""
        return tuple(_comparisons(self.root))

    @cached_property
    def leading(self) -> Comparison | None:
        """What the alarm is about: the first comparison with a threshold on a quantity, or else on anything."""
        ordered = [c for c in self.comparisons if c.is_ordered and any(not o.is_given for o in operands(c))]
        return min(ordered, key=_rank, default=None)

    @cached_property
    def leading_read(self) -> Read:
        """What the alarm shows the value of: the first thing measured in the leading comparison, or in the text."""
        read = operands(self.leading) if self.leading is not None else iter(())
        return next((o for o in read if not o.is_given), next(o for o in self.operands if not o.is_given))

    @cached_property
    def leading_metric(self) -> str:
        """The metric of that."""
        return metric_of(self.leading_read)

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """What a deadband may be given for."""
        return tuple(dict.fromkeys(o.subject for o in self.operands if not o.is_given))

    def deadbands(self, deadband: float | Mapping[str, float]) -> Deadbands:
        """The deadband of each metric; `ConditionError` where it is not clear which comparison is meant.

        A plain number is for the one unit that is compared (states of 0 and 1 do not count beside a quantity).
        """
        ordered = [c for c in self.comparisons if c.is_ordered]
        if isinstance(deadband, Mapping):
            known = [*self.subjects, *(c.unit for c in ordered if c.unit is not None)]
            for name in deadband:
                if name not in known:
                    raise ConditionError(f"‘{name}’ is not in the condition{suggest(name, known)}")
                if not any(relaxes(name, c) for c in ordered):
                    raise ConditionError(f"‘{name}’ has no threshold in its own unit, so this deadband has no effect")
            return deadband
        if deadband == 0:
            return {}
        units = {c.unit for c in ordered}
        if units - {STATE}:
            units -= {STATE}
        if len(units) > 1:
            named = [m for m in self.subjects if any(relaxes(m, c) for c in ordered)]
            example = named[0] if named else self.leading_metric
            raise ConditionError(
                f"the condition compares quantities of {len(units)} units: give a deadband for each metric it is meant"
                f" for ({', '.join(named)}), as in deadband: {{{example}: {deadband:g}}}"
            )
        if not units:
            raise ConditionError("the condition has no threshold (< <= > >=), so a deadband has no effect")
        found = {
            o.subject: deadband
            for c in ordered
            if c.unit in units
            for o in operands(c)
            if not o.is_given and relaxes(o.subject, c)
        }
        (unit,) = units
        if not found and unit is not None:
            return {unit: deadband}
        if not found:
            raise ConditionError("no metric is compared in its own unit (it is multiplied or divided by another)")
        return found


def metric_of(read: Read) -> str:
    """The metric that something measured comes from."""
    return read.metric if isinstance(read, Feature) else read.name


def plain(metric: str) -> str:
    """A metric's name in the catalogue, without the role of who measures it."""
    return metric.rpartition(".")[2]


def relaxes(subject: str, comparison: Comparison) -> bool:
    """Whether the subject's deadband moves this comparison's threshold: it is in it, and in its own unit. A unit is the
    subject of everything that is compared in it, calculated values included."""
    named = (o for o in operands(comparison) if not o.is_given and o.subject == subject)
    return subject == comparison.unit or any(o.unit == comparison.unit for o in named)


def calls(node: Truth | Numeric, function: str) -> Iterator[Call]:
    """The calls of a function in a part of a condition, in the order of the text."""
    match node:
        case Negative() | Not():
            yield from calls(node.operand, function)
        case Arithmetic() | Comparison():
            yield from calls(node.left, function)
            yield from calls(node.right, function)
        case Call():
            if node.function == function:
                yield node
            for argument in node.arguments:
                yield from calls(argument, function)
        case Junction():
            for part in node.parts:
                yield from calls(part, function)


def operands(node: Truth | Numeric) -> Iterator[Read]:
    """Everything that a part of a condition reads, in the order of the text."""
    match node:
        case Operand() | Feature():
            yield node
        case Negative() | Not():
            yield from operands(node.operand)
        case Arithmetic() | Comparison():
            yield from operands(node.left)
            yield from operands(node.right)
        case Call():
            for argument in node.arguments:
                yield from operands(argument)
        case Junction():
            for part in node.parts:
                yield from operands(part)


def can_hold(node: Truth, missing: Collection[str]) -> bool:
    """Whether a condition can be true at all where these metrics and given values are unknown for ever."""
    match node:
        case Comparison():
            return _can_be_known(node.left, missing) and _can_be_known(node.right, missing)
        case Not():
            return can_fail(node.operand, missing)
        case Junction():
            every = all if node.operator == "and" else any
            return every(can_hold(part, missing) for part in node.parts)


def _can_be_known(node: Numeric, missing: Collection[str]) -> bool:
    if isinstance(node, Call) and node.function in KNOWN.values():
        return any(_can_be_known(argument, missing) for argument in node.arguments)
    return not any(o.name in missing or metric_of(o) in missing for o in operands(node))


def can_fail(node: Truth, missing: Collection[str]) -> bool:
    """Whether it can be false at all there."""
    match node:
        case Comparison():
            return can_hold(node, missing)
        case Not():
            return can_hold(node.operand, missing)
        case Junction():
            every = any if node.operator == "and" else all
            return every(can_fail(part, missing) for part in node.parts)


def _rank(comparison: Comparison) -> int:
    """How little an alarm is about this: a quantity comes before a state, and both before whether enough is known."""
    about = [o.function in ("count", "span", "age") for o in operands(comparison) if isinstance(o, Feature)]
    return 2 if any(about) else int(comparison.unit == STATE)


def _comparisons(node: Truth) -> Iterator[Comparison]:
    match node:
        case Comparison():
            yield node
        case Not():
            yield from _comparisons(node.operand)
        case Junction():
            for part in node.parts:
                yield from _comparisons(part)
