"""What one device type is: its codec, metrics, ranges and reporting, read from YAML and compiled for run time.

The shipped profiles are `devices/profiles/*.yaml`. Devices themselves are in the registry (`storage.registry`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache, cached_property
from importlib.resources import files
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from devices.codecs.frame import Bit, Frame, Path, Value, values
from devices.codecs.frame_check import frame_problems
from devices.codecs.frame_decode import FrameDecoder
from devices.codecs.frame_encode import FrameEncoder
from devices.document import DocumentError, DocumentModel, load_yaml, suggest, validate
from devices.duration import Duration, format_duration
from devices.metrics import CATALOGUE
from devices.model import SECOND, Codec, Measurement
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
    rollover: float | None = Field(
        default=None, gt=0, description="For a counter: where it begins again at 0, in the metric's canonical unit"
    )


class Reporting(DocumentModel):
    """When a device of this type samples and speaks."""

    sampling: Duration = Field(description="Time between two samples")
    interval: Duration = Field(description="Time between two uplinks in normal operation")
    alarm_interval: Duration | None = Field(
        default=None, description="Time between two uplinks while something is abnormal"
    )
    stamped: bool = Field(
        default=False,
        description="The sending time is written anew for every transmission: an uplink that is late has a wrong clock",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Reporting:
        if self.sampling <= 0 or self.interval < self.sampling:
            raise ValueError("the reporting interval must be at least the sampling interval, and both above 0")
        return self


_T3412_UNITS = (2, 30, 60, 600, 3600, 36_000, 1_152_000)
_T3324_UNITS = (2, 60, 360)
_EDRX_CYCLES = [2_048 * SECOND // 100 << n for n in range(10)]
_PAGING_WINDOWS = [256 * SECOND // 100 * n for n in range(1, 17)]


def _timer(units: tuple[int, ...], name: str) -> AfterValidator:
    """A GPRS timer is a unit times 0 to 31 (3GPP TS 24.008, 10.5.7.4 and 10.5.7.4a); nothing else can be asked for."""
    allowed = sorted({unit * count * SECOND for unit in units for count in range(1, 32)})

    def check(value: int) -> int:
        if value not in allowed:
            near = min(allowed, key=lambda candidate: abs(candidate - value))
            raise ValueError(f"{name} cannot be {format_duration(value)}; the nearest is {format_duration(near)}")
        return value

    return AfterValidator(check)


def _one_of(allowed: list[int], name: str) -> AfterValidator:
    def check(value: int) -> int:
        if value not in allowed:
            near = min(allowed, key=lambda candidate: abs(candidate - value))
            raise ValueError(f"{name} cannot be {format_duration(value)}; the nearest is {format_duration(near)}")
        return value

    return AfterValidator(check)


class Sleep(DocumentModel):
    """How the modem sleeps, as it asks the network for it. Durations are those that the timers can express."""

    t3412: Annotated[Duration, _timer(_T3412_UNITS, "T3412")] | None = Field(
        default=None, description="Power saving mode: time between two tracking area updates (T3412 extended)"
    )
    t3324: Annotated[Duration, _timer(_T3324_UNITS, "T3324")] | None = Field(
        default=None, description="Power saving mode: how long the device can be reached after it has spoken (T3324)"
    )
    edrx: Annotated[Duration, _one_of(_EDRX_CYCLES, "the eDRX cycle")] | None = Field(
        default=None, description="Extended discontinuous reception: time between two paging windows"
    )
    paging_window: Annotated[Duration, _one_of(_PAGING_WINDOWS, "the paging time window")] | None = Field(
        default=None, description="How long a paging window of eDRX is"
    )

    @model_validator(mode="after")
    def _belong_together(self) -> Sleep:
        if (self.t3412 is None) != (self.t3324 is None):
            raise ValueError("power saving mode needs both t3412 and t3324")
        if self.paging_window is not None and (self.edrx is None or self.paging_window > self.edrx):
            raise ValueError("a paging window belongs to a longer edrx cycle")
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
    override: bool = Field(default=False, description="Takes the place of the shipped profile of the same name")
    reporting: Reporting
    sleep: Sleep | None = None
    metrics: dict[MetricName, MetricSpec] = Field(min_length=1)
    frame: Frame | None = Field(default=None, description="The binary frame, where the codec is ‘frame’")

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

    @model_validator(mode="after")
    def _check_frame(self) -> Profile:
        if (self.codec is Codec.FRAME) != (self.frame is not None):
            raise ValueError("a ‘frame’ is declared where the codec is ‘frame’, and only there")
        return self

    @cached_property
    def frame_decoder(self) -> FrameDecoder:
        """The compiled `frame`, which must be there."""
        if self.frame is None:
            raise ValueError(f"the profile ‘{self.profile}’ declares no frame")
        return FrameDecoder(self.frame)

    @cached_property
    def frame_encoder(self) -> FrameEncoder:
        """The way back, for simulated devices: any names and units that the profile takes."""
        if self.frame is None:
            raise ValueError(f"the profile ‘{self.profile}’ declares no frame")
        table = self.compiled

        def convert(measurement: Measurement, unit: str | None) -> float:
            name, given, value, _ = measurement
            units = table[name].units
            if given not in units or not isinstance(value, int | float):
                raise ValueError(f"‘{name}’: {value!r} {given or ''} cannot be sent")
            return value if given == unit else units[unit].back(units[given].convert(value))

        return FrameEncoder(self.frame, convert, {name: entry.metric for name, entry in table.items()})

    @cached_property
    def rollovers(self) -> dict[str, float]:
        """Where the counters begin again, by metric."""
        return {name: spec.rollover for name, spec in self.metrics.items() if spec.rollover is not None}

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
    root, positions = load_yaml(text, source)
    profile = validate(root, positions, Profile)
    if profile.frame is not None:
        problems = [*frame_problems(profile.frame), *_unfit_values(profile)]
        if problems:
            raise DocumentError([f"{positions.locate(('frame', *path))}: {what}" for path, what in problems])
    return profile


def _unfit_values(profile: Profile) -> Iterator[tuple[Path, str]]:
    """Values of the frame that normalisation would refuse one by one: no such metric, or a unit of another kind."""
    table = profile.compiled
    assert profile.frame is not None
    for path, element in values(profile.frame.layout):
        name = element.value or ""
        metric = table.get(name)
        if metric is None:
            yield (*path, "value"), f"‘{name}’ is no metric of this profile{suggest(name, list(table))}"
            continue
        for unit in _units(element):
            if unit not in metric.units:
                canonical = CATALOGUE[metric.metric].unit
                yield path, f"‘{name}’ in {unit!r} cannot be converted to {canonical!r}"


def _units(element: Value | Bit) -> list[str | None]:
    if isinstance(element, Value) and element.unit_codes is not None:
        return list(element.unit_codes.values())
    return [element.unit]


def json_schema() -> str:
    """The JSON Schema of a profile file, as `devices/profile.schema.json` holds it."""
    schema = Profile.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Headworks device profile"
    metrics = schema["properties"]["metrics"]
    metrics["propertyNames"] = {"enum": sorted(CATALOGUE)}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def shipped_profiles() -> dict[str, Profile]:
    """The profiles that come with Headworks, by name."""
    return dict(_shipped_profiles())


@cache
def _shipped_profiles() -> Mapping[str, Profile]:
    """Read once: it takes a tenth of a second and more."""
    found: dict[str, Profile] = {}
    for entry in sorted(files("devices").joinpath("profiles").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".yaml"):
            profile = load_profile(entry.read_text(encoding="utf-8"), entry.name)
            if profile.profile in found:
                raise DocumentError([f"{entry.name}: the profile ‘{profile.profile}’ exists twice"])
            found[profile.profile] = profile
    return found
