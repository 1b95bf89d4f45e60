"""A scenario as it is built: its sites and waterworks with what they show, its units, its faults and their truth.

Pure but for reading the sites' files. Played in `scenario_run`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from devices.codecs.sparkplug import node_identity
from devices.document import DocumentError, Positions, suggest
from devices.model import DAY, MINUTE, Device, Instant
from devices.profile import Profile, shipped_profiles
from simulators.catalogue import CATALOGUE, On
from simulators.contacts import Step, plan
from simulators.device_faults import DEVICE_CATALOGUE, DeviceFault, truth_of_devices
from simulators.faults import Fault, FaultKind, affected
from simulators.firmware import Unit, write
from simulators.injection import Injection
from simulators.nbiot import Radio
from simulators.noise import Floats
from simulators.observation import Observation, observe
from simulators.plant import Plant, build
from simulators.presented import present
from simulators.records import truth_of
from simulators.scenario import (
    Fleet,
    Protocol,
    ScenarioDocument,
    format_of,
    read_scenario,
    scenario_path,
)
from simulators.site import LOGGER, PUMP, VALVE, Site, load_site
from simulators.site_view import observe_site, truth_of_site
from simulators.truth import GroundTruth, Watched

_APART = 101
"""Between the seeds of sites of one scenario, so that their devices have identities of their own."""


@dataclass(frozen=True)
class Scenario:
    """A scenario that was checked against its sites: who there is, and how they speak."""

    document: ScenarioDocument
    seed: int
    sites: tuple[Site, ...]
    waterworks: Plant | None
    units: tuple[Unit, ...]
    places: Mapping[str, tuple[int, str]]
    """By tag: the number of its site (the waterworks' is behind the last) and its profile there."""
    positions: Positions

    @property
    def radio(self) -> Radio:
        """The radio it plays over."""
        return self.document.radio.radio()

    def site_seed(self, number: int) -> int:
        """What a site's randomness is drawn from."""
        return self.seed + _APART * number


@dataclass(frozen=True)
class Played:
    """A scenario over a time range."""

    scenario: Scenario
    start: Instant
    end: Instant
    truth: GroundTruth
    shown: Mapping[str, tuple[Observation, Mapping[str, Floats]]]
    """By tag: the times, and the series of the unit's metrics in wire units."""
    device_faults: tuple[DeviceFault, ...]

    def steps(self, unit: Unit) -> list[Step]:
        """All that a unit does. `DocumentError` where its frame cannot carry what it has to say."""
        scenario = self.scenario
        observation, series = self.shown[unit.tag]
        mine = [fault for fault in self.device_faults if fault.tag == unit.tag]
        written = write(unit, scenario.seed, scenario.radio, observation.times, series, mine)
        try:
            return plan(unit.tag, scenario.seed, scenario.radio, written, mine)
        except ValueError as error:
            fleet = scenario.document.fleets.index(unit.fleet)
            raise DocumentError(
                [f"{scenario.positions.locate(['fleets', fleet])}: {unit.tag} cannot say it: {error}"]
            ) from error


def load_scenario(name: Path | str, seed: int | None = None, profiles: Mapping[str, Profile] | None = None) -> Scenario:
    """Read a scenario, or a shipped one by its bare name, and everything that it names.

    `DocumentError` with every problem, `EpanetError` where a network cannot be run, `OSError` for a file that is not
    there. `seed` is in place of the file's, `profiles` are those that are installed (the shipped ones).
    """
    path = scenario_path(name)
    installed = shipped_profiles() if profiles is None else profiles
    document, positions = read_scenario(path, installed)
    chosen = document.seed if seed is None else seed
    sites = []
    for number, entry in enumerate(document.sites):
        own = path.parent / entry.site
        try:
            sites.append(load_site(own if own.suffix else entry.site))
        except FileNotFoundError:
            raise DocumentError(
                [f"{positions.locate(['sites', number, 'site'])}: there is no site ‘{entry.site}’"]
            ) from None
    works = None
    if document.waterworks is not None:
        works_seed = chosen + _APART * len(sites)
        works = build(works_seed, document.waterworks.pumps, document.waterworks.valves)
    devices: list[tuple[int, Device]] = [
        (number, device) for number, site in enumerate(sites) for device in site.devices(chosen + _APART * number)
    ]
    devices += [(len(sites), asset.device) for asset in works.assets] if works else []
    units, problems = _units(document, positions, [device for _, device in devices], installed)
    places = {device.tag: (number, device.profile) for number, device in devices}
    problems += [
        f"{positions.locate(['sites'])}: the tag ‘{tag}’ stands at two sites"
        for tag in sorted(places)
        if sum(device.tag == tag for _, device in devices) > 1
    ]
    scenario = Scenario(document, chosen, tuple(sites), works, units, places, positions)
    for number, wanted in enumerate(document.faults):
        if not problems and not _targets(scenario, wanted.fault, wanted.on):
            known = [*places, *(node for site in sites for node in _nodes(site))]
            problems.append(
                f"{positions.locate(['faults', number, 'on'])}: nothing here that can have ‘{wanted.fault}’ "
                f"is called ‘{wanted.on}’{suggest(wanted.on, known)}"
            )
    if problems:
        raise DocumentError(problems)
    return scenario


def _units(
    document: ScenarioDocument, positions: Positions, devices: Sequence[Device], profiles: Mapping[str, Profile]
) -> tuple[tuple[Unit, ...], list[str]]:
    problems: list[str] = []
    units: list[Unit] = []
    used: set[int] = set()
    for device in devices:
        number = next((n for n, fleet in enumerate(document.fleets) if fleet.fits(device.tag)), None)
        if number is None:
            continue  # on the site, but silent: the scenario has no fleet for it
        fleet = document.fleets[number]
        profile = profiles[fleet.profile or device.profile]
        if number not in used:
            try:
                format_of(fleet, profile)
            except ValueError as error:
                problems.append(f"{positions.locate(['fleets', number])}: {error}")
        used.add(number)
        units.append(Unit(_named(device, fleet, profile), profile, fleet, device.tag))
    for number, fleet in enumerate(document.fleets):
        if number not in used:
            tags = [device.tag for device in devices]
            problems.append(
                f"{positions.locate(['fleets', number, 'devices'])}: no device is left for this fleet"
                f"{suggest(fleet.devices[0], tags)}"
            )
    return tuple(units), problems


def _named(device: Device, fleet: Fleet, profile: Profile) -> Device:
    """A device as the registry knows it by its way of speaking."""
    device = replace(device, profile=profile.profile)
    if fleet.protocol is Protocol.SPARKPLUG:
        group, node = fleet.node.split("/")
        return replace(device, identity=node_identity(group, node, device.tag))
    return device


def play(scenario: Scenario, start: Instant) -> Played:
    """What everything shows and what goes wrong from `start` on, for the scenario's duration.

    `DocumentError` where a fault cannot be where it is asked for. Same scenario and start, same result.
    """
    start = -(-start // MINUTE) * MINUTE
    end = start + scenario.document.duration
    chosen = [*_given(scenario, start, end), *_drawn(scenario, start, end)]
    device_faults = tuple(fault for fault in chosen if isinstance(fault, DeviceFault))
    identities = {unit.tag: unit.device.identity for unit in scenario.units}
    lines = truth_of_devices(device_faults, identities)
    shown: dict[str, tuple[Observation, Mapping[str, Floats]]] = {}
    watched = tuple(unit.device.identity for unit in scenario.units)
    seen: list[tuple[Observation, GroundTruth]] = []
    for number, site in enumerate(scenario.sites):
        own = [fault for fault in chosen if isinstance(fault, Injection) and _site_of(scenario, fault) == number]
        try:
            observation = observe_site(site, scenario.site_seed(number), own, start, end)
        except ValueError as error:
            raise DocumentError([f"{scenario.positions.locate(['faults'])}: {error}"]) from error
        seen.append((observation, truth_of_site(site, scenario.site_seed(number), own, start, end, observation)))
    if scenario.waterworks is not None:
        own_faults = [fault for fault in chosen if isinstance(fault, Fault)]
        observation = observe(scenario.waterworks.works, own_faults, start, end)
        seen.append((observation, truth_of(scenario.waterworks, own_faults, start, end)))
    called = _called(scenario)
    for observation, truth in seen:
        lines += [replace(line, device=called[line.device]) for line in truth.faults if line.device in called]
        for unit in scenario.units:
            if unit.tag in observation.values:
                series = present(
                    scenario.seed, unit.tag, unit.profile, observation.times, observation.values[unit.tag]
                )  # fmt: skip
                shown[unit.tag] = (observation, series)
    lines.sort(key=lambda line: (line.begins, line.fault, line.device))
    truth = GroundTruth(tuple(lines), Watched(start, end, watched))
    return Played(scenario, start, end, truth, shown, device_faults)


def _called(scenario: Scenario) -> dict[str, str]:
    """From the identity that a site gives a device to the one that it speaks under."""
    called: dict[str, str] = {}
    for number, site in enumerate(scenario.sites):
        by_tag = {device.tag: device.identity for device in site.devices(scenario.site_seed(number))}
        called |= {by_tag[unit.tag]: unit.device.identity for unit in scenario.units if unit.tag in by_tag}
    if scenario.waterworks is not None:
        works = {asset.tag: asset.device.identity for asset in scenario.waterworks.assets}
        called |= {works[unit.tag]: unit.device.identity for unit in scenario.units if unit.tag in works}
    return called


AnyFault = Injection | Fault | DeviceFault


def _given(scenario: Scenario, start: Instant, end: Instant) -> Iterator[AnyFault]:
    for entry in scenario.document.faults:
        since = start + entry.after
        until = min(since + entry.lasts, end)
        for target in _targets(scenario, entry.fault, entry.on):
            yield _fault(scenario, entry.fault, target, since, until, entry.severity, entry.growth)


def _drawn(scenario: Scenario, start: Instant, end: Instant) -> Iterator[AnyFault]:
    """Faults that come at random: as often as a Poisson process of this rate, each where its kind can be."""
    asked = scenario.document.random_faults
    if asked is None:
        return
    rng = random.Random(f"{scenario.seed}/faults")  # noqa: S311 - no secret
    at = float(start)
    while True:
        at += rng.expovariate(asked.a_day / DAY)
        if at >= end:
            return
        kinds = [kind for kind in asked.faults if _targets(scenario, kind, "*")]
        if not kinds:
            return
        kind = rng.choice(kinds)
        target = rng.choice(_targets(scenario, kind, "*"))
        since = round(at) // MINUTE * MINUTE
        if since < start:
            since = start
        until = since + round(rng.uniform(*asked.lasts))
        severity = round(rng.uniform(*asked.severity), 3)
        yield _fault(scenario, kind, target, since, min(until, end), severity, 0)


def _fault(
    scenario: Scenario, kind: str, target: str, since: Instant, until: Instant, severity: float, growth: Instant
) -> AnyFault:
    if kind in DEVICE_CATALOGUE:
        return DeviceFault(kind, target, since, until, severity)
    if _is_works(scenario, kind, target):
        return Fault(FaultKind(kind), target, since, until, severity, growth)
    return Injection(kind, target, since, until, severity, growth)


def _targets(scenario: Scenario, kind: str, pattern: str) -> list[str]:
    """Everything that a pattern names and that can have a fault of this kind."""
    return [name for name in _possible(scenario, kind) if fnmatchcase(name, pattern)]


def _possible(scenario: Scenario, kind: str) -> list[str]:
    found: list[str] = []
    if kind in DEVICE_CATALOGUE:
        return [unit.tag for unit in scenario.units]
    if kind in CATALOGUE:
        on = CATALOGUE[kind].on
        for site in scenario.sites:
            if on in (On.PUMP, On.VALVE):
                found += [one.tag for one in site.of(PUMP if on is On.PUMP else VALVE)]
            elif on is On.NODE:
                found += _nodes(site)
            elif on is On.LINK:
                found += [one.link for one in site.mounted if one.link]
            else:
                found += [f"{one.tag}/{metric}" for one in site.mounted for metric in _MEASURED[one.entry.profile]]
    if kind in {one.value for one in FaultKind} and scenario.waterworks is not None:
        works = scenario.waterworks.works
        names = [*works.pumps, *works.valves, *(area.name for site in works.sites for area in site.areas)]
        found += [name for name in names if affected(works, Fault(FaultKind(kind), name, 0, 1))]
    return found


_MEASURED = {PUMP: ("pressure", "flow"), VALVE: ("pressure", "flow"), LOGGER: ("pressure",)}
"""The instruments that faults of instruments are put on."""


def _nodes(site: Site) -> list[str]:
    return [one.node for one in site.mounted if one.node]


def _is_works(scenario: Scenario, kind: str, target: str) -> bool:
    if scenario.waterworks is None or kind not in {one.value for one in FaultKind}:
        return False
    return bool(affected(scenario.waterworks.works, Fault(FaultKind(kind), target, 0, 1)))


def _site_of(scenario: Scenario, fault: Injection) -> int:
    own = fault.target.split("/")[0]
    for number, site in enumerate(scenario.sites):
        if any(own in (one.tag, one.node, one.link) for one in site.mounted):
            return number
    return 0
