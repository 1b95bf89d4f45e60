"""Keeping what the engine knows over a restart, so that a start costs seconds and not everybody's past.

In rounds: everything that has changed since the last one is kept, a few devices at a time between other work, and at a
clean stop all of it at once. A round that is complete stands for the position of its beginning: what is kept is at
least as new. So who starts goes on from it, judges again what was committed since that position, and compares with the
journal, which may know it already (`Engine.catching_up`). Who is not kept, or for other rules or another release, is
judged from its past as ever.

What is kept is a cache: the journal and the readings decide. What other rules have made of a device is struck out
before the first line that these write: it lacks what comes from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog
from prometheus_client import Counter

from alerts.engine import Engine
from alerts.ports import KeepingPorts
from devices.batch import Kept
from devices.model import Device

log = structlog.get_logger()

RESUMED = Counter("headworks_engine_resumed_devices", "Devices that the engine went on with from what was kept")

ROUND_SECONDS = 900.0
"""Between two rounds, if nothing else is said: about so much is judged again after a crash."""
_AT_ONCE = 20
"""Devices that are kept at a time: some ten milliseconds, for which an alarm may wait."""
_AT_STOP = 200
_SHARE = 50
"""At most one part in so many of the time is spent on it."""
_RECALLED_AT_ONCE = 1_000
"""Devices that are asked for with one question."""

Devices = Callable[[Sequence[str]], Mapping[str, Device]]
"""The registry's entries of devices."""


class Keeping:
    """What one engine keeps and takes up. Used in the engine's thread alone."""

    def __init__(self, ports: KeepingPorts, monotonic: Callable[[], float], every: float | None = None) -> None:
        self._ports = ports
        self._monotonic = monotonic
        self._every = every
        self._usable = False
        self._worthless = False
        self._other_rules = False
        # Devices that were judged since they were last kept.
        self._changed: set[str] = set()
        self._asked: set[str] = set()
        self._sites: set[str] = set()
        self._left: list[str] | None = None
        """Of the round that is going on."""
        self._told: set[tuple[str, str]] = set()
        self._position = 0
        self._due = 0.0

    @property
    def _pause(self) -> float:
        return ROUND_SECONDS if self._every is None else self._every

    def begin(self) -> int | None:
        """Whoever begins to lead: the position from which to judge again, if there is anything to go on from."""
        self.reset()
        position = self._ports.complete_until()
        if position is not None:
            log.info("engine.goes_on", position=position)
        self._usable = position is not None
        # A round that was never completed lacks what came after it.
        self._worthless = position is None
        self._other_rules = True
        self._due = self._monotonic() + self._pause
        return position

    def reset(self) -> None:
        """Whoever stops leading: nothing is known, and nothing must be written any more."""
        self._usable = self._worthless = self._other_rules = False
        self._left = None
        for held in (self._changed, self._asked, self._sites, self._told):
            held.clear()

    def exchange(self, gone: Iterable[str], groups: Iterable[str]) -> None:
        """Another engine takes over, without what was known of the devices that are `gone`. Of `groups`, by the devices
        that they are about, everything is kept anew."""
        self._other_rules = True
        self._asked.update(gone)
        self._changed.update(gone)
        self._changed.update(groups)

    def recall(self, engine: Engine, identities: Iterable[str], devices: Devices, met: set[str]) -> None:
        """Let the engine go on from what was kept of these devices; those with which it can become `met`."""
        if not self._usable:
            return
        asked = [identity for identity in identities if identity not in self._asked]
        for start in range(0, len(asked), _RECALLED_AT_ONCE):
            some = asked[start : start + _RECALLED_AT_ONCE]
            known = devices(some)
            for kept in self._ports.of_devices(some):
                device = known.get(kept.device)
                if device is not None and engine.resume(kept, device):
                    met.add(kept.device)
                    RESUMED.inc()
            self._asked.update(some)

    def recall_site(self, engine: Engine, site: str, devices: Iterable[Device]) -> None:
        """The groups of a site are about to be composed."""
        if not self._usable or site in self._sites:
            return
        known = {device.identity: device for device in devices}
        for kept in self._ports.of_site(site):
            if kept.device in known:
                engine.resume(kept, known[kept.device])
        self._sites.add(site)

    def touch(self, identities: Iterable[str]) -> None:
        """These devices are being judged."""
        self._changed.update(identities)

    def before_writing(self, engine: Engine) -> None:
        """The engine is about to write what others would not have found."""
        if self._worthless:
            self._ports.discard()
            self._worthless = False
        if self._other_rules:
            self._ports.limit(engine.group_rules)
            self._other_rules = False
        void = engine.void
        if void:
            self._ports.keep([Kept(device, rule, None) for rule, device in sorted(void)])
            void.clear()

    def go_on(self, engine: Engine, position: int) -> None:
        """Keep a few devices, if it is time. All that is below the position is judged and written."""
        if self._monotonic() < self._due:
            return
        self.before_writing(engine)
        if self._left is None:
            self._start(position)
        began = self._monotonic()
        self._keep(engine, _AT_ONCE)
        self._finish_round(began)

    def stop(self, engine: Engine, position: int, until: float) -> None:
        """Keep everything that has changed, as far as there is time (`until`, on the clock that this was given)."""
        began = self._monotonic()
        self.before_writing(engine)
        self._start(position)
        count = len(self._changed)
        while self._left:
            if self._monotonic() >= until:
                log.info("engine.not_kept", left=len(self._left), hint="the next start judges them from their past")
                return
            self._keep(engine, _AT_STOP)
        self._finish_round(began)
        log.info("engine.kept", devices=count, seconds=round(self._monotonic() - began, 1))

    def _start(self, position: int) -> None:
        self._changed.update(self._left or ())
        self._left = sorted(self._changed)
        self._position = position
        self._told.clear()

    def _keep(self, engine: Engine, count: int) -> None:
        assert self._left is not None
        some = self._left[-count:]
        told = set(self._told)
        rows = [kept for identity in some for kept in engine.keep(identity, told)]
        if rows:
            self._ports.keep(rows)
        del self._left[-count:]
        self._changed.difference_update(some)
        self._told = told

    def _finish_round(self, began: float) -> None:
        now = self._monotonic()
        if self._left:
            self._due = now + _SHARE * (now - began)
            return
        self._ports.complete(self._position)
        self._left = None
        self._due = now + self._pause
