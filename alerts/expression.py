"""The condition language: what a rule may say, read into a small tree whose units have been checked.

The text is parsed by Python's own parser, but only the forms named here get through, and nothing of it is ever
executed: what runs are the closures that `alerts.closures` builds from the tree.

    condition  := comparison | state metric | condition and/or condition | not condition
    comparison := number < <= > >= == != number        (chains as in mathematics: 1 < pressure < 6)
    number     := literal | metric | design.<name> | number + - * / number | -number | abs() min() max()
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from devices.document import suggest
from devices.metrics import CATALOGUE

MAX_LENGTH = 1_000
"""Characters of a condition; a longer one is not readable for those who get its alarms."""
MAX_DEPTH = 24
"""Levels of nesting: closures call each other this deep at most."""

STATE = "1"
"""The catalogue's unit of plain numbers and of states; only a metric of this unit is a condition by itself."""

FUNCTIONS = {"abs": (1, 1), "min": (2, 8), "max": (2, 8)}
"""Every function with the least and the largest number of arguments."""

_ARITHMETIC: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_DESIGN_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FOREIGN = {"&&": "and", "||": "or", "AND": "and", "OR": "or", "NOT": "not", "<>": "!="}


class ConditionError(ValueError):
    """The text is no condition; the message says where and what to write instead."""


@dataclass(frozen=True, slots=True)
class Number:
    """A literal."""

    value: float


@dataclass(frozen=True, slots=True)
class Operand:
    """A metric of the catalogue, or `design.<name>`: an entry of the device's nameplate."""

    name: str

    @property
    def is_design(self) -> bool:
        """Whether it is of the nameplate, which never goes stale."""
        return self.name.startswith("design.")


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
    """abs, min or max."""

    function: str
    arguments: tuple[Numeric, ...]


Numeric = Number | Operand | Negative | Arithmetic | Call


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
"""By metric: how far a value must be back inside before its alarm may clear, in the metric's canonical unit."""


@dataclass(frozen=True)
class Condition:
    """A condition that was read and whose units fit."""

    text: str
    root: Truth

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics it names, in the order of the text."""
        return tuple(o.name for o in self.operands if not o.is_design)

    @cached_property
    def design(self) -> tuple[str, ...]:
        """The nameplate entries it needs, without their prefix."""
        return tuple(o.name.removeprefix("design.") for o in self.operands if o.is_design)

    @cached_property
    def operands(self) -> tuple[Operand, ...]:
        """Everything it reads, each once, in the order of the text."""
        return tuple(dict.fromkeys(operands(self.root)))

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Every comparison in the order of the text."""
        return tuple(_comparisons(self.root))

    @cached_property
    def leading(self) -> Comparison | None:
        """What the alarm is about: the first comparison with a threshold on a quantity, or else on anything."""
        ordered = [c for c in self.comparisons if c.is_ordered and any(not o.is_design for o in operands(c))]
        return next((c for c in ordered if c.unit != STATE), ordered[0] if ordered else None)

    @cached_property
    def leading_metric(self) -> str:
        """The metric whose value an alarm shows: the first one of the leading comparison, or of the text."""
        read = operands(self.leading) if self.leading is not None else iter(())
        return next((o.name for o in read if not o.is_design), self.metrics[0])

    def deadbands(self, deadband: float | Mapping[str, float]) -> Deadbands:
        """The deadband of each metric; `ConditionError` where it is not clear which comparison is meant.

        A plain number is for the one unit that is compared (states of 0 and 1 do not count beside a quantity).
        """
        ordered = [c for c in self.comparisons if c.is_ordered]
        if isinstance(deadband, Mapping):
            for name in deadband:
                if name not in self.metrics:
                    raise ConditionError(f"‘{name}’ is not in the condition{suggest(name, self.metrics)}")
                if not any(relaxes(name, c) for c in ordered):
                    raise ConditionError(f"‘{name}’ has no threshold in its own unit, so this deadband has no effect")
            return deadband
        if deadband == 0:
            return {}
        units = {c.unit for c in ordered}
        if units - {STATE}:
            units -= {STATE}
        if len(units) > 1:
            listed = ", ".join(m for m in self.metrics if any(relaxes(m, c) for c in ordered))
            raise ConditionError(
                f"the condition compares quantities of {len(units)} units: give a deadband for each metric it is meant"
                f" for ({listed}), as in deadband: {{{self.leading_metric}: {deadband:g}}}"
            )
        if not units:
            raise ConditionError("the condition has no threshold (< <= > >=), so a deadband has no effect")
        found = {
            o.name: deadband
            for c in ordered
            if c.unit in units
            for o in operands(c)
            if not o.is_design and relaxes(o.name, c)
        }
        if not found:
            raise ConditionError("no metric is compared in its own unit (it is multiplied or divided by another)")
        return found


def relaxes(metric: str, comparison: Comparison) -> bool:
    """Whether the metric's deadband moves this comparison's threshold: it is in it, and in the metric's own unit."""
    return comparison.unit == CATALOGUE[metric].unit and any(o.name == metric for o in operands(comparison))


def parse_condition(text: str) -> Condition:
    """Read a condition; `ConditionError` with the column (from 1) and a suggestion where it is none."""
    if len(text) > MAX_LENGTH:
        raise ConditionError(f"the condition has {len(text)} characters; at most {MAX_LENGTH} are taken")
    # In brackets, so that a condition may run over several lines of YAML.
    source = f"({text}\n)"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = ast.parse(source, mode="eval")
    except SyntaxError as error:
        column = max((error.offset or 1) - (1 if (error.lineno or 1) == 1 else 0), 1)
        raise ConditionError(f"column {column}: not a condition ({error.msg}){_hint(text)}") from error
    except (Warning, ValueError, MemoryError, RecursionError) as error:
        raise ConditionError(f"not a condition: {error or 'nested too deeply'}") from error
    condition = Condition(text, _Reader(source).truth(tree.body, 0))
    if not condition.metrics:
        raise ConditionError("the condition names no metric, so no reading could ever decide it")
    return condition


def _hint(text: str) -> str:
    for foreign, ours in _FOREIGN.items():
        if re.search(rf"\b{foreign}\b" if foreign.isalpha() else re.escape(foreign), text):
            return f"; write ‘{ours}’ in place of ‘{foreign}’"
    return "; a comparison is written ==" if re.search(r"[^<>=!]=[^=]", text) else ""


class _Reader:
    """From Python's tree to ours; whatever is not named here is refused."""

    def __init__(self, source: str) -> None:
        self._source = source

    def truth(self, node: ast.expr, depth: int) -> Truth:
        """A condition."""
        self._limit(node, depth)
        match node:
            case ast.BoolOp():
                operator = "and" if isinstance(node.op, ast.And) else "or"
                return Junction(operator, tuple(self.truth(part, depth + 1) for part in node.values))
            case ast.UnaryOp(op=ast.Not()):
                return Not(self.truth(node.operand, depth + 1))
            case ast.Compare():
                return self._comparison(node, depth)
            case ast.Name():
                operand, unit = self.number(node, depth)
                if unit != STATE:
                    raise self._error(node, f"‘{node.id}’ is a quantity in {unit}: compare it, as in {node.id} > 1")
                return Comparison("!=", operand, Number(0.0), unit)
        raise self._error(node, f"{self._name(node)} is not a condition; compare it with something, as in flow > 1")

    def number(self, node: ast.expr, depth: int) -> tuple[Numeric, str | None]:
        """A number with its unit: None where it has none or where it is not known."""
        self._limit(node, depth)
        match node:
            case ast.Constant():
                return self._literal(node), None
            case ast.Name():
                if node.id not in CATALOGUE:
                    hint = suggest(node.id, [*CATALOGUE, *FUNCTIONS])
                    raise self._error(node, f"unknown metric ‘{node.id}’{hint}")
                return Operand(node.id), CATALOGUE[node.id].unit
            case ast.Attribute(value=ast.Name(id="design")) if _DESIGN_NAME.fullmatch(node.attr):
                return Operand(f"design.{node.attr}"), None
            case ast.UnaryOp(op=ast.USub()):
                operand, unit = self.number(node.operand, depth + 1)
                return Number(-operand.value) if isinstance(operand, Number) else Negative(operand), unit
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                return self._arithmetic(node, _ARITHMETIC[type(node.op)], depth)
            case ast.Call(func=ast.Name()):
                return self._call(node, depth)
        raise self._error(node, f"{self._name(node)} is not allowed here; {_ALLOWED}")

    def _comparison(self, node: ast.Compare, depth: int) -> Truth:
        operands = [self.number(operand, depth + 1) for operand in (node.left, *node.comparators)]
        links: list[Truth] = []
        for operator, (left, left_unit), (right, right_unit) in zip(node.ops, operands, operands[1:], strict=False):
            symbol = _COMPARISONS.get(type(operator))
            if symbol is None:
                raise self._error(node, f"only {' '.join(_COMPARISONS.values())} compare")
            unit = self._common(node, "compare", left_unit, right_unit)
            links.append(Comparison(symbol, left, right, unit))
        return links[0] if len(links) == 1 else Junction("and", tuple(links))

    def _arithmetic(self, node: ast.BinOp, operator: str, depth: int) -> tuple[Numeric, str | None]:
        left, left_unit = self.number(node.left, depth + 1)
        right, right_unit = self.number(node.right, depth + 1)
        result = Arithmetic(operator, left, right, ast.get_source_segment(self._source, node) or operator)
        if operator in "+-":
            return result, self._common(node, "add" if operator == "+" else "subtract", left_unit, right_unit)
        if isinstance(right, Number):  # scaling by a plain number keeps the unit
            return result, left_unit
        if operator == "*" and isinstance(left, Number):
            return result, right_unit
        return result, None

    def _call(self, node: ast.Call, depth: int) -> tuple[Numeric, str | None]:
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        if name not in FUNCTIONS:
            raise self._error(
                node, f"unknown function ‘{name}’{suggest(name, list(FUNCTIONS))}; there are {', '.join(FUNCTIONS)}"
            )
        least, most = FUNCTIONS[name]
        if node.keywords or not least <= len(node.args) <= most:
            count = str(least) if least == most else f"{least} to {most}"
            raise self._error(node, f"{name}() takes {count} number{'s' if most > 1 else ''}")
        arguments = [self.number(argument, depth + 1) for argument in node.args]
        unit: str | None = None
        for _, other in arguments:
            unit = self._common(node, f"take the {name} of", unit, other)
        return Call(name, tuple(argument for argument, _ in arguments)), unit

    def _literal(self, node: ast.Constant) -> Number:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            raise self._error(node, f"{node.value!r} is not a number; {_ALLOWED}")
        try:
            value = float(node.value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise self._error(node, "this number is too large")
        return Number(value)

    def _common(self, node: ast.expr, verb: str, left: str | None, right: str | None) -> str | None:
        if left is not None and right is not None and left != right:
            raise self._error(node, f"cannot {verb} quantities of different units ({left} and {right})")
        return left if left is not None else right

    def _limit(self, node: ast.expr, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self._error(node, f"nested more than {MAX_DEPTH} levels deep")

    def _name(self, node: ast.expr) -> str:
        text = ast.get_source_segment(self._source, node) or type(node).__name__
        return f"‘{text if len(text) <= 40 else text[:37] + '…'}’"

    def _error(self, node: ast.expr, message: str) -> ConditionError:
        # The bracket put before the text shifts its first line.
        column = node.col_offset + (0 if node.lineno == 1 else 1)
        where = f"column {column}" if node.lineno == 1 else f"line {node.lineno}, column {column}"
        return ConditionError(f"{where}: {message}")


_ALLOWED = "a number is a literal, a metric, design.<name>, + - * / of numbers, or abs(), min(), max() of them"


def operands(node: Truth | Numeric) -> Iterator[Operand]:
    """Everything that a part of a condition reads, in the order of the text."""
    match node:
        case Operand():
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


def _comparisons(node: Truth) -> Iterator[Comparison]:
    match node:
        case Comparison():
            yield node
        case Not():
            yield from _comparisons(node.operand)
        case Junction():
            for part in node.parts:
                yield from _comparisons(part)
