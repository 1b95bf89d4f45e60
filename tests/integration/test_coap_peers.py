"""The CoAP port alone, on real sockets, with peers that are rude, far away, many, or hostile."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import aiocoap
import cbor2
import pytest
from aiocoap.numbers import codes

from devices.model import SECOND, Instant, Uplink
from ingest import coap_door
from ingest.coap import CoapGateway, Limits
from ingest.coap_resource import MAX_PAYLOAD
from ingest.outcome import STORED
from ingest.pipeline import Done
from tests.integration.test_gateways import eventually
from tests.ports import free_port

NOW = 1_790_000_000 * SECOND
PATH = "telemetry/urn:dev:x:1"


class Door:
    """A gateway that stores everything at once, and keeps what it got."""

    def __init__(self, host: str, *, limits: Limits | None = None) -> None:
        self.host = host
        self.port = free_port(socket.SOCK_DGRAM)
        self.now: Instant = NOW
        self.taken: list[Uplink] = []
        self.held: list[Done] = []
        self.hold = False
        self.loop = asyncio.new_event_loop()
        self.gateway = CoapGateway(host, self.port, self._submit, lambda: self.now, limits=limits)

    def _submit(self, uplink: Uplink, done: Done) -> None:
        self.taken.append(uplink)
        if self.hold:
            self.held.append(done)
        else:
            done(STORED)


@contextmanager
def serving(host: str = "127.0.0.1", *, limits: Limits | None = None) -> Iterator[Door]:
    door = Door(host, limits=limits)
    up = threading.Event()

    async def main() -> None:
        await door.gateway.open()
        up.set()

    door.loop.create_task(main())
    thread = threading.Thread(target=door.loop.run_forever)
    thread.start()
    assert up.wait(60)
    try:
        yield door
    finally:
        asyncio.run_coroutine_threadsafe(door.gateway.close(), door.loop).result(60)
        door.loop.call_soon_threadsafe(door.loop.stop)
        thread.join(60)
        door.loop.close()


class Peer:
    """A socket that says exactly what it is told to."""

    def __init__(self, door: Door, host: str = "127.0.0.1", *, family: int = socket.AF_INET) -> None:
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.settimeout(60)
        self.to = (host, door.port)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, datagram: bytes) -> None:
        self.socket.sendto(datagram, self.to)

    def hear(self) -> aiocoap.Message:
        datagram, sender = self.socket.recvfrom(65_535)
        assert sender[:2] == self.to, "an answer comes from the address that was asked"
        return aiocoap.Message.decode(datagram)

    def ask(self, message: aiocoap.Message) -> aiocoap.Message:
        self.say(message.encode())
        return self.hear()

    def persist(self, datagram: bytes) -> aiocoap.Message:
        """Ask as a device does, again and again: a flood takes the room that a single datagram needs."""
        self.socket.settimeout(1)
        for _ in range(60):
            self.say(datagram)
            try:
                return self.hear()
            except TimeoutError:
                continue
        raise TimeoutError

    def silent(self) -> bool:
        """Whether nothing came before the answer to a ping."""
        pong = self.persist(bytes((0x40, 0, 0xAB, 0xCD)))
        return bool(pong.mtype == aiocoap.RST and pong.mid == 0xABCD)


def post(
    mid: int = 1, payload: bytes = b"[]", *, path: str = PATH, kind: aiocoap.Type = aiocoap.CON, **options: object
) -> aiocoap.Message:
    message = aiocoap.Message(code=aiocoap.POST, payload=payload, content_format=110, **options)
    message.opt.uri_path = tuple(path.split("/"))
    message.mid, message.mtype, message.token = mid, kind, mid.to_bytes(4)
    return message


def test_a_device_that_asks_is_told_the_time() -> None:
    with serving() as door, Peer(door) as peer:
        message = post(1, uri_query=("now",))
        answer = peer.ask(message)
        assert (answer.code, answer.opt.content_format) == (aiocoap.CHANGED, 60)
        assert cbor2.loads(answer.payload) == {"now": NOW // 1000, "more": False}
        door.now += 3 * SECOND
        again = peer.ask(message)
        assert again.mid == 1
        assert cbor2.loads(again.payload)["now"] == NOW // 1000 + 3000, "a repeat is not told the first one's time"
        assert len(door.taken) == 1
        assert peer.ask(post(2)).payload == b"", "who does not ask pays no bytes"


def test_the_time_comes_with_a_backlog_too() -> None:
    with serving() as door, Peer(door) as peer:
        first = peer.ask(post(1, b"x" * 64, block1=(0, True, 2), uri_query=("now",)))
        assert first.code == codes.CONTINUE
        last = peer.ask(post(2, b"y", block1=(1, False, 2), uri_query=("now",)))
        assert last.code == aiocoap.CHANGED
        assert cbor2.loads(last.payload)["now"] == NOW // 1000
        assert [uplink.payload for uplink in door.taken] == [b"x" * 64 + b"y"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.1.2.3"])
def test_on_a_wildcard_address_the_answer_comes_from_where_it_was_asked(host: str) -> None:
    with serving("0.0.0.0") as door, Peer(door, host) as peer:
        assert peer.ask(post(1)).code == aiocoap.CHANGED
        assert peer.ask(post(2, b"x" * 16, block1=(0, True, 0))).code == codes.CONTINUE  # by aiocoap's way


def test_ipv6_and_its_wildcard() -> None:
    try:
        with serving("::") as door, Peer(door, "::1", family=socket.AF_INET6) as peer:
            assert peer.ask(post(1)).code == aiocoap.CHANGED
            assert peer.ask(post(2, b"x" * 16, block1=(0, True, 0))).code == codes.CONTINUE
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")


@pytest.mark.parametrize("group", ["224.0.1.187", "255.255.255.255"])
def test_to_a_group_nobody_answers(group: str) -> None:
    with serving("0.0.0.0") as door, Peer(door) as peer:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        peer.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        own = door.gateway._door
        assert isinstance(own, coap_door.Door)
        if group.startswith("224"):
            request = socket.inet_aton(group) + socket.inet_aton("127.0.0.1")
            own._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        try:
            peer.socket.sendto(post(1, kind=aiocoap.NON).encode(), (group, door.port))
        except OSError as error:
            pytest.skip(f"nothing can be sent to {group} here: {error}")
        assert peer.silent()
        assert door.taken == []


def test_a_device_above_its_rate_is_told_when_to_come_back() -> None:
    with serving(limits=Limits(0, 5, exempt=lambda _: False)) as door, Peer(door) as peer:
        answers = []
        for first in range(0, 260, 52):  # many at once, or a slow machine would not be above the rate
            for mid in range(first, first + 52):
                peer.say(post(mid).encode())
            answers += [peer.hear() for _ in range(52)]
        refused = [answer for answer in answers if answer.code == codes.TOO_MANY_REQUESTS]
        assert refused
        assert {answer.opt.max_age for answer in refused} == {1}
        assert len(door.taken) == len(answers) - len(refused) >= 240
        assert peer.ask(post(300, path="telemetry/urn:dev:x:2")).code == aiocoap.CHANGED, (
            "another device is not held up"
        )
        mid = refused[0].mid
        eventually(lambda: peer.ask(post(mid)).code == aiocoap.CHANGED, "the same message id is heard later")


def test_a_source_above_its_rate_is_refused_on_both_ways() -> None:
    with serving(limits=Limits(2, 0, exempt=lambda _: False)) as door, Peer(door) as peer:
        codes_seen = {int(peer.ask(post(mid, path=f"telemetry/urn:dev:x:{mid}")).code) for mid in range(60)}
        assert codes_seen == {int(aiocoap.CHANGED), int(codes.TOO_MANY_REQUESTS)}
        assert peer.ask(post(100, b"x" * 16, block1=(0, True, 0))).code == codes.TOO_MANY_REQUESTS
        assert len(door.taken) < 60


def test_this_machine_is_not_limited() -> None:
    with serving(limits=Limits(1, 1)) as door, Peer(door) as peer:
        assert {int(peer.ask(post(mid)).code) for mid in range(400)} == {int(aiocoap.CHANGED)}
        assert len(door.taken) == 400


def test_slow_senders_of_blocks_cost_a_bounded_memory_and_hold_up_nobody() -> None:
    with serving() as door:
        blocks = door.gateway._resource._blocks
        for _ in range(300):
            with Peer(door) as peer:
                peer.say(post(1, b"x" * 1024, block1=(0, True, 6)).encode())
                peer.hear()
        assert 0 < blocks.bytes <= 300 * 1024
        with Peer(door) as peer:
            assert peer.ask(post(1)).code == aiocoap.CHANGED
            large = peer.ask(post(2, b"x" * 1024, block1=(MAX_PAYLOAD // 1024, True, 6)))
            assert large.code == codes.REQUEST_ENTITY_TOO_LARGE


HOSTILE = {
    "a version of the future": bytes((0xC0, 2, 0, 1)) + b"\xffx",
    "a token of nine bytes": bytes((0x49, 2, 0, 1)) + b"123456789\xffx",
    "a token of fifteen bytes": bytes((0x4F, 2, 0, 1)) + b"x" * 15 + b"\xffx",
    "a token cut off": bytes((0x48, 2, 0, 1)) + b"123",
    "an option cut off": bytes((0x40, 2, 0, 1, 0xBD)),
    "an option longer than the datagram": bytes((0x40, 2, 0, 1, 0xBE, 0xFF, 0xFF)) + b"x",
    "the reserved option length": bytes((0x40, 2, 0, 1, 0xBF)) + b"x" * 20,
    "a marker without a payload": bytes((0x40, 2, 0, 1)) + b"\xb9telemetry\xff",
}


@pytest.mark.parametrize("datagram", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_malformed_message_is_reset_or_ignored(datagram: bytes) -> None:
    with serving() as door, Peer(door) as peer:
        if datagram[0] >> 6 == 1:
            peer.say(datagram)
            answer = peer.hear()
            assert (answer.mtype, answer.mid) == (aiocoap.RST, 1)
        non = bytes((datagram[0] & 0xCF | 0x10,)) + datagram[1:]
        peer.say(non)
        assert peer.silent(), "what needs no acknowledgement is not reset either"
        assert door.taken == []


def test_acknowledgements_and_resets_from_nowhere_change_nothing() -> None:
    with serving() as door, Peer(door) as peer, Peer(door) as liar:
        door.hold = True
        peer.say(post(1).encode())
        eventually(lambda: bool(door.held), "it waits for its commit")
        rng = random.Random(1)
        for mid in range(2_000):
            liar.say(bytes((0x60 | rng.choice((0x00, 0x10)), 0, mid >> 8, mid & 0xFF)))
        assert peer.hear().code == aiocoap.EMPTY, "the commit takes long: it is announced"
        for done in door.held:
            done(STORED)
        answer = peer.hear()
        assert (answer.code, answer.mtype) == (aiocoap.CHANGED, aiocoap.CON)
        for mid in range(65_536):
            if mid != answer.mid and mid % 16 == 0:
                liar.say(bytes((0x60, 0, mid >> 8, mid & 0xFF)))
        liar.say(bytes((0x60, 0, answer.mid >> 8, answer.mid & 0xFF)))
        assert liar.silent()
        assert len(door.gateway._separate) == 1, "another address cannot acknowledge it"
        peer.say(bytes((0x60, 0, answer.mid >> 8, answer.mid & 0xFF)))
        eventually(lambda: not door.gateway._separate, "it is acknowledged by who got it")


def test_an_answer_is_never_larger_than_a_small_multiple_of_the_question() -> None:
    # RFC 7252, section 11.3: whoever writes another's address on a datagram must not gain by it.
    discovery = aiocoap.Message(code=aiocoap.GET)
    discovery.opt.uri_path = (".well-known", "core")
    discovery.mid, discovery.mtype, discovery.token = 7, aiocoap.CON, b""
    with serving() as door, Peer(door) as peer:
        for message in (post(1), post(2, uri_query=("now",)), post(3, path="nowhere"), discovery):
            asked = message.encode()
            peer.say(asked)
            answer = peer.socket.recv(65_535)
            assert len(answer) <= 6 * len(asked)


def test_a_flood_from_many_addresses_leaves_the_next_device_heard() -> None:
    with serving(limits=Limits(20, 1, exempt=lambda _: False)) as door:
        peers = [Peer(door) for _ in range(20)]
        for i, flooding in enumerate(peers):
            flooding.socket.bind((f"127.0.0.{10 + i}", 0))
        begin = time.monotonic()
        for number in range(400):
            for flooding in peers:
                flooding.say(post(number, path=f"telemetry/urn:dev:x:{number}").encode())
        with Peer(door) as peer:
            peer.socket.bind(("127.0.1.1", 0))
            answer = peer.persist(post(1, path="telemetry/urn:dev:honest").encode())
        assert answer.code == aiocoap.CHANGED
        assert len(door.taken) <= 20 * (200 + 20 * (time.monotonic() - begin))
        for flooding in peers:
            flooding.socket.close()
