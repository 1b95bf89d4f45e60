"""What one device type is: its codec, metrics, ranges and reporting, read from YAML and compiled for run time.

The shipped profiles are `devices/profiles/*.yaml`. Devices themselves are in the registry (`storage.registry`).
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from importlib.resources import files
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from devices.document import DocumentError, DocumentModel, load_document, suggest
from devices.duration import Duration
from devices.metrics import CATALOGUE
from devices.model import Codec
from devices.units import Conversion, UnitMismatchError, accepted, conversion


class Kind(StrEnum):
    """What the device is mounted on; rules choose their assets by it."""

    PUMP = "pump"
    VALVE = "valve"
    METER = "meter"


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] < limits[1]:
        raise ValueError(f"the lower limit {limits[0]} is not below the upper limit {limits[1]}")
    return limits


def _known(metric: str) -> str:
    if metric not in CATALOGUE:
        raise ValueError(f"unknown metric ‘{metric}’{suggest(metric, list(CATALOGUE))}")
    return metric


MetricName = Annotated[str, AfterValidator(_known)]
"""A name from the metric catalogue."""

Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


class MetricSpec(DocumentModel):
    """One metric of a profile.

    `sensor` is what the instrument can measure: outside it a value is bad. `process` is what the plant can do:
    outside it a value is uncertain (NAMUR NE 43 keeps the two apart). Both are in the metric's canonical unit.
    """

    unit: str | None = Field(
        default=None, description="The unit a record without one is in; the canonical unit if absent"
    )
    names: tuple[str, ...] = Field(default=(), description="Further names that devices use for this metric")
    sensor: Range | None = None
    process: Range | None = None


class Reporting(DocumentModel):
    """When a device of this type samples and speaks."""

    sampling: Duration = Field(description="Time between two samples")
    interval: Duration = Field(description="Time between two uplinks in normal operation")
    alarm_interval: Duration | None = Field(
        default=None, description="Time between two uplinks while something is abnormal"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Reporting:
        if self.sampling <= 0 or self.interval < self.sampling:
            raise ValueError("the reporting interval must be at least the sampling interval, and both above 0")
        return self


class CompiledMetric(NamedTuple):
    """What normalisation needs of one metric, worked out once."""

    metric: str
    units: dict[str | None, Conversion]
    bad_below: float
    bad_above: float
    uncertain_below: float
    uncertain_above: float


class Profile(DocumentModel):
    """A device type."""

    profile: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$", description="The profile's name, as the registry refers to it"
    )
    title: str
    kind: Kind
    codec: Codec
    reporting: Reporting
    metrics: dict[MetricName, MetricSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_metrics(self) -> Profile:
        seen: dict[str, str] = {}
        for name, spec in self.metrics.items():
            try:
                conversion(spec.unit, CATALOGUE[name].unit)
            except UnitMismatchError as error:
                raise ValueError(f"metric ‘{name}’: {error}") from error
            for alias in (name, *spec.names):
                if alias in seen:
                    raise ValueError(f"the name ‘{alias}’ stands for both ‘{seen[alias]}’ and ‘{name}’")
                seen[alias] = name
        return self

    @cached_property
    def compiled(self) -> dict[str, CompiledMetric]:
        """By every name a device may use: the metric, its unit table and its limits."""
        infinity = float("inf")
        table: dict[str, CompiledMetric] = {}
        for name, spec in self.metrics.items():
            canonical = CATALOGUE[name].unit
            units = dict(accepted(canonical))
            units[None] = conversion(spec.unit, canonical)
            sensor = spec.sensor or (-infinity, infinity)
            process = spec.process or sensor
            entry = CompiledMetric(name, units, sensor[0], sensor[1], process[0], process[1])
            for alias in (name, *spec.names):
                table[alias] = entry
        return table


def load_profile(text: str, source: str) -> Profile:
    """Read one profile; `DocumentError` with file, line and column where it is not valid."""
    return load_document(text, source, Profile)


def shipped_profiles() -> dict[str, Profile]:
    """The profiles that come with Headworks, by name."""
    found: dict[str, Profile] = {}
    for entry in sorted(files("devices").joinpath("profiles").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".yaml"):
            profile = load_profile(entry.read_text(encoding="utf-8"), entry.name)
            if profile.profile in found:
                raise DocumentError([f"{entry.name}: the profile ‘{profile.profile}’ exists twice"])
            found[profile.profile] = profile
    return found
