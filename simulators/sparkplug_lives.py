"""What a recording holds of Sparkplug's edge nodes: whose message an uplink is, and whether its birth was before it.
Pure.

The platform's host has given every message the names of its birth (`ingest.sparkplug_session`), but a message alone is
none on the wire: another host takes it only within a life that began with a birth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from devices.codecs.sparkplug import parse
from devices.errors import DecodeError
from devices.model import Codec, Transport, Uplink

SCHEME = "spBv1.0"
KINDS = frozenset({"NBIRTH", "NDEATH", "NDATA", "DBIRTH", "DDEATH", "DDATA"})


class Place(NamedTuple):
    """Where a message stands: the parts of its topic."""

    group: str
    node: str
    device: str | None
    kind: str

    @property
    def edge(self) -> tuple[str, str]:
        """Its edge node."""
        return self.group, self.node

    @property
    def topic(self) -> str:
        """As it is published."""
        levels = [SCHEME, self.group, self.kind, self.node]
        return "/".join([*levels, self.device] if self.device is not None else levels)


def parts_of(identity: str | None) -> list[str] | None:
    """Group, edge node and, where it is one, device, of an identity `spBv1.0:group:node[:device]`; None for others."""
    scheme, *parts = (identity or "").split(":")
    return [unquote(part) for part in parts] if scheme == SCHEME and len(parts) in (2, 3) and all(parts) else None


def identity_of(parts: list[str]) -> str:
    """The other way round."""
    return ":".join((SCHEME, *(quote(part, safe="") for part in parts)))


def place_of(uplink: Uplink) -> Place | None:
    """By its identity, which may have been changed, and by the kind in its topic; None where it is no edge node's."""
    levels = uplink.source.split("/")
    parts = parts_of(uplink.identity)
    if uplink.codec is not Codec.SPARKPLUG or uplink.transport is not Transport.MQTT or parts is None:
        return None
    kind = levels[2] if len(levels) in (4, 5) else ""
    if kind not in KINDS or (kind.startswith("N") and len(parts) != 2 and kind != "NDEATH"):
        return None
    if kind.startswith("D") and len(parts) != 3:
        return None
    group, node, *device = parts
    return Place(group, node, device[0] if device else None, kind)


def is_echo(place: Place) -> bool:
    """Whether it is what the host says of a device that has died with its node, and no message."""
    return place.kind == "NDEATH" and place.device is not None


def birth_number(payload: Any) -> int | None:
    """The `bdSeq` of a birth or death of a node."""
    for metric in payload.metrics:
        if metric.name == b"bdSeq":
            return int(metric.long_value if metric.HasField("long_value") else metric.int_value)
    return None


def read(uplink: Uplink) -> Any | None:
    """The message; None where it cannot be read."""
    try:
        return parse(uplink.payload)
    except DecodeError:
        return None


@dataclass
class Lives:
    """The births that there were, in the order of the recording."""

    births: dict[tuple[str, str], dict[str | None, Uplink]] = field(default_factory=dict)
    """By edge node: its own (None) and those of its devices that are alive, in the order in which they were born."""

    def take(self, place: Place, uplink: Uplink) -> bool:
        """Go on by one message; whether it belongs to a life that has begun within the recording."""
        members = self.births.get(place.edge)
        if place.kind == "NBIRTH":
            self.births[place.edge] = {None: uplink}
            return True
        if members is None:
            return False
        match place.kind:
            case "NDEATH":
                del self.births[place.edge]
            case "DBIRTH":
                members.pop(place.device, None)
                members[place.device] = uplink
            case "DDEATH":
                return members.pop(place.device, None) is not None
            case _:
                return place.device in members
        return True
