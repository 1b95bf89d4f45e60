"""CoAP over DTLS with pre-shared keys (RFC 6347, RFC 4279), as a door: datagrams in and out of it are plain CoAP.

For devices that cannot do OSCORE. An association belongs to an address: behind a carrier's NAT that is given anew, a
device has to make another one. The cryptography is that of tinydtls, by DTLSSocket (the extra `headworks[dtls]`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from types import ModuleType
from typing import Protocol

import structlog

from devices.errors import UnavailableError
from ingest import counters
from ingest.coap_door import Address, Door

log = structlog.get_logger()

ASSOCIATIONS = 5_000
"""Peers at a time; whoever has been silent for longest has to make another association."""
HANDSHAKES = 200
"""Keys that are looked up at a time; a device whose handshake is passed over sends it again."""
FRESH_SECONDS = 20.0
"""After how long it is asked again whether a device's key is still the one."""
_HELD = 4
"""Datagrams: a change of cipher, a Finished, and both again."""
_HANDSHAKE, _CLIENT_HELLO, _CLIENT_KEY_EXCHANGE = 22, 1, 16
_NO_ALERT, _CONNECTED = 0, 0x01DE
"""tinydtls' event of a finished handshake."""


class Keys(Protocol):
    """Where keys come from; blocks, and raises `UnavailableError` while nobody can say."""

    def psk(self, name: str) -> tuple[str, bytes] | None:
        """The device and the key behind a PSK identity."""
        ...


class NoDtlsError(RuntimeError):
    """DTLSSocket is not installed."""


def library() -> ModuleType:
    """DTLSSocket; `NoDtlsError` saying how to have it."""
    try:
        from DTLSSocket import dtls
    except ImportError as error:
        raise NoDtlsError(
            "CoAP over DTLS needs DTLSSocket, which pip builds with a C compiler, autoconf, automake and libtool:"
            " pip install 'headworks[dtls]'"
        ) from error
    return dtls  # type: ignore[no-any-return]


class _Association:
    """One peer's."""

    def __init__(self, dtls: ModuleType, send: Callable[[bytes], None]) -> None:
        self._send = send
        self.plain: deque[bytes] = deque()
        self.keys: dict[bytes, bytes] = {}
        self.held: list[bytes] = []
        """What came behind a ClientKeyExchange whose key is being looked up."""
        self.name = ""
        self.device: str | None = None
        """Who has shown to have the key; None during the handshake."""
        self.claimed: str | None = None
        self.checked = 0.0
        self.over = False
        self._session = dtls.Session("::1", 1)  # of no meaning: there is one peer
        self._context = dtls.DTLS(
            read=self._on_plain, write=self._on_record, event=self._on_event, pskId=b"-", pskStore=self.keys
        )

    def receive(self, record: bytes) -> None:
        self._context.handleMessage(self._session, record)

    def write(self, plain: bytes) -> None:
        self._context.write(self._session, plain)

    def _on_plain(self, _: object, data: bytes) -> int:
        self.plain.append(bytes(data))
        return len(data)

    def _on_record(self, _: object, data: bytes) -> int:
        self._send(bytes(data))
        return len(data)

    def _on_event(self, level: int, code: int) -> None:
        if (level, code) == (_NO_ALERT, _CONNECTED):
            self.device = self.claimed
        elif level != _NO_ALERT:
            self.over = True


class DtlsDoor:
    """As `coap_door.Door`, for one event loop."""

    def __init__(self, host: str, port: int, keys: Keys, *, shared: bool = False) -> None:
        """`OSError` where the address is taken, `NoDtlsError` without the library."""
        self._dtls = library()
        self._door = Door(host, port, shared=shared)
        self._keys = keys
        self._peers: OrderedDict[Address, _Association] = OrderedDict()
        self._plain: deque[tuple[bytes, Address]] = deque()
        self._asking: dict[Address, asyncio.Task[None]] = {}

    def fileno(self) -> int:
        """For the event loop."""
        return self._door.fileno()

    @property
    def port(self) -> int:
        """The port that it got."""
        return self._door.port

    @property
    def name(self) -> tuple[str, int]:
        """Our own address and port."""
        return self._door.name

    def close(self) -> None:
        """Give the port back."""
        for task in self._asking.values():
            task.cancel()
        self._door.close()

    def identity(self, peer: Address) -> str | None:
        """The device that has proved to be at this address."""
        association = self._peers.get(peer)
        return association.device if association else None

    def send(self, datagram: bytes, peer: Address) -> None:
        """Protect and send; what is for an association that is over is lost, as on the way."""
        association = self._peers.get(peer)
        if association is not None and association.device is not None:
            association.write(datagram)

    def receive(self) -> tuple[bytes, Address]:
        """The next plain datagram; `BlockingIOError` where nothing more is there."""
        while not self._plain:
            record, peer = self._door.receive()
            self._take(record, peer)
        return self._plain.popleft()

    def _take(self, record: bytes, peer: Address) -> None:
        association = self._peers.get(peer)
        if association is None:
            if handshake_type(record) != _CLIENT_HELLO:
                return  # of an association that is over: the device will find out and make another one
            association = self._peers[peer] = _Association(self._dtls, lambda data: self._write(data, peer))
            if len(self._peers) > ASSOCIATIONS:
                self._peers.popitem(last=False)
        self._peers.move_to_end(peer)
        if association.device is None and peer in self._asking:
            if len(association.held) < _HELD:
                association.held.append(record)
            return
        if handshake_type(record) == _CLIENT_KEY_EXCHANGE and (name := psk_name(record)) is not None:
            self._ask(association, peer, name, record)
            return
        self._feed(association, peer, record)
        if association.device is not None and self._now() - association.checked > FRESH_SECONDS:
            self._ask(association, peer, association.name, None)

    def _feed(self, association: _Association, peer: Address, record: bytes) -> None:
        try:
            association.receive(record)
        except Exception as error:  # the library's own; one peer's datagram must not cost the others the port
            log.debug("dtls.refused", why=str(error))
            association.over = True
        # What can be read was sent by who has the key: only now is the device the one that it claimed to be.
        while association.plain:
            association.device = association.device or association.claimed
            self._plain.append((association.plain.popleft(), peer))
        if association.over:
            counters.DTLS_REFUSED.inc()
            self._peers.pop(peer, None)

    def _ask(self, association: _Association, peer: Address, name: str, record: bytes | None) -> None:
        """Look a key up, without holding up the loop; then go on with the handshake, or see that the key is still
        the one."""
        if peer in self._asking or len(self._asking) >= HANDSHAKES:
            return
        task = asyncio.get_running_loop().create_task(self._look_up(association, peer, name, record))
        self._asking[peer] = task
        task.add_done_callback(lambda _: self._asking.pop(peer, None))

    async def _look_up(self, association: _Association, peer: Address, name: str, record: bytes | None) -> None:
        try:
            found = await asyncio.to_thread(self._keys.psk, name)
        except UnavailableError:
            # Who is known goes on while the database is away; a handshake is tried again by the device.
            association.checked = self._now()
            association.held.clear()
            return
        known = association.keys.get(name.encode())
        if record is None:
            association.checked = self._now()
            if found is None or found != (association.device, known):
                self._peers.pop(peer, None)
            return
        if found is None:
            counters.SECURITY_EVENTS.labels("unknown_psk").inc()
        else:
            association.claimed, association.name = found[0], name
            association.keys[name.encode()] = found[1]
            association.checked = self._now()
        for waiting in (record, *association.held):
            self._feed(association, peer, waiting)
        association.held.clear()

    def _write(self, record: bytes, peer: Address) -> None:
        try:
            self._door.send(record, peer)
        except OSError as error:  # a full buffer or an unreachable peer: the device repeats its flight
            log.debug("dtls.not_sent", why=str(error))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def handshake_type(record: bytes) -> int | None:
    """The type of an unprotected handshake message, which a datagram begins with (RFC 6347, sections 4.1 and 4.2.2)."""
    if len(record) < 25 or record[0] != _HANDSHAKE or record[3:5] != b"\0\0":
        return None
    return record[13]


def psk_name(record: bytes) -> str | None:
    """The PSK identity of a ClientKeyExchange (RFC 4279, section 2)."""
    size = int.from_bytes(record[25:27])
    name = record[27 : 27 + size]
    if len(name) < size or not size:
        return None
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None
