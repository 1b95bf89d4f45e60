"""What the engine keeps over a restart, as bytes. Pure; where they are kept is no business of this module.

They are of use only to an engine that makes the same of a device's readings: the same code, the same rules on this
device with the same set-points, the same profile, the same entry in the registry. A digest in front, the address, says
for whom they are; who finds another one has nothing.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import NamedTuple

import msgspec

from alerts.rules import Rule
from alerts.track import Rest
from devices.model import Device, Instant, Reading
from devices.profile import Profile

_DIGEST = 16
"""Bytes of a digest."""
_FOR_PEOPLE = {"overrides", "title", "guidance", "severity", "alarm_class", "latching"}
"""What the engine does not go by; overrides count where they are for the device."""
_LEVEL = 1
"""Of compression: half a millisecond for a device of the whole library, which becomes a quarter."""


class WatchRest(NamedTuple):
    """A scope of a rule on a group, at rest."""

    track: Rest | None
    """None where nothing could be judged yet."""
    known: dict[str, Instant]
    waiting: list[Reading]
    until: Instant


_encode = msgspec.msgpack.Encoder().encode
_track = msgspec.msgpack.Decoder(Rest).decode
_watch = msgspec.msgpack.Decoder(WatchRest).decode


class Addresses:
    """The addresses of what one engine keeps. `version` is that of the code, `validity` the engine's own."""

    def __init__(self, version: str, validity: Instant | None, profiles: Mapping[str, Profile]) -> None:
        self._version = f"{version}\n{validity}\n".encode()
        self._profiles = profiles
        self._known: dict[str, bytes] = {}

    def of(self, rules: Iterable[Rule], about: Device, members: Iterable[tuple[str, Device]]) -> bytes:
        """That of what these rules make of a device, or of a group that is told by one: its members with their names
        there."""
        found = sha256(self._version)
        for rule in rules:
            found.update(self._of_rule(rule))
            for override in rule.overrides:
                if override.covers(about):
                    found.update(override.model_dump_json().encode())
        for name, device in members:
            found.update(self._of_profile(device.profile))
            entry = (name, device.identity, device.site, device.tag, dict(device.design))
            found.update(json.dumps(entry, sort_keys=True, default=str).encode())
        return found.digest()[:_DIGEST]

    def _of_rule(self, rule: Rule) -> bytes:
        """Of all that decides when it calls, and of what its alarms say."""
        known = self._known.get(f"rule {rule.rule}")
        if known is None:
            text = rule.model_dump_json(exclude=_FOR_PEOPLE)
            known = self._known[f"rule {rule.rule}"] = sha256(text.encode()).digest()
        return known

    def _of_profile(self, name: str) -> bytes:
        known = self._known.get(f"profile {name}")
        if known is None:
            text = self._profiles[name].model_dump_json()
            known = self._known[f"profile {name}"] = sha256(text.encode()).digest()
        return known


def pack(to: bytes, rest: Rest | WatchRest) -> bytes:
    """The bytes that are kept."""
    return to + zlib.compress(_encode(rest), _LEVEL)


def unpack_track(to: bytes, kept: bytes) -> Rest | None:
    """A device's memory; None where the bytes are for another one, or are no such thing."""
    try:
        return _track(zlib.decompress(kept[_DIGEST:])) if kept[:_DIGEST] == to else None
    except (zlib.error, msgspec.MsgspecError):
        return None


def unpack_watch(to: bytes, kept: bytes) -> WatchRest | None:
    """The same of a group."""
    try:
        return _watch(zlib.decompress(kept[_DIGEST:])) if kept[:_DIGEST] == to else None
    except (zlib.error, msgspec.MsgspecError):
        return None
