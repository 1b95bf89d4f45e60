"""Uplinks as bytes, for files and pipes of our own: the spool, recordings, the tap. Pure.

MessagePack arrays; a field may be added at the end, with a default, and older bytes stay readable.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from devices.model import Codec, Transport, Uplink


class _Record(msgspec.Struct, array_like=True):
    transport: Transport
    payload: bytes
    received_at: int
    identity: str | None
    content_format: int | None
    source: str
    codec: Codec | None = None
    authenticated: str | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Record]).decode


def pack(uplinks: Iterable[Uplink]) -> bytes:
    """Some uplinks as bytes."""
    return _encode(
        [
            _Record(
                entry.transport,
                entry.payload,
                entry.received_at,
                entry.identity,
                entry.content_format,
                entry.source,
                entry.codec,
                entry.authenticated,
            )
            for entry in uplinks
        ]
    )


def unpack(content: bytes) -> list[Uplink]:
    """The uplinks that `pack` was given; `ValueError` where these bytes are not its."""
    return [
        Uplink(
            entry.transport,
            entry.payload,
            entry.received_at,
            entry.identity,
            entry.content_format,
            entry.source,
            entry.codec,
            entry.authenticated,
        )
        for entry in _decode(content)
    ]
