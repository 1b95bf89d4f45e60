"""The CoAP client against a peer that loses, delays, repeats and refuses; and against one that we did not write."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiocoap
import pytest
from aiocoap import resource
from hypothesis import given
from hypothesis import strategies as st

from simulators.coap_client import Answer, CoapClient, NoAnswerError
from simulators.coap_message import parse, post
from tests.ports import free_port
from tests.unit.simulators.hurry import hurried
from tests.unit.simulators.peer import FORBIDDEN, UNAVAILABLE, Manners, Peer, Request, honest, read, serving

DEVICE = "urn:dev:imei:867000000000017"
PACK = b'[{"n":"flow","v":1}]'
T = TypeVar("T")


def talk(manners: Manners, talking: Callable[[CoapClient, Peer], Awaitable[T]], **options: float) -> T:
    """Let a client talk to a peer; nobody waits for their timeouts."""

    async def main() -> T:
        async with serving(manners) as peer:
            client = CoapClient(random.Random(3), **options)  # type: ignore[arg-type]
            await client.open("127.0.0.1", peer.port)
            try:
                return await talking(client, peer)
            finally:
                client.close()

    return hurried(main())


def once(client: CoapClient, _: Peer) -> Awaitable[Answer]:
    return client.post(DEVICE, 110, PACK)


def test_a_request_carries_path_content_format_and_payload() -> None:
    async def talking(client: CoapClient, peer: Peer) -> list[Request]:
        assert (await client.post(DEVICE, 110, PACK)).stored
        assert (await client.post(DEVICE, 112, b"\x81\xa0", at_root=True)).stored
        return peer.requests

    def manners(peer: Peer, request: Request) -> None:
        peer.piggyback(request)

    first, second = talk(manners, talking)
    assert (first.path, first.content_format, first.payload) == (("telemetry", DEVICE), 110, PACK)
    assert (second.path, second.content_format, second.payload) == ((), 112, b"\x81\xa0")
    assert first.mid != second.mid
    assert first.token != second.token


def test_a_lost_message_is_sent_again_as_it_was() -> None:
    async def talking(client: CoapClient, peer: Peer) -> tuple[Answer, int, list[Request]]:
        return await once(client, peer), client.retransmissions, peer.requests

    def manners(peer: Peer, request: Request) -> None:
        if len(peer.requests) == 3:
            honest(peer, request)

    answer, retransmissions, requests = talk(manners, talking)
    assert answer.stored
    assert retransmissions == 2
    assert len(set(requests)) == 1, "same message id, token and payload each time"


def test_pauses_between_transmissions_double_from_a_random_start() -> None:
    times: list[float] = []

    def silent(_: Peer, __: Request) -> None:
        times.append(asyncio.get_running_loop().time())

    with pytest.raises(NoAnswerError, match="no answer to 5 transmissions"):
        talk(silent, once, ack_timeout=10.0)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert len(pauses) == 4
    assert 10.0 <= pauses[0] <= 15.0
    for shorter, longer in itertools.pairwise(pauses):
        assert longer == pytest.approx(2 * shorter, abs=0.001)


def test_a_separate_response_is_awaited_without_sending_again_and_acknowledged_every_time_it_comes() -> None:
    async def talking(client: CoapClient, peer: Peer) -> tuple[Answer, list[bytes], int]:
        answer = await once(client, peer)
        peer.separate(peer.requests[0], 77)
        return answer, [await peer.others.get(), await peer.others.get()], len(peer.requests)

    def manners(peer: Peer, request: Request) -> None:
        peer.acknowledge(request)
        asyncio.get_running_loop().call_later(30.0, peer.separate, request, 77)

    answer, acknowledgements, transmissions = talk(manners, talking)
    assert answer.stored
    assert transmissions == 1, "30 s are several ACK_TIMEOUTs, but it was acknowledged"
    assert acknowledgements == [b"\x60\x00\x00\x4d"] * 2


def test_a_separate_response_stands_for_an_acknowledgement_that_was_lost() -> None:
    answer = talk(lambda peer, request: peer.separate(request, 5), once)
    assert answer.stored


def test_a_response_that_was_promised_and_does_not_come_is_no_answer() -> None:
    with pytest.raises(NoAnswerError, match="the response did not come"):
        talk(lambda peer, request: peer.acknowledge(request), once)


def test_a_reset_is_no_answer() -> None:
    with pytest.raises(NoAnswerError, match="reset"):
        talk(lambda peer, request: peer.send(request, b"\x70\x00" + request.mid.to_bytes(2)), once)


def test_answers_to_others_and_garbage_are_not_taken_for_ours() -> None:
    def manners(peer: Peer, request: Request) -> None:
        for noise in (b"", b"\x00", b"\xff" * 8, b"\x6f\x44\x00\x01", b"\x61\x44\x00\x01\x99\xf0"):
            peer.send(request, noise)
        peer.piggyback(request._replace(token=b"none"), FORBIDDEN)
        peer.piggyback(request._replace(mid=request.mid ^ 1), FORBIDDEN)
        peer.separate(request._replace(token=b"none"), 9, FORBIDDEN)
        honest(peer, request)

    async def talking(client: CoapClient, peer: Peer) -> tuple[Answer, bytes]:
        return await once(client, peer), await peer.others.get()

    answer, other = talk(manners, talking)
    assert answer.stored
    assert other == b"\x70\x00\x00\x09", "a confirmable response that nobody waits for is reset"


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        (b"", 60),
        (b"\xd1\x01\x07", 7),  # option 13 + 1
        (b"\xd2\x01\x01\x2c", 300),
        (b"\x41\xaa\x81\x05", 60),  # ETag, then Content-Format
        (b"\x41\xaa\x81\x05\x21\x09", 9),  # and Max-Age behind them
    ],
)
def test_max_age_is_read_or_sixty_seconds(options: bytes, seconds: int) -> None:
    answer = talk(lambda peer, request: peer.piggyback(request, UNAVAILABLE, options), once)
    assert (answer.code, answer.max_age, answer.later, answer.stored) == ("5.03", seconds, True, False)


def test_a_rejection_is_final_and_says_why() -> None:
    answer = talk(lambda peer, request: peer.piggyback(request, FORBIDDEN, b"", b"unknown_device: x"), once)
    assert answer == Answer("4.03", 60, "unknown_device: x")
    assert not answer.later


def test_a_device_that_slept_comes_back_from_another_port() -> None:
    async def talking(client: CoapClient, peer: Peer) -> list[Request]:
        await once(client, peer)
        await client.rebind()
        await once(client, peer)
        return peer.requests

    before, after = talk(honest, talking)
    assert before.port != after.port


def test_nobody_at_the_port_is_no_answer() -> None:
    async def main() -> None:
        client = CoapClient(random.Random(1), max_retransmit=2)
        await client.open("127.0.0.1", free_port(socket.SOCK_DGRAM))
        with pytest.raises(NoAnswerError):
            await client.post(DEVICE, 110, PACK)
        client.close()

    hurried(main())


class Telemetry(resource.Resource):  # type: ignore[misc]
    """aiocoap's server, slower than the delay after which it sends its empty acknowledgement."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int | None, bytes]] = []

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        self.seen.append((request.opt.content_format, request.payload))
        await asyncio.sleep(0.3)
        return aiocoap.Message(code=aiocoap.CHANGED)


def test_a_peer_that_we_did_not_write_understands_us() -> None:
    async def main() -> tuple[Answer, list[tuple[int | None, bytes]]]:
        port = free_port(socket.SOCK_DGRAM)
        site, telemetry = resource.Site(), Telemetry()
        site.add_resource(["telemetry", DEVICE], telemetry)
        server = await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", port))
        client = CoapClient(random.Random(1))
        await client.open("127.0.0.1", port)
        try:
            return await client.post(DEVICE, 112, b"x" * 900), telemetry.seen
        finally:
            client.close()
            await server.shutdown()

    answer, seen = asyncio.run(main())
    assert answer.stored
    assert seen == [(112, b"x" * 900)]


segments = st.lists(st.text(min_size=1, max_size=300).filter(lambda text: len(text.encode()) < 600), max_size=3)


@given(path=segments, payload=st.binary(min_size=1, max_size=100), mid=st.integers(0, 0xFFFF))
def test_what_is_written_can_be_read(path: list[str], payload: bytes, mid: int) -> None:
    message = parse(post(mid, b"tokn", tuple(path), 110, payload))
    assert message is not None
    assert (message.mid, message.token, message.payload) == (mid, b"tokn", payload)
    if all(len(segment.encode()) < 269 for segment in path):
        assert read(post(mid, b"tokn", tuple(path), 110, payload), 0).path == tuple(path)


@given(st.binary(max_size=40))
def test_no_bytes_whatever_upset_the_parser(datagram: bytes) -> None:
    message = parse(datagram)
    assert message is None or message.token == datagram[4 : 4 + len(message.token)]
