"""Conditions that can never be true, or never false, whatever is measured: told when a rule is loaded. Pure.

Each way in which a condition can hold is a conjunction of comparisons. Those of one quantity with numbers leave an
interval; where it is empty, that way is none. Nothing is assumed of a metric's range, only of what is calculated
(`abs`, `count` …), and comparisons of two quantities or with the nameplate are left open: what is told is certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf

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
    operands,
)
from devices.model import SECOND, Instant

_MOST_WAYS = 256
"""A condition with more ways to hold than this is not looked at."""
_WINDOW_SLACK = 1.1
"""A window is told to a tenth of its length (`alerts.windows`)."""
_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


@dataclass(frozen=True, slots=True)
class _Bound:
    """A quantity compared with a number."""

    what: Numeric
    operator: str
    number: float

    def __str__(self) -> str:
        return f"{_text(self.what)} {self.operator} {self.number:.6g}"


def contradiction(root: Truth, setpoints: Mapping[str, float], sampling: Instant | None = None) -> str | None:
    """Why a condition can never be true, or is always true where it is known; None where neither is certain.

    `setpoints` are those that are plain numbers. With the time between two samples, windows are known to hold no more
    of them than fit.
    """
    holding = _ways(root, setpoints, positive=True)
    if holding and all((told := _excluded(way, sampling)) is not None for way in holding):
        return f"it can never be true: {told}"
    failing = _ways(root, setpoints, positive=False)
    if failing and all((told := _excluded(way, sampling)) is not None for way in failing):
        return f"it is always true: {told}"
    return None


def _ways(node: Truth, setpoints: Mapping[str, float], *, positive: bool) -> list[tuple[_Bound, ...]]:
    """The conjunctions of which one must hold for a part to be true (or false); none where they are too many."""
    match node:
        case Comparison():
            bound = _bound(node, setpoints, positive=positive)
            return [() if bound is None else (bound,)]
        case Not():
            return _ways(node.operand, setpoints, positive=not positive)
        case Junction():
            parts = [_ways(part, setpoints, positive=positive) for part in node.parts]
            if not all(parts):
                return []
            if (node.operator == "or") is positive:
                found = [way for part in parts for way in part]
                return found if len(found) <= _MOST_WAYS else []
            count = 1
            for part in parts:
                count *= len(part)
            if count > _MOST_WAYS:
                return []
            return [tuple(bound for way in chosen for bound in way) for chosen in product(*parts)]


def _bound(node: Comparison, setpoints: Mapping[str, float], *, positive: bool) -> _Bound | None:
    for what, other, operator in (
        (node.left, node.right, node.operator),
        (node.right, node.left, _MIRRORED[node.operator]),
    ):
        number = _number(other, setpoints)
        if number is not None and any(not read.is_given for read in operands(what)):
            return _Bound(what, operator if positive else _NEGATED[operator], number)
    return None


def _excluded(way: Sequence[_Bound], sampling: Instant | None) -> str | None:
    """Why these cannot all hold at once."""
    by_quantity: dict[Numeric, list[_Bound]] = {}
    for bound in way:
        by_quantity.setdefault(bound.what, []).append(bound)
    for what, bounds in by_quantity.items():
        least, most = _range(what, sampling)
        for bound in bounds:
            if not _fits((least, most), bound):
                limit = least if bound.operator in ("<", "<=") or bound.number < least else most
                return f"‘{bound}’, and {_text(what)} is never {'below' if limit == least else 'above'} {limit:.6g}"
        for number, one in enumerate(bounds):
            for other in bounds[:number]:
                if _exclude(other, one):
                    return f"‘{other}’ and ‘{one}’ exclude each other"
        lowest = max((bound.number for bound in bounds if bound.operator == ">="), default=least)
        highest = min((bound.number for bound in bounds if bound.operator == "<="), default=most)
        if lowest == highest and any(bound.operator == "!=" and bound.number == lowest for bound in bounds):
            return f"{_text(what)} could be {lowest:.6g} alone, and ‘{_text(what)} != {lowest:.6g}’ excludes that"
    return None


def _fits(known: tuple[float, float], bound: _Bound) -> bool:
    least, most = known
    match bound.operator:
        case "<":
            return least < bound.number
        case "<=":
            return least <= bound.number
        case ">":
            return most > bound.number
        case ">=":
            return most >= bound.number
        case "==":
            return least <= bound.number <= most
    return True


def _exclude(one: _Bound, other: _Bound) -> bool:
    """Whether two bounds of one quantity leave nothing."""
    if one.operator == "!=" or other.operator == "!=":
        return {one.operator, other.operator} == {"==", "!="} and one.number == other.number
    low, high = (one, other) if one.operator in (">", ">=") else (other, one)
    if low.operator == "==":
        low, high = high, low
    if high.operator == "==":
        return not _fits((high.number, high.number), low)
    if low.operator not in (">", ">=") or high.operator not in ("<", "<="):
        return False
    if low.number == high.number:
        return low.operator == ">" or high.operator == "<"
    return low.number > high.number


def _range(what: Numeric, sampling: Instant | None) -> tuple[float, float]:
    match what:
        case Feature(function="count", window=window):
            return (0.0, inf if sampling is None else _WINDOW_SLACK * window / sampling + 1)
        case Feature(function="span", window=window):
            return (0.0, _WINDOW_SLACK * window / SECOND)
        case Feature(function="stdev" | "age") | Call(function="abs"):
            return (0.0, inf)
    return (-inf, inf)


def _number(node: Numeric, setpoints: Mapping[str, float]) -> float | None:
    """What a part comes to that is made of numbers and set-points alone."""
    match node:
        case Number():
            return node.value
        case Operand() if node.name.startswith("setpoint."):
            return setpoints.get(node.name.removeprefix("setpoint."))
        case Negative():
            inner = _number(node.operand, setpoints)
            return None if inner is None else -inner
        case Arithmetic():
            left, right = _number(node.left, setpoints), _number(node.right, setpoints)
            if left is None or right is None or (node.operator == "/" and right == 0):
                return None
            match node.operator:
                case "+":
                    return left + right
                case "-":
                    return left - right
                case "*":
                    return left * right
            return left / right
    return None


def _text(node: Numeric) -> str:
    match node:
        case Operand() | Feature():
            return node.name
        case Arithmetic() | Call():
            return node.text
        case Negative():
            return f"-{_text(node.operand)}"
    return f"{node.value:.6g}"
