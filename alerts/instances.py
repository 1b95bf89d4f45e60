"""A rule on a group, written out for one group: `sum(outlet.flow)` over three outlets is
`sum(outlet[1].flow, outlet[2].flow, outlet[3].flow)`. Pure; who belongs to a group is in `alerts.scopes`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from alerts.expression import (
    KNOWN,
    Arithmetic,
    Call,
    Comparison,
    Condition,
    Feature,
    Junction,
    Negative,
    Not,
    Number,
    Numeric,
    Operand,
    Truth,
    metric_of,
    operands,
    plain,
)
from alerts.functions import AGGREGATES
from alerts.rules import Rule

_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_ENOUGH = {"max": (">", ">="), "min": ("<", "<=")}
"""One device is enough: a greatest above a limit, or a least below it, is one whatever the silent ones would say."""


def instance(rule: Rule, counts: Mapping[str, int]) -> Rule:
    """The rule for a group in which each role of several devices has so many."""
    condition = rule.parsed
    written = Condition(condition.text, _truth(condition.root, counts))
    widths: dict[str, float] = {}
    for subject, width in rule.deadbands.items():
        own = [_numbered(o, role, n).subject for o in condition.operands if not o.is_given and o.subject == subject
               for role, count in counts.items() if _is_of(o, role) for n in range(1, count + 1)]  # fmt: skip
        widths |= dict.fromkeys(own or [subject], width)
    found = rule.model_copy()
    # Where a model keeps what it has worked out of its fields: the copy has worked out something else.
    found.__dict__.update(parsed=written, deadbands=widths)
    found.__dict__.pop("given", None)
    found.__dict__.pop("shown", None)
    return found


def _truth(node: Truth, counts: Mapping[str, int], *, holds: bool = True) -> Truth:
    """`holds`: whether the condition is nearer to true where this part is; under a `not` it is the other way round."""
    match node:
        case Comparison():
            left, right = _number(node.left, counts), _number(node.right, counts)
            on_left, on_right = _asked(node.operator, holds=holds)
            return replace(node, left=_of_the_known(left, on_left), right=_of_the_known(right, on_right))
        case Not():
            return Not(_truth(node.operand, counts, holds=not holds))
        case Junction():
            return Junction(node.operator, tuple(_truth(part, counts, holds=holds) for part in node.parts))


def _asked(operator: str, *, holds: bool) -> tuple[str, str]:
    """What a comparison asks of its left and of its right side for the condition to be true; "" for neither side."""
    asked = operator if holds else _OPPOSITE.get(operator, "")
    return asked, _MIRRORED.get(asked, "")


def _number(node: Numeric, counts: Mapping[str, int]) -> Numeric:
    match node:
        case Number() | Operand() | Feature():
            return node
        case Negative():
            return Negative(_number(node.operand, counts))
        case Arithmetic():
            return replace(node, left=_number(node.left, counts), right=_number(node.right, counts))
        case Call():
            (only, *more) = node.arguments
            if more or node.function not in AGGREGATES:
                return replace(node, arguments=tuple(_number(argument, counts) for argument in node.arguments))
            (role,) = {role for role in counts for o in operands(only) if _is_of(o, role)}
            each = tuple(_of(only, role, number) for number in range(1, counts[role] + 1))
            return each[0] if len(each) == 1 else replace(node, arguments=each)


def _of_the_known(node: Numeric, operator: str) -> Numeric:
    """A choice among several devices that those which are known can make."""
    if isinstance(node, Call) and len(node.arguments) > 1 and operator in _ENOUGH.get(node.function, ()):
        return replace(node, function=KNOWN[node.function])
    return node


def _of(node: Numeric, role: str, number: int) -> Numeric:
    """A number of one of the devices of a role."""
    match node:
        case Operand() | Feature():
            return _numbered(node, role, number) if _is_of(node, role) else node
        case Negative():
            return Negative(_of(node.operand, role, number))
        case Arithmetic():
            return replace(node, left=_of(node.left, role, number), right=_of(node.right, role, number))
        case Call():
            return replace(node, arguments=tuple(_of(argument, role, number) for argument in node.arguments))
    return node


def _is_of(read: Operand | Feature, role: str) -> bool:
    name = read.metric if isinstance(read, Feature) else read.name
    return name.removeprefix("design.").startswith(f"{role}.")


def _numbered(read: Operand | Feature, role: str, number: int) -> Operand | Feature:
    if isinstance(read, Feature):
        return replace(read, metric=read.metric.replace(f"{role}.", f"{role}[{number}].", 1))
    return replace(read, name=read.name.replace(f"{role}.", f"{role}[{number}].", 1))


def plays(rule: Rule, role: str, metrics: Collection[str]) -> bool:
    """Whether a device with these metrics can have a part in a role of several. Where one device is enough for the
    condition, those that have nothing to say are left out; a sum lacks each that it lacks."""
    wanted = {plain(metric_of(o)) for o in rule.parsed.operands if not o.is_given and _is_of(o, role)}
    return bool(wanted & set(metrics)) or not wanted or role in set(_summed(rule.parsed.root))


def _summed(node: Truth, *, holds: bool = True) -> Iterator[str]:
    """The roles of which every device must be known."""
    match node:
        case Comparison():
            for side, operator in zip((node.left, node.right), _asked(node.operator, holds=holds), strict=True):
                one_is_enough = isinstance(side, Call) and operator in _ENOUGH.get(side.function, ())
                if not one_is_enough:
                    yield from (metric_of(read).partition(".")[0] for read in operands(side))
        case Not():
            yield from _summed(node.operand, holds=not holds)
        case Junction():
            for part in node.parts:
                yield from _summed(part, holds=holds)
