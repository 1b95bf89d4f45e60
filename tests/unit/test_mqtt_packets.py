"""MQTT packets: paho's own bytes are read; any bytes are a packet, an error, or not yet whole."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mqtt_packets import (
    Code,
    Connect,
    Disconnect,
    Packet,
    PacketError,
    Parser,
    Ping,
    Publish,
    Subscribe,
    Unsubscribe,
    connack,
    disconnect,
    puback,
    suback,
    unsuback,
)

LIMIT = 10_000


def text(value: str) -> bytes:
    return struct.pack(">H", len(value.encode())) + value.encode()


def packet(first: int, body: bytes) -> bytes:
    length, size = b"", len(body)
    while True:
        size, octet = divmod(size, 128)
        length += bytes([octet | (128 if size else 0)])
        if not size:
            return bytes([first]) + length + body


def connect(level: int = 4, flags: int = 0xC2, properties: bytes = b"\0") -> bytes:
    head = text("MQTT") + bytes([level, flags]) + struct.pack(">H", 60) + (properties if level == 5 else b"")
    tail = text("client") + (text("user") if flags & 0x80 else b"") + (text("secret") if flags & 0x40 else b"")
    return packet(0x10, head + tail)


def read(*packets: bytes, step: int | None = None) -> list[Packet]:
    parser = Parser(LIMIT)
    stream = b"".join(packets)
    found: list[Packet] = []
    for at in range(0, len(stream), step or len(stream)):
        parser.feed(stream[at : at + (step or len(stream))])
        while (one := parser.next()) is not None:
            found.append(one)
    return found


PUBLISH_0 = packet(0x30, text("a/b") + b"hello")
PUBLISH_1 = packet(0x32, text("a/b") + b"\x00\x07" + b"x" * 300)


@pytest.mark.parametrize("step", [None, 1, 3])
def test_a_conversation_is_read_however_it_is_cut(step: int | None) -> None:
    subscribe = packet(0x82, b"\x00\x01" + text("v1/#") + b"\x02" + text("x") + b"\x00")
    unsubscribe = packet(0xA2, b"\x00\x02" + text("x"))
    assert read(connect(), PUBLISH_0, PUBLISH_1, subscribe, unsubscribe, b"\xc0\x00", b"\xe0\x00", step=step) == [
        Connect(4, "client", "user", b"secret", 60, clean=True),
        Publish("a/b", b"hello", 0, 0),
        Publish("a/b", b"x" * 300, 1, 7),
        Subscribe(1, [1, 0]),
        Unsubscribe(2, 1),
        Ping(),
        Disconnect(),
    ]


def test_an_mqtt_5_client_says_more() -> None:
    properties = b"\x05\x11\x00\x00\x0e\x10"  # session expiry
    content = b"\x03" + text("application/senml+json")
    publish = packet(0x32, text("t") + b"\x00\x01" + bytes([len(content)]) + content + b"[]")
    assert read(connect(5, properties=properties), publish) == [
        Connect(5, "client", "user", b"secret", 60, clean=True),
        Publish("t", b"[]", 1, 1, "application/senml+json"),
    ]


def test_a_will_is_read_over() -> None:
    body = text("MQTT") + bytes([4, 0x86]) + b"\x00\x00" + text("c") + text("will/topic") + text("gone") + text("u")
    assert read(packet(0x10, body)) == [Connect(4, "c", "u", None, 0, clean=True)]


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (PUBLISH_0, Code.PROTOCOL_ERROR),  # before CONNECT
        (connect() + connect(), Code.PROTOCOL_ERROR),
        (packet(0x10, text("MQIsdp") + b"\x03\x02\x00\x3c" + text("c")), Code.UNSUPPORTED_PROTOCOL),
        (packet(0x10, text("MQTT") + b"\x04\x03\x00\x3c" + text("c")), Code.MALFORMED),
        (packet(0x10, text("MQTT") + b"\x04\x02\x00\x3c" + text("c") + b"more"), Code.MALFORMED),
        (connect(5, properties=b"\x06\x15" + text("abc")), Code.BAD_AUTHENTICATION_METHOD),
        (connect(5, properties=b"\x02\x7e\x00"), Code.MALFORMED),  # no such property
        (connect() + packet(0x34, text("a") + b"\x00\x01"), Code.QOS_UNSUPPORTED),
        (connect() + packet(0x32, text("a") + b"\x00\x00"), Code.MALFORMED),
        (connect() + packet(0x30, text("a/+")), Code.TOPIC_NAME),
        (connect() + packet(0x30, b"\x00\x02\xff\xff"), Code.MALFORMED),
        (connect() + packet(0x30, b"\x00\x09a"), Code.MALFORMED),
        (connect() + packet(0x82, b"\x00\x01"), Code.PROTOCOL_ERROR),
        (connect() + packet(0x80, b"\x00\x01" + text("a") + b"\0"), Code.MALFORMED),
        (connect() + b"\xf0\x00", Code.PROTOCOL_ERROR),
        (connect() + b"\x30\xff\xff\xff\xff", Code.MALFORMED),
        (connect() + b"\x30\xff\xff\x7f", Code.TOO_LARGE),
    ],
)
def test_what_is_not_taken_says_why(octets: bytes, code: Code) -> None:
    with pytest.raises(PacketError) as error:
        read(octets)
    assert error.value.code is code


@given(st.lists(st.binary(max_size=200), max_size=10), st.booleans())
def test_any_bytes_are_packets_an_error_or_not_yet_whole(chunks: list[bytes], connected: bool) -> None:
    parser = Parser(LIMIT)
    if connected:
        parser.feed(connect(5))
        assert parser.next() is not None
    try:
        for chunk in chunks:
            parser.feed(chunk)
            while parser.next() is not None:
                pass
    except PacketError:
        return


def test_answers() -> None:
    assert connack(4, Code.SUCCESS) == b"\x20\x02\x00\x00"
    assert connack(4, Code.BAD_LOGIN) == b"\x20\x02\x00\x04"
    assert connack(4, Code.NOT_AUTHORIZED) == b"\x20\x02\x00\x05"
    assert connack(5, Code.BAD_LOGIN) == b"\x20\x03\x00\x86\x00"
    assert connack(5, Code.SUCCESS, receive_maximum=20, limit=1000, assigned="x").endswith(b"\x12\x00\x01x")
    assert puback(4, 7, Code.PAYLOAD_FORMAT) == b"\x40\x02\x00\x07"
    assert puback(5, 7, Code.PAYLOAD_FORMAT) == b"\x40\x03\x00\x07\x99"
    assert suback(4, 1, [0, 1]) == b"\x90\x04\x00\x01\x00\x01"
    assert unsuback(5, 1, 1) == b"\xb0\x04\x00\x01\x00\x00"
    assert disconnect(4, Code.SERVER_BUSY) == b""
    assert disconnect(5, Code.SERVER_BUSY) == b"\xe0\x01\x89"
