"""Which devices there are, as the pipeline sees them: a bounded cache in front of the registry.

Only the devices that are speaking are held, so that memory follows the traffic and not the size of the fleet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from devices.model import Device

Find = Callable[[Sequence[str]], Mapping[str, Device]]
"""Looks identities up in the registry; `UnavailableError` while that is not possible."""


class Directory:
    """Devices by identity; what it says is at most `lifetime` seconds old.

    An unknown identity is never cached: a device that is registered a second after its first try gets through.
    """

    def __init__(
        self, find: Find, monotonic: Callable[[], float], *, lifetime: float = 30.0, limit: int = 200_000
    ) -> None:
        self._find = find
        self._monotonic = monotonic
        self._lifetime = lifetime
        self._limit = limit
        self._devices: dict[str, tuple[float, Device]] = {}

    def resolve(self, identities: Iterable[str]) -> dict[str, Device]:
        """The registered devices among these identities, with one question to the registry for all unknown ones."""
        now = self._monotonic()
        found: dict[str, Device] = {}
        missing: list[str] = []
        for identity in set(identities):
            held = self._devices.get(identity)
            if held is not None and now - held[0] < self._lifetime:
                found[identity] = held[1]
            else:
                missing.append(identity)
        if missing:
            fresh = self._find(missing)
            if len(self._devices) + len(fresh) > self._limit:
                self._devices.clear()
            for identity in missing:
                if identity in fresh:
                    self._devices[identity] = (now, fresh[identity])
                else:
                    self._devices.pop(identity, None)
            found.update(fresh)
        return found
