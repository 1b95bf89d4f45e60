"""A small honest CoAP peer on loopback whose manners a test decides; it answers with 2.04 what it has taken in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, cast

from devices.decode import decode
from devices.model import SECOND, ContentFormat, Instant, Transport, Uplink

CHANGED, UNAVAILABLE, FORBIDDEN, UNPROCESSABLE = 0x44, 0xA3, 0x83, 0x96
CONTINUE, INCOMPLETE = 0x5F, 0x88
NOW = 1_900_000_000 * SECOND


class Request(NamedTuple):
    """A POST as the peer reads it, without any of the product's parsers."""

    port: int
    mid: int
    token: bytes
    path: tuple[str, ...]
    content_format: int
    payload: bytes
    block: int | None = None
    """The number of the block that it is, where it is one (Block1)."""
    more: bool = False


def read(datagram: bytes, port: int) -> Request:
    """Read a POST option by option (RFC 7252 figure 8)."""
    assert datagram[0] >> 4 == 0b0100, "version 1, confirmable"
    assert datagram[1] == 2, "POST"
    at = 4 + (datagram[0] & 15)
    number, path, content_format = 0, [], -1
    block, more = None, False
    while datagram[at] != 0xFF:
        delta, length = divmod(datagram[at], 16)
        at += 1
        assert delta < 14, "no option of ours is that far away"
        if delta == 13:
            delta, at = 13 + datagram[at], at + 1
        if length == 13:
            length, at = 13 + datagram[at], at + 1
        number += delta
        value, at = datagram[at : at + length], at + length
        if number == 11:
            path.append(value.decode())
        elif number == 12:
            content_format = int.from_bytes(value)
        elif number == 27:
            block, more = int.from_bytes(value) >> 4, bool(int.from_bytes(value) & 8)
    token = datagram[4 : 4 + (datagram[0] & 15)]
    mid, payload = int.from_bytes(datagram[2:4]), datagram[at + 1 :]
    return Request(port, mid, token, tuple(path), content_format, payload, block, more)


Manners = Callable[["Peer", Request], None]


class Peer(asyncio.DatagramProtocol):
    """Counts what comes, and does with it what `manners` say."""

    def __init__(self, manners: Manners) -> None:
        self._manners = manners
        self._transport: asyncio.DatagramTransport | None = None
        self.port = 0
        self.requests: list[Request] = []
        """Every transmission, repeats included."""
        self.others: asyncio.Queue[bytes] = asyncio.Queue()
        """Acknowledgements and resets."""
        self.taken: list[tuple[str, str, Instant, float]] = []
        """(device, metric name, time, value) of all that was answered with 2.04, however often it came."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data[0] >> 4 & 3 >= 2:
            self.others.put_nowait(data)
            return
        request = read(data, addr[1])
        self.requests.append(request)
        self._manners(self, request)

    def send(self, request: Request, datagram: bytes) -> None:
        """Send bytes to where a request came from."""
        assert self._transport is not None
        self._transport.sendto(datagram, ("127.0.0.1", request.port))

    def piggyback(self, request: Request, code: int = CHANGED, options: bytes = b"", payload: bytes = b"") -> None:
        """Answer in the acknowledgement."""
        head = bytes([0x60 | len(request.token), code]) + request.mid.to_bytes(2) + request.token
        self.send(request, head + options + (b"\xff" + payload if payload else b""))

    def acknowledge(self, request: Request) -> None:
        """An empty acknowledgement: the answer comes later."""
        self.send(request, bytes([0x60, 0]) + request.mid.to_bytes(2))

    def separate(self, request: Request, mid: int, code: int = CHANGED) -> None:
        """A confirmable response of its own."""
        self.send(request, bytes([0x40 | len(request.token), code]) + mid.to_bytes(2) + request.token)

    def take(self, request: Request) -> None:
        """Decode it as the platform would, keep it, and answer 2.04."""
        identity = request.path[1] if request.path else None
        for report in decode(
            Uplink(Transport.COAP, request.payload, NOW, identity, ContentFormat(request.content_format))
        ):
            assert report.identity == identity or None in (report.identity, identity)
            for name, _, value, at in report.measurements:
                self.taken.append((report.identity or "", name, at, float(value or 0)))
        self.piggyback(request)


def honest(peer: Peer, request: Request) -> None:
    """Take everything."""
    peer.take(request)


@asynccontextmanager
async def serving(manners: Manners = honest) -> AsyncIterator[Peer]:
    """A peer on a free port of loopback."""
    loop = asyncio.get_running_loop()
    transport, peer = await loop.create_datagram_endpoint(lambda: Peer(manners), local_addr=("127.0.0.1", 0))
    try:
        yield peer
    finally:
        transport.close()
