"""Set-points: the thresholds of a rule by name, and what has others from a moment on. Pure.

An override stands in the rule itself, or in a document of its own (`RuleOverride`), so that a shipped rule can be given
other set-points, or be switched off, without a copy of it. How documents are read is in `alerts.rulefiles`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator, model_validator

from alerts.expression import Number, Numeric
from alerts.grammar import parse_setpoint
from alerts.reader import SetPoints
from alerts.selection import read
from devices.document import DocumentModel, suggest
from devices.model import Device, Instant, instant

ENABLED = "enabled"
"""The set-point that a rule has which is switched off somewhere: 1 while it is on, 0 while it is off."""


def _instant(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return value  # a model that is read again
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("write an instant with its zone, as in 2026-11-23T08:00:00Z")
    return instant(value)


def _fitting(value: float | str) -> float | str:
    if not isinstance(value, str) and not math.isfinite(value):
        raise ValueError("a set-point is a finite number")
    read(parse_setpoint, value)
    return value


class SetPoint(DocumentModel):
    """A threshold by name: a number, a quantity (`6.4 mm/s`), or numbers and design.<name> (`0.9 * design.pn`)."""

    value: float | str
    description: str = ""

    @field_validator("value", mode="after")
    @classmethod
    def _value_fits(cls, value: float | str) -> float | str:
        return _fitting(value)


class Override(DocumentModel):
    """Other set-points for some devices from a moment on. The past keeps what was valid then."""

    devices: tuple[str, ...] = Field(default=(), description="Identities")
    tag: str | None = Field(default=None, description="A pattern for the tag, as in P-1*")
    site: str | None = None
    setpoints: dict[str, float | str] = Field(min_length=1)
    valid_from: Annotated[Instant, BeforeValidator(_instant, json_schema_input_type=str)] = Field(
        description="An instant with its zone, as in 2026-11-23T08:00:00Z"
    )
    reason: str = Field(min_length=1, description="Why, for whoever asks later")

    @field_validator("setpoints", mode="after")
    @classmethod
    def _setpoints_fit(cls, setpoints: dict[str, float | str]) -> dict[str, float | str]:
        return {name: _fitting(value) for name, value in setpoints.items()}

    def covers(self, device: Device) -> bool:
        """Whether it is for this device."""
        return (
            (not self.devices or device.identity in self.devices)
            and (self.tag is None or fnmatchcase(device.tag, self.tag))
            and (self.site is None or self.site == device.site)
        )

    def setpoint(self, name: str) -> Numeric:
        """The set-point as a tree."""
        return parse_setpoint(self.setpoints[name])[0]

    @property
    def who(self) -> str:
        """For whom it is, for people."""
        fitting = [f"{label} {value}" for label, value in (("tag", self.tag), ("site", self.site)) if value is not None]
        return ", ".join([*self.devices, *fitting]) or "all devices"

    @property
    def what(self) -> str:
        """What it sets, for people."""
        return ", ".join(_told(name, value) for name, value in self.setpoints.items())


def _told(name: str, value: float | str) -> str:
    if name == ENABLED and not isinstance(value, str):
        return "on" if value else "off"
    return f"{name} = {value if isinstance(value, str) else format(value, '.12g')}"


class RuleOverride(Override):
    """An override that is a document beside the rules: of a shipped rule, or of one in another file."""

    override: str = Field(description="The rule's name")
    setpoints: dict[str, float | str] = Field(default_factory=dict)
    enabled: bool | None = Field(
        default=None, description="false: from that moment on the rule does not call for these devices; true: again"
    )

    @model_validator(mode="after")
    def _says_something(self) -> RuleOverride:
        if not self.setpoints and self.enabled is None:
            raise ValueError("it changes nothing: give setpoints, or enabled")
        return self

    def plain(self) -> Override:
        """The same, as a rule holds it."""
        switch: dict[str, float | str] = {} if self.enabled is None else {ENABLED: float(self.enabled)}
        return Override(
            devices=self.devices,
            tag=self.tag,
            site=self.site,
            setpoints=self.setpoints | switch,
            valid_from=self.valid_from,
            reason=self.reason,
        )


def plain_numbers(values: Mapping[str, float | str]) -> dict[str, float]:
    """Those set-points that are a number by themselves, in the unit of what they are compared with."""
    trees = {name: parse_setpoint(value)[0] for name, value in values.items()}
    return {name: tree.value for name, tree in trees.items() if isinstance(tree, Number)}


def unfit(override: Override, known: SetPoints) -> Iterator[tuple[str, str]]:
    """What is wrong with an override of a rule with these set-points (each with its unit): the set-point and why."""
    for name, value in override.setpoints.items():
        if name not in known:
            yield name, f"the rule has no set-point ‘{name}’{suggest(name, list(known))}"
            continue
        unit = parse_setpoint(value)[1]
        if None not in (unit, known[name]) and unit != known[name]:
            yield name, f"the set-point ‘{name}’ is in {known[name]}, not {unit}"
