"""The condition language: from text to the tree of `alerts.expression`, with every unit checked.

The text is parsed by Python's own parser, but only the forms named here get through `alerts.reader`, and nothing of it
is ever executed: what runs are the closures that `alerts.closures` builds from the tree.

    condition  := comparison | state metric | changed(metric) | condition and/or condition | not condition
    comparison := number < <= > >= == != number        (chains as in mathematics: 1 < pressure < 6)
    number     := 5 | '5 bar' | '10m' | metric | design.<name> | setpoint.<name> | number + - * / number | -number
                | abs(number) | min(number, number) | max(number, number) | a function of alerts.physics
                | avg min max rate stdev count slope span early (metric, 'window') | previous(metric) | age(metric)
                | quality(metric) | unusual()

`early(metric, 'window')` is the mean of the window's beginning. `unusual()` is of the features that the rule lists.
In a rule on a group a metric is `<role>.<metric>`, a nameplate entry `<role>.design.<name>` (`design.<name>` is that
of the device which the alarm is about), and a role that may be several devices stands in `sum()`, `min()` or `max()`.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence
from types import MappingProxyType

from alerts.expression import Call, Condition, ConditionError, Number, Numeric, Truth, operands
from alerts.functions import UNUSUAL
from alerts.multivariate import Judgement
from alerts.reader import QUANTITY, Reader, Roles, SetPoints, quantity

MAX_LENGTH = 1_000
"""Characters of a condition; a longer one is not readable for those who get its alarms."""
_FOREIGN = {"&&": "and", "||": "or", "AND": "and", "OR": "or", "NOT": "not", "<>": "!="}


def parse_condition(
    text: str,
    setpoints: SetPoints | None = None,
    roles: Roles | None = None,
    features: Sequence[str] = (),
    model: Judgement | None = None,
) -> Condition:
    """Read a condition; `ConditionError` with the column (from 1) and a suggestion where it is none. `unusual()` in it
    is what `model` makes of these features."""
    reader, tree = _parsed(text, setpoints or {}, roles or {})
    reader.unusual = Call(UNUSUAL, tuple(parse_feature(one, roles) for one in features), f"{UNUSUAL}()", model)
    condition = Condition(text, reader.truth(tree, 0))
    if not condition.metrics:
        raise ConditionError("the condition names no metric, so no reading could ever decide it")
    return condition


def parse_feature(text: str, roles: Roles | None = None) -> Numeric:
    """Read a feature: a number that is made of what is measured."""
    reader, tree = _parsed(text, {}, roles or {})
    node, _ = reader.number(tree, 0)
    if not any(not read.is_given for read in operands(node)):
        raise ConditionError("a feature is made of what is measured, and this names no metric")
    return node


def parse_selection(text: str) -> Condition:
    """Read a condition on the nameplate alone, as in `design.rated_power > 200`."""
    reader, tree = _parsed(text, {})
    condition = Condition(text, reader.truth(tree, 0))
    _only_design(condition.root, "this chooses devices, so it may name design.<name> only")
    if not condition.design:
        raise ConditionError("this chooses devices by their nameplate, but names no design.<name>")
    return condition


def parse_setpoint(value: float | str) -> tuple[Numeric, str | None]:
    """Read a set-point: a number, a quantity such as `6.4 mm/s`, or numbers and design.<name>. With its unit."""
    if not isinstance(value, str):
        return Number(float(value)), None
    if QUANTITY.fullmatch(value.strip()):
        number = quantity(value.strip())
        return number, number.unit
    reader, tree = _parsed(value, {})
    node, unit = reader.number(tree, 0)
    _only_design(node, "a set-point is made of numbers and design.<name>")
    return node, unit


def _parsed(text: str, setpoints: SetPoints, roles: Roles = MappingProxyType({})) -> tuple[Reader, ast.expr]:
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
    return Reader(source, setpoints, roles), tree.body


def _only_design(node: Truth | Numeric, why: str) -> None:
    for operand in operands(node):
        if not operand.name.startswith("design."):
            raise ConditionError(f"‘{operand.name}’ is not allowed here: {why}")


def _hint(text: str) -> str:
    for foreign, ours in _FOREIGN.items():
        if re.search(rf"\b{foreign}\b" if foreign.isalpha() else re.escape(foreign), text):
            return f"; write ‘{ours}’ in place of ‘{foreign}’"
    return "; a comparison is written ==" if re.search(r"[^<>=!]=[^=]", text) else ""
