"""What is read of a DTLS handshake before its key is known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.coap_dtls import handshake_type, psk_name


def record(kind: int, body: bytes, epoch: int = 0) -> bytes:
    """A handshake message in one record (RFC 6347, sections 4.1 and 4.2.2)."""
    message = bytes([kind]) + len(body).to_bytes(3) + b"\0\0" + b"\0\0\0" + len(body).to_bytes(3) + body
    return b"\x16\xfe\xfd" + epoch.to_bytes(2) + bytes(6) + len(message).to_bytes(2) + message


def test_a_client_key_exchange_names_the_device() -> None:
    exchange = record(16, b"\0\x05urn:x")
    assert handshake_type(exchange) == 16
    assert psk_name(exchange) == "urn:x"


def test_what_is_protected_or_cut_off_or_no_text_says_nothing() -> None:
    assert handshake_type(record(16, b"\0\x05urn:x", epoch=1)) is None
    assert handshake_type(b"\x17\xfe\xfd" + bytes(30)) is None
    assert psk_name(record(16, b"\0\x09urn:x")) is None
    assert psk_name(record(16, b"\0\0")) is None
    assert psk_name(record(16, b"\0\x02\xff\xff")) is None


@given(st.binary(max_size=80))
def test_any_octets_are_read_without_an_error(octets: bytes) -> None:
    handshake_type(octets)
    psk_name(octets)
