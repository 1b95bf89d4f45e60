"""A CoAP device's side of RFC 7252: one confirmable POST at a time, retransmission with exponential back-off, separate
responses, and patience when the gateway says 5.03.

Light on purpose: load comes from hundreds of these in one process.
"""

from __future__ import annotations

import asyncio
import random
import struct
from typing import NamedTuple

ACK_TIMEOUT = 10.0
"""Seconds before the first retransmission: cellular devices use 10 to 20 instead of RFC 7252's 2."""
ACK_RANDOM_FACTOR = 1.5
MAX_RETRANSMIT = 4

_CON, _NON, _ACK, _RST = range(4)
_EMPTY, _POST = 0x00, 0x02
_MARKER = 0xFF
_MAX_AGE = 14


class Answer(NamedTuple):
    """A response: its code as `2.04`, and Max-Age in seconds (60 where the response has none, RFC 7252 5.10.5)."""

    code: str
    max_age: int

    @property
    def stored(self) -> bool:
        """Whether the gateway has it durably."""
        return self.code == "2.04"

    @property
    def later(self) -> bool:
        """Whether it is worth sending again."""
        return self.code.startswith("5.")


class NoAnswerError(TimeoutError):
    """All retransmissions went unanswered."""


class CoapClient(asyncio.DatagramProtocol):
    """One device's conversation with the gateway."""

    def __init__(self, rng: random.Random, ack_timeout: float = ACK_TIMEOUT) -> None:
        self._rng = rng
        self._ack_timeout = ack_timeout
        self._mid = rng.randrange(1 << 16)
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._acknowledged = False
        self._token = b""
        self.retransmissions = 0

    async def open(self, host: str, port: int) -> None:
        """Open a socket of our own: another device, another address."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, remote_addr=(host, port))

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()

    async def post(self, identity: str, content_format: int, payload: bytes) -> Answer:
        """POST to `/telemetry/<identity>` and wait for the answer; `NoAnswerError` after all retransmissions."""
        assert self._transport is not None, "open() first"
        self._mid = self._mid + 1 & 0xFFFF
        self._token = self._rng.randbytes(4)
        self._acknowledged = False
        self._waiting = asyncio.get_running_loop().create_future()
        message = _encode(self._mid, self._token, identity, content_format, payload)
        pause = self._ack_timeout * self._rng.uniform(1, ACK_RANDOM_FACTOR)
        try:
            for attempt in range(MAX_RETRANSMIT + 1):
                # Once acknowledged, only the response is awaited; it is the gateway's turn to repeat.
                if not self._acknowledged:
                    self._transport.sendto(message)
                    self.retransmissions += attempt > 0
                try:
                    return await asyncio.wait_for(asyncio.shield(self._waiting), pause)
                except TimeoutError:
                    pause *= 2
            raise NoAnswerError(f"no answer to {MAX_RETRANSMIT + 1} transmissions")
        finally:
            self._waiting = None

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Take an acknowledgement or a response."""
        if len(data) < 4 or data[0] >> 6 != 1:
            return
        kind, token_length, code = data[0] >> 4 & 3, data[0] & 15, data[1]
        mid = data[2] << 8 | data[3]
        if code == _EMPTY:
            if kind in (_ACK, _RST) and mid == self._mid:
                self._acknowledged = True
            return
        if kind == _CON and self._transport is not None:
            self._transport.sendto(struct.pack("!BBH", 1 << 6 | _ACK << 4, _EMPTY, mid))
        if self._waiting is None or self._waiting.done() or data[4 : 4 + token_length] != self._token:
            return
        self._waiting.set_result(Answer(f"{code >> 5}.{code & 31:02d}", _max_age(data[4 + token_length :])))

    def error_received(self, exc: Exception) -> None:
        """A port that nobody serves now: the retransmissions go on."""


def _encode(mid: int, token: bytes, identity: str, content_format: int, payload: bytes) -> bytes:
    head = struct.pack("!BBH", 1 << 6 | _CON << 4 | len(token), _POST, mid) + token
    name = identity.encode()
    path = _option(11, b"telemetry") + _option(0, name)
    return head + path + _option(1, bytes([content_format])) + bytes([_MARKER]) + payload


def _option(delta: int, value: bytes) -> bytes:
    """One option of at most 268 bytes (RFC 7252 section 3.1)."""
    length = len(value)
    if length < 13:
        return bytes([delta << 4 | length]) + value
    return bytes([delta << 4 | 13, length - 13]) + value


def _max_age(options: bytes) -> int:
    number = at = 0
    while at < len(options) and options[at] != _MARKER:
        delta, length = options[at] >> 4, options[at] & 15
        at += 1
        if delta == 13:
            delta, at = options[at] + 13, at + 1
        if length == 13:
            length, at = options[at] + 13, at + 1
        number += delta
        if number == _MAX_AGE:
            return int.from_bytes(options[at : at + length])
        at += length
    return 60
