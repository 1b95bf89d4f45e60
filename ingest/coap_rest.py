"""aiocoap behind a UDP socket of ours: it gets the datagrams that the small path leaves, and answers by the socket.

This is aiocoap's own way of adding a transport (a message interface below its message manager), which it does not
document; the locked version is what the tests run with.
"""

from __future__ import annotations

import asyncio
from typing import Any, Self

from aiocoap import Context, interfaces
from aiocoap.numbers.constants import COAP_PORT, MAX_REGULAR_BLOCK_SIZE_EXP
from aiocoap.transports.generic_udp import GenericMessageInterface
from aiocoap.util import hostportjoin

from ingest.coap_door import Door
from ingest.coap_dtls import DtlsDoor
from ingest.coap_resource import Resource


class _Remote(interfaces.EndpointAddress):
    """A peer, as aiocoap wants to know it."""

    scheme = "coap"
    is_multicast = False
    is_multicast_locally = False
    maximum_block_size_exp = MAX_REGULAR_BLOCK_SIZE_EXP

    def __init__(self, door: Door | DtlsDoor, address: Any) -> None:
        self._door = door
        self.address = address

    def send(self, datagram: bytes) -> None:
        """Write a datagram to this peer; one that cannot be sent is lost, as on the way."""
        try:
            self._door.send(datagram, self.address)
        except OSError:
            return

    def __hash__(self) -> int:
        return hash(self.address)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Remote) and self.address == other.address

    @property
    def identity(self) -> str | None:
        """The device that has proved to be there."""
        return self._door.identity(self.address)

    @property
    def hostinfo(self) -> str:
        """`host:port`."""
        return _hostinfo(self.address)

    @property
    def hostinfo_local(self) -> str:
        """Our own `host:port`."""
        return _hostinfo(self._door.name)

    @property
    def uri_base(self) -> str:
        """The peer's base URI."""
        return f"coap://{self.hostinfo}"

    @property
    def uri_base_local(self) -> str:
        """Our base URI."""
        return f"coap://{self.hostinfo_local}"

    @property
    def blockwise_key(self) -> Any:
        """Blocks belong together by their peer."""
        return self.address


def _hostinfo(address: Any) -> str:
    port = None if address[1] == COAP_PORT else address[1]
    return str(hostportjoin(address[0], port))


class _Interface(GenericMessageInterface):
    """aiocoap's message interface without a socket of its own."""

    def received(self, datagram: bytes, remote: _Remote) -> None:
        """Hand a datagram to aiocoap."""
        self._received_datagram(remote, datagram)

    async def shutdown(self) -> None:
        """Stop sending; the socket is not ours to close."""
        self._mman = None

    async def recognize_remote(self, remote: object) -> bool:
        """Whether a peer is one of this socket's."""
        return isinstance(remote, _Remote)

    async def determine_remote(self, request: object) -> None:
        """A server does not open conversations here."""


class Rest:
    """A running aiocoap context on a foreign socket."""

    def __init__(self, context: Context, interface: _Interface, door: Door | DtlsDoor) -> None:
        self._context = context
        self._interface = interface
        self._door = door

    @classmethod
    async def start(cls, site: Resource, door: Door | DtlsDoor) -> Self:
        """Start aiocoap."""
        loop = asyncio.get_running_loop()
        context = Context(loop=loop, serversite=site, loggername="coap-server")
        made: list[_Interface] = []

        async def make(manager: Any) -> _Interface:
            made.append(_Interface(manager, context.log, loop))
            return made[0]

        await context._append_tokenmanaged_messagemanaged_transport(make)
        return cls(context, made[0], door)

    def received(self, datagram: bytes, address: Any) -> None:
        """Let aiocoap have a datagram."""
        self._interface.received(datagram, _Remote(self._door, address))

    async def stop(self) -> None:
        """Stop aiocoap; the socket stays open."""
        await self._context.shutdown()
