"""The virtual devices' CoAP against a gateway that loses, delays and refuses; and what they write down."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiocoap
import pytest

from devices.document import DocumentError
from devices.model import DAY, SECOND
from simulators.coap_client import CoapClient, NoAnswerError
from simulators.faults import schedule
from simulators.mapping import load_mapping
from simulators.plant import build
from simulators.records import Ledger, acknowledged_keys, read_ledger, read_truth, write_truth

Answerer = Callable[[aiocoap.Message, int], list[aiocoap.Message]]


class Peer(asyncio.DatagramProtocol):
    """A UDP peer that answers as a test tells it; datagrams are read and written with aiocoap's own code."""

    def __init__(self, answer: Answerer) -> None:
        self.received: list[aiocoap.Message] = []
        self._answer = answer

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        message = aiocoap.Message.decode(data)
        self.received.append(message)
        for reply in self._answer(message, len(self.received)):
            self._transport.sendto(reply.encode(), addr)


def reply(request: aiocoap.Message, code: aiocoap.Code = aiocoap.CHANGED, **options: Any) -> aiocoap.Message:
    return aiocoap.Message(code=code, _mtype=aiocoap.ACK, _mid=request.mid, _token=request.token, **options)


def converse(answer: Answerer, *, ack_timeout: float = 0.05) -> tuple[Any, Peer]:
    """One POST against a peer; returns the answer (or the error) and the peer."""

    async def main() -> tuple[Any, Peer]:
        loop = asyncio.get_running_loop()
        transport, peer = await loop.create_datagram_endpoint(lambda: Peer(answer), local_addr=("127.0.0.1", 0))
        client = CoapClient(random.Random(1), ack_timeout=ack_timeout)
        await client.open(*transport.get_extra_info("sockname"))
        try:
            return await client.post("urn:dev:imei:1", 112, b"payload"), peer
        except NoAnswerError as error:
            return error, peer
        finally:
            client.close()
            transport.close()

    return asyncio.run(main())


def test_the_request_is_what_the_gateway_expects() -> None:
    answer, peer = converse(lambda request, _: [reply(request)])
    assert answer.stored
    [request] = peer.received
    assert (request.code, request.mtype) == (aiocoap.POST, aiocoap.CON)
    assert request.opt.uri_path == ("telemetry", "urn:dev:imei:1")
    assert (int(request.opt.content_format), request.payload) == (112, b"payload")


def test_a_lost_request_is_sent_again_with_the_same_message_id() -> None:
    answer, peer = converse(lambda request, count: [reply(request)] if count == 3 else [])
    assert answer.stored
    assert len(peer.received) == 3
    assert len({request.mid for request in peer.received}) == 1


def test_after_all_retransmissions_it_gives_up() -> None:
    answer, peer = converse(lambda *_: [], ack_timeout=0.01)
    assert isinstance(answer, NoAnswerError)
    assert len(peer.received) == 5


def test_a_separate_response_is_awaited_and_acknowledged() -> None:
    def answer(request: aiocoap.Message, count: int) -> list[aiocoap.Message]:
        if request.code == aiocoap.POST:
            empty = aiocoap.Message(code=aiocoap.EMPTY, _mtype=aiocoap.ACK, _mid=request.mid)
            later = aiocoap.Message(code=aiocoap.CHANGED, _mtype=aiocoap.CON, _mid=77, _token=request.token)
            return [empty, later]
        return []

    found, peer = converse(answer)
    assert found.stored

    assert peer.received[0].code == aiocoap.POST
    assert len(peer.received) <= 2
    if len(peer.received) == 2:
        assert (peer.received[1].mtype, peer.received[1].mid) == (aiocoap.ACK, 77)


def test_max_age_is_read_and_defaults_to_a_minute() -> None:
    later, _ = converse(lambda request, _: [reply(request, aiocoap.SERVICE_UNAVAILABLE, max_age=7)])
    assert (later.later, later.max_age) == (True, 7)
    bare, _ = converse(lambda request, _: [reply(request, aiocoap.SERVICE_UNAVAILABLE)])
    assert bare.max_age == 60


def test_a_rejection_is_neither_stored_nor_worth_repeating() -> None:
    answer, _ = converse(lambda request, _: [reply(request, aiocoap.FORBIDDEN, payload=b"unknown_device")])
    assert (answer.code, answer.stored, answer.later) == ("4.03", False, False)


def test_the_ledger_keeps_what_was_acknowledged_and_survives_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.write("d1", "coap", 1, "2.04", {"flow": [1, 2]}, acknowledged=True)
    ledger.write("d1", "coap", 2, "cancelled", {"flow": [3]}, acknowledged=False)
    ledger.close()
    with path.open("a") as file:
        file.write('{"device": "d1", "trans')
    assert len(list(read_ledger(path))) == 2
    assert list(acknowledged_keys(path)) == [("d1", "flow", 1), ("d1", "flow", 2)]


def test_the_ground_truth_is_read_as_it_was_written(tmp_path: Path) -> None:
    faults = schedule(build(1), 1_790_000_000 * SECOND, 1_790_000_000 * SECOND + DAY)
    write_truth(tmp_path / "truth.jsonl", faults)
    for truth, fault in zip(read_truth(tmp_path / "truth.jsonl"), faults, strict=True):
        assert (truth.fault, truth.device, truth.begins, truth.ends) == (
            fault.kind.name, fault.device, fault.begins, fault.ends,
        )  # fmt: skip
        assert truth.explains == fault.kind.explains


MAP = """\
time_column: when
devices: [{identity: d1, profile: centrifugal-pump}]
columns:
  a: {metric: flow, unit: l/s}
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("flow", "flw", "map.yaml:4:15: columns.a.metric: unknown metric ‘flw’, did you mean ‘flow’?"),
        ("l/s", "bar", "'bar' is no unit of ‘flow’, which is kept in m3/h"),
        ("l/s}", "l/s, device: 1}", "column ‘a’: there is no device 1; they are counted from 0"),
        ("when\n", "when\ntime_zone: Asia/Wenzhou\n", "map.yaml:2:12: time_zone: 'Asia/Wenzhou' is no time zone"),
        ("l/s}\n", "l/s}\n  b: {metric: flow}\n", "two columns are the same metric of the same device"),
    ],
)
def test_a_wrong_mapping_is_told_with_its_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(MAP.replace(old, new))
    with pytest.raises(DocumentError) as caught:
        load_mapping(path)
    assert expected in str(caught.value)


def test_a_mapping_reads_times_in_its_zone(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(MAP + "time_zone: Asia/Shanghai\ntime_format: '%d.%m.%Y %H:%M'\n")
    assert load_mapping(path).instant("01.01.2026 08:00") == 1_767_225_600 * SECOND
