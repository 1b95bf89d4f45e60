"""The quick way past the rules that nothing happens to: one generated function for all of them. Pure.

Of the rules that meet a sample nearly all are in the normal state and stay there. `check` writes a function that says
which ones are not: those in another state, and those whose condition may be true, or may be one that cannot be
calculated. Only these go through `alerts.closures`, which decide. So what is generated errs on one side only: it may
name a rule too many, and a test holds it to naming none too few.

It is written from the condition's tree, and holds nothing of a rule's text: names are made of slot numbers, numbers and
functions are handed in beside it. What it does not know it names always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import fsum, nan
from typing import Any, NamedTuple, Protocol

from alerts.closures import Slots
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
from alerts.functions import PHYSICS
from alerts.window_kinds import Room
from devices.model import SECOND, Instant

Check = Callable[[Instant, Sequence[float | None], Sequence[Instant], Room, Sequence[object]], list[Any]]
"""The rules that something may happen to at an instant, by the values, their times, the windows and the states."""
Value = Callable[[Room, Instant], float | None]
"""What a window amounts to, if that is finite."""

_CALLS = {"abs": "abs", "min": "min", "max": "max"}
_OPERATORS = {"<", "<=", ">", ">=", "==", "!="}


class Checked(Protocol):
    """What is asked of a compiled rule (`alerts.compiled.CompiledRule`)."""

    index: int
    validity: Instant
    slots: tuple[int, ...]

    @property
    def root(self) -> Truth:
        """Its condition."""
        ...

    @property
    def names(self) -> Slots:
        """The slots as it names them."""
        ...


class Layout(NamedTuple):
    """Where a plan keeps what: its windows by slot, and the slot of a value by that of its age; and the time of a value
    that was never told."""

    windows: dict[int, Value]
    ages: dict[int, int]
    never: Instant


def check(rules: Iterable[Checked], fresh: int, layout: Layout) -> Check:
    """The function for these rules at samples that hold the slots of `fresh` (by their bits)."""
    writer = _Writer(fresh, layout)
    lines = [line for rule in rules for line in writer.rule(rule)]
    text = "\n".join(["def check(at, v, t, room, s):", " found = []", *writer.loads, *lines, " return found"])
    exec(text, writer.known)  # noqa: S102 - written above from slot numbers alone
    made: Check = writer.known["check"]
    return made


class _UnknownPartError(Exception):
    """There is something in the condition that this cannot write."""


class _Writer:
    """The text of one function, line by line, and what it knows beside its arguments."""

    def __init__(self, fresh: int, layout: Layout) -> None:
        self.known: dict[str, Any] = {
            "__builtins__": {}, "abs": abs, "min": min, "max": max, "fsum": fsum, "nan": nan, "U": object(),
        }  # fmt: skip
        self.loads: list[str] = []
        self._fresh = fresh
        self._layout = layout
        self._loaded: set[str] = set()
        self._results = 0

    def rule(self, rule: Checked) -> list[str]:
        """Name the rule where something may happen to it."""
        own = self._known("r", rule)
        try:
            may = self._truth(rule.root, _Rule(rule.names, rule.validity, frozenset(rule.slots)), holds=True)
        except _UnknownPartError:
            return [f" found.append({own})"]
        return [f" if s[{rule.index}] is not None or {may}: found.append({own})"]

    def _truth(self, node: Truth, rule: _Rule, *, holds: bool) -> str:
        """Whether a part may be true (`holds`), or may be false; what is unknown is neither."""
        match node:
            case Comparison():
                return self._comparison(node, rule, holds=holds)
            case Not():
                return self._truth(node.operand, rule, holds=not holds)
            case Junction():
                word = " and " if (node.operator == "and") is holds else " or "
                # What is had for nothing comes first: a window is often not asked for then.
                parts = sorted(node.parts, key=_is_dear)
                return "(" + word.join(self._truth(part, rule, holds=holds) for part in parts) + ")"
        raise _UnknownPartError

    def _comparison(self, node: Comparison, rule: _Rule, *, holds: bool) -> str:
        if node.operator not in _OPERATORS:
            raise _UnknownPartError
        there: list[str] = []
        odd: list[str] = []
        left, right = self._number(node.left, rule, there, odd), self._number(node.right, rule, there, odd)
        odd += [f"{side} - {side} != 0.0" for side in (left, right) if side.startswith("x")]
        said = f"{left} {node.operator} {right}" if holds else f"not {left} {node.operator} {right}"
        if odd:  # not finite: what is unknown for that reason has to be told of
            said = "(" + " or ".join([*odd, said]) + ")"
        return "(" + " and ".join([*dict.fromkeys(there), said]) + ")"

    def _number(self, node: Numeric, rule: _Rule, there: list[str], odd: list[str]) -> str:
        """A name for its value. What must be there first, in this order, goes to `there`; what must be looked at, as
        it is not finite, to `odd`."""
        match node:
            case Number():
                return self._known("c", float(node.value))
            case Operand():
                return self._read(rule.names[node.name], rule, there)
            case Feature():
                return self._feature(node, rule, there)
            case Negative():
                inner = self._number(node.operand, rule, there, odd)
                return self._result(f"-{inner}", there, "x" if inner.startswith("x") else "y")
            case Arithmetic():
                return self._arithmetic(node, rule, there, odd)
            case Call():
                return self._call(node, rule, there, odd)
        raise _UnknownPartError

    def _arithmetic(self, node: Arithmetic, rule: _Rule, there: list[str], odd: list[str]) -> str:
        left, right = self._number(node.left, rule, there, odd), self._number(node.right, rule, there, odd)
        if node.operator == "/":
            if right.startswith("x"):
                odd.append(f"{right} - {right} != 0.0")
            return self._result(f"{left} / {right} if {right} else nan", there)
        if node.operator not in ("+", "-", "*"):
            raise _UnknownPartError
        # Of sums and products what is not finite stays so: it is enough to look at the last.
        return self._result(f"{left} {node.operator} {right}", there)

    def _call(self, node: Call, rule: _Rule, there: list[str], odd: list[str]) -> str:
        arguments = [self._number(argument, rule, there, odd) for argument in node.arguments]
        odd += [f"{one} - {one} != 0.0" for one in arguments if one.startswith("x")]
        listed = ", ".join(arguments)
        if node.function in PHYSICS:
            function = self._known("f", _or_nan(PHYSICS[node.function].calculate))
            return self._result(f"{function}({listed})", there)
        if node.function == "sum":
            return self._result(f"fsum(({listed},))", there)
        if node.function not in _CALLS:
            raise _UnknownPartError
        return self._result(f"{_CALLS[node.function]}({listed})", there, "y")

    def _feature(self, node: Feature, rule: _Rule, there: list[str]) -> str:
        slot = rule.names[node.name]
        if node.window:
            name, value = f"w{slot}", f"W{slot}"
            self.known[value] = self._layout.windows[slot]
            self._load(name, "U")
            there.append(f"({name} if {name} is not U else ({name} := {value}(room, at))) is not None")
            return name
        if node.function == "age":
            metric = self._layout.ages[slot]
            there.append(f"t[{metric}] != {self._layout.never}")
            return self._result(f"(at - t[{metric}]) / {SECOND}", there, "y")
        return self._read(slot, rule, there)

    def _read(self, slot: int, rule: _Rule, there: list[str]) -> str:
        name = f"v{slot}"
        if slot in rule.expiring and not self._fresh >> slot & 1:
            name = f"v{slot}_{rule.validity}"
            self._load(name, f"v[{slot}] if t[{slot}] >= at - {rule.validity} else None")
        else:
            self._load(name, f"v[{slot}]")
        there.append(f"{name} is not None")
        return name

    def _load(self, name: str, value: str) -> None:
        if name not in self._loaded:
            self._loaded.add(name)
            self.loads.append(f" {name} = {value}")

    def _known(self, kind: str, value: object) -> str:
        name = f"{kind}{len(self.known)}"
        self.known[name] = value
        return name

    def _result(self, text: str, there: list[str], kind: str = "x") -> str:
        """A name for what is calculated; one that begins with x may turn out not to be finite."""
        self._results += 1
        name = f"{kind}{self._results}"
        there.append(f"(({name} := {text}) is not None)")
        return name


class _Rule(NamedTuple):
    names: Slots
    validity: Instant
    expiring: frozenset[int]


def _is_dear(node: Truth) -> bool:
    return any(isinstance(operand, Feature) and operand.window for operand in operands(node))


def _or_nan(function: Callable[..., float]) -> Callable[..., float]:
    def call(*numbers: float) -> float:
        try:
            return function(*numbers)
        except (ValueError, ArithmeticError):
            return nan

    return call
