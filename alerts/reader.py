"""From Python's syntax tree to the tree of `alerts.expression`: the whitelist of the condition language, with all units
checked. Whatever is not named here is refused. Pure.

What the language is, and how its text is parsed, is in `alerts.grammar`.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping

from alerts.closures import calculation
from alerts.expression import (
    Arithmetic,
    Call,
    Comparison,
    ConditionError,
    Feature,
    Junction,
    Negative,
    Not,
    Number,
    Numeric,
    Operand,
    Truth,
    operands,
    plain,
)
from alerts.functions import (
    AGGREGATES,
    CHOICES,
    LONGEST_WINDOW,
    NAMES,
    PAST,
    PHYSICS,
    QUALITIES,
    RATED,
    STATE,
    UNUSUAL,
    WINDOWS,
)
from devices.document import suggest
from devices.duration import format_duration, parse_duration
from devices.metrics import CATALOGUE
from devices.model import SECOND, Instant
from devices.units import accepted

MAX_DEPTH = 24
"""Levels of nesting: closures call each other this deep at most."""

_ARITHMETIC: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
QUANTITY = re.compile(r"(-?\d+(?:\.\d+)?)\s+(\S+)")
"""A number, a space and a unit."""
_ALLOWED = (
    "a number is a literal, a metric, design.<name>, setpoint.<name>, + - * / of numbers, or a function such as abs(),"
    " max() or avg(flow, '10m')"
)

SetPoints = Mapping[str, str | None]
"""The names that `setpoint.<name>` may have, each with its unit (None fits all)."""
Roles = Mapping[str, bool]
"""The roles of a rule on a group; whether each may be several devices."""


def quantity(text: str) -> Number:
    """A number with a unit, in the canonical unit of its kind."""
    match = QUANTITY.fullmatch(text)
    if match is None:
        raise ConditionError(f"‘{text}’ is neither a quantity such as '5 bar' nor a duration such as '10m'")
    value, unit = float(match[1]), match[2]
    base, per_hour = (unit.removesuffix("/h"), "/h") if unit.endswith("/h") else (unit, "")
    canonical = list(dict.fromkeys(metric.unit for metric in CATALOGUE.values()))
    if unit in canonical:
        return Number(value, unit)
    if base in canonical:
        return Number(value, base + per_hour)
    for own in canonical:
        conversion = accepted(own).get(unit)
        if conversion is not None:
            return Number(conversion.convert(value), own)
    raise ConditionError(f"unknown unit ‘{unit}’{suggest(unit, canonical)}")


class Reader:
    """From Python's tree to ours; whatever is not named here is refused."""

    def __init__(self, source: str, setpoints: SetPoints, roles: Roles) -> None:
        self._source = source
        self._setpoints = setpoints
        self._roles = roles
        self.unusual = Call(UNUSUAL, ())
        self._gathered: set[str] | None = None
        """Within `sum()`, `min()` or `max()` over devices: the roles of several devices named there."""

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
            case ast.Call(func=ast.Name(id="changed")):
                metric = self._metric(node)
                unit = CATALOGUE[plain(metric)].unit
                return Comparison("!=", Operand(metric, unit), Feature("previous", metric), unit)
            case ast.Attribute(value=ast.Name(id=role)) if role in self._roles:
                return self._state(node, depth)
            case ast.Name() | ast.Call(func=ast.Name(id="previous")):
                return self._state(node, depth)
        raise self._error(node, f"{self._name(node)} is not a condition; compare it with something, as in flow > 1")

    def _state(self, node: ast.expr, depth: int) -> Truth:
        """A state by itself: true where it is not zero."""
        operand, unit = self.number(node, depth)
        if unit != STATE:
            text = self._text(node)
            raise self._error(node, f"‘{text}’ is a quantity in {unit}: compare it, as in {text} > 1")
        return Comparison("!=", operand, Number(0.0), unit)

    def number(self, node: ast.expr, depth: int) -> tuple[Numeric, str | None]:
        """A number with its unit: None where it has none or where it is not known."""
        self._limit(node, depth)
        match node:
            case ast.Constant():
                literal = self._literal(node)
                return literal, literal.unit
            case ast.Name():
                if node.id in QUALITIES:
                    return Number(QUALITIES[node.id], "quality"), "quality"
                if node.id not in CATALOGUE:
                    hint = suggest(node.id, [*CATALOGUE, *NAMES])
                    raise self._error(node, f"unknown metric ‘{node.id}’{hint}")
                name = self._measured(node)
                return Operand(name, CATALOGUE[node.id].unit), CATALOGUE[node.id].unit
            case ast.Attribute(value=ast.Attribute(value=ast.Name(), attr="design")) if self._roles and _NAME.fullmatch(
                node.attr
            ):
                return self._given_of_role(node)
            case ast.Attribute(value=ast.Name(id=role)) if self._roles and role not in ("design", "setpoint"):
                name = self._measured(node)
                return Operand(name, CATALOGUE[node.attr].unit), CATALOGUE[node.attr].unit
            case ast.Attribute(value=ast.Name(id="design" | "setpoint")) if _NAME.fullmatch(node.attr):
                return self._given(node)
            case ast.UnaryOp(op=ast.USub()):
                operand, unit = self.number(node.operand, depth + 1)
                return Number(-operand.value, unit) if isinstance(operand, Number) else Negative(operand), unit
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                return self._arithmetic(node, _ARITHMETIC[type(node.op)], depth)
            case ast.Call(func=ast.Name()):
                return self._call(node, depth)
        raise self._error(node, f"{self._name(node)} is not allowed here; {_ALLOWED}")

    def _given(self, node: ast.Attribute) -> tuple[Numeric, str | None]:
        assert isinstance(node.value, ast.Name)
        name = f"{node.value.id}.{node.attr}"
        if node.value.id == "design":
            unit = RATED.get(node.attr)
        elif node.attr in self._setpoints:
            unit = self._setpoints[node.attr]
        else:
            known = list(self._setpoints)
            raise self._error(node, f"the rule has no set-point ‘{node.attr}’{suggest(node.attr, known)}")
        return Operand(name, unit), unit

    def _given_of_role(self, node: ast.Attribute) -> tuple[Numeric, str | None]:
        assert isinstance(node.value, ast.Attribute)
        assert isinstance(node.value.value, ast.Name)
        role = self._role(node.value.value, self._text(node))
        unit = RATED.get(node.attr)
        return Operand(f"design.{role}.{node.attr}", unit), unit

    def _measured(self, node: ast.expr) -> str:
        """The metric that a name stands for: of the device, or in a rule on a group of a role."""
        match node:
            case ast.Name(id=metric):
                if self._roles:
                    role = next(iter(self._roles))
                    raise self._error(node, f"whose {metric}? Write the role before it, as in {role}.{metric}")
                role = ""
            case ast.Attribute(value=ast.Name() as owner, attr=metric) if self._roles:
                role = self._role(owner, self._text(node)) + "."
            case _:
                raise self._error(node, f"{self._name(node)} is no metric")
        if metric not in CATALOGUE:
            raise self._error(node, f"unknown metric ‘{metric}’{suggest(metric, list(CATALOGUE))}")
        return role + metric

    def _role(self, node: ast.Name, text: str) -> str:
        if node.id not in self._roles:
            raise self._error(node, f"the rule has no role ‘{node.id}’{suggest(node.id, list(self._roles))}")
        if self._roles[node.id]:
            if self._gathered is None:
                raise self._error(
                    node, f"‘{node.id}’ may be several devices: say sum({text}), min({text}) or max({text})"
                )
            self._gathered.add(node.id)
        return node.id

    def _aggregate(self, node: ast.Call, name: str, depth: int) -> tuple[Numeric, str | None]:
        """A sum, minimum or maximum over the devices of a role."""
        if self._gathered is not None:
            raise self._error(node, f"{name}() over devices stands within another one")
        self._gathered = set()
        try:
            argument, unit = self.number(node.args[0], depth + 1)
            if len(self._gathered) != 1:
                many = [role for role, several in self._roles.items() if several]
                raise self._error(
                    node,
                    f"{name}() over devices takes one number of one role of several devices"
                    + (f", as in {name}({many[0]}.flow)" if many else "; no role has several: true"),
                )
        finally:
            self._gathered = None
        return Call(name, (argument,), self._text(node)), unit

    def _comparison(self, node: ast.Compare, depth: int) -> Truth:
        read = [self.number(operand, depth + 1) for operand in (node.left, *node.comparators)]
        links: list[Truth] = []
        for operator, (left, left_unit), (right, right_unit) in zip(node.ops, read, read[1:], strict=False):
            symbol = _COMPARISONS.get(type(operator))
            if symbol is None:
                raise self._error(node, f"only {' '.join(_COMPARISONS.values())} compare")
            unit = self._common(node, "compare", left_unit, right_unit)
            links.append(Comparison(symbol, left, right, unit))
        return links[0] if len(links) == 1 else Junction("and", tuple(links))

    def _arithmetic(self, node: ast.BinOp, operator: str, depth: int) -> tuple[Numeric, str | None]:
        left, left_unit = self.number(node.left, depth + 1)
        right, right_unit = self.number(node.right, depth + 1)
        if operator == "/" and not any(operands(right)) and calculation(right, {})(()) == 0:
            raise self._error(node, "this divides by zero")
        result = Arithmetic(operator, left, right, self._text(node))
        if operator in "+-":
            return result, self._common(node, "add" if operator == "+" else "subtract", left_unit, right_unit)
        if isinstance(right, Number) and right.unit is None:  # scaling by a plain number keeps the unit
            return result, left_unit
        if operator == "*" and isinstance(left, Number) and left.unit is None:
            return result, right_unit
        if operator == "/" and left_unit is not None and left_unit == right_unit:
            return result, STATE
        return result, None

    def _call(self, node: ast.Call, depth: int) -> tuple[Numeric, str | None]:
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        if self._roles and name in AGGREGATES and len(node.args) == 1 and not node.keywords:
            return self._aggregate(node, name, depth)
        if name not in NAMES:
            raise self._error(node, f"unknown function ‘{name}’{suggest(name, NAMES)}; there are {', '.join(NAMES)}")
        if name == "changed":
            raise self._error(node, "changed() is a condition by itself, not a number")
        if name == UNUSUAL:
            if node.args or node.keywords or not self.unusual.arguments:
                raise self._error(node, "unusual() takes nothing, and the rule lists its ‘features’")
            return self.unusual, STATE
        if name in PAST:
            feature = Feature(name, self._metric(node))
            return feature, feature.unit
        if name in WINDOWS and (name not in CHOICES or self._is_window(node)):
            return self._windowed(node, name)
        return self._physics(node, name, depth) if name in PHYSICS else self._choice(node, name, depth)

    def _choice(self, node: ast.Call, name: str, depth: int) -> tuple[Numeric, str | None]:
        least, most = CHOICES[name]
        if node.keywords or not least <= len(node.args) <= most:
            count = str(least) if least == most else f"{least} to {most}"
            over = f", or a metric and a window as in {name}(flow, '10m')" if name in WINDOWS else ""
            raise self._error(node, f"{name}() takes {count} number{'s' if most > 1 else ''}{over}")
        arguments = [self.number(argument, depth + 1) for argument in node.args]
        unit: str | None = None
        for _, other in arguments:
            unit = self._common(node, f"take the {name} of", unit, other)
        return Call(name, tuple(argument for argument, _ in arguments), self._text(node)), unit

    def _physics(self, node: ast.Call, name: str, depth: int) -> tuple[Numeric, str | None]:
        signature = PHYSICS[name]
        most = len(signature.arguments)
        least = most - signature.optional
        if node.keywords or not least <= len(node.args) <= most:
            units = ", ".join(unit or "number" for unit in signature.arguments)
            optional = f", the last {signature.optional} optional" if signature.optional else ""
            raise self._error(node, f"{name}() takes {most} numbers ({units}{optional})")
        arguments = [self.number(argument, depth + 1) for argument in node.args]
        for place, ((_, unit), wanted) in enumerate(zip(arguments, signature.arguments, strict=False)):
            if unit is not None and wanted is not None and unit != wanted:
                raise self._error(node.args[place], f"{name}() takes {wanted} here, not {unit}")
        return Call(name, tuple(argument for argument, _ in arguments), self._text(node)), signature.unit

    def _windowed(self, node: ast.Call, name: str) -> tuple[Numeric, str | None]:
        if node.keywords or len(node.args) != 2:
            raise self._error(node, f"{name}() takes a metric and a window, as in {name}(flow, '10m')")
        feature = Feature(name, self._metric(node), self._window(node.args[1]))
        return feature, feature.unit

    def _metric(self, node: ast.Call) -> str:
        """The metric that a function of the past is about."""
        assert isinstance(node.func, ast.Name)
        first = node.args[0] if node.args else None
        if node.keywords or (node.func.id in PAST and len(node.args) != 1):
            raise self._error(node, f"{node.func.id}() takes one metric, as in {node.func.id}(flow)")
        if not isinstance(first, ast.Name) and not (self._roles and isinstance(first, ast.Attribute)):
            raise self._error(first or node, f"{node.func.id}() takes the name of a metric; calculate with its result")
        return self._measured(first)

    def _is_window(self, node: ast.Call) -> bool:
        last = node.args[1] if len(node.args) == 2 else None
        return isinstance(last, ast.Constant) and isinstance(last.value, str) and " " not in last.value.strip()

    def _window(self, node: ast.expr) -> Instant:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            raise self._error(node, "a window is written as a quoted duration, as in '10m'")
        try:
            window = parse_duration(node.value)
        except ValueError as error:
            raise self._error(node, str(error)) from error
        if not SECOND <= window <= LONGEST_WINDOW:
            raise self._error(node, f"a window is 1s to {format_duration(LONGEST_WINDOW)} long, not {node.value}")
        return window

    def _literal(self, node: ast.Constant) -> Number:
        if isinstance(node.value, str):
            try:
                if " " not in node.value.strip():
                    return Number(parse_duration(node.value) / SECOND, "s")
                return quantity(node.value.strip())
            except (ConditionError, OverflowError) as error:
                raise self._error(node, str(error)) from error
            except ValueError as error:
                message = f"‘{node.value}’ is neither a quantity such as '5 bar' nor a duration such as '10m'"
                raise self._error(node, message) from error
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

    def _text(self, node: ast.expr) -> str:
        return ast.get_source_segment(self._source, node) or type(node).__name__

    def _name(self, node: ast.expr) -> str:
        text = self._text(node)
        return f"‘{text if len(text) <= 40 else text[:37] + '…'}’"

    def _error(self, node: ast.expr, message: str) -> ConditionError:
        # The bracket put before the text shifts its first line.
        column = node.col_offset + (0 if node.lineno == 1 else 1)
        where = f"column {column}" if node.lineno == 1 else f"line {node.lineno}, column {column}"
        return ConditionError(f"{where}: {message}")
