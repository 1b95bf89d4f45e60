"""Whether a rule can call on a device at all, from the least and the greatest value of each metric alone. Pure.

For backtests: most rules never call on most devices, and what cannot be true anywhere need not be judged sample by
sample. The answer errs on one side only: where it is no, `alerts.engine` would have found nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isnan

from alerts.expression import (
    Arithmetic,
    Call,
    Comparison,
    Feature,
    Junction,
    Negative,
    Not,
    Number,
    Numeric,
    Operand,
    Truth,
)
from alerts.rules import Rule
from devices.model import Device

Range = tuple[float, float]
"""The least and the greatest value."""

_ANY: Range = (-inf, inf)
_SLACK = 1e-9
"""What a window's sums may be off by, as a share of the values."""


def can_call(rule: Rule, device: Device, ranges: Mapping[str, Range]) -> bool:
    """Whether the condition could be true for values of these ranges; a metric that is not among them was never told
    (bad values count as not told)."""
    return _Screen(rule, device, ranges).holds(rule.parsed.root)


class _Screen:
    """Interval arithmetic over a condition's tree. None stands for what is never known."""

    def __init__(self, rule: Rule, device: Device, ranges: Mapping[str, Range]) -> None:
        self._rule = rule
        self._device = device
        self._ranges = ranges

    def holds(self, node: Truth) -> bool:
        """Whether it may be true somewhere."""
        match node:
            case Comparison():
                return self._may(node.operator, node)
            case Not():
                return self.fails(node.operand)
            case Junction():
                every = all if node.operator == "and" else any
                return every(self.holds(part) for part in node.parts)

    def fails(self, node: Truth) -> bool:
        """Whether it may be false somewhere."""
        match node:
            case Comparison():
                return self._may(_OPPOSITE[node.operator], node)
            case Not():
                return self.holds(node.operand)
            case Junction():
                every = any if node.operator == "and" else all
                return every(self.fails(part) for part in node.parts)

    def _may(self, operator: str, node: Comparison) -> bool:
        left, right = self._number(node.left), self._number(node.right)
        if left is None or right is None:
            return False
        match operator:
            case "<":
                return left[0] < right[1]
            case "<=":
                return left[0] <= right[1]
            case ">":
                return left[1] > right[0]
            case ">=":
                return left[1] >= right[0]
            case "==":
                return left[0] <= right[1] and right[0] <= left[1]
        return not left[0] == left[1] == right[0] == right[1]

    def _number(self, node: Numeric) -> Range | None:
        match node:
            case Number():
                return (node.value, node.value)
            case Operand():
                return self._operand(node.name)
            case Feature():
                return self._feature(node)
            case Negative():
                inner = self._number(node.operand)
                return None if inner is None else (-inner[1], -inner[0])
            case Arithmetic():
                left, right = self._number(node.left), self._number(node.right)
                return None if left is None or right is None else _calculated(node.operator, left, right)
            case Call():
                return self._call(node)

    def _operand(self, name: str) -> Range | None:
        if name.startswith("design."):
            value = self._device.design.get(name.removeprefix("design."))
            return None if value is None else (value, value)
        if name.startswith("setpoint."):
            own = name.removeprefix("setpoint.")
            trees = [self._rule.setpoint(own)]
            trees += [o.setpoint(own) for o in self._rule.overrides if own in o.setpoints and o.covers(self._device)]
            found = [one for one in map(self._number, trees) if one is not None]
            return (min(low for low, _ in found), max(high for _, high in found)) if found else None
        return self._ranges.get(name)

    def _feature(self, node: Feature) -> Range | None:
        if node.function == "quality":
            return (0.0, 192.0)  # bad values are told of as well
        if node.function in ("count", "span", "age"):
            return (0.0, inf)
        known = self._ranges.get(node.metric)
        if known is None:
            return None
        if node.function in ("min", "max", "previous"):
            return known
        if node.function == "avg":
            slack = _SLACK * max(abs(known[0]), abs(known[1]))
            return (known[0] - slack, known[1] + slack)
        if node.function == "stdev":
            return (0.0, (known[1] - known[0]) * (1 + _SLACK) + _SLACK * max(abs(known[0]), abs(known[1])))
        return _ANY

    def _call(self, node: Call) -> Range | None:
        parts = [self._number(argument) for argument in node.arguments]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        lows, highs = [low for low, _ in known], [high for _, high in known]
        match node.function:
            case "min":
                return (min(lows), min(highs))
            case "max":
                return (max(lows), max(highs))
            case "abs":
                ends = (abs(lows[0]), abs(highs[0]))
                return (0.0 if lows[0] <= 0 <= highs[0] else min(ends), max(ends))
        return _ANY


_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def _calculated(operator: str, left: Range, right: Range) -> Range:
    """Of two ranges; rounding is monotone, so that the ends are those of the values."""
    match operator:
        case "+":
            found = (left[0] + right[0], left[1] + right[1])
        case "-":
            found = (left[0] - right[1], left[1] - right[0])
        case "*":
            ends = [a * b for a in left for b in right]
            found = (min(ends), max(ends)) if not any(map(isnan, ends)) else _ANY
        case _:
            if right[0] <= 0 <= right[1]:
                return _ANY
            ends = [a / b for a in left for b in right]
            found = (min(ends), max(ends)) if not any(map(isnan, ends)) else _ANY
    return _ANY if isnan(found[0]) or isnan(found[1]) else found
