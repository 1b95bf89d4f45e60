"""What a rule is, and everything that can be wrong with one. Pure.

The condition language is `alerts.expression`, set-points and their overrides are `alerts.setpoints`, the files that
rules stand in are `alerts.rulefiles`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from functools import cached_property, partial
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from alerts.contradictions import contradiction
from alerts.expression import (
    Condition,
    Deadbands,
    Numeric,
    Operand,
    Read,
    calls,
    can_hold,
    metric_of,
    operands,
    plain,
)
from alerts.functions import LONGEST_WINDOW, UNUSUAL
from alerts.grammar import parse_condition, parse_feature, parse_setpoint
from alerts.multivariate import MOST_FEATURES, Model
from alerts.reader import SetPoints
from alerts.selection import AppliesTo, Group, read
from alerts.setpoints import Override, SetPoint, plain_numbers, unfit
from devices.alarm import Priority
from devices.document import DocumentModel, suggest
from devices.duration import Duration, format_duration
from devices.metrics import CATALOGUE
from devices.model import Device, Instant
from devices.profile import Profile

SEVERITIES = {Priority.LOW: (1, 333), Priority.MEDIUM: (334, 666), Priority.HIGH: (667, 1000)}
"""The band of OPC UA severities that each priority stands for (OPC UA Part 9, per standard, unverified)."""

MESSAGE_FIELDS = ("value", "limit", "unit", "features")
"""What a message may insert: the leading metric's value and limit when the alarm was raised, their unit, and for a rule
with a model which features made it call."""
_FIELD = re.compile(r"\{([^{}]*)\}")


class AlarmClass(StrEnum):
    """What kind of trouble it is: alarms of one class are managed alike (ISA-18.2)."""

    SAFETY = "safety"
    ENVIRONMENT = "environment"
    EQUIPMENT = "equipment"
    PROCESS = "process"
    SECURITY = "security"
    INSTRUMENT = "instrument"
    """The device itself: its battery, its radio, its sensors."""


def _setpoint(value: object) -> object:
    return value if isinstance(value, Mapping | SetPoint) else {"value": value}


class Guidance(DocumentModel):
    """What the operator needs to act (ISA-18.2: an alarm without an action is none)."""

    cause: str = Field(min_length=1, description="What usually is behind it, the likeliest first")
    consequence: str = Field(min_length=1, description="What happens if nobody acts")
    corrective_action: str = Field(min_length=1, description="What to do, in order")
    time_to_respond: Duration = Field(description="How long until the consequence can no longer be avoided")


def _middle(priority: Priority) -> int:
    least, most = SEVERITIES[priority]
    return (least + most + 1) // 2


def _deadband(value: object) -> object:
    numbers = value if isinstance(value, Mapping) else {"": value}
    for name, number in numbers.items():
        where = f"{name}: " if name else ""
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"{where}write a number, or a number for each metric as in {{flow: 1, power: 0.5}}")  # noqa: TRY004 - pydantic
        if not math.isfinite(number) or number < 0:
            raise ValueError(f"{where}a deadband is a finite number, 0 or more")
    return value


class Rule(DocumentModel):
    """A condition on one device with what makes it an alarm. All times are sample times."""

    rule: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=80, description="The rule's name, in kebab-case")
    title: str = Field(min_length=1)
    applies_to: AppliesTo = AppliesTo()
    setpoints: dict[str, Annotated[SetPoint, BeforeValidator(_setpoint)]] = Field(
        default_factory=dict, description="Thresholds that the condition names setpoint.<name>, with their defaults"
    )
    overrides: tuple[Override, ...] = Field(default=(), description="Set-points of single devices, with their history")
    group: Group | None = Field(
        default=None, description="Devices that are judged together; the condition then names <role>.<metric>"
    )
    features: tuple[str, ...] = Field(
        default=(), max_length=MOST_FEATURES, description="Numbers that are judged together: unusual() in the condition"
    )
    model: Annotated[Model | None, WithJsonSchema({"type": "string"})] = Field(
        default=None,
        description="The file beside this one that says what is usual of the features; headworks rules learn writes it",
    )
    condition: str
    deadband: Annotated[float | dict[str, float], BeforeValidator(_deadband)] = Field(
        default=0.0,
        validate_default=False,
        description="How far back inside its limit a value must be before the alarm may clear, in the metric's"
        " canonical unit; one number, or one for each metric",
    )
    metric: str | None = Field(
        default=None,
        description="The metric (or what the condition makes of it, as in avg(flow, '1h')) whose value the alarm shows;"
        " the first one with a limit if absent",
    )
    message: str = Field(min_length=1, max_length=300, description="Plain text; {value}, {limit} and {unit} are filled")
    on_delay: Annotated[Duration, Field(ge=0)] = 0
    off_delay: Annotated[Duration, Field(ge=0)] = 0
    validity: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None,
        description="How long a value stands after its sample; two reporting intervals of the profile if absent",
    )
    latching: bool = Field(default=False, description="Whether the alarm stays until it is reset")
    priority: Priority
    severity: int = Field(
        default=None,
        validate_default=True,
        description="1 to 1000, within the priority's band; its middle if absent",
    )
    alarm_class: AlarmClass = AlarmClass.PROCESS
    guidance: Guidance

    @field_validator("setpoints", mode="after")
    @classmethod
    def _setpoint_names(cls, setpoints: dict[str, SetPoint]) -> dict[str, SetPoint]:
        for name in setpoints:
            if not re.fullmatch("[a-z][a-z0-9_]*", name):
                raise ValueError(f"‘{name}’ is no name for a set-point: use lower case letters, digits and _")
        return setpoints

    @field_validator("group", mode="after")
    @classmethod
    def _roles_choose(cls, group: Group | None, info: ValidationInfo) -> Group | None:
        if group is not None and info.data.get("applies_to", AppliesTo()) != AppliesTo():
            raise ValueError("a rule on a group chooses its devices by their roles: leave applies_to out")
        return group

    @field_validator("features", mode="after")
    @classmethod
    def _features_fit(cls, features: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "group" in info.data:
            for feature in features:
                read(partial(parse_feature, roles=_roles(info.data["group"])), feature)
        return features

    @field_validator("model", mode="after")
    @classmethod
    def _model_fits(cls, model: Model | None, info: ValidationInfo) -> Model | None:
        if model is not None and "features" in info.data and model.features != info.data["features"]:
            raise ValueError("the model was taught other features than the rule lists: learn it again")
        return model

    @field_validator("overrides", mode="after")
    @classmethod
    def _overrides_fit(cls, overrides: tuple[Override, ...], info: ValidationInfo) -> tuple[Override, ...]:
        known = _units(info.data.get("setpoints", {}))
        for override in overrides:
            for _, why in unfit(override, known):
                raise ValueError(why)
        return tuple(sorted(overrides, key=lambda override: override.valid_from))

    @field_validator("condition", mode="after")
    @classmethod
    def _condition_fits(cls, text: str, info: ValidationInfo) -> str:
        if {"setpoints", "group", "features", "model"} <= info.data.keys():
            roles = _roles(info.data.get("group"))
            condition = read(
                partial(
                    parse_condition,
                    setpoints=_units(info.data["setpoints"]),
                    roles=roles,
                    features=info.data["features"],
                    model=info.data["model"],
                ),
                text,
            )
            if info.data["features"] and next(calls(condition.root, UNUSUAL), None) is None:
                raise ValueError("the features are not in the condition: write unusual() > 1")
            named_roles = {name.partition(".")[0] for name in condition.metrics}
            unused = [role for role in roles if role not in named_roles]
            if unused:
                raise ValueError(f"the role ‘{unused[0]}’ is not in the condition: write {unused[0]}.<metric>")
            named = {operand.name for operand in condition.operands}
            for name in info.data["setpoints"]:
                if f"setpoint.{name}" not in named:
                    raise ValueError(f"the set-point ‘{name}’ is not in the condition: write setpoint.{name}")
            values = {name: setpoint.value for name, setpoint in info.data["setpoints"].items()}
            why = contradiction(condition.root, plain_numbers(values))
            if why is not None:
                raise ValueError(why)
            for override in info.data.get("overrides", ()):
                why = contradiction(condition.root, plain_numbers(values | override.setpoints))
                if why is not None:
                    raise ValueError(f"with the set-points for {override.who} {why}")
        return text

    @field_validator("deadband", mode="after")
    @classmethod
    def _deadband_fits(cls, deadband: float | dict[str, float], info: ValidationInfo) -> float | dict[str, float]:
        condition = _parsed(info)
        if condition is not None:
            read(condition.deadbands, deadband)
        return deadband

    @field_validator("metric", mode="after")
    @classmethod
    def _metric_fits(cls, metric: str | None, info: ValidationInfo) -> str | None:
        condition = _parsed(info)
        if metric is not None and condition is not None:
            known = [operand.name for operand in condition.operands if not operand.is_given]
            if metric not in (*known, *condition.metrics):
                raise ValueError(f"‘{metric}’ is not in the condition{suggest(metric, known)}")
        return metric

    @field_validator("message", mode="after")
    @classmethod
    def _message_fits(cls, message: str, info: ValidationInfo) -> str:
        names = _FIELD.findall(message)
        for name in names:
            if name not in MESSAGE_FIELDS:
                listed = ", ".join(f"{{{field}}}" for field in MESSAGE_FIELDS)
                raise ValueError(f"unknown field {{{name}}}{suggest(name, MESSAGE_FIELDS)} (there are {listed})")
        if "{" in _FIELD.sub("", message) or "}" in _FIELD.sub("", message):
            raise ValueError("a brace without its partner; only {value}, {limit}, {unit} and {features} have braces")
        condition = _parsed(info)
        if "limit" in names and condition is not None and condition.leading is None:
            raise ValueError("{limit} has no meaning: the condition compares no quantity with a limit")
        return message

    @field_validator("on_delay", "off_delay", mode="after")
    @classmethod
    def _delay_fits(cls, delay: Instant) -> Instant:
        if delay > LONGEST_WINDOW:
            raise ValueError(f"{format_duration(delay)} is too long: at most {format_duration(LONGEST_WINDOW)}")
        return delay

    @field_validator("guidance", mode="after")
    @classmethod
    def _time_is_left(cls, guidance: Guidance, info: ValidationInfo) -> Guidance:
        delay = info.data.get("on_delay", 0)
        if delay >= guidance.time_to_respond:
            raise ValueError(
                f"the on-delay of {format_duration(delay)} contradicts the time to respond of"
                f" {format_duration(guidance.time_to_respond)}: nobody could act in time"
            )
        return guidance

    @field_validator("severity", mode="before")
    @classmethod
    def _severity_by_priority(cls, severity: object, info: ValidationInfo) -> object:
        return _middle(info.data.get("priority", Priority.MEDIUM)) if severity is None else severity

    @field_validator("severity", mode="after")
    @classmethod
    def _severity_fits(cls, severity: int, info: ValidationInfo) -> int:
        if "priority" not in info.data:
            return severity
        least, most = SEVERITIES[info.data["priority"]]
        if not least <= severity <= most:
            raise ValueError(
                f"{severity} contradicts the priority ‘{info.data['priority']}’, which stands for {least} to {most}"
            )
        return severity

    @cached_property
    def parsed(self) -> Condition:
        """The condition as a tree."""
        return parse_condition(self.condition, _units(self.setpoints), _roles(self.group), self.features, self.model)

    @property
    def told_when_over(self) -> bool:
        """Whether people are told of it also where it was over before it was known: what latches waits for its reset,
        and what endangers people is to be acknowledged whenever it was (ISA-18.2: by the alarm's class)."""
        return self.latching or self.alarm_class is AlarmClass.SAFETY

    @property
    def setpoint_units(self) -> SetPoints:
        """The set-points, each with its unit (None fits all)."""
        return _units(self.setpoints)

    @cached_property
    def given(self) -> tuple[Read, ...]:
        """Everything of the nameplate that the condition and its set-points need."""
        trees = [self.setpoint(name) for name in self.setpoints]
        trees += [override.setpoint(name) for override in self.overrides for name in override.setpoints]
        found = [o for o in self.parsed.operands if o.name.startswith("design.")]
        return tuple(dict.fromkeys([*found, *(o for tree in trees for o in operands(tree))]))

    def contradiction(self, override: Override | None = None, sampling: Instant | None = None) -> str | None:
        """Why the condition can never be true, or never false, with the rule's set-points and those of an override."""
        values = {name: setpoint.value for name, setpoint in self.setpoints.items()}
        values |= {} if override is None else override.setpoints
        return contradiction(self.parsed.root, plain_numbers(values), sampling)

    def setpoint(self, name: str) -> Numeric:
        """A set-point as a tree."""
        return parse_setpoint(self.setpoints[name].value)[0]

    @cached_property
    def deadbands(self) -> Deadbands:
        """The deadband by metric."""
        return self.parsed.deadbands(self.deadband)

    @cached_property
    def shown(self) -> str:
        """What an alarm of this rule shows the value of: a metric, or a feature of one."""
        return self.metric or self.parsed.leading_read.name

    @property
    def shows_calculated(self) -> bool:
        """Whether an alarm shows what the leading comparison compares, as it is of several devices."""
        return (self.group is not None or bool(self.features)) and self.metric is None

    @cached_property
    def shown_metric(self) -> str:
        """The metric that an alarm of this rule is about."""
        return plain(metric_of(self._shown_read))

    @cached_property
    def shown_unit(self) -> str:
        """The unit of what is shown; empty for a plain number."""
        leading = self.parsed.leading
        unit = leading.unit if self.shows_calculated and leading is not None else self._shown_read.unit
        return "" if unit in (None, "1", "quality") else str(unit)

    @property
    def _shown_read(self) -> Read:
        named = (operand for operand in self.parsed.operands if operand.name == self.metric)
        if self.metric is not None and self.metric in self.parsed.metrics:
            return Operand(self.metric, CATALOGUE[plain(self.metric)].unit)
        return next(named, self.parsed.leading_read)

    def fits(self, device: Device, profile: Profile) -> bool:
        """Whether the rule is for this device by itself; a rule on a group is for none."""
        return self.group is None and self.applies_to.covers(device, profile.kind)

    def idle(self, metrics: Collection[str], design: Collection[str]) -> str | None:
        """Why the rule can never call on a device that it is for and that has these metrics and nameplate entries: what
        it needs is not there. None if it can."""
        if self.features and self.model is None:
            return "its model has not been learnt"
        missing = [name for name in self.parsed.metrics if name not in metrics]
        missing += [operand.name for operand in self.given if operand.name.removeprefix("design.") not in design]
        lost = set(missing)
        for name in self.setpoints:
            if not self.overrides and any(operand.name in lost for operand in operands(self.setpoint(name))):
                lost.add(f"setpoint.{name}")
        if not lost or can_hold(self.parsed.root, lost):
            return None
        return f"there is no {', '.join(dict.fromkeys(missing))}"

    def words(self, value: float | None, limit: float | None, features: str = "") -> str:
        """The message for a value and a limit in the unit of what is shown; `?` for what is not known."""
        known = {"value": _readable(value), "limit": _readable(limit), "unit": self.shown_unit, "features": features}
        return _FIELD.sub(lambda match: known[match[1]], self.message)


def _units(setpoints: Mapping[str, SetPoint]) -> SetPoints:
    return {name: parse_setpoint(setpoint.value)[1] for name, setpoint in setpoints.items()}


def _parsed(info: ValidationInfo) -> Condition | None:
    """The condition, if it was valid."""
    if not {"condition", "setpoints", "group", "features", "model"} <= info.data.keys():
        return None
    return parse_condition(
        info.data["condition"],
        _units(info.data["setpoints"]),
        _roles(info.data["group"]),
        info.data["features"],
        info.data["model"],
    )


def _roles(group: Group | None) -> dict[str, bool]:
    return {} if group is None else group.severals


def _readable(value: float | None) -> str:
    return "?" if value is None else f"{float(f'{value:.4g}'):.12g}"
