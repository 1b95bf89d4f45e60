"""The CoAP gateway (RFC 7252): POST to `/telemetry/<identity>` or to the root, answered after the commit.

2.04 Changed means committed. 4.xx means kept in quarantine and not worth sending again; 5.03 with Max-Age means that
nothing was kept and the device should try again after that many seconds.

One UDP port with two paths behind it. The plain POST, which is nearly all of the traffic, is handled here, as aiocoap
spends 200–300 µs on it, most of it outside of telemetry. All that is unusual (Block1, Observe, discovery, OSCORE, a
ping) goes to aiocoap, which has the same meaning from `ingest.coap_resource`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import structlog

from devices.model import Instant, Transport, Uplink
from ingest import counters
from ingest.coap_message import (
    ACKNOWLEDGEMENT,
    CONFIRMABLE,
    NON_CONFIRMABLE,
    RESET,
    Other,
    Plain,
    empty,
    parse,
    response,
)
from ingest.coap_resource import MAX_PAYLOAD, Answer, Resource, answer, identity_of
from ingest.coap_rest import Rest
from ingest.outcome import Outcome, Verdict
from ingest.pipeline import Done

log = structlog.get_logger()

Submit = Callable[[Uplink, Done], None]
Address = Any
"""A socket address as the kernel gives it: (host, port) or (host, port, flow, scope)."""

RECEIVE_BUFFER = 4 * 1024 * 1024
"""Bytes of socket buffer: fleets report at the top of the hour, and the kernel's default loses such bursts."""
BURST = 128
"""Datagrams read before the event loop gets its turn again."""
PIGGYBACK_SECONDS = 1.0
"""A commit that takes longer is announced with an empty acknowledgement, before a device with the default ACK_TIMEOUT
of 2 s sends again."""
GENERATION_SECONDS = 335.0
GENERATION_LIMIT = 100_000
"""Answers are kept for one to two generations of this many seconds or exchanges: with ACK_TIMEOUT up to 20 s, as
cellular devices use it, a repeat can come 670 s after the first (EXCHANGE_LIFETIME). What is older, or comes from a new
address behind NAT, is recognised by its readings."""
SEPARATE_TRIES = 4
SEPARATE_SECONDS = 5.0
"""A separate response is confirmable: it is repeated until acknowledged, at doubling intervals from this one on."""

_Key = tuple[Address, int]


class _Exchange(NamedTuple):
    """A request that waits for its commit."""

    address: Address
    mid: int
    token: bytes
    confirmable: bool
    since: float


class CoapGateway:
    """Serves CoAP over UDP on one address."""

    def __init__(
        self, host: str, port: int, submit: Submit, clock: Callable[[], Instant], *, shared: bool = False
    ) -> None:
        self._bind = (host, port)
        self._shared = shared
        self._submit = submit
        self._clock = clock
        self._socket: socket.socket | None = None
        self._rest: Rest | None = None
        # Answers by (address, message id); None while the commit is awaited.
        self._answers: dict[_Key, bytes | None] = {}
        self._older: dict[_Key, bytes | None] = {}
        self._turned_at = 0.0
        self._waiting: dict[int, _Exchange] = {}
        self._announced: set[int] = set()
        self._number = 0
        self._separate: dict[_Key, tuple[bytes, int, float]] = {}
        self._next_mid = 0
        self._settled: deque[tuple[int, Outcome]] = deque()
        self._flushing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Bind and serve; `OSError` where the address is taken."""
        self._loop = asyncio.get_running_loop()
        host = self._bind[0]
        door = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            if self._shared:
                # The kernel gives all datagrams of one peer to the same process, so that repeats are recognised.
                door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            door.bind(self._bind)
            door.setblocking(False)  # noqa: FBT003 - the library's signature
        except OSError:
            door.close()
            raise
        self._socket = door
        self._resource = Resource(self._submit, self._clock)
        self._rest = await Rest.start(self._resource, door)
        self._loop.add_reader(door, self._readable)
        self._turned_at = self._loop.time()
        self._timer = self._loop.call_later(PIGGYBACK_SECONDS / 4, self._tick)
        log.info("coap.listening", host=host, port=door.getsockname()[1])

    async def close(self) -> None:
        """Stop serving, once the answers of a pipeline that was closed are out; without one, devices send again."""
        if self._socket is None or self._rest is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._idle.wait()
                await self._resource.idle.wait()
        await asyncio.sleep(0)  # aiocoap writes its last answer in a task that this lets run
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket)
        await self._rest.stop()
        self._socket.close()
        self._socket = None

    def _readable(self) -> None:
        """Read what is there, at most `BURST` datagrams."""
        door = self._socket
        if door is None:
            return
        for _ in range(BURST):
            try:
                datagram, address = door.recvfrom(65_535)
            except BlockingIOError:
                return
            except OSError as error:  # an ICMP error of an earlier send: about one peer, not about the port
                log.debug("coap.peer_unreachable", why=str(error))
                continue
            self._received(datagram, address)

    def _received(self, datagram: bytes, address: Address) -> None:
        message = parse(datagram)
        if isinstance(message, Plain):
            identity, known = identity_of(message.path)
            if known and message.payload and len(message.payload) <= MAX_PAYLOAD:
                self._take(message, identity, address)
                return
        elif message is Other.MALFORMED:
            if len(datagram) >= 4 and datagram[0] >> 4 & 3 == CONFIRMABLE:
                self._send(empty(RESET, datagram[2] << 8 | datagram[3]), address)
            counters.COAP_MALFORMED.inc()
            return
        elif self._is_acknowledged(datagram, address):
            return
        assert self._rest is not None
        self._rest.received(datagram, address)

    def _take(self, message: Plain, identity: str | None, address: Address) -> None:
        key = (address, message.mid)
        held = self._answers.get(key, b"") or self._older.get(key, b"")
        if held:
            self._send(held, address)  # a repeat: the first answer again
            return
        if key in self._answers or key in self._older:
            return  # a repeat while its commit is under way
        self._answers[key] = None
        self._number += 1
        number = self._number
        self._waiting[number] = _Exchange(address, message.mid, message.token, message.confirmable, self._loop.time())
        self._idle.clear()

        def done(outcome: Outcome) -> None:
            # From the pipeline's thread. One wake-up of the event loop serves a whole batch of answers: a wake-up
            # is a system call, and one for each answer was a third of the gateway's time.
            self._settled.append((number, outcome))
            if not self._flushing:
                self._flushing = True
                self._loop.call_soon_threadsafe(self._flush)

        host, port = address[0], address[1]
        self._submit(
            Uplink(Transport.COAP, message.payload, self._clock(), identity, message.content_format, f"{host}:{port}"),
            done,
        )

    def _flush(self) -> None:
        self._flushing = False
        while self._settled:
            number, outcome = self._settled.popleft()
            exchange = self._waiting.pop(number)
            self._answer(number, exchange, answer(outcome), keep=outcome.verdict is not Verdict.UNAVAILABLE)
        if not self._waiting:
            self._idle.set()

    def _answer(self, number: int, exchange: _Exchange, reply: Answer, *, keep: bool) -> None:
        address, mid, token = exchange.address, exchange.mid, exchange.token
        key = (address, mid)
        if exchange.confirmable and number not in self._announced:
            datagram = response(ACKNOWLEDGEMENT, reply.code, mid, token, max_age=reply.max_age, diagnostic=reply.text)
        else:
            kind = CONFIRMABLE if exchange.confirmable else NON_CONFIRMABLE
            own = self._next_mid = self._next_mid + 1 & 0xFFFF
            datagram = response(kind, reply.code, own, token, max_age=reply.max_age, diagnostic=reply.text)
            if kind == CONFIRMABLE:
                self._separate[address, own] = (datagram, 0, self._loop.time() + SEPARATE_SECONDS)
            self._announced.discard(number)
        if keep:
            self._answers[key] = datagram
        else:
            # A device that comes back with the same message id after 5.03 must be heard, not answered from memory.
            self._answers.pop(key, None)
            self._older.pop(key, None)
        self._send(datagram, address)

    def _is_acknowledged(self, datagram: bytes, address: Address) -> bool:
        """Whether a datagram acknowledges or resets a separate response of ours."""
        if datagram[0] >> 4 & 3 < ACKNOWLEDGEMENT or not self._separate:
            return False
        return self._separate.pop((address, datagram[2] << 8 | datagram[3]), None) is not None

    def _tick(self) -> None:
        """What time brings: late commits are announced, separate responses repeated, old answers forgotten."""
        now = self._loop.time()
        for number, exchange in self._waiting.items():
            if now - exchange.since < PIGGYBACK_SECONDS:
                break
            if exchange.confirmable and number not in self._announced:
                self._announced.add(number)
                self._send(empty(ACKNOWLEDGEMENT, exchange.mid), exchange.address)
        for key, (datagram, tries, due) in list(self._separate.items()):
            if now < due:
                continue
            if tries == SEPARATE_TRIES:
                del self._separate[key]
            else:
                self._separate[key] = (datagram, tries + 1, now + SEPARATE_SECONDS * 2 ** (tries + 1))
                self._send(datagram, key[0])
        if now - self._turned_at > GENERATION_SECONDS or len(self._answers) > GENERATION_LIMIT:
            # What still waits for its commit must stay known, or a repeat would be taken as new.
            self._older, self._answers, self._turned_at = self._answers, {}, now
        self._timer = self._loop.call_later(PIGGYBACK_SECONDS / 4, self._tick)

    def _send(self, datagram: bytes, address: Address) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(datagram, address)
        except OSError as error:  # a full buffer or an unreachable peer: the device repeats its request
            log.debug("coap.not_sent", why=str(error))
