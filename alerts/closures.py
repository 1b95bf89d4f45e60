"""From a condition's tree to closures that decide it, in three values: True, False, or None for unknown.

A closure reads the device's values by position; None there is a value that is missing or too old. Unknown follows
Kleene: `False and unknown` is False, `True or unknown` is True, everything else with an unknown part is unknown.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from math import fsum, isfinite

from alerts.expression import (
    KNOWN,
    Arithmetic,
    Call,
    Comparison,
    Condition,
    Deadbands,
    Feature,
    Junction,
    Negative,
    Not,
    Number,
    Numeric,
    Operand,
    Truth,
    calls,
    relaxes,
)
from alerts.functions import PHYSICS, UNUSUAL

Values = Sequence[float | None]
"""A device's values by slot."""
Slots = Mapping[str, int]
"""Where each thing that a condition reads (by its name) stands among the values."""
Verdict = bool | None
"""What a condition says; None is unknown."""
Decide = Callable[[Values], Verdict]
Calculate = Callable[[Values], float | None]

_TESTS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_CALCULATIONS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
_CHOICES: dict[str, Callable[[list[float]], float]] = {"min": min, "max": max, "sum": fsum}
_CHOICES_OF_THE_KNOWN: dict[str, Callable[[list[float]], float]] = {KNOWN["min"]: min, KNOWN["max"]: max}
_CLEARING = {">": -1.0, ">=": -1.0, "<": 1.0, "<=": 1.0}
"""Which way a threshold moves so that its comparison holds for longer."""


def strict(condition: Condition, slots: Slots) -> Decide:
    """The condition as written: what raises an alarm."""
    return _decide(condition.root, slots, {}, 1.0)


def relaxed(condition: Condition, slots: Slots, deadbands: Deadbands) -> Decide:
    """The condition with every threshold moved by its deadband in the clearing direction: what keeps an alarm.

    It holds wherever the strict one does: `a > b` becomes `a > b - deadband`, `a < b` becomes `a < b + deadband`, and
    under `not` the other way round.
    """
    return _decide(condition.root, slots, deadbands, 1.0)


def calculation(node: Numeric, slots: Slots) -> Calculate:
    """The value of a numeric part of a condition; None where an operand is missing or the result is not finite."""
    match node:
        case Number():
            constant = node.value
            return lambda _: constant
        case Operand() | Feature():
            return operator.itemgetter(slots[node.name])
        case Negative():
            inner = calculation(node.operand, slots)
            return lambda values: None if (number := inner(values)) is None else -number
        case Arithmetic():
            return _arithmetic(node, slots)
        case Call():
            return _call(node, slots)


def threshold_shift(node: Comparison, deadbands: Deadbands, direction: float) -> float:
    """How far a comparison's right side is moved so that it holds for longer (`direction` 1.0; -1.0 under `not`)."""
    width = max((w for subject, w in deadbands.items() if relaxes(subject, node)), default=0.0)
    return direction * width * _CLEARING.get(node.operator, 0.0)


def contributors(condition: Condition, slots: Slots) -> Callable[[Values], str]:
    """What made the features of a rule unusual, in words; empty for a rule without features."""
    found = next(calls(condition.root, UNUSUAL), None)
    if found is None or found.model is None:
        return lambda _: ""
    model, arguments = found.model, tuple(calculation(argument, slots) for argument in found.arguments)

    def contribute(values: Values) -> str:
        numbers = [argument(values) for argument in arguments]
        return model.because([number for number in numbers if number is not None]) if None not in numbers else ""

    return contribute


def why_unknown(condition: Condition, values: Mapping[str, float]) -> str | None:
    """Why the condition is unknown for these values by name; None if it is not."""
    names = [operand.name for operand in condition.operands]
    slots = {name: number for number, name in enumerate(names)}
    return _why(condition.root, slots, [values.get(name) for name in names])


def _decide(node: Truth, slots: Slots, deadbands: Deadbands, direction: float) -> Decide:
    match node:
        case Comparison():
            return _compare(node, slots, threshold_shift(node, deadbands, direction))
        case Not():
            inner = _decide(node.operand, slots, deadbands, -direction)
            return lambda values: None if (verdict := inner(values)) is None else not verdict
        case Junction():
            parts = tuple(_decide(part, slots, deadbands, direction) for part in node.parts)
            return _all(parts) if node.operator == "and" else _any(parts)


def _compare(node: Comparison, slots: Slots, shift: float) -> Decide:
    test = _TESTS[node.operator]
    if isinstance(node.left, Operand | Feature) and isinstance(node.right, Number):
        # Most rules are of this form; one call in place of three.
        slot, threshold = slots[node.left.name], node.right.value + shift
        return lambda values: None if (value := values[slot]) is None else test(value, threshold)
    left, right = calculation(node.left, slots), calculation(node.right, slots)

    def compare(values: Values) -> Verdict:
        a = left(values)
        if a is None:
            return None
        b = right(values)
        if b is None:
            return None
        return test(a, b + shift)

    return compare


def _all(parts: tuple[Decide, ...]) -> Decide:
    def decide(values: Values) -> Verdict:
        result: Verdict = True
        for part in parts:
            verdict = part(values)
            if verdict is False:
                return False
            if verdict is None:
                result = None
        return result

    return decide


def _any(parts: tuple[Decide, ...]) -> Decide:
    def decide(values: Values) -> Verdict:
        result: Verdict = False
        for part in parts:
            verdict = part(values)
            if verdict is True:
                return True
            if verdict is None:
                result = None
        return result

    return decide


def _arithmetic(node: Arithmetic, slots: Slots) -> Calculate:
    left, right = calculation(node.left, slots), calculation(node.right, slots)
    calculate = _CALCULATIONS[node.operator]

    def arithmetic(values: Values) -> float | None:
        a, b = left(values), right(values)
        if a is None or b is None:
            return None
        try:
            number = calculate(a, b)
        except ZeroDivisionError:
            return None
        return number if isfinite(number) else None

    return arithmetic


def _call(node: Call, slots: Slots) -> Calculate:
    arguments = tuple(calculation(argument, slots) for argument in node.arguments)
    if node.function in PHYSICS:
        return _physics(PHYSICS[node.function].calculate, arguments)
    if node.function == UNUSUAL:
        return (lambda _: None) if node.model is None else _physics(node.model.index, arguments)
    if node.function == "abs":
        only = arguments[0]
        return lambda values: None if (number := only(values)) is None else abs(number)
    if node.function in _CHOICES_OF_THE_KNOWN:
        return _choice_of_the_known(_CHOICES_OF_THE_KNOWN[node.function], arguments)
    choose: Callable[[list[float]], float] = _CHOICES[node.function]

    def call(values: Values) -> float | None:
        numbers: list[float] = []
        for argument in arguments:
            number = argument(values)
            if number is None:
                return None
            numbers.append(number)
        return choose(numbers)

    return call


def _choice_of_the_known(choose: Callable[[list[float]], float], arguments: tuple[Calculate, ...]) -> Calculate:
    def call(values: Values) -> float | None:
        numbers = [number for argument in arguments if (number := argument(values)) is not None]
        return choose(numbers) if numbers else None

    return call


def _physics(function: Callable[..., float], arguments: tuple[Calculate, ...]) -> Calculate:
    def call(values: Values) -> float | None:
        numbers = [argument(values) for argument in arguments]
        if None in numbers:
            return None
        try:
            number = function(*numbers)
        except (ValueError, ArithmeticError):
            return None
        return number if isfinite(number) else None

    return call


def _why(node: Truth | Numeric, slots: Slots, values: Values) -> str | None:
    match node:
        case Operand() | Feature():
            if values[slots[node.name]] is not None:
                return None
            return f"the device has no {node.name}" if node.is_given else f"‘{node.name}’ has no valid value"
        case Negative() | Not():
            return _why(node.operand, slots, values)
        case Comparison():
            return _why(node.left, slots, values) or _why(node.right, slots, values)
        case Arithmetic() | Call():
            return _why_not_calculated(node, slots, values)
        case Junction():
            if _decide(node, slots, {}, 1.0)(values) is not None:
                return None
            return next((why for part in node.parts if (why := _why(part, slots, values))), None)
    return None


def _why_not_calculated(node: Arithmetic | Call, slots: Slots, values: Values) -> str | None:
    parts = (node.left, node.right) if isinstance(node, Arithmetic) else node.arguments
    deeper = next((why for part in parts if (why := _why(part, slots, values))), None)
    if deeper is not None or calculation(node, slots)(values) is not None:
        return deeper
    if isinstance(node, Call):
        return f"‘{node.text}’ has no meaning for these values"
    if node.operator == "/" and calculation(node.right, slots)(values) == 0:
        return f"division by zero in ‘{node.text}’"
    return f"‘{node.text}’ is too large to calculate"
