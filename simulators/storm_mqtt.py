"""A storm's devices by MQTT 5: QoS 1 publishes of many devices over few connections, packed by hand.

The broker's Receive Maximum is kept. Where a connection breaks, what was not acknowledged on it is sent again on the
next one. A PUBACK is the broker's word, not the platform's: what the broker then delivers is the platform's to count.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from simulators.datagrams import Bytes
from simulators.nbiot import LEVELS
from simulators.storm import Numbers, Storm, Tally, arrivals, coverage_levels
from simulators.storm_payload import mqtt_template, variable_length
from simulators.storm_wheel import Wheel

LONGEST_PUT_OFF = 10
_NOBODY_SECONDS = 1.0
"""After "no matching subscribers" (nobody has it, though the code says success) a device tries again."""
_NO_SUBSCRIBERS = 0x10
_KEEP_ALIVE = 60
_HANDSHAKE_SECONDS = 10.0
_RECONNECTS = 5
_ROWS = 256
_CONNACK, _PUBACK, _DISCONNECT = 0x20, 0x40, 0xE0
_RECEIVE_MAXIMUM = 0x21
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a socket that does not block says where it would have to, without TLS and with it."""
# Lengths of CONNACK's properties (MQTT 5, section 2.2.2.2) by identifier; None is a text, 0 a pair of texts.
_PROPERTIES: dict[int, int | None] = {
    0x11: 4, 0x12: None, 0x13: 2, 0x15: None, 0x16: None, 0x1A: None, 0x1C: None, 0x1F: None, 0x21: 2, 0x22: 2, 0x24: 1,
    0x25: 1, 0x26: 0, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip


class _Connection:
    """One connection: what is under way on it by packet identifier, and the bytes that wait either way."""

    def __init__(self, url: str, client_id: str) -> None:
        self._url, self._client_id = url, client_id
        self.under_way = np.full(1 << 16, -1, np.int64)
        self.open()

    def open(self) -> None:
        """Connect anew; `OSError` where the broker cannot be reached or does not want us."""
        self.door, self.room = _connect(self._url, self._client_id)
        self.under_way[:] = -1
        self.waiting = 0
        self._next = 0
        self.out = b""
        self.inbox = b""
        self.spoken = 0.0

    def identifiers(self, count: int) -> Numbers:
        """Up to `count` packet identifiers that are free, in a row."""
        asked = np.arange(self._next, self._next + min(count, self.room - self.waiting)) % 0xFFFF + 1
        taken = np.flatnonzero(self.under_way[asked] >= 0)
        found: Numbers = asked if len(taken) == 0 else asked[: taken[0]]
        self._next = (self._next + len(found)) % 0xFFFF
        return found

    def flush(self) -> None:
        """Write as much as the socket takes."""
        while self.out:
            try:
                done = self.door.send(self.out)
            except _NOT_NOW:
                return
            self.out = self.out[done:]


class MqttFleet:
    """The devices with these numbers, towards one broker."""

    def __init__(self, storm: Storm, numbers: Numbers, url: str, monotonic: Callable[[], float], offset: float) -> None:
        """`offset` is what is added to the monotonic clock to have seconds since 1970. `OSError` where the broker
        cannot be reached."""
        self._storm = storm
        self._monotonic = monotonic
        self._offset = offset
        self._order, self._arrival = arrivals(storm, numbers)
        self._arrived = 0
        self._numbers = numbers
        self._place = np.full(int(numbers.max()) + 1, -1, np.int64)
        self._place[numbers] = np.arange(len(numbers))
        count = len(numbers)
        self._level = coverage_levels(storm, numbers)
        self._first = np.zeros(count)
        self._put_off = np.zeros(count, np.uint8)
        self._latency = np.full(count, np.nan)
        self._queue: list[Numbers] = []
        """Devices whose turn it is, and for which there was no room yet."""
        self._sleepers = Wheel()
        self._template, self._identifier_at = mqtt_template(storm.series)
        self._rows: Bytes = np.zeros((_ROWS, len(self._template.row)), np.uint8)
        self.tally = Tally(count, payload_bytes=self._template.payload_bytes)
        self._reconnects = 0
        self.reconnected = False
        """Whether `doors` has changed since somebody looked."""
        self._connections = [
            _Connection(url, f"headworks-storm-{storm.series}-{number}") for number in range(storm.connections)
        ]

    @property
    def doors(self) -> list[tuple[socket.socket, Callable[[], None]]]:
        """Sockets, and what to call when one can be read."""
        return [(one.door, lambda number=number: self.receive(number)) for number, one in enumerate(self._connections)]  # type: ignore[misc]

    @property
    def over(self) -> bool:
        """Whether every device has come to its end."""
        return self.tally.finished == self.tally.devices

    @property
    def idle(self) -> bool:
        """Whether no answer is awaited."""
        return not any(one.waiting for one in self._connections)

    def start(self, at: float) -> None:
        """The storm's beginning on the monotonic clock."""
        self._started = at

    def close(self) -> None:
        """Leave the broker and hand over the latencies."""
        for one in self._connections:
            one.door.close()
        self.tally.latencies = self._latency[~np.isnan(self._latency)]

    def work(self, elapsed: float, *, begin: bool) -> float:
        """Do what is due, `elapsed` seconds after the beginning; returns when something is due next."""
        for one in self._connections:
            if elapsed - one.spoken > _KEEP_ALIVE / 3:
                one.out += b"\xc0\0"  # PINGREQ
                one.spoken = elapsed
            one.flush()
        if not begin:
            return elapsed + 0.01
        woken = self._sleepers.take(elapsed)
        if woken is not None:
            self._queue.append(woken)
        here = int(np.searchsorted(self._arrival, elapsed, "right"))
        if here > self._arrived:
            self._queue.append(self._place[self._order[self._arrived : here]])
            self._arrived = here
        while self._queue and self._publish(self._queue[0], elapsed):
            pass
        upcoming = float(self._arrival[here]) if here < len(self._order) else float("inf")
        return min(upcoming, self._sleepers.next, elapsed + (0.005 if any(o.out for o in self._connections) else 60))

    def _publish(self, places: Numbers, elapsed: float) -> bool:
        """Publish for some of these devices, the head of the queue; whether there was room for any."""
        one = min(self._connections, key=lambda each: each.waiting)
        room = (
            self._storm.under_way - sum(each.waiting for each in self._connections) if self._storm.under_way else _ROWS
        )
        identifiers = one.identifiers(max(0, min(len(places), _ROWS, room))) if not one.out else ()
        count = len(identifiers)
        if not count:
            return False
        self._queue[0] = places[count:]
        if len(places) == count:
            self._queue.pop(0)
        places = places[:count]
        now = self._monotonic()
        fresh = self._first[places] == 0.0
        self._first[places[fresh]] = now
        self.tally.started += int(fresh.sum())
        for level, number in enumerate(np.bincount(self._level[places], minlength=LEVELS).tolist()):
            self.tally.transmissions[level] += number
        rows = self._rows[:count]
        self._template.fill(rows, self._numbers[places], np.floor((self._first[places] + self._offset) * 1e3) / 1e3)
        at = self._identifier_at
        rows[:, at : at + 2] = np.asarray(identifiers).astype(">u2").view(np.uint8).reshape(-1, 2)
        one.under_way[identifiers] = places
        one.waiting += count
        one.spoken = elapsed
        one.out = rows.tobytes()
        one.flush()
        return True

    def receive(self, number: int) -> None:
        """Read what one connection has."""
        one = self._connections[number]
        try:
            # More than a record of TLS holds, so that nothing stays behind in its buffer.
            data = one.door.recv(1 << 16)
        except _NOT_NOW:
            return
        except OSError:
            data = b""
        if not data:
            self._broken(one)
            return
        data = one.inbox + data
        whole = len(data) // 4 * 4
        frames = np.frombuffer(data, np.uint8, whole).reshape(-1, 4)
        if len(frames) and (frames[:, 0] == _PUBACK).all() and (frames[:, 1] == 2).all():
            identifiers = frames[:, 2].astype(np.int64) << 8 | frames[:, 3]
            one.inbox = data[whole:]
            self._acknowledged(one, identifiers)
        else:
            self._frames(one, data)

    def _frames(self, one: _Connection, data: bytes) -> None:
        """Frame by frame: what has a reason, and what is no PUBACK."""
        at = 0
        while at + 2 <= len(data):
            size = data[at + 1]
            if at + 2 + size > len(data):
                break
            body = data[at + 2 : at + 2 + size]
            if data[at] == _PUBACK:
                self._answered(one, int.from_bytes(body[:2]), body[2] if size > 2 else 0)
            elif data[at] == _DISCONNECT:
                self._broken(one)
                return
            at += 2 + size
        one.inbox = data[at:]

    def _acknowledged(self, one: _Connection, identifiers: Numbers) -> None:
        places = one.under_way[identifiers]
        known = places >= 0
        identifiers, places = identifiers[known], places[known]
        one.under_way[identifiers] = -1
        one.waiting -= len(places)
        self._latency[places] = self._monotonic() - self._first[places]
        self.tally.acknowledged += len(places)

    def _answered(self, one: _Connection, identifier: int, reason: int) -> None:
        if reason != _NO_SUBSCRIBERS and reason < 0x80:
            self._acknowledged(one, np.array([identifier]))
            return
        place = int(one.under_way[identifier])
        if place < 0:
            return
        one.under_way[identifier] = -1
        one.waiting -= 1
        if reason != _NO_SUBSCRIBERS:
            self.tally.refused[f"PUBACK 0x{reason:02x}"] += 1
            return
        self.tally.later += 1
        self._put_off[place] += 1
        if self._put_off[place] > LONGEST_PUT_OFF:
            self.tally.given_up += 1
        else:
            due = self._monotonic() - self._started + _NOBODY_SECONDS
            self._sleepers.add(np.array([place]), np.array([due]))

    def _broken(self, one: _Connection) -> None:
        """Come back, and send again what was not acknowledged; `OSError` where that does not help."""
        left = one.under_way[one.under_way >= 0]
        self._reconnects += 1
        if self._reconnects > _RECONNECTS * len(self._connections):
            raise OSError("the MQTT broker ends the connections again and again; see its log")
        one.door.close()
        one.open()
        self.reconnected = True
        if len(left):
            self.tally.retransmissions += len(left)
            self._queue.insert(0, left)


def _connect(url: str, client_id: str) -> tuple[socket.socket, int]:
    """A connection that does not block, and the broker's Receive Maximum."""
    parts = urlsplit(url)
    tls = parts.scheme == "mqtts"
    host, port = parts.hostname or "", parts.port or (8883 if tls else 1883)
    flags = 0x02  # clean start
    body = b""
    for name, bit in ((parts.username, 0x80), (parts.password, 0x40)):
        if name is not None:
            flags |= bit
            body += _text(unquote(name))
    packet = _text("MQTT") + bytes([5, flags]) + _KEEP_ALIVE.to_bytes(2) + b"\0" + _text(client_id) + body
    door = socket.create_connection((host, port), _HANDSHAKE_SECONDS)
    try:
        if tls:
            (ca,) = parse_qs(parts.query).get("ca", [None])
            door = ssl.create_default_context(cafile=ca).wrap_socket(door, server_hostname=host)
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        door.sendall(b"\x10" + variable_length(len(packet)) + packet)
        head = _exactly(door, 2)
        answer = _exactly(door, head[1])
        if head[0] != _CONNACK or len(answer) < 2 or answer[1] != 0:
            reason = f"0x{answer[1]:02x}" if len(answer) > 1 else "none"
            raise OSError(f"the MQTT broker at {host}:{port} refuses the connection (reason {reason})")
        door.setblocking(False)  # noqa: FBT003 - the library's signature
    except OSError:
        door.close()
        raise
    return door, receive_maximum(answer[2:])


def receive_maximum(properties: bytes) -> int:
    """Of a CONNACK's properties, length first; 65,535 where it says nothing (MQTT 5, section 3.2.2.3.3)."""
    length, at = (properties[0], 1) if properties else (0, 0)  # shorter than 128: the whole packet is
    end = at + length
    while at < end:
        kind, at = properties[at], at + 1
        if kind == _RECEIVE_MAXIMUM:
            return int.from_bytes(properties[at : at + 2])
        size = _PROPERTIES.get(kind, -1)
        for _ in range(2 if size == 0 else 1):
            at += size or 2 + int.from_bytes(properties[at : at + 2])
        if size == -1:
            break
    return 0xFFFF


def _text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(2) + encoded


def _exactly(door: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = door.recv(count - len(found))
        if not part:
            raise OSError("the MQTT broker closed the connection; does it speak MQTT 5?")
        found += part
    return found
