"""Putting the blocks of a request together (RFC 7959, Block1): pure, with the time as an argument, and bounded.

A peer that never sends its last block costs what it has sent, until it has been silent for a while or others need the
room: then whoever has been silent for longest goes, and is told to begin again with its next block.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum

PEERS = 4_096
BYTES = 32 * 1024 * 1024
SECONDS = 247.0
"""EXCHANGE_LIFETIME of RFC 7252, section 4.8.2: a peer that was silent for so long has given up."""


class Step(Enum):
    """What a block is answered with when it does not complete its request."""

    CONTINUE = "2.31"
    BAD = "4.00"
    """Not the last block, and not of the size that it says."""
    INCOMPLETE = "4.08"
    """A block before it is missing here; the peer begins again (section 2.9.2)."""
    TOO_LARGE = "4.13"


@dataclass(slots=True)
class _Request:
    heard: float
    data: bytearray = field(default_factory=bytearray)


class Blocks:
    """Requests of which some blocks are here."""

    def __init__(self, largest: int, *, peers: int = PEERS, size: int = BYTES, seconds: float = SECONDS) -> None:
        self._largest = largest
        self._peers = peers
        self._size = size
        self._seconds = seconds
        self._requests: OrderedDict[Hashable, _Request] = OrderedDict()
        self.bytes = 0
        """What all of them hold."""

    def __len__(self) -> int:
        return len(self._requests)

    def take(
        self, key: Hashable, number: int, size: int, payload: bytes, now: float, *, more: bool, announced: int = 0
    ) -> bytes | Step:
        """The whole request with its last block, or what to answer.

        `number` counts blocks of `size` bytes; `announced` is the whole's size if the peer has said it (Size1).
        """
        self._forget(now)
        if more and len(payload) != size:
            return Step.BAD
        offset = number * size
        if offset + len(payload) > self._largest or announced > self._largest:
            self._drop(key)
            return Step.TOO_LARGE
        if offset == 0:
            self._drop(key)
            if not more:
                return payload
            self._requests[key] = _Request(now)
        request = self._requests.get(key)
        if request is None:
            return Step.INCOMPLETE
        request.heard = now
        self._requests.move_to_end(key)
        if offset != len(request.data):
            # A block that is here already was sent again as its answer was lost; anything else is a gap.
            known = more and offset + size <= len(request.data)
            return Step.CONTINUE if known else Step.INCOMPLETE
        request.data += payload
        self.bytes += len(payload)
        if not more:
            self._drop(key)
            return bytes(request.data)
        while len(self._requests) > self._peers or self.bytes > self._size:
            self._drop(next(iter(self._requests)))
        return Step.CONTINUE

    def _forget(self, now: float) -> None:
        while self._requests:
            key, request = next(iter(self._requests.items()))
            if now - request.heard < self._seconds:
                return
            self._drop(key)

    def _drop(self, key: Hashable) -> None:
        request = self._requests.pop(key, None)
        if request is not None:
            self.bytes -= len(request.data)
