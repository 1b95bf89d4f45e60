"""The CoAP gateway (RFC 7252): POST to `/telemetry/<identity>` or to the root, answered after the commit.

2.04 Changed means committed. 4.xx means kept in quarantine and not worth sending again; 5.03 with Max-Age means that
nothing was kept and the device should try again after that many seconds.

One UDP port with two paths behind it. The plain POST, which is nearly all of the traffic, is handled here, as aiocoap
spends 200–300 µs on it, most of it outside of telemetry. All that is unusual (Block1, Observe, discovery, OSCORE, a
ping) goes to aiocoap, which has the same meaning from `ingest.coap_resource`.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import structlog

from devices.model import Instant, Transport, Uplink
from ingest import counters
from ingest.coap_door import Address, Door, is_group
from ingest.coap_dtls import DtlsDoor, Keys
from ingest.coap_message import (
    ACKNOWLEDGEMENT,
    CHANGED,
    CONFIRMABLE,
    NON_CONFIRMABLE,
    RESET,
    Other,
    Plain,
    empty,
    parse,
    response,
    with_payload,
)
from ingest.coap_resource import CBOR, MAX_PAYLOAD, TOO_MANY, Answer, Resource, answer, identity_of, now_payload
from ingest.coap_rest import Rest
from ingest.limits import Rate
from ingest.oscore import Oscore
from ingest.outcome import Outcome, Verdict
from ingest.pipeline import Done

log = structlog.get_logger()

Submit = Callable[[Uplink, Done], None]
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
SEPARATE_LIMIT = 20_000
"""So many are repeated; invented peers acknowledge nothing, and a device that misses its answer sends again."""
SOURCE_BURST_SECONDS = 10
DEVICE_BURST = 240
"""Two and a half days of quarter-hourly uplinks: a device that was out of coverage is not held up."""

_RESPONSES = 0x40
"""Codes from here on are responses."""

_Key = tuple[Address, int]


class _Exchange(NamedTuple):
    """A request that waits for its commit."""

    address: Address
    mid: int
    token: bytes
    confirmable: bool
    since: float
    asks_now: bool


class Limits:
    """How often a source address, and a device behind it, may send; this machine itself is not limited.

    The device is limited by its address as well, as anybody may write its name on an unprotected datagram.
    """

    def __init__(self, per_source: float, per_device: float, *, exempt: Callable[[str], bool] | None = None) -> None:
        """Uplinks a second; 0 is no limit."""
        self._source = Rate(per_source, math.ceil(per_source * SOURCE_BURST_SECONDS)) if per_source else None
        self._device = Rate(per_device, DEVICE_BURST) if per_device else None
        self._exempt = _is_this_machine if exempt is None else exempt

    def wait(self, host: str, identity: str | None, now: float) -> float:
        """0, or the seconds after which it may."""
        if self._exempt(host):
            return 0.0
        if self._device is not None and identity is not None:
            wait = self._device.wait((host, identity), now)
            if wait:
                return wait
        return 0.0 if self._source is None else self._source.wait(host, now)


def _is_this_machine(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


class CoapGateway:
    """Serves CoAP over UDP on one address."""

    def __init__(
        self,
        host: str,
        port: int,
        submit: Submit,
        clock: Callable[[], Instant],
        *,
        shared: bool = False,
        limits: Limits | None = None,
        oscore: Oscore | None = None,
        keys: Keys | None = None,
    ) -> None:
        """With `keys` it is DTLS that is spoken on this port, and nothing else."""
        self._bind = (host, port)
        self._keys = keys
        self._shared = shared
        self._limits = limits
        self._oscore = oscore
        self._submit = submit
        self._clock = clock
        self._door: Door | DtlsDoor | None = None
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
        door: Door | DtlsDoor
        if self._keys is None:
            door = Door(*self._bind, shared=self._shared)
        else:
            door = DtlsDoor(*self._bind, self._keys, shared=self._shared)
        self._door = door
        self._authenticated = door.identity
        self._resource = Resource(self._submit, self._clock, self._oscore)
        self._rest = await Rest.start(self._resource, door)
        self._loop.add_reader(door.fileno(), self._readable)
        self._turned_at = self._loop.time()
        self._timer = self._loop.call_later(PIGGYBACK_SECONDS / 4, self._tick)
        log.info("coap.listening", host=self._bind[0], port=door.port, dtls=self._keys is not None)

    async def close(self) -> None:
        """Stop serving, once the answers of a pipeline that was closed are out; without one, devices send again."""
        if self._door is None or self._rest is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._idle.wait()
                await self._resource.idle.wait()
        await asyncio.sleep(0)  # aiocoap writes its last answer in a task that this lets run
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._door.fileno())
        await self._rest.stop()
        if self._oscore is not None:
            await self._oscore.close()
        self._door.close()
        self._door = None

    def _readable(self) -> None:
        """Read what is there, at most `BURST` datagrams."""
        door = self._door
        if door is None:
            return
        for _ in range(BURST):
            try:
                datagram, address = door.receive()
            except BlockingIOError:
                return
            except OSError as error:  # an ICMP error of an earlier send: about one peer, not about the port
                log.debug("coap.peer_unreachable", why=str(error))
                continue
            self._received(datagram, address)

    def _received(self, datagram: bytes, address: Address) -> None:
        if is_group(address):
            counters.COAP_MALFORMED.inc()
            return  # nothing here is for groups, and to a group nobody answers an error (RFC 7252, section 8.1)
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
        elif self._is_acknowledged(datagram, address) or self._is_too_much(datagram, address):
            return
        assert self._rest is not None
        self._rest.received(datagram, address)

    def _take(self, message: Plain, identity: str | None, address: Address) -> None:
        key = (address, message.mid)
        held = self._answers.get(key, b"") or self._older.get(key, b"")
        if held:
            # A repeat: the first answer again, but not the first one's time.
            if message.asks_now and held[1] == CHANGED:
                held = with_payload(held, now_payload(self._clock()))
            self._send(held, address)
            return
        if key in self._answers or key in self._older:
            return  # a repeat while its commit is under way
        now = self._loop.time()
        if self._limits is not None:
            wait = self._limits.wait(address[0], identity, now)
            if wait:
                self._refuse(wait, message.confirmable, message.mid, message.token, address)
                return
        self._answers[key] = None
        self._number += 1
        number = self._number
        self._waiting[number] = _Exchange(
            address, message.mid, message.token, message.confirmable, now, message.asks_now
        )
        self._idle.clear()

        def done(outcome: Outcome) -> None:
            # From the pipeline's thread. One wake-up of the event loop serves a whole batch of answers: a wake-up
            # is a system call, and one for each answer was a third of the gateway's time.
            self._settled.append((number, outcome))
            if not self._flushing:
                self._flushing = True
                self._loop.call_soon_threadsafe(self._flush)

        host, port = address[0], address[1]
        uplink = Uplink(
            Transport.COAP,
            message.payload,
            self._clock(),
            identity,
            message.content_format,
            f"{host}:{port}",
            authenticated=self._authenticated(address),
        )
        self._submit(uplink, done)

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
        payload, content_format = reply.text, None
        if exchange.asks_now and reply.code == CHANGED:
            payload, content_format = now_payload(self._clock()), CBOR
        piggybacked = exchange.confirmable and number not in self._announced
        if piggybacked:
            kind, own = ACKNOWLEDGEMENT, mid
        else:
            kind = CONFIRMABLE if exchange.confirmable else NON_CONFIRMABLE
            own = self._next_mid = self._next_mid + 1 & 0xFFFF
        datagram = response(
            kind, reply.code, own, token, max_age=reply.max_age, content_format=content_format, payload=payload
        )
        if kind == CONFIRMABLE and len(self._separate) < SEPARATE_LIMIT:
            self._separate[address, own] = (datagram, 0, self._loop.time() + SEPARATE_SECONDS)
        self._announced.discard(number)
        if keep:
            self._answers[key] = datagram
        else:
            # A device that comes back with the same message id after 5.03 must be heard, not answered from memory.
            self._answers.pop(key, None)
            self._older.pop(key, None)
        self._send(datagram, address)

    def _is_too_much(self, datagram: bytes, address: Address) -> bool:
        """Whether a peer has sent too many requests of the unusual kind; it has been told."""
        kind, code = datagram[0] >> 4 & 3, datagram[1]
        if self._limits is None or kind > NON_CONFIRMABLE or not 0 < code < _RESPONSES:
            return False
        wait = self._limits.wait(address[0], None, self._loop.time())
        if wait:
            token = datagram[4 : 4 + (datagram[0] & 15)]
            self._refuse(wait, kind == CONFIRMABLE, datagram[2] << 8 | datagram[3], token, address)
        return bool(wait)

    def _refuse(self, wait: float, confirmable: bool, mid: int, token: bytes, address: Address) -> None:  # noqa: FBT001
        """4.29 with the seconds after which to try again (RFC 8516). Not remembered: the repeat is welcome then."""
        counters.COAP_TOO_MANY.inc()
        kind = ACKNOWLEDGEMENT if confirmable else NON_CONFIRMABLE
        if not confirmable:
            mid = self._next_mid = self._next_mid + 1 & 0xFFFF
        self._send(response(kind, TOO_MANY, mid, token, max_age=math.ceil(wait)), address)

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
        if self._door is None:
            return
        try:
            self._door.send(datagram, address)
        except OSError as error:  # a full buffer or an unreachable peer: the device repeats its request
            log.debug("coap.not_sent", why=str(error))
