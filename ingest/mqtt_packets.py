"""MQTT control packets on bytes, as far as a server needs them that only takes what devices publish (3.1.1 and 5.0).

Pure. Left out because nothing here sends them or asks for them: QoS 2, wills, topic aliases, enhanced authentication.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

MAX_PROPERTIES = 100


class Code(IntEnum):
    """Reason codes of MQTT 5.0 (section 2.4); 3.1.1 has five of its own for a refused connection."""

    SUCCESS = 0x00
    MALFORMED = 0x81
    PROTOCOL_ERROR = 0x82
    NOT_ACCEPTED = 0x83
    UNSUPPORTED_PROTOCOL = 0x84
    CLIENT_ID = 0x85
    BAD_LOGIN = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BAD_AUTHENTICATION_METHOD = 0x8C
    SHUTTING_DOWN = 0x8B
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_NAME = 0x90
    TOO_LARGE = 0x95
    PAYLOAD_FORMAT = 0x99
    QOS_UNSUPPORTED = 0x9B
    CONNECTION_RATE = 0x9F


_OLD_CODES = {
    Code.SUCCESS: 0,
    Code.UNSUPPORTED_PROTOCOL: 1,
    Code.CLIENT_ID: 2,
    Code.SERVER_UNAVAILABLE: 3,
    Code.SERVER_BUSY: 3,
    Code.CONNECTION_RATE: 3,
    Code.BAD_LOGIN: 4,
}


class PacketError(Exception):
    """Bytes that are no packet, or one that is not taken here; the connection has to end with this code."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True, slots=True)
class Connect:
    """Who wants to come in. `level` is 4 for MQTT 3.1.1 and 5; `keepalive` is in seconds, 0 is none."""

    level: int
    client_id: str
    username: str | None
    password: bytes | None
    keepalive: int
    clean: bool


class Publish(NamedTuple):
    """A message; `mid` is 0 with QoS 0."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    content_type: str | None = None


class Subscribe(NamedTuple):
    """The QoS asked for each filter."""

    mid: int
    qos: list[int]


class Unsubscribe(NamedTuple):
    """How many filters."""

    mid: int
    filters: int


class Ping(NamedTuple):
    """Whether we are there."""


class Disconnect(NamedTuple):
    """The end, in order."""


class Ignored(NamedTuple):
    """An acknowledgement of something that nobody sent."""


Packet = Connect | Publish | Subscribe | Unsubscribe | Ping | Disconnect | Ignored


class Parser:
    """Puts packets together from what comes; holds at most `limit` bytes and a little."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self.level = 0
        """The protocol's level once it has connected, which decides how packets are read."""

    def feed(self, octets: bytes) -> None:
        """Take what came."""
        self._held += octets

    def next(self) -> Packet | None:
        """The next packet; None while it is not whole. `PacketError` where the connection has to end."""
        held = self._held
        size = shift = 0
        for index in range(1, 5):
            if len(held) <= index:
                return None
            octet = held[index]
            size |= (octet & 0x7F) << shift
            shift += 7
            if octet < 0x80:
                break
        else:
            raise PacketError(Code.MALFORMED, "a length of more than four bytes")
        if size > self._limit:
            raise PacketError(Code.TOO_LARGE, f"a packet of {size} bytes; at most {self._limit}")
        start = index + 1
        if len(held) < start + size:
            return None
        first, body = held[0], bytes(held[start : start + size])
        del held[: start + size]
        return self._packet(first, _Body(body))

    def _packet(self, first: int, body: _Body) -> Packet:
        kind, flags = first >> 4, first & 0x0F
        if (kind == 1) != (self.level == 0):
            raise PacketError(Code.PROTOCOL_ERROR, "a connection begins with CONNECT, and has one")
        if kind == 1:
            found = _connect(body)
            self.level = found.level
            return found
        if kind == 3:
            return self._publish(flags, body)
        if kind in (8, 10):
            if flags != 2:
                raise PacketError(Code.MALFORMED, "flags of a subscription are 2")
            return self._subscription(kind, body)
        if kind == 12:
            return Ping()
        if kind == 14:
            return Disconnect()
        if kind in (4, 5, 6, 7):
            return Ignored()
        raise PacketError(Code.PROTOCOL_ERROR, f"a packet of type {kind}")

    def _publish(self, flags: int, body: _Body) -> Publish:
        qos = flags >> 1 & 3
        if qos > 1:
            raise PacketError(Code.QOS_UNSUPPORTED, "QoS 0 and 1 are taken")
        topic = body.text()
        if not topic or "+" in topic or "#" in topic:
            raise PacketError(Code.TOPIC_NAME, "a topic without wildcards is needed")
        mid = body.identifier() if qos else 0
        content_type = None
        if self.level == 5:
            properties = body.properties()
            if 0x23 in properties:
                raise PacketError(Code.PROTOCOL_ERROR, "no topic aliases were offered")
            content_type = properties.get(0x03)
        return Publish(topic, body.rest(), qos, mid, content_type)

    def _subscription(self, kind: int, body: _Body) -> Subscribe | Unsubscribe:
        mid = body.identifier()
        if self.level == 5:
            body.properties()
        qos: list[int] = []
        while body.left:
            body.text()
            qos.append(min(body.octet() & 3, 1) if kind == 8 else 0)
        if not qos:
            raise PacketError(Code.PROTOCOL_ERROR, "a subscription without a filter")
        return Subscribe(mid, qos) if kind == 8 else Unsubscribe(mid, len(qos))


def _connect(body: _Body) -> Connect:
    name, level = body.text(), body.octet()
    if name != "MQTT" or level not in (4, 5):
        raise PacketError(Code.UNSUPPORTED_PROTOCOL, "MQTT 3.1.1 and 5.0 are spoken")
    flags, keepalive = body.octet(), body.short()
    if flags & 1:
        raise PacketError(Code.MALFORMED, "the reserved flag is set")
    if level == 5 and 0x15 in body.properties():
        raise PacketError(Code.BAD_AUTHENTICATION_METHOD, "user and password are the way to come in")
    client_id = body.text()
    if flags & 0x04:  # a will: nobody subscribes here, so it is told to nobody
        if level == 5:
            body.properties()
        body.text()
        body.octets()
    username = body.text() if flags & 0x80 else None
    password = body.octets() if flags & 0x40 else None
    if body.left:
        raise PacketError(Code.MALFORMED, "more bytes than a CONNECT has")
    return Connect(level, client_id, username, password, keepalive, bool(flags & 2))


_PROPERTIES = {
    0x01: "B", 0x17: "B", 0x19: "B", 0x21: "H", 0x22: "H", 0x23: "H", 0x02: "I", 0x11: "I", 0x18: "I", 0x27: "I",
    0x03: "text", 0x08: "text", 0x15: "text", 0x09: "octets", 0x16: "octets", 0x26: "pair", 0x0B: "number",
}  # fmt: skip
"""What a client may say (section 2.2.2.2), and how long that is."""


class _Body:
    """Reads a packet's fields; `PacketError` where it ends too early."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._octets) - self._at

    def octet(self) -> int:
        return self._take(1)[0]

    def short(self) -> int:
        return int.from_bytes(self._take(2))

    def identifier(self) -> int:
        found = self.short()
        if not found:
            raise PacketError(Code.MALFORMED, "a packet identifier of 0")
        return found

    def octets(self) -> bytes:
        return self._take(self.short())

    def text(self) -> str:
        try:
            found = self.octets().decode()
        except UnicodeDecodeError:
            raise PacketError(Code.MALFORMED, "a text that is not UTF-8") from None
        if "\0" in found:
            raise PacketError(Code.MALFORMED, "a text with a null character")
        return found

    def rest(self) -> bytes:
        return self._take(self.left)

    def number(self) -> int:
        found = 0
        for shift in (0, 7, 14, 21):
            octet = self.octet()
            found |= (octet & 0x7F) << shift
            if octet < 0x80:
                return found
        raise PacketError(Code.MALFORMED, "a number of more than four bytes")

    def properties(self) -> dict[int, str]:
        """The texts among the properties, and for the rest that they are there."""
        inner = _Body(self._take(self.number()))
        found: dict[int, str] = {}
        for _ in range(MAX_PROPERTIES):
            if not inner.left:
                return found
            key = inner.number()
            form = _PROPERTIES.get(key)
            if form is None:
                raise PacketError(Code.MALFORMED, f"property {key:#04x} has no place here")
            found[key] = inner.property(form)
        raise PacketError(Code.TOO_LARGE, f"more than {MAX_PROPERTIES} properties")

    def property(self, form: str) -> str:
        if form == "text":
            return self.text()
        if form == "pair":
            self.text()
            self.text()
        elif form == "octets":
            self.octets()
        elif form == "number":
            self.number()
        else:
            self._take(struct.calcsize(form))
        return ""

    def _take(self, size: int) -> bytes:
        if size > self.left:
            raise PacketError(Code.MALFORMED, "it ends too early")
        found = self._octets[self._at : self._at + size]
        self._at += size
        return found


def _packet(first: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while True:
        octet, size = size & 0x7F, size >> 7
        length.append(octet | (0x80 if size else 0))
        if not size:
            return bytes([first, *length]) + body


def connack(level: int, code: Code, *, receive_maximum: int = 0, limit: int = 0, assigned: str = "") -> bytes:
    """The answer to CONNECT; an MQTT 5 client that is let in learns what is taken here."""
    if level != 5:
        return _packet(0x20, bytes([0, _OLD_CODES.get(code, 5)]))
    properties = b""
    if code is Code.SUCCESS:
        # Receive Maximum, Maximum QoS, Maximum Packet Size; no subscription identifiers, no shared subscriptions.
        properties = struct.pack(">BHBBBIBBBB", 0x21, receive_maximum, 0x24, 1, 0x27, limit, 0x29, 0, 0x2A, 0)
        if assigned:
            properties += b"\x12" + struct.pack(">H", len(assigned)) + assigned.encode()
    return _packet(0x20, bytes([0, code, len(properties)]) + properties)


def puback(level: int, mid: int, code: Code = Code.SUCCESS) -> bytes:
    """A message is durable; 3.1.1 has no way to say that it is in quarantine."""
    if level == 5 and code is not Code.SUCCESS:
        return _packet(0x40, struct.pack(">HB", mid, code))
    return b"\x40\x02" + mid.to_bytes(2)


def suback(level: int, mid: int, qos: list[int]) -> bytes:
    """Subscriptions are granted: device libraries insist on theirs, and there is nothing that they would miss."""
    return _packet(0x90, mid.to_bytes(2) + (b"\0" if level == 5 else b"") + bytes(qos))


def unsuback(level: int, mid: int, filters: int) -> bytes:
    """They are gone again."""
    return _packet(0xB0, mid.to_bytes(2) + (b"\0" + bytes(filters) if level == 5 else b""))


PINGRESP = b"\xd0\x00"


def disconnect(level: int, code: Code) -> bytes:
    """Why the connection ends; nothing for 3.1.1, which only closes."""
    return _packet(0xE0, bytes([code])) if level == 5 else b""
