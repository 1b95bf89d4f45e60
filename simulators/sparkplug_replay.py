"""A recording's Sparkplug messages as sessions again: each edge node on a connection of its own, with a will, births,
and numbers of this life.

They go with QoS 1, unlike an edge node's: what is replayed shall arrive. A host that asks for a rebirth gets the births
that were sent last.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

from devices.codecs.sparkplug_schema import Payload
from devices.model import Uplink
from simulators.mqtt_client import MqttClient, Puback
from simulators.sparkplug_lives import Lives, Place, birth_number, place_of, read

_UINT64 = 8
_REBIRTH = b"Node Control/Rebirth"
_NOBODY_SECONDS, _NOBODY_TRIES = 1.0, 10


class Sessions:
    """The edge nodes of a replay; `target` is what a person is told of where they are, without a password."""

    def __init__(self, url: str, target: str) -> None:
        self._url, self._target = url, target
        self._nodes: dict[tuple[str, str], _Node] = {}

    def recall(self, lives: Lives) -> None:
        """A replay goes on here: what was born before has to be born again."""
        for edge, births in lives.births.items():
            self._node(edge).recall(births)

    async def send(self, place: Place, uplink: Uplink) -> Puback:
        """Send a message of a life that began within the recording; messages of one node keep their order."""
        payload = read(uplink)
        if payload is None:
            return Puback("not a Sparkplug B payload", stored=False, later=False)
        return await self._node(place.edge).send(place, payload)

    async def close(self) -> None:
        """Let all nodes die in order."""
        for node in self._nodes.values():
            await node.close()

    def _node(self, edge: tuple[str, str]) -> _Node:
        if edge not in self._nodes:
            self._nodes[edge] = _Node(self._url, self._target, *edge)
        return self._nodes[edge]


class _Node:
    """One edge node: its connection, and what it has said since its birth."""

    def __init__(self, url: str, target: str, group: str, node: str) -> None:
        self._url, self._target = url, target
        self._group, self._name = group, node
        self._lock = asyncio.Lock()
        self._client: MqttClient | None = None
        self._births: dict[str | None, tuple[Place, Any]] = {}
        self._recorded: int | None = None
        """The recording's `bdSeq` of this life."""
        # Every replay begins at another number, so that the will of the last one means nothing.
        self._number = secrets.randbelow(256)
        self._sequence = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def recall(self, births: Mapping[str | None, Uplink]) -> None:
        for device, uplink in births.items():
            place, payload = place_of(uplink), read(uplink)
            if place is not None and payload is not None:
                self._births[device] = (place, payload)
        if None in self._births:
            self._recorded = birth_number(self._births[None][1])

    async def send(self, place: Place, payload: Any) -> Puback:
        async with self._lock:
            if place.kind == "NBIRTH":
                number = birth_number(payload)
                if self._client is None or number != self._recorded:
                    await self._begin()
                self._recorded, self._births = number, {}
            elif self._client is None:
                await self._begin()
                await self._say_births()
            if place.kind in ("NBIRTH", "DBIRTH"):
                self._births[place.device] = (place, payload)
            elif place.kind == "DDEATH":
                self._births.pop(place.device, None)
            # A death of an earlier life stays one: the host passes it over, as it did when it was recorded.
            stale = place.kind == "NDEATH" and birth_number(payload) != self._recorded
            answer = await self._publish(place, payload, stale=stale)
            if place.kind == "NDEATH" and not stale:
                await self._end()
            return answer

    async def close(self) -> None:
        """The will is not said after a farewell, so it is said before."""
        async with self._lock:
            if self._client is not None:
                await self._publish(Place(self._group, self._name, None, "NDEATH"), self._death())
                await self._end()

    async def _begin(self) -> None:
        """Another life, on another connection, as its will has another number."""
        await self._end()
        self._number = (self._number + 1) % 256
        loop = asyncio.get_running_loop()
        place = Place(self._group, self._name, None, "NDEATH")
        client = MqttClient(
            self._url,
            f"headworks-replay-{secrets.token_hex(4)}",
            will=(place.topic, self._death().SerializeToString()),
            listen=(
                f"spBv1.0/{self._group}/NCMD/{self._name}",
                lambda octets: loop.call_soon_threadsafe(self._commanded, octets),
            ),
        )
        await asyncio.to_thread(client.open)
        self._client = client

    async def _end(self) -> None:
        if self._client is not None:
            await asyncio.to_thread(self._client.close)
            self._client = None

    def _death(self) -> Any:
        payload = Payload()
        payload.metrics.add(name=b"bdSeq", datatype=_UINT64, long_value=self._number)
        return payload

    def _commanded(self, octets: bytes) -> None:
        if any(metric.name == _REBIRTH for metric in Payload.FromString(octets).metrics):
            task = asyncio.get_running_loop().create_task(self._rebirth())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _rebirth(self) -> None:
        async with self._lock:
            if self._client is not None:
                await self._say_births()

    async def _say_births(self) -> None:
        """The same life once more: the births that were sent last, with their values and times."""
        for place, payload in list(self._births.values()):
            await self._publish(place, payload)

    async def _publish(self, place: Place, payload: Any, *, stale: bool = False) -> Puback:
        octets = self._numbered(place, payload, stale=stale)
        assert self._client is not None
        for _ in range(_NOBODY_TRIES):
            answer = await self._client.send(place.topic, octets)
            if not answer.later:
                return answer
            await asyncio.sleep(_NOBODY_SECONDS)
        raise OSError(
            f"no Sparkplug host is on line at {self._target} ({answer.code}): "
            "start the platform with HEADWORKS_SPARKPLUG_HOST"
        )

    def _numbered(self, place: Place, payload: Any, *, stale: bool) -> bytes:
        """With the numbers of this life in place of the recorded ones."""
        changed = Payload.FromString(payload.SerializeToString())
        if place.kind == "NDEATH":
            changed.ClearField("seq")
        else:
            self._sequence = 0 if place.kind == "NBIRTH" else (self._sequence + 1) % 256
            changed.seq = self._sequence
        if place.kind in ("NBIRTH", "NDEATH"):
            kept = [metric for metric in changed.metrics if metric.name != b"bdSeq"]
            del changed.metrics[:]
            changed.metrics.extend(kept)
            number = (self._number - stale) % 256
            changed.metrics.add(name=b"bdSeq", datatype=_UINT64, long_value=number)
        return bytes(changed.SerializeToString())
