"""A site: a network (`.inp`) and a YAML document that says which devices sit where, and how pumps and valves are run.

What is asked for and nothing played; `site_run` plays it. `sites/` has those that are shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path

from pydantic import Field, model_validator

from devices.document import DocumentError, DocumentModel, Positions, load_yaml, suggest, validate
from devices.duration import Duration
from devices.model import HOUR, Device
from simulators.epanet import LinkKind, Network
from simulators.fleet import imei

PUMP, VALVE, LOGGER = "centrifugal-pump", "control-valve", "flow-pressure-logger"
"""The profiles whose readings come out of a site."""


class DeviceEntry(DocumentModel):
    """A device, or one on each node or link whose name fits a pattern."""

    tag: str = Field(min_length=1, description="`{name}` stands for the name of the node or link")
    profile: str
    link: str = Field(default="", description="The pump, valve or pipe it sits on; `*` and `?` fit several")
    node: str = Field(default="", description="The node it sits on; `*` and `?` fit several")
    area: str = ""
    unit: str = ""
    design: dict[str, float] = Field(default_factory=dict, description="The nameplate in canonical units")

    @model_validator(mode="after")
    def _is_complete(self) -> DeviceEntry:
        if self.profile not in (PUMP, VALVE, LOGGER):
            raise ValueError(f"a site has devices of the profiles {PUMP}, {VALVE} and {LOGGER}, not ‘{self.profile}’")
        if bool(self.link) == bool(self.node):
            raise ValueError("say either ‘link’ or ‘node’")
        if self.profile != LOGGER and not self.link:
            raise ValueError(f"a {self.profile} sits on a link")
        for key in {PUMP: ("rated_flow", "rated_head", "rated_power"), VALVE: ("kv",)}.get(self.profile, ()):
            if self.design.get(key, 0.0) <= 0.0:
                raise ValueError(f"‘design’ of a {self.profile} needs ‘{key}’ above 0")
        return self


class Control(DocumentModel):
    """How some pumps or valves are run; what no control names runs as the file says (pumps) or stands open (valves)."""

    on: tuple[str, ...] = Field(min_length=1, description="Tags of pumps that work in parallel, or of valves")
    pressure_at: str = Field(default="", description="The node whose pressure is held")
    flow: float | None = Field(default=None, gt=0, description="The flow in m³/h that each valve holds")
    pressure: float | None = Field(default=None, description="bar that are held at the node")
    opening: float | None = Field(default=None, ge=0, le=100, description="A fixed opening in %")
    open_hours: tuple[float, float] | None = Field(
        default=None, description="Local hours in which it is open, shut else; over midnight where the first is later"
    )

    @model_validator(mode="after")
    def _says_one_thing(self) -> Control:
        if (self.pressure is None) == (not self.pressure_at):
            pass
        else:
            raise ValueError("‘pressure’ and ‘pressure_at’ belong together")
        if sum(x is not None for x in (self.pressure, self.flow, self.opening)) != 1:
            raise ValueError("say one of ‘pressure’ with ‘pressure_at’, ‘flow’, ‘opening’")
        return self


class SiteDocument(DocumentModel):
    """A site as it is written down."""

    site: str = Field(min_length=1)
    title: str = ""
    network: str = Field(description="The .inp file, beside this one")
    utc_offset: Duration = Field(default=8 * HOUR, description="Of local time, by which its patterns run")
    temperature: float = Field(default=14.0, ge=1, le=95, description="°C of the medium")
    demand_noise: float = Field(
        default=0.04, ge=0, le=0.5, description="Share by which demands drift about their patterns"
    )
    devices: tuple[DeviceEntry, ...] = Field(min_length=1)
    controls: tuple[Control, ...] = ()


@dataclass(frozen=True, slots=True)
class Mounted:
    """A device on its link or node."""

    tag: str
    entry: DeviceEntry
    link: str
    node: str


@dataclass(frozen=True)
class Site:
    """A site that was checked against its network."""

    document: SiteDocument
    network: Path
    mounted: tuple[Mounted, ...]

    def of(self, profile: str) -> tuple[Mounted, ...]:
        """Its devices of a profile, in the document's order."""
        return tuple(mounted for mounted in self.mounted if mounted.entry.profile == profile)

    def identity(self, tag: str, seed: int) -> str:
        """The identity of the device with a tag; `KeyError` where there is none."""
        for serial, mounted in enumerate(self.mounted):
            if mounted.tag == tag:
                return f"urn:dev:imei:{imei(seed, serial)}"
        raise KeyError(tag)

    def devices(self, seed: int) -> tuple[Device, ...]:
        """The registry's view."""
        return tuple(
            Device(
                identity=f"urn:dev:imei:{imei(seed, serial)}",
                profile=mounted.entry.profile,
                tag=mounted.tag,
                site=self.document.site,
                area=mounted.entry.area,
                unit=mounted.entry.unit,
                design=dict(mounted.entry.design),
            )
            for serial, mounted in enumerate(self.mounted)
        )


def shipped_sites() -> tuple[str, ...]:
    """The names of the sites that come with the package."""
    folder = files("simulators").joinpath("sites")
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def load_site(path: Path | str) -> Site:
    """Read a site, or a shipped one by its bare name.

    `DocumentError` where the document or its place in the network is not right, `EpanetError` where the network is not,
    `OSError` where there is no file.
    """
    file = Path(path)
    if not file.suffix and str(path) in shipped_sites():
        file = Path(str(files("simulators").joinpath("sites", f"{path}.yaml")))
    root, positions = load_yaml(file.read_text("utf-8"), str(file))
    document = validate(root, positions, SiteDocument)
    network = file.parent / document.network
    if not network.is_file():
        raise DocumentError([f"{positions.locate(['network'])}: there is no network ‘{network}’"])
    with Network(network) as opened:
        return Site(document, network, _mount(document, opened, positions))


def _mount(document: SiteDocument, network: Network, positions: Positions) -> tuple[Mounted, ...]:
    problems: list[str] = []
    mounted: list[Mounted] = []
    for number, entry in enumerate(document.devices):
        path: list[str | int] = ["devices", number]
        known = network.links if entry.link else network.nodes
        pattern = entry.link or entry.node
        names = [name for name in known if fnmatchcase(name, pattern)]
        if not names:
            hint = suggest(pattern, known)
            problems.append(f"{positions.locate([*path, 'link' if entry.link else 'node'])}: "
                            f"the network has no ‘{pattern}’{hint}")  # fmt: skip
        wanted = {PUMP: LinkKind.PUMP, VALVE: LinkKind.VALVE}.get(entry.profile)
        for name in names:
            if wanted is not None and network.kinds[network.link[name]] is not wanted:
                problems.append(f"{positions.locate([*path, 'link'])}: ‘{name}’ is no {wanted} in the network")
            tag = entry.tag.replace("{name}", name)
            mounted.append(Mounted(tag, entry, name if entry.link else "", "" if entry.link else name))
    tags = [one.tag for one in mounted]
    problems += [
        f"{positions.locate(['devices'])}: the tag ‘{tag}’ is given twice"
        for tag in sorted(set(tags))
        if tags.count(tag) > 1
    ]
    for number, control in enumerate(document.controls):
        at: list[str | int] = ["controls", number]
        kinds = {one.entry.profile for one in mounted if one.tag in control.on}
        missing = [tag for tag in control.on if not any(fnmatchcase(known, tag) for known in tags)]
        problems += [
            f"{positions.locate([*at, 'on'])}: there is no device ‘{tag}’{suggest(tag, tags)}" for tag in missing
        ]
        if control.pressure_at and control.pressure_at not in network.node:
            problems.append(
                f"{positions.locate([*at, 'pressure_at'])}: the network has no node ‘{control.pressure_at}’"
            )
        if PUMP in kinds and control.pressure is None:
            problems.append(f"{positions.locate(at)}: pumps hold a ‘pressure’ at a node")
    if problems:
        raise DocumentError(problems)
    return tuple(mounted)
