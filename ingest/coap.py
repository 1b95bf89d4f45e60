"""The CoAP gateway (RFC 7252): POST to `/telemetry/<identity>` or to the root, answered after the commit.

2.04 Changed means committed. 4.xx means kept in quarantine and not worth sending again; 5.03 with Max-Age means that
nothing was kept and the device should try again after that many seconds. aiocoap speaks the protocol (confirmable
messages, separate responses, Block1, deduplication); here is only what telemetry means in it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

import structlog
from aiocoap import CHANGED, CONTENT, FORBIDDEN, METHOD_NOT_ALLOWED, NOT_FOUND, POST, Code, Context, Message, resource
from aiocoap.numbers import codes

from devices.model import Instant, Reason, Transport, Uplink
from ingest.outcome import Outcome, Verdict
from ingest.pipeline import Done

log = structlog.get_logger()

MAX_PAYLOAD = 64 * 1024
"""A larger uplink is refused with 4.13; a day's backlog by Block1 fits."""
TELEMETRY = "telemetry"
RECEIVE_BUFFER = 4 * 1024 * 1024
"""Bytes of socket buffer: fleets report at the top of the hour, and the kernel's default loses such bursts."""

Submit = Callable[[Uplink, Done], None]

_CODES = {
    Reason.MALFORMED: codes.BAD_REQUEST,
    Reason.UNSUPPORTED_FORMAT: codes.UNSUPPORTED_CONTENT_FORMAT,
    Reason.TOO_LARGE: codes.REQUEST_ENTITY_TOO_LARGE,
    Reason.UNKNOWN_DEVICE: FORBIDDEN,
    Reason.IDENTITY_MISMATCH: FORBIDDEN,
    Reason.UNKNOWN_PROFILE: FORBIDDEN,
}
"""Every other reason is 4.22: the message was understood, but nothing in it can be used."""

_LINKS = b'</telemetry>;rt="headworks.telemetry";ct="110 112";title="POST SenML here, or to the root"'


def answer(outcome: Outcome) -> Message:
    """The CoAP response of an outcome; the payload is a diagnostic text (RFC 7252 section 5.5.2)."""
    match outcome.verdict:
        case Verdict.STORED:
            return Message(code=CHANGED)
        case Verdict.UNAVAILABLE:
            return Message(code=codes.SERVICE_UNAVAILABLE, max_age=outcome.retry_after)
        case Verdict.REJECTED:
            code: Code = codes.UNPROCESSABLE_ENTITY
            if outcome.reason is not None:
                code = _CODES.get(outcome.reason, code)
            text = f"{outcome.reason}: {outcome.detail}"
            return Message(code=code, payload=text.encode("utf-8", "replace")[:200])


class _Telemetry(resource.Resource):
    """All paths of the gateway in one resource: a `Site` would copy every message once more."""

    def __init__(self, submit: Submit, clock: Callable[[], Instant]) -> None:
        super().__init__()
        self._submit = submit
        self._clock = clock
        self._waiting = 0
        self.idle = asyncio.Event()
        """Set while no request waits for its commit."""
        self.idle.set()

    async def needs_blockwise_assembly(self, request: Message) -> bool:
        return True

    async def render(self, request: Message) -> Message:
        path = request.opt.uri_path
        if path == (".well-known", "core"):
            return Message(code=CONTENT, payload=_LINKS, content_format=40)
        if not (path in ((), ("",), (TELEMETRY,)) or (len(path) == 2 and path[0] == TELEMETRY and path[1])):
            return Message(code=NOT_FOUND, payload=b"POST to /telemetry/<identity>, /telemetry or /")
        if request.code != POST:
            return Message(code=METHOD_NOT_ALLOWED, payload=b"POST SenML here")
        if len(request.payload) > MAX_PAYLOAD:
            return Message(code=codes.REQUEST_ENTITY_TOO_LARGE)
        content_format = request.opt.content_format
        uplink = Uplink(
            transport=Transport.COAP,
            payload=request.payload,
            received_at=self._clock(),
            identity=path[1] if len(path) == 2 else None,
            content_format=None if content_format is None else int(content_format),
            source=str(request.remote.hostinfo),
        )
        return answer(await self._stored(uplink))

    async def _stored(self, uplink: Uplink) -> Outcome:
        """Hand the uplink to the pipeline and wait for its commit, which happens in another thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()

        def settle(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        def done(outcome: Outcome) -> None:
            loop.call_soon_threadsafe(settle, outcome)

        self._waiting += 1
        self.idle.clear()
        try:
            self._submit(uplink, done)
            return await future
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.idle.set()


class CoapGateway:
    """Serves CoAP over UDP on one address."""

    def __init__(self, host: str, port: int, submit: Submit, clock: Callable[[], Instant]) -> None:
        self._address = (host, port)
        self._resource = _Telemetry(submit, clock)
        self._context: Context | None = None

    async def open(self) -> None:
        """Bind and serve; `OSError` where the address is taken."""
        host, port = self._address
        # aiocoap would bind with SO_REUSEPORT and silently share a port that somebody else serves already.
        await asyncio.get_running_loop().run_in_executor(None, _ensure_free, host, port)
        self._context = await Context.create_server_context(self._resource, bind=(host, port), transports=["udp6"])
        for endpoint in self._context.request_interfaces:
            transport = endpoint.token_interface.message_interface.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        log.info("coap.listening", host=host, port=port)

    async def close(self) -> None:
        """Stop serving, once the answers of a pipeline that was closed are out; without one, devices send again."""
        if self._context is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._resource.idle.wait(), 1)
            await asyncio.sleep(0)  # the last answer is written by the task that this lets run
            await self._context.shutdown()
            self._context = None


def _ensure_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((host, port))
