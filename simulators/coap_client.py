"""A CoAP device's side of RFC 7252: one confirmable POST at a time (NSTART 1), retransmission with exponential
back-off, separate responses. What to do about an answer is the caller's business.

Light on purpose: load comes from hundreds of these in one process.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import NamedTuple

from simulators.coap_message import (
    ACKNOWLEDGEMENT,
    CONFIRMABLE,
    EMPTY,
    RESET,
    Block,
    Received,
    dotted,
    empty,
    parse,
    post,
)

ACK_TIMEOUT = 2.0
"""Seconds before the first retransmission (RFC 7252 section 4.8); cellular devices use 10 to 20."""
ACK_RANDOM_FACTOR = 1.5
MAX_RETRANSMIT = 4
RESPONSE_TIMEOUT = 93.0
"""How long a separate response is awaited after the acknowledgement: MAX_TRANSMIT_WAIT, as the RFC leaves it open."""
TELEMETRY = "telemetry"
CONTINUE = "2.31"
"""The answer to a block that is not the last one (RFC 7959)."""


class Answer(NamedTuple):
    """A response: its code as `2.04`, Max-Age in seconds, and the diagnostic text if there is one."""

    code: str
    max_age: int
    text: str = ""

    @property
    def stored(self) -> bool:
        """Whether the gateway has it durably."""
        return self.code == "2.04"

    @property
    def later(self) -> bool:
        """Whether the same message may succeed later: 5.xx, and 4.29 Too Many Requests (RFC 8516)."""
        return self.code.startswith("5.") or self.code == "4.29"


class NoAnswerError(TimeoutError):
    """All retransmissions went unanswered, or a response that was promised did not come."""


class CoapClient(asyncio.DatagramProtocol):
    """One device's conversation with the gateway, from an address of its own."""

    def __init__(
        self,
        rng: random.Random,
        ack_timeout: float = ACK_TIMEOUT,
        max_retransmit: int = MAX_RETRANSMIT,
        response_timeout: float = RESPONSE_TIMEOUT,
    ) -> None:
        self._random = rng
        self.ack_timeout = ack_timeout
        self._max_retransmit = max_retransmit
        self._response_timeout = response_timeout
        self._address: tuple[str, int] = ("", 0)
        self._transport: asyncio.DatagramTransport | None = None
        self._mid = rng.randrange(1 << 16)
        self._token = b""
        self._acknowledged = asyncio.Event()
        self._answer: asyncio.Future[Answer] | None = None
        self._confirmed: list[int] = []
        self._deaf = False
        self.retransmissions = 0
        self.fate: Callable[[int, int], tuple[bool, bool]] | None = None
        """What a bad radio does with the n-th transmission of a block: whether it is lost, whether its answer is."""

    async def open(self, host: str, port: int) -> None:
        """Open a socket; `OSError` where that is not possible."""
        self._address = (host, port)
        await self.rebind()

    async def rebind(self) -> None:
        """Go on from another port, as a device does whose NAT mapping expired while it slept."""
        self.close()
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, remote_addr=self._address)

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    async def post(
        self,
        identity: str,
        content_format: int | None,
        payload: bytes,
        *,
        at_root: bool = False,
        block: int | None = None,
    ) -> Answer:
        """POST to `/telemetry/<identity>`, or to the root where only the payload names the device; wait for the answer.

        A payload longer than `block` goes in blocks of that size. `NoAnswerError` where no answer comes. One call at a
        time.
        """
        path = () if at_root else (TELEMETRY, identity)
        if block is None or len(payload) <= block:
            return await self._request(path, content_format, payload, None)
        for number, begin in enumerate(range(0, len(payload), block)):
            part = Block(number, begin + block < len(payload), block)
            answer = await self._request(path, content_format, payload[begin : begin + block], part)
            if answer.code != CONTINUE:
                break
        return answer

    async def _request(
        self, path: tuple[str, ...], content_format: int | None, payload: bytes, block: Block | None
    ) -> Answer:
        assert self._transport is not None, "open() first"
        assert self._answer is None, "one request at a time"
        self._mid = self._mid + 1 & 0xFFFF
        self._token = self._random.randbytes(4)
        self._acknowledged.clear()
        self._answer = asyncio.get_running_loop().create_future()
        try:
            message = post(self._mid, self._token, path, content_format, payload, block)
            await self._transmit(message, block.number if block else 0)
            return await asyncio.wait_for(self._answer, self._response_timeout)
        except NoAnswerError:
            raise
        except TimeoutError:
            raise NoAnswerError("acknowledged, but the response did not come") from None
        finally:
            self._answer, self._deaf = None, False

    async def _transmit(self, message: bytes, number: int) -> None:
        """Send until the message is acknowledged or answered (section 4.2)."""
        pause = self.ack_timeout * self._random.uniform(1.0, ACK_RANDOM_FACTOR)
        for attempt in range(self._max_retransmit + 1):
            assert self._transport is not None
            lost, self._deaf = self.fate(number, attempt) if self.fate else (False, False)
            if not lost:
                self._transport.sendto(message)
            self.retransmissions += attempt > 0
            try:
                await asyncio.wait_for(self._acknowledged.wait(), pause)
            except TimeoutError:
                pause *= 2.0
            else:
                return
        raise NoAnswerError(f"no answer to {self._max_retransmit + 1} transmissions")

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Take an acknowledgement or a response."""
        message = None if self._deaf else parse(data)
        if message is None:
            return
        if message.code == EMPTY:
            self._empty(message)
        elif message.code >> 5 >= 2:
            self._response(message)

    def _empty(self, message: Received) -> None:
        if self._answer is None or message.mid != self._mid:
            return
        if message.kind == ACKNOWLEDGEMENT:
            self._acknowledged.set()
        elif message.kind == RESET:
            # The gateway has no context for us (it was restarted): the same as no answer, only sooner.
            if not self._answer.done():
                self._answer.set_exception(NoAnswerError("the gateway reset the exchange"))
            self._acknowledged.set()

    def _response(self, message: Received) -> None:
        ours = self._answer is not None and not self._answer.done() and message.token == self._token
        if message.kind == ACKNOWLEDGEMENT and message.mid != self._mid:
            return
        if message.kind == CONFIRMABLE:
            # One that we had already is acknowledged again: our acknowledgement was lost (section 5.2.2).
            known = ours or message.mid in self._confirmed
            self._send(empty(ACKNOWLEDGEMENT if known else RESET, message.mid))
            if ours:
                self._confirmed = [*self._confirmed[-7:], message.mid]
        if ours and self._answer is not None:
            text = message.payload.decode("utf-8", "replace") if message.code >> 5 >= 4 else ""
            self._answer.set_result(Answer(dotted(message.code), message.max_age, text))
            # A response says by itself that the request arrived, whether or not an acknowledgement was seen.
            self._acknowledged.set()

    def _send(self, datagram: bytes) -> None:
        if self._transport is not None:
            self._transport.sendto(datagram)

    def error_received(self, exc: Exception) -> None:
        """A port that nobody serves now (ICMP): the retransmissions go on."""
