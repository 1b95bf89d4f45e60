"""What a rule is, and how rules are read from YAML. The condition language is `alerts.expression`.

The shipped rules are `alerts/library/*.yaml`. Everything that can be wrong with a rule is found when it is loaded, with
file, line and column; a document with one bad rule gives none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from importlib.resources import files
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from alerts.expression import Condition, ConditionError, Deadbands, parse_condition
from devices.alarm import Priority
from devices.document import DocumentError, DocumentModel, Positions, load_yaml, suggest, validate
from devices.duration import Duration
from devices.metrics import CATALOGUE
from devices.model import Device
from devices.profile import Kind, Profile

SEVERITIES = {Priority.LOW: (1, 333), Priority.MEDIUM: (334, 666), Priority.HIGH: (667, 1000)}
"""The band of OPC UA severities that each priority stands for (OPC UA Part 9, per standard, unverified)."""

MESSAGE_FIELDS = ("value", "limit", "unit")
"""What a message may insert: the leading metric's value and limit when the alarm was raised, and their unit."""
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


class AppliesTo(DocumentModel):
    """Which devices a rule is for: those that fit everything named here; all devices if nothing is."""

    kind: Kind | None = None
    profiles: tuple[str, ...] = ()
    site: str | None = None


class Guidance(DocumentModel):
    """What the operator needs to act (ISA-18.2: an alarm without an action is none)."""

    cause: str = Field(min_length=1, description="What usually is behind it, the likeliest first")
    consequence: str = Field(min_length=1, description="What happens if nobody acts")
    corrective_action: str = Field(min_length=1, description="What to do, in order")
    time_to_respond: Duration = Field(description="How long until the consequence can no longer be avoided")


def _middle(priority: Priority) -> int:
    least, most = SEVERITIES[priority]
    return (least + most + 1) // 2


def _condition(text: str) -> str:
    try:
        parse_condition(text)
    except ConditionError as error:
        raise ValueError(str(error)) from error
    return text


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
    condition: Annotated[str, AfterValidator(_condition)]
    deadband: Annotated[float | dict[str, float], BeforeValidator(_deadband)] = Field(
        default=0.0,
        validate_default=False,
        description="How far back inside its limit a value must be before the alarm may clear, in the metric's"
        " canonical unit; one number, or one for each metric",
    )
    metric: str | None = Field(
        default=None, description="The metric whose value the alarm shows; the first one with a limit if absent"
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

    @field_validator("deadband", mode="after")
    @classmethod
    def _deadband_fits(cls, deadband: float | dict[str, float], info: ValidationInfo) -> float | dict[str, float]:
        if "condition" in info.data:
            parse_condition(info.data["condition"]).deadbands(deadband)
        return deadband

    @field_validator("metric", mode="after")
    @classmethod
    def _metric_fits(cls, metric: str | None, info: ValidationInfo) -> str | None:
        if metric is not None and "condition" in info.data:
            named = parse_condition(info.data["condition"]).metrics
            if metric not in named:
                raise ValueError(f"‘{metric}’ is not in the condition{suggest(metric, named)}")
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
            raise ValueError("a brace without its partner; only {value}, {limit} and {unit} have braces")
        if "limit" in names and "condition" in info.data and parse_condition(info.data["condition"]).leading is None:
            raise ValueError("{limit} has no meaning: the condition compares no quantity with a limit")
        return message

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
        return parse_condition(self.condition)

    @cached_property
    def deadbands(self) -> Deadbands:
        """The deadband by metric."""
        return self.parsed.deadbands(self.deadband)

    @cached_property
    def shown_metric(self) -> str:
        """The metric whose value an alarm of this rule shows."""
        return self.metric or self.parsed.leading_metric

    def fits(self, device: Device, profile: Profile) -> bool:
        """Whether the rule is for this device."""
        wanted = self.applies_to
        return (
            (wanted.kind is None or wanted.kind is profile.kind)
            and (not wanted.profiles or device.profile in wanted.profiles)
            and (wanted.site is None or wanted.site == device.site)
        )

    def words(self, value: float | None, limit: float | None) -> str:
        """The message for a value and a limit in the shown metric's unit; `?` for what is not known."""
        unit = CATALOGUE[self.shown_metric].unit
        known = {"value": _number(value), "limit": _number(limit), "unit": "" if unit == "1" else unit}
        return _FIELD.sub(lambda match: known[match[1]], self.message)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{float(f'{value:.4g}'):.12g}"


def load_rules(text: str, source: str) -> list[Rule]:
    """The rules of a document, which holds one or a list of them.

    `DocumentError` with every problem of every rule; a name may stand once.
    """
    root, positions = load_yaml(text, source)
    if isinstance(root, Mapping):
        return [validate(root, positions, Rule)]
    if not isinstance(root, list) or not root:
        raise DocumentError([f"{source}:1:1: a document holds one rule (a mapping) or a list of rules"])
    rules: list[Rule] = []
    problems: list[str] = []
    for number, entry in enumerate(root):
        try:
            rules.append(validate(entry, positions, Rule, at=(number,)))
        except DocumentError as error:
            problems += error.problems
    problems += _repeated(root, positions)
    if problems:
        raise DocumentError(problems)
    return rules


def shipped_rules() -> list[Rule]:
    """The rules that come with Headworks, by name."""
    found: dict[str, Rule] = {}
    for entry in sorted(files("alerts").joinpath("library").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".yaml"):
            for rule in load_rules(entry.read_text(encoding="utf-8"), entry.name):
                if rule.rule in found:
                    raise DocumentError([f"{entry.name}: the rule ‘{rule.rule}’ exists twice"])
                found[rule.rule] = rule
    return sorted(found.values(), key=lambda rule: rule.rule)


def _repeated(root: list[Any], positions: Positions) -> list[str]:
    seen: set[object] = set()
    problems: list[str] = []
    for number, entry in enumerate(root):
        name = entry.get("rule") if isinstance(entry, Mapping) else None
        if isinstance(name, str) and name in seen:
            problems.append(f"{positions.locate((number, 'rule'))}: the rule ‘{name}’ exists twice in this document")
        seen.add(name if isinstance(name, str) else None)
    return problems
