"""The small path's reading of RFC 7252, against aiocoap's and against any bytes."""

from __future__ import annotations

import aiocoap
import pytest
from aiocoap.numbers.types import CON, NON
from hypothesis import given
from hypothesis import strategies as st

from ingest.coap_message import ACKNOWLEDGEMENT, CHANGED, Other, Plain, empty, parse, response


def encode(**kwargs: object) -> bytes:
    message = aiocoap.Message(**{"code": aiocoap.POST, "_mtype": CON, "_mid": 0x1234, "_token": b"ab", **kwargs})
    return bytes(message.encode())


segment = st.text(st.characters(exclude_categories=["Cs"]), max_size=300).filter(lambda s: len(s.encode()) <= 255)


@given(
    path=st.lists(segment, max_size=4),
    content_format=st.none() | st.integers(0, 65_535),
    payload=st.binary(min_size=1, max_size=400),
    token=st.binary(max_size=8),
    mid=st.integers(0, 65_535),
    confirmable=st.booleans(),
)
def test_a_plain_post_is_read_as_aiocoap_writes_it(
    path: list[str], content_format: int | None, payload: bytes, token: bytes, mid: int, confirmable: bool
) -> None:
    datagram = encode(
        _mtype=CON if confirmable else NON,
        _mid=mid,
        _token=token,
        uri_path=path,
        content_format=content_format,
        payload=payload,
    )
    assert parse(datagram) == Plain(confirmable, mid, token, tuple(path), content_format, payload)


@pytest.mark.parametrize(
    "message",
    [
        {"code": aiocoap.GET},
        {"code": aiocoap.PUT, "payload": b"x"},
        {"payload": b"x", "block1": (0, True, 2)},
        {"payload": b"x", "observe": 0},
        {"payload": b"x", "uri_query": ["d=1"]},
        {"payload": b"x", "oscore": b"\x09\x01"},
        {"payload": b"x", "accept": 110},
        {"code": aiocoap.EMPTY, "_token": b""},
    ],
)
def test_whatever_is_unusual_is_left_to_aiocoap(message: dict[str, object]) -> None:
    assert parse(encode(**message)) is Other.UNUSUAL


@pytest.mark.parametrize(
    "datagram",
    [
        b"", b"\x40", b"\x40\x02\x00", b"\x00\x02\x00\x01", b"\x80\x02\x00\x01", b"\xc0\x02\x00\x01",
        b"\x49\x02\x00\x01123456789", b"\x44\x02\x00\x01ab", b"\x40\x02\x00\x01\xff", b"\x40\x02\x00\x01\xb5abc",
        b"\x40\x02\x00\x01\xf0", b"\x40\x02\x00\x01\x0f", b"\x40\x02\x00\x01\xd0", b"\x40\x02\x00\x01\xe0\x01",
    ],
)  # fmt: skip
def test_a_message_format_error_is_told_apart(datagram: bytes) -> None:
    assert parse(datagram) is Other.MALFORMED


@given(datagram=st.binary(max_size=80))
def test_any_bytes_are_read_without_an_exception(datagram: bytes) -> None:
    assert isinstance(parse(datagram), Plain | Other)
    assert isinstance(parse(b"\x40\x02\x00\x01" + datagram), Plain | Other)


@given(token=st.binary(max_size=8), max_age=st.none() | st.integers(0, 2**32 - 1), text=st.binary(max_size=50))
def test_responses_are_read_by_aiocoap_as_they_were_meant(token: bytes, max_age: int | None, text: bytes) -> None:
    datagram = response(ACKNOWLEDGEMENT, CHANGED, 7, token, max_age=max_age, payload=text)
    message = aiocoap.Message.decode(datagram)
    assert (message.code, message.mid, message.token, message.payload) == (aiocoap.CHANGED, 7, token, text)
    assert message.opt.max_age == max_age
    assert aiocoap.Message.decode(empty(ACKNOWLEDGEMENT, 7)).code == aiocoap.EMPTY
