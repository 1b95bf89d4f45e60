"""A simulated plant: the waterworks and the telemetry devices mounted on it. What it does is in `observation`."""

from __future__ import annotations

from dataclasses import dataclass

from devices.model import Device
from simulators.fleet import devices
from simulators.waterworks import Waterworks, build_works


@dataclass(frozen=True, slots=True)
class Asset:
    """A pump or a valve with its device."""

    device: Device
    number: int
    """Within its kind, from 0."""

    @property
    def tag(self) -> str:
        """The tag of pump or valve, unique in the plant."""
        return self.device.tag

    @property
    def is_pump(self) -> bool:
        """A pump, else a valve."""
        return self.device.profile == "centrifugal-pump"


@dataclass(frozen=True)
class Plant:
    """The waterworks with its devices."""

    works: Waterworks
    assets: tuple[Asset, ...]

    @property
    def seed(self) -> int:
        """What everything is drawn from."""
        return self.works.seed

    def identity(self, tag: str) -> str:
        """The identity of the device on an asset; `KeyError` for a tag that is not in the plant."""
        for asset in self.assets:
            if asset.tag == tag:
                return asset.device.identity
        raise KeyError(tag)


def build(seed: int, pumps: int = 12, valves: int = 12, sites: int | None = None) -> Plant:
    """A plant with so many pumps and valves. Same arguments, same plant. `ValueError` for numbers that make none."""
    works = build_works(seed, pumps, valves, sites)
    found = devices(works)
    assets = [Asset(device, number) for number, device in enumerate(found[:pumps])]
    assets += [Asset(device, number) for number, device in enumerate(found[pumps:])]
    return Plant(works, tuple(assets))
