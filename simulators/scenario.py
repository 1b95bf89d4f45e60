"""A scenario: which sites play, which of their devices speak how, what goes wrong, over which radio; YAML, checked.

What is asked for and nothing played: `scenario_plant` builds it, `scenario_run` plays it. `scenarios/` has those that
are shipped, `scenario.schema.json` is for editors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from devices.document import DocumentError, DocumentModel, Positions, load_yaml, suggest, validate
from devices.duration import Duration
from devices.metrics import CATALOGUE as METRICS
from devices.model import DAY, HOUR, MINUTE, Codec
from devices.profile import Profile, Reporting
from simulators.catalogue import CATALOGUE
from simulators.device_faults import DEVICE_CATALOGUE
from simulators.faults import FaultKind
from simulators.nbiot import Radio

FAULTS = (*CATALOGUE, *(kind.value for kind in FaultKind if kind.value not in CATALOGUE), *DEVICE_CATALOGUE)
"""Every kind of fault: of sites, of the waterworks, of devices."""


class Protocol(StrEnum):
    """The stack that a device speaks."""

    COAP = "coap"
    MQTT = "mqtt"
    THINGSBOARD = "thingsboard"
    IOTDA = "iotda"
    SPARKPLUG = "sparkplug"


class Format(StrEnum):
    """What a payload is where the protocol leaves it open (coap, mqtt)."""

    JSON = "json"
    CBOR = "cbor"
    FRAME = "frame"
    """The binary frame of the device's profile."""


class Credential(StrEnum):
    """What a device proves who it is with; made through the registry."""

    NONE = "none"
    OSCORE = "oscore"


Share = Annotated[float, Field(ge=0, le=1)]
Shares = tuple[Share, Share, Share]
_BLOCKS = (16, 32, 64, 128, 256, 512, 1024)


class Fleet(DocumentModel):
    """Devices that speak alike. A device belongs to the first fleet whose pattern fits its tag."""

    devices: tuple[str, ...] = Field(default=("*",), min_length=1, description="Tags; `*` and `?` fit several")
    protocol: Protocol
    format: Format | None = Field(
        default=None, description="Of coap and mqtt [default: the profile's frame, else SenML CBOR]"
    )
    credential: Credential = Field(default=Credential.NONE, description="oscore for coap")
    block: int | None = Field(
        default=None, description="coap: bytes of a block (Block1); without it a long report is split instead"
    )
    profile: str | None = Field(default=None, description="The device type they are, where it is not the site's own")
    reporting: Reporting | None = Field(default=None, description="In place of the profile's")
    limits: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="By metric, canonical units: outside of these a device itself finds things abnormal and reports "
        "faster [default: the process range of its profile]",
    )
    memory: int = Field(default=32768, ge=1024, description="Bytes of uplinks that it keeps unacknowledged")
    keeps: bool = Field(default=True, description="Whether its memory outlives a reboot")
    battery: float = Field(default=68.0, gt=0, description="Wh; a lithium D cell has 19 Ah at 3.6 V")
    coverage: Shares = Field(
        default=(0.8, 0.15, 0.05), description="Shares of devices at coverage level 0, 1, 2 (144, 154, 164 dB)"
    )
    node: str = Field(default="", description="sparkplug: group/edge node they sit behind")

    @model_validator(mode="after")
    def _fits(self) -> Fleet:
        if self.format is not None and self.protocol not in (Protocol.COAP, Protocol.MQTT):
            raise ValueError(f"{self.protocol} has a payload of its own: ‘format’ is for coap and mqtt")
        if self.credential is not Credential.NONE and self.protocol is not Protocol.COAP:
            raise ValueError(
                "‘credential: oscore’ is for coap; thingsboard and iotda get their token or secret by themselves"
            )
        if self.block is not None and (self.protocol is not Protocol.COAP or self.block not in _BLOCKS):
            raise ValueError(f"‘block’ is for coap, and one of {', '.join(map(str, _BLOCKS))}")
        if (self.protocol is Protocol.SPARKPLUG) != bool(self.node):
            raise ValueError("‘node’ (group/edge node) belongs to sparkplug")
        if self.node and (self.node.count("/") != 1 or not all(self.node.split("/"))):
            raise ValueError("‘node’ is a group and an edge node, as North/RTU-7")
        if sum(self.coverage) <= 0.0:
            raise ValueError("‘coverage’ leaves no level to live at")
        for metric, (low, high) in self.limits.items():
            if metric not in METRICS:
                raise ValueError(f"‘limits’: unknown metric ‘{metric}’{suggest(metric, list(METRICS))}")
            if not low < high:
                raise ValueError(f"‘limits’ of {metric}: {low} is not below {high}")
        return self

    def fits(self, tag: str) -> bool:
        """Whether a device of this tag belongs to it."""
        return any(fnmatchcase(tag, pattern) for pattern in self.devices)


class SiteEntry(DocumentModel):
    """A site that plays."""

    site: str = Field(description="A shipped site's name, or the path of a site's YAML file, relative to this one")


class WaterworksEntry(DocumentModel):
    """The seeded waterworks."""

    pumps: int = Field(default=4, ge=0, le=500)
    valves: int = Field(default=4, ge=0, le=500)


class FaultEntry(DocumentModel):
    """One fault, or the same on several devices."""

    fault: str = Field(description="A name of the catalogue")
    on: str = Field(min_length=1, description="Tag, node, link or TAG/metric; `*` and `?` fit several tags")
    after: Duration = Field(description="Onset, from the beginning of the run")
    lasts: Duration = Field(description="Until it is repaired")
    severity: float = Field(default=1.0, gt=0, le=1)
    growth: Duration = Field(default=0, description="Until it has its full severity")

    @model_validator(mode="after")
    def _lasts(self) -> FaultEntry:
        if self.lasts <= 0:
            raise ValueError("‘lasts’ is a time above 0")
        return self


class RandomFaults(DocumentModel):
    """Faults drawn from the seed."""

    a_day: float = Field(gt=0, le=1000, description="How many begin on a day, in the mean, in the whole scenario")
    faults: tuple[str, ...] = Field(default=FAULTS, min_length=1, description="Which kinds [default: all]")
    lasts: tuple[Duration, Duration] = (HOUR, 4 * HOUR)
    severity: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.5, 1.0)

    @model_validator(mode="after")
    def _in_order(self) -> RandomFaults:
        if not 0 < self.lasts[0] <= self.lasts[1] or self.severity[0] > self.severity[1]:
            raise ValueError("‘lasts’ and ‘severity’ are the least and the most, in this order")
        return self


class RadioEntry(DocumentModel):
    """The radio, each by coverage level 0, 1, 2."""

    loss: Shares = Field(default=Radio().loss, description="Share of datagrams lost on either way")
    delay: tuple[float, float, float] = Field(default=Radio().delay, description="Most seconds from sleep to gateway")
    repeated: Shares = Field(default=Radio().repeated, description="Share of uplinks sent once more although answered")
    ack_timeout: tuple[Duration, Duration] = Field(
        default=(10_000_000, 20_000_000), description="At level 0 and at level 2"
    )

    def radio(self) -> Radio:
        """The same as the model of the radio has it."""
        first, last = self.ack_timeout
        return Radio(self.loss, self.delay, self.repeated, (first / 1e6, last / 1e6))


class ScenarioDocument(DocumentModel):
    """A scenario as it is written down."""

    scenario: str = Field(min_length=1)
    title: str = ""
    seed: int = Field(default=1, ge=0, description="Same seed, same bytes")
    start: datetime | None = Field(
        default=None,
        description="With offset, as 2026-03-02T20:00:00+08:00 [default: real time begins now, a faster run ends now]",
    )
    duration: Duration = Field(description="Of the plant's time")
    speed: float = Field(default=1.0, ge=0, description="Times real time; 0 is as fast as the gateways acknowledge")
    sites: tuple[SiteEntry, ...] = ()
    waterworks: WaterworksEntry | None = None
    fleets: tuple[Fleet, ...] = Field(min_length=1)
    faults: tuple[FaultEntry, ...] = ()
    random_faults: RandomFaults | None = None
    radio: RadioEntry = RadioEntry()

    @model_validator(mode="after")
    def _plays(self) -> ScenarioDocument:
        if not self.sites and self.waterworks is None:
            raise ValueError("nothing plays: name ‘sites’, or a ‘waterworks’")
        if self.start is not None and self.start.tzinfo is None:
            raise ValueError("‘start’ needs an offset, as 2026-03-02T20:00:00+08:00")
        if not MINUTE <= self.duration <= 31 * DAY:
            raise ValueError("‘duration’ is from 1m to 31d")
        return self


def shipped_scenarios() -> tuple[str, ...]:
    """The names of the scenarios that come with the package."""
    folder = files("simulators").joinpath("scenarios")
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def scenario_path(name: Path | str) -> Path:
    """The file of a shipped scenario by its bare name, or that path itself; `DocumentError` where neither is there."""
    path = Path(name)
    if not path.suffix and str(name) in shipped_scenarios():
        return Path(str(files("simulators").joinpath("scenarios", f"{name}.yaml")))
    if not path.is_file():
        known = ", ".join(shipped_scenarios())
        raise DocumentError(
            [f"there is no scenario ‘{name}’{suggest(str(name), shipped_scenarios())}; shipped are {known}"]
        )
    return path


def read_scenario(path: Path, profiles: Mapping[str, Profile]) -> tuple[ScenarioDocument, Positions]:
    """A scenario's document and where its values stand; `DocumentError` with every problem that the file itself shows.

    `profiles` are those that are installed. Whether sites, tags and targets exist is seen when it is built.
    """
    root, positions = load_yaml(path.read_text("utf-8"), str(path))
    document = validate(root, positions, ScenarioDocument)
    problems: list[str] = []
    for number, fleet in enumerate(document.fleets):
        if fleet.profile is not None and fleet.profile not in profiles:
            problems.append(
                f"{positions.locate(['fleets', number, 'profile'])}: "
                f"there is no profile ‘{fleet.profile}’{suggest(fleet.profile, list(profiles))}"
            )
    named: list[tuple[list[str | int], str]] = [
        (["faults", number, "fault"], entry.fault) for number, entry in enumerate(document.faults)
    ]
    if document.random_faults is not None:
        named += [(["random_faults", "faults", i], name) for i, name in enumerate(document.random_faults.faults)]
    for at, name in named:
        if name not in FAULTS:
            problems.append(f"{positions.locate(at)}: ‘{name}’ is no fault of the catalogue{suggest(name, FAULTS)}")
    for number, entry in enumerate(document.faults):
        if entry.after >= document.duration:
            problems.append(f"{positions.locate(['faults', number, 'after'])}: the run is over by then")
    if problems:
        raise DocumentError(problems)
    return document, positions


def format_of(fleet: Fleet, profile: Profile) -> Format:
    """What a device's payload is, for coap and mqtt; `ValueError` where its profile declares no frame."""
    if fleet.format is Format.FRAME and profile.codec is not Codec.FRAME:
        raise ValueError(f"the profile ‘{profile.profile}’ declares no frame: take json or cbor")
    return fleet.format or (Format.FRAME if profile.codec is Codec.FRAME else Format.CBOR)


def json_schema() -> str:
    """The JSON Schema of a scenario file, as `simulators/scenario.schema.json` holds it."""
    schema = ScenarioDocument.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Headworks scenario"
    definitions = schema["$defs"]
    definitions["FaultEntry"]["properties"]["fault"]["enum"] = list(FAULTS)
    definitions["RandomFaults"]["properties"]["faults"]["items"]["enum"] = list(FAULTS)
    definitions["Fleet"]["properties"]["block"] = {"enum": list(_BLOCKS), "description": "coap: bytes of a block"}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
