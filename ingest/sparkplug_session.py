"""What a Sparkplug B host remembers of edge nodes, as a state machine: messages and the time in, uplinks and rebirth
requests out.

A birth names metrics; data after it only number them. So each message leaves here with its names, types and units
filled in, and is a whole by itself from then on. What comes too early waits, within bounds, for the missing sequence
numbers or for the birth, which is asked for; what waited in vain leaves as it is, and quarantine has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from devices.codecs.sparkplug import CONNECTED, UNIT, node_identity, parse, properties
from devices.codecs.sparkplug_schema import Payload
from devices.errors import DecodeError
from devices.model import SECOND, Instant

REORDER_TIMEOUT: Instant = 5 * SECOND
"""How long a missing sequence number is waited for before a rebirth is asked for."""
BIRTH_TIMEOUT: Instant = 60 * SECOND
"""How long data wait for the birth that names them."""
REBIRTH_PAUSE: Instant = 30 * SECOND
"""Between two rebirth requests to one edge node: a birth can be large, and the radio slow."""
_SEQUENCE = 256


class Kind(StrEnum):
    """The message types that an edge node sends."""

    NBIRTH = "NBIRTH"
    NDEATH = "NDEATH"
    NDATA = "NDATA"
    DBIRTH = "DBIRTH"
    DDEATH = "DDEATH"
    DDATA = "DDATA"


class EdgeNode(NamedTuple):
    """What its topics call it."""

    group: str
    node: str


class Address(NamedTuple):
    """A topic `spBv1.0/group/kind/node[/device]`."""

    edge: EdgeNode
    kind: Kind
    device: str | None

    @classmethod
    def parse(cls, topic: str) -> Address | None:
        """None for a topic that is not an edge node's message."""
        match topic.split("/"):
            case ["spBv1.0", group, ("NBIRTH" | "NDEATH" | "NDATA") as kind, node] if group and node:
                return cls(EdgeNode(group, node), Kind(kind), None)
            case ["spBv1.0", group, ("DBIRTH" | "DDEATH" | "DDATA") as kind, node, device] if group and node and device:
                return cls(EdgeNode(group, node), Kind(kind), device)
        return None


class Forward(NamedTuple):
    """A message on its way to the pipeline. `token` is what the caller gave with it, None where it is one of ours (a
    device that dies with its node)."""

    identity: str
    topic: str
    payload: bytes
    received_at: Instant
    token: object


@dataclass(slots=True)
class Step:
    """What follows from a message or from the passing of time, in this order; `ignored` counts deaths of sessions that
    are over."""

    forwards: list[Forward] = field(default_factory=list)
    rebirths: list[EdgeNode] = field(default_factory=list)
    ignored: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a session holds at most; whoever has been silent for longest makes room."""

    nodes: int = 10_000
    names_bytes: int = 256 * 1024 * 1024
    waiting: int = 1_000
    """Messages that wait: below the gateway's receive maximum, so that one node's silence does not hold up others."""
    waiting_bytes: int = 16 * 1024 * 1024


class _Known(NamedTuple):
    """What a birth says about a metric."""

    name: bytes
    datatype: int
    unit: bytes


@dataclass(slots=True)
class _Message:
    address: Address
    topic: str
    payload: Any
    raw: bytes
    received_at: Instant
    token: object

    @property
    def identity(self) -> str:
        return node_identity(*self.address.edge, self.address.device)

    def forward(self, payload: bytes) -> Forward:
        return Forward(self.identity, self.topic, payload, self.received_at, self.token)


class _Born(NamedTuple):
    """A node or device that is on line: its metrics by alias and by name, and about how much memory they take."""

    names: dict[int | bytes, _Known]
    size: int


@dataclass(slots=True)
class _Node:
    """An edge node. `members` has the node itself (None) and its devices; whoever is not in it has not been born or has
    died."""

    members: dict[str | None, _Born] = field(default_factory=dict)
    birth_seq: int | None = None
    expected: int | None = None
    early: dict[int, _Message] = field(default_factory=dict)
    early_since: Instant = 0
    unnamed: deque[_Message] = field(default_factory=deque)
    asked_at: Instant | None = None

    @property
    def size(self) -> int:
        return sum(born.size for born in self.members.values())

    @property
    def waiting(self) -> Iterable[_Message]:
        return (*self.early.values(), *self.unnamed)


class Session:
    """One host's view of all edge nodes; not for use from several threads at once."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._nodes: dict[EdgeNode, _Node] = {}
        self._names_bytes = 0
        self._waiting = 0
        self._waiting_bytes = 0

    @property
    def waiting(self) -> int:
        """Messages that wait for a birth or for an earlier message."""
        return self._waiting

    @property
    def online(self) -> int:
        """Edge nodes and devices that have been born and have not died."""
        return sum(len(node.members) for node in self._nodes.values())

    def receive(self, topic: str, payload: bytes, now: Instant, token: object = None) -> Step | None:
        """One message; None where its topic is no edge node's. Each token leaves once, in this or in a later step."""
        address = Address.parse(topic)
        if address is None:
            return None
        step = Step()
        try:
            parsed = parse(payload)
        except DecodeError:  # it says so again where it is decoded, and goes to quarantine
            identity = node_identity(*address.edge, address.device)
            step.forwards.append(Forward(identity, topic, payload, now, token))
            return step
        message = _Message(address, topic, parsed, payload, now, token)
        # The order of the dictionary is that of who spoke last: the first makes room.
        node = self._nodes.pop(address.edge, None) or _Node()
        self._nodes[address.edge] = node
        self._take(node, message, step, now)
        self._make_room(step)
        return step

    def tick(self, now: Instant) -> Step:
        """What the passing of time brings; to be called every second or so."""
        step = Step()
        for edge, node in self._nodes.items():
            if node.early and now - node.early_since >= REORDER_TIMEOUT:
                self._skip_gap(edge, node, step, now)
            while node.unnamed and now - node.unnamed[0].received_at >= BIRTH_TIMEOUT:
                self._give_up(node.unnamed.popleft(), node, step)
            if node.unnamed:
                self._ask(edge, node, step, now)
        return step

    def close(self) -> Step:
        """Everything that waits, as it is: nothing of it is acknowledged otherwise."""
        step = Step()
        for node in self._nodes.values():
            self._flush(node, step)
        return step

    # One message.

    def _take(self, node: _Node, message: _Message, step: Step, now: Instant) -> None:
        kind = message.address.kind
        if kind is Kind.NBIRTH:
            self._node_birth(node, message, step, now)
        elif kind is Kind.NDEATH:
            self._node_death(node, message, step, now)
        elif None not in node.members:
            # Not born as far as we know: we have just started, or its birth was lost. Its place in the sequence means
            # nothing yet. A device's birth says all by itself, but comes again after the node's.
            if kind in (Kind.DBIRTH, Kind.DDEATH):
                self._leave(node, message, step)
                self._ask(message.address.edge, node, step, now)
            else:
                self._wait_for_birth(node, message, step, now)
        elif not message.payload.HasField("seq") or message.payload.seq % _SEQUENCE == node.expected:
            self._in_order(node, message, step, now)
            self._catch_up(node, step, now)
        else:
            self._too_early(node, message, step, now)

    def _node_birth(self, node: _Node, message: _Message, step: Step, now: Instant) -> None:
        for early in self._drop_early(node):  # of the life that is over: by its own names
            self._apply(node, early, step, now)
        self._names_bytes -= node.size
        node.members = {}
        self._be_born(node, message)
        node.birth_seq = _birth_sequence(message.payload)
        node.expected = (message.payload.seq + 1) % _SEQUENCE
        step.forwards.append(message.forward(_with_state(message.payload, connected=True)))
        self._name_waiting(node, None, step)

    def _node_death(self, node: _Node, message: _Message, step: Step, now: Instant) -> None:
        """The broker sends it as the node's will: it counts only for the life that it was written for."""
        sequence = _birth_sequence(message.payload)
        if None not in node.members or (node.birth_seq is not None and sequence != node.birth_seq):
            step.ignored += 1
            step.forwards.append(message.forward(message.raw))
            return
        for early in self._drop_early(node):
            self._apply(node, early, step, now)
        devices = [device for device in node.members if device is not None]
        self._names_bytes -= node.size
        node.members, node.expected, node.birth_seq = {}, None, None
        death = _with_state(Payload(), connected=False)
        for device in devices:
            identity = node_identity(*message.address.edge, device)
            step.forwards.append(Forward(identity, message.topic, death, message.received_at, None))
        step.forwards.append(message.forward(_with_state(message.payload, connected=False)))

    def _in_order(self, node: _Node, message: _Message, step: Step, now: Instant) -> None:
        if message.payload.HasField("seq"):
            node.expected = (message.payload.seq + 1) % _SEQUENCE
        self._apply(node, message, step, now)

    def _apply(self, node: _Node, message: _Message, step: Step, now: Instant) -> None:
        device = message.address.device
        if message.address.kind is Kind.DBIRTH:
            self._be_born(node, message)
            self._leave(node, message, step)
            self._name_waiting(node, device, step)
        elif message.address.kind is Kind.DDEATH:
            self._leave(node, message, step)
            born = node.members.pop(device, None)
            self._names_bytes -= born.size if born else 0
        elif device in node.members and _fill_in(message.payload, node.members[device].names):
            step.forwards.append(message.forward(message.payload.SerializeToString()))
        else:
            self._wait_for_birth(node, message, step, now)

    def _be_born(self, node: _Node, message: _Message) -> None:
        device = message.address.device
        before = node.members.get(device)
        node.members[device] = born = _born(message)
        self._names_bytes += born.size - (before.size if before else 0)

    def _leave(self, node: _Node, message: _Message, step: Step) -> None:
        """Forward a message as well as it can be said now."""
        payload = message.payload
        if message.address.kind in (Kind.DBIRTH, Kind.DDEATH):
            state = message.address.kind is Kind.DBIRTH
            step.forwards.append(message.forward(_with_state(payload, connected=state)))
            return
        born = node.members.get(message.address.device)
        if born is not None:
            _fill_in(payload, born.names)
        step.forwards.append(message.forward(payload.SerializeToString()))

    # Waiting for an earlier message.

    def _too_early(self, node: _Node, message: _Message, step: Step, now: Instant) -> None:
        if not node.early:
            node.early_since = now
        sequence = message.payload.seq % _SEQUENCE
        other = node.early.pop(sequence, None)
        if other is not None:  # the same number twice: a whole round was lost, or it is a repeat
            self._weigh(other, -1)
            self._apply(node, other, step, now)
        node.early[sequence] = message
        self._weigh(message, 1)

    def _catch_up(self, node: _Node, step: Step, now: Instant) -> None:
        while node.expected is not None and (message := node.early.pop(node.expected, None)) is not None:
            self._weigh(message, -1)
            self._in_order(node, message, step, now)
        if node.early:
            node.early_since = min(message.received_at for message in node.early.values())

    def _skip_gap(self, edge: EdgeNode, node: _Node, step: Step, now: Instant) -> None:
        """What is missing is lost (data travel with QoS 0): go on with what is there, and have everything said anew."""
        for message in self._drop_early(node):
            self._in_order(node, message, step, now)
        self._ask(edge, node, step, now)

    def _drop_early(self, node: _Node) -> Iterator[_Message]:
        """The early messages in the order of their sequence, from what was expected."""
        start = node.expected or 0
        early = sorted(node.early.items(), key=lambda entry: (entry[0] - start) % _SEQUENCE)
        node.early = {}
        for _, message in early:
            self._weigh(message, -1)
            yield message

    # Waiting for a birth.

    def _wait_for_birth(self, node: _Node, message: _Message, step: Step, now: Instant) -> None:
        node.unnamed.append(message)
        self._weigh(message, 1)
        self._ask(message.address.edge, node, step, now)

    def _name_waiting(self, node: _Node, device: str | None, step: Step) -> None:
        """The names are here: also those of what came before them."""
        rest: deque[_Message] = deque()
        for message in node.unnamed:
            if message.address.device == device:
                self._give_up(message, node, step)
            else:
                rest.append(message)
        node.unnamed = rest

    def _give_up(self, message: _Message, node: _Node, step: Step) -> None:
        self._weigh(message, -1)
        self._leave(node, message, step)

    def _ask(self, edge: EdgeNode, node: _Node, step: Step, now: Instant) -> None:
        if node.asked_at is None or now - node.asked_at >= REBIRTH_PAUSE:
            node.asked_at = now
            step.rebirths.append(edge)

    # Bounds.

    def _weigh(self, message: _Message, sign: int) -> None:
        self._waiting += sign
        self._waiting_bytes += sign * len(message.raw)

    def _make_room(self, step: Step) -> None:
        bounds = self._bounds
        while len(self._nodes) > 1 and (len(self._nodes) > bounds.nodes or self._names_bytes > bounds.names_bytes):
            silent = self._nodes.pop(next(iter(self._nodes)))
            self._flush(silent, step)
            self._names_bytes -= silent.size
        if self._waiting > bounds.waiting or self._waiting_bytes > bounds.waiting_bytes:
            # Whoever holds the most gives way, so that one node's flood does not cost the others their patience.
            self._flush(max(self._nodes.values(), key=_held), step)

    def _flush(self, node: _Node, step: Step) -> None:
        for message in self._drop_early(node):
            self._leave(node, message, step)
        while node.unnamed:
            self._give_up(node.unnamed.popleft(), node, step)


def _held(node: _Node) -> int:
    return sum(len(message.raw) + 64 for message in node.waiting)


def _born(message: _Message) -> _Born:
    """What a birth says, by alias and by name: data may use either."""
    names: dict[int | bytes, _Known] = {}
    address = message.address
    size = 500 + 2 * len(address.edge.group + address.edge.node + (address.device or ""))
    for metric in message.payload.metrics:
        unit = properties(metric).get(UNIT)
        known = _Known(metric.name, metric.datatype, unit.string_value if unit is not None else b"")
        size += 300 + len(known.name) + len(known.unit)
        names[metric.name] = known
        if metric.HasField("alias"):
            names[metric.alias] = known
    return _Born(names, size)


def _fill_in(payload: Any, names: dict[int | bytes, _Known]) -> bool:
    """Give metrics the name, type and unit of their birth; False where one has no name afterwards."""
    whole = True
    for metric in payload.metrics:
        known = names.get(metric.name or (metric.alias if metric.HasField("alias") else b""))
        if known is None:
            whole = whole and bool(metric.name)
            continue
        metric.name = known.name
        if not metric.datatype and known.datatype:
            metric.datatype = known.datatype
        if known.unit and UNIT not in properties(metric):
            metric.properties.keys.append(UNIT)
            metric.properties.values.add(string_value=known.unit)
    return whole


def _with_state(payload: Any, *, connected: bool) -> bytes:
    """A birth or death with the metric that says which it is. It has no time of its own: it is of when it was received,
    as a node's death carries the time at which its will was written."""
    name = CONNECTED.encode()
    if all(metric.name != name for metric in payload.metrics):
        payload.metrics.add(name=name, datatype=11, boolean_value=connected)
    return bytes(payload.SerializeToString())


def _birth_sequence(payload: Any) -> int | None:
    for metric in payload.metrics:
        if metric.name == b"bdSeq":
            return int(metric.long_value if metric.HasField("long_value") else metric.int_value)
    return None


def rebirth_request(now: Instant) -> bytes:
    """The payload of an NCMD that asks an edge node to say its births again."""
    payload = Payload(timestamp=now // 1000)
    payload.metrics.add(name=b"Node Control/Rebirth", timestamp=now // 1000, datatype=11, boolean_value=True)
    return bytes(payload.SerializeToString())
