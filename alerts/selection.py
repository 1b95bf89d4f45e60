"""Which devices a rule is for: one by one (`AppliesTo`), or in groups in which each has a role (`Group`). Pure.

How groups are judged is in `alerts.groups`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any, TypeVar

from pydantic import Field, field_validator

from alerts.closures import Decide, strict
from alerts.expression import Condition, ConditionError
from alerts.grammar import parse_selection
from devices.document import DocumentModel
from devices.duration import Duration
from devices.model import Device
from devices.profile import Kind

Parsed = TypeVar("Parsed")


def read(parse: Callable[[Any], Parsed], value: object) -> Parsed:
    """What a parser makes of a value; its error as one that tells pydantic."""
    try:
        return parse(value)
    except ConditionError as error:
        raise ValueError(str(error)) from error


class AppliesTo(DocumentModel):
    """Which devices a rule is for: those that fit everything named here; all devices if nothing is."""

    kind: Kind | None = None
    profiles: tuple[str, ...] = ()
    site: str | None = None
    tag: str | None = Field(default=None, description="A pattern for the tag, as in P-1* (* any text, ? any character)")
    design: str | None = Field(
        default=None, description="A condition on the nameplate alone, as in design.rated_power > 200"
    )

    @field_validator("design", mode="after")
    @classmethod
    def _design_fits(cls, design: str | None) -> str | None:
        return None if design is None else read(parse_selection, design).text

    @cached_property
    def _selection(self) -> Condition | None:
        return None if self.design is None else parse_selection(self.design)

    @cached_property
    def design_names(self) -> tuple[str, ...]:
        """The nameplate entries that choose."""
        return () if self._selection is None else self._selection.design

    @cached_property
    def _decide(self) -> Decide | None:
        """The condition on the nameplate, over the entries of `design_names`."""
        slots = {f"design.{name}": number for number, name in enumerate(self.design_names)}
        return None if self._selection is None else strict(self._selection, slots)

    def covers(self, device: Device, kind: Kind | None) -> bool:
        """Whether a device is meant; a nameplate entry that it does not have fits nothing."""
        return (
            (self.kind is None or self.kind is kind)
            and (not self.profiles or device.profile in self.profiles)
            and (self.site is None or self.site == device.site)
            and (self.tag is None or fnmatchcase(device.tag, self.tag))
            and (self._decide is None or self._decide([device.design.get(name) for name in self.design_names]) is True)
        )


class Role(AppliesTo):
    """Who may play a role in a group. Everything but `several` chooses as `applies_to` does."""

    several: bool = Field(
        default=False,
        description="Whether it may be several devices; the condition then takes sum(), min() or max() of them",
    )


class Place(StrEnum):
    """What the devices of one group have in common."""

    SITE = "site"
    AREA = "area"
    UNIT = "unit"
    NEIGHBOURHOOD = "neighbourhood"
    """The area; the site where no area is named, and each device by itself where no site is."""

    def of(self, device: Device) -> tuple[str, ...] | None:
        """Where a device is; None where the registry does not say."""
        path = {
            Place.NEIGHBOURHOOD: (device.site, device.area or device.site or device.identity),
            Place.SITE: (device.site,),
            Place.AREA: (device.site, device.area),
            Place.UNIT: (device.site, device.area, device.unit),
        }[self]
        return path if path[-1] else None


class Group(DocumentModel):
    """Devices of one place that are judged together. There is a group for each device that may play the first role (one
    for the place if that may be several); the alarm is that device's."""

    by: Place = Field(default=Place.UNIT, description="What the devices of a group have in common")
    roles: dict[str, Role] = Field(min_length=1, description="The alarm is about the first one")
    patience: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None,
        description="How much longer than its newest sample a moment waits for devices that it is not known of yet;"
        " two of the longest reporting intervals if absent",
    )

    @field_validator("roles", mode="after")
    @classmethod
    def _roles_fit(cls, roles: dict[str, Role]) -> dict[str, Role]:
        for name in roles:
            if not re.fullmatch("[a-z][a-z0-9_]*", name) or name in ("design", "setpoint"):
                raise ValueError(f"‘{name}’ is no name for a role: use lower case letters, digits and _")
        if len(roles) == 1 and not next(iter(roles.values())).several:
            raise ValueError("a group of one device is none: name another role, or say several: true")
        return roles

    @property
    def severals(self) -> dict[str, bool]:
        """The roles; whether each may be several devices."""
        return {name: role.several for name, role in self.roles.items()}

    def roles_of(self, device: Device, kind: Kind | None) -> list[str]:
        """The roles that a device may play."""
        return [name for name, role in self.roles.items() if role.covers(device, kind)]


_CASTS = 10_000
"""Casts that are remembered: where roles are chosen by tag, each device has one of its own."""


class Casting:
    """The roles that devices may play in some groups, worked out once for all those that are alike."""

    def __init__(self, groups: Iterable[Group], kinds: Mapping[str, Kind]) -> None:
        """`kinds` are those of the profiles that are installed."""
        self._groups = tuple(groups)
        self._kinds = kinds
        roles = [role for group in self._groups for role in group.roles.values()]
        self._by_tag = any(role.tag is not None for role in roles)
        self._by_design = sorted({name for role in roles for name in role.design_names})
        self._known: dict[tuple[object, ...], tuple[list[str], ...]] = {}

    def roles(self, device: Device) -> tuple[list[str], ...]:
        """By group; nothing for a device whose profile is not installed."""
        design = device.design
        key = (
            device.profile,
            device.site,
            device.tag if self._by_tag else "",
            tuple([design.get(name) for name in self._by_design]),
        )
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _CASTS:
                self._known.clear()
            kind = self._kinds.get(device.profile)
            cast = (group.roles_of(device, kind) for group in self._groups)
            found = self._known[key] = () if kind is None else tuple(cast)
        return found
