"""What set-points and limits of rules come to on one device, for trends and for people who ask. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alerts.closures import calculation
from alerts.expression import Feature, Numeric, Operand, operands
from alerts.rules import Rule
from alerts.setpoints import ENABLED
from devices.alarm import Priority
from devices.model import Device, Instant
from devices.profile import Profile

_LIKE_ITS_METRIC = ("avg", "min", "max", "previous")
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True, slots=True)
class Band:
    """A limit of a metric, in its canonical unit: beyond it in the direction of `operator` the rule's condition may
    hold. `of` is what is compared: the metric, or what the rule makes of it."""

    rule: str
    title: str
    priority: Priority
    metric: str
    of: str
    operator: str
    limit: float


def bands(rules: Sequence[Rule], device: Device, profile: Profile, now: Instant) -> list[Band]:
    """The limit of each rule that is for the device and compares a metric with what its nameplate and the rule's
    set-points give at a moment. Rules without such a limit have none here."""
    found = (band_of(rule, device, now) for rule in rules if rule.fits(device, profile))
    return [band for band in found if band is not None]


def band_of(rule: Rule, device: Device, now: Instant) -> Band | None:
    """The limit of one rule on a device that it is for; None where it has none that is a number there."""
    leading = rule.parsed.leading
    if leading is None or not leading.is_ordered:
        return None
    if ENABLED in rule.setpoints and setpoint_value(rule, ENABLED, device, now) == 0:
        return None
    for read, other, operator in (
        (leading.left, leading.right, leading.operator),
        (leading.right, leading.left, _MIRRORED[leading.operator]),
    ):
        metric = _metric(read)
        if metric is None or not all(operand.is_given for operand in operands(other)):
            continue
        limit = _value(rule, other, device, now)
        if limit is None:
            return None
        assert isinstance(read, Operand | Feature)
        return Band(rule.rule, rule.title, rule.priority, metric, read.name, operator, limit)
    return None


def setpoint_value(rule: Rule, name: str, device: Device, now: Instant) -> float | None:
    """What a set-point of a rule is on a device at a moment; None where the nameplate lacks what it is made from."""
    return _value(rule, _setpoint(rule, name, device, now), device, now)


def _metric(node: Numeric) -> str | None:
    if isinstance(node, Operand) and not node.is_given:
        return node.name
    if isinstance(node, Feature) and node.function in _LIKE_ITS_METRIC:
        return node.metric
    return None


def _value(rule: Rule, node: Numeric, device: Device, now: Instant) -> float | None:
    """What a part of a condition comes to that reads the nameplate and set-points only."""
    names = [operand.name for operand in operands(node)]
    values: list[float | None] = []
    for name in names:
        kind, _, entry = name.partition(".")
        if kind == "setpoint":
            values.append(_value(rule, _setpoint(rule, entry, device, now), device, now))
        else:
            values.append(device.design.get(entry))
    return calculation(node, {name: slot for slot, name in enumerate(names)})(values)


def _setpoint(rule: Rule, name: str, device: Device, now: Instant) -> Numeric:
    for override in reversed(rule.overrides):  # they are in the order of valid_from
        if name in override.setpoints and override.valid_from <= now and override.covers(device):
            return override.setpoint(name)
    return rule.setpoint(name)
