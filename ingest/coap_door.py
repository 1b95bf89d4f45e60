"""The UDP socket of the CoAP gateway: an answer leaves from the address that was asked, also where there are several.

A socket that is bound to one address needs nothing for that. On a wildcard address the kernel would choose the sender
by its routes, and a device or its carrier's NAT drops what comes from an address that it has not asked; so there each
datagram tells where it was sent to (IP_PKTINFO, RFC 3542), and the answer says the same.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

Address = Any
"""A peer: (host, port, …) as the kernel gives it; on a wildcard socket with our own side of it as the last item."""

RECEIVE_BUFFER = 4 * 1024 * 1024
"""Bytes of socket buffer: fleets report at the top of the hour, and the kernel's default loses such bursts."""

_LONGEST = 65_535
_IP_PKTINFO = 8  # Linux; the socket module does not name it
_IP4_WAY, _IP4_GROUPS = 12, 224
_IP4_ANCILLARY, _IP6_ANCILLARY = socket.CMSG_SPACE(12), socket.CMSG_SPACE(20)


class Door:
    """A bound socket that does not block."""

    def __init__(self, host: str, port: int, *, shared: bool = False) -> None:
        """`OSError` where the address is taken. `shared` lets several processes have the port."""
        self._v6 = ":" in host
        self._wildcard = _is_wildcard(host)
        self._socket = socket.socket(socket.AF_INET6 if self._v6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            if shared:
                # The kernel gives all datagrams of one peer to the same process, so that repeats are recognised.
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if self._wildcard and self._v6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            elif self._wildcard:
                self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            self._socket.bind((host, port))
            self._socket.setblocking(False)  # noqa: FBT003 - the library's signature
        except OSError:
            self._socket.close()
            raise
        self.receive = self._receive_by_way if self._wildcard else self._receive_plain

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    @property
    def port(self) -> int:
        """The port that it got."""
        return int(self._socket.getsockname()[1])

    @property
    def name(self) -> tuple[str, int]:
        """Our own address and port."""
        found = self._socket.getsockname()
        return str(found[0]), int(found[1])

    def identity(self, _: Address) -> str | None:
        """Who has proved to be there: nobody, on a port in clear."""
        return None

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()

    def send(self, datagram: bytes, peer: Address) -> None:
        """`OSError` where it cannot be sent."""
        if self._wildcard:
            level = socket.IPPROTO_IPV6 if self._v6 else socket.IPPROTO_IP
            kind = socket.IPV6_PKTINFO if self._v6 else _IP_PKTINFO
            self._socket.sendmsg([datagram], [(level, kind, peer[-1])], 0, peer[:-1])
        else:
            self._socket.sendto(datagram, peer)

    def _receive_plain(self) -> tuple[bytes, Address]:
        return self._socket.recvfrom(_LONGEST)

    def _receive_by_way(self) -> tuple[bytes, Address]:
        datagram, ancillary, _, peer = self._socket.recvmsg(_LONGEST, _IP6_ANCILLARY if self._v6 else _IP4_ANCILLARY)
        way = b""
        for _, _, data in ancillary:
            # in6_pktinfo as it came; of in_pktinfo (interface, our address, where it was sent to) the addresses: the
            # interface that an answer leaves by is for the routes to say.
            way = data if self._v6 else b"\0\0\0\0" + data[4:12]
        return datagram, (*peer, way)


def is_group(peer: Address) -> bool:
    """Whether a datagram was sent to a multicast group or to everybody: such a one reaches wildcard sockets only."""
    way = peer[-1]
    if not isinstance(way, bytes):
        return False
    return way[8] >= _IP4_GROUPS if len(way) == _IP4_WAY else way[:1] == b"\xff"


def _is_wildcard(host: str) -> bool:
    try:
        return not host or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
