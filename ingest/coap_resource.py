"""What telemetry means in CoAP: which paths there are and which code an outcome has; also as an aiocoap resource."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import cbor2
from aiocoap import CHANGED, CONTENT, FORBIDDEN, METHOD_NOT_ALLOWED, NOT_FOUND, POST, Code, Message, resource
from aiocoap.numbers import OptionNumber, codes

from devices.model import Instant, Reason, Transport, Uplink
from ingest.coap_blocks import Blocks, Step
from ingest.coap_message import NOW
from ingest.oscore import Oscore
from ingest.outcome import Outcome, Verdict
from ingest.pipeline import Done

MAX_PAYLOAD = 64 * 1024
"""A larger uplink is refused with 4.13; a day's backlog by Block1 fits."""
TELEMETRY = "telemetry"

Submit = Callable[[Uplink, Done], None]

_CODES = {
    Reason.MALFORMED: codes.BAD_REQUEST,
    Reason.UNSUPPORTED_FORMAT: codes.UNSUPPORTED_CONTENT_FORMAT,
    Reason.TOO_LARGE: codes.REQUEST_ENTITY_TOO_LARGE,
    Reason.UNKNOWN_DEVICE: FORBIDDEN,
    Reason.IDENTITY_MISMATCH: FORBIDDEN,
    Reason.NOT_AUTHENTICATED: codes.UNAUTHORIZED,
    Reason.UNKNOWN_PROFILE: FORBIDDEN,
}
"""Every other reason is 4.22: the message was understood, but nothing in it can be used."""

_STEPS = {
    Step.CONTINUE: codes.CONTINUE,
    Step.BAD: codes.BAD_REQUEST,
    Step.INCOMPLETE: codes.REQUEST_ENTITY_INCOMPLETE,
    Step.TOO_LARGE: codes.REQUEST_ENTITY_TOO_LARGE,
}

_UNDERSTOOD = {
    int(number)
    for number in (
        OptionNumber.URI_HOST, OptionNumber.URI_PORT, OptionNumber.URI_PATH, OptionNumber.URI_QUERY,
        OptionNumber.ACCEPT, OptionNumber.BLOCK1, OptionNumber.BLOCK2,
    )
}  # fmt: skip
"""Critical options; any other must be answered with 4.02 (RFC 7252 section 5.4.1)."""

TOO_MANY = int(codes.TOO_MANY_REQUESTS)
CBOR = 60
"""The content format of `now_payload`."""

_LINKS = b'</telemetry>;rt="headworks.telemetry";ct="110 112";title="POST SenML here, or to the root"'


def now_payload(now: Instant) -> bytes:
    """What a device that asks for it (`?now`) finds in its 2.04, so that its clock is set without a request more: CBOR,
    `{"now": milliseconds since 1970 (UTC), "more": whether something waits for it here}`.

    Nothing is ever sent to a device on its own account yet, so `more` is false: it may release its radio at once.
    """
    return cbor2.dumps({"now": now // 1000, "more": False})


_SILENCE = 26
"""No-Response (RFC 7967) for every class of codes: aiocoap then answers nothing."""


class Answer(NamedTuple):
    """A response without its envelope: code, Max-Age in seconds, diagnostic text (RFC 7252 section 5.5.2)."""

    code: int
    max_age: int | None = None
    text: bytes = b""


_STORED = Answer(int(CHANGED))


def answer(outcome: Outcome) -> Answer:
    """The CoAP answer of an outcome."""
    if outcome.verdict is Verdict.STORED:
        return _STORED
    if outcome.verdict is Verdict.UNAVAILABLE:
        return Answer(int(codes.SERVICE_UNAVAILABLE), outcome.retry_after)
    code: Code = codes.UNPROCESSABLE_ENTITY
    if outcome.reason is not None:
        code = _CODES.get(outcome.reason, code)
    return Answer(int(code), None, f"{outcome.reason}: {outcome.detail}".encode("utf-8", "replace")[:200])


def identity_of(path: tuple[str, ...]) -> tuple[str | None, bool]:
    """The identity a path names (None where the payload has to), and whether it is a path of ours."""
    if len(path) == 2 and path[0] == TELEMETRY and path[1]:
        return path[1], True
    return None, path in ((), ("",), (TELEMETRY,))


class Resource(resource.Resource):
    """All paths in one resource: an aiocoap `Site` would copy every message once more."""

    def __init__(self, submit: Submit, clock: Callable[[], Instant], oscore: Oscore | None = None) -> None:
        super().__init__()
        self._oscore = oscore
        self._submit = submit
        self._clock = clock
        self._waiting = 0
        self._blocks = Blocks(MAX_PAYLOAD)
        self.idle = asyncio.Event()
        """Set while no request waits for its commit."""
        self.idle.set()

    async def needs_blockwise_assembly(self, request: Message) -> bool:
        """Never: aiocoap would keep as many blocks of as many peers as they care to send."""
        return False

    async def render(self, request: Message) -> Message:
        """Answer one request, protected or not."""
        if self._oscore is None or request.opt.oscore is None:
            return await self._render(request, getattr(request.remote, "identity", None))
        answer = await self._oscore.answer(request, self._render)
        return Message(code=CHANGED, no_response=_SILENCE) if answer is None else answer

    async def _render(self, request: Message, authenticated: str | None) -> Message:
        foreign = [
            int(option.number)
            for option in request.opt.option_list()
            if option.number.is_critical() and int(option.number) not in _UNDERSTOOD
        ]
        if foreign:
            return Message(code=codes.BAD_OPTION, payload=f"option {foreign[0]} is not understood".encode())
        path = request.opt.uri_path
        if path == (".well-known", "core"):
            return Message(code=CONTENT, payload=_LINKS, content_format=40)
        identity, known = identity_of(path)
        if not known:
            return Message(code=NOT_FOUND, payload=b"POST to /telemetry/<identity>, /telemetry or /")
        if request.code != POST:
            return Message(code=METHOD_NOT_ALLOWED, payload=b"POST SenML here")
        block = request.opt.block1
        payload = self._whole(request, path, authenticated) if block else request.payload
        if isinstance(payload, Step):
            return Message(code=_STEPS[payload], block1=block)
        if len(payload) > MAX_PAYLOAD:
            return Message(code=codes.REQUEST_ENTITY_TOO_LARGE)
        content_format = request.opt.content_format
        uplink = Uplink(
            transport=Transport.COAP,
            payload=payload,
            received_at=self._clock(),
            identity=identity,
            content_format=None if content_format is None else int(content_format),
            source=str(request.remote.hostinfo),
            authenticated=authenticated,
        )
        code, max_age, text = answer(await self._stored(uplink))
        options: dict[str, object] = {"block1": block} if block else {}
        if max_age is not None:
            options["max_age"] = max_age
        if code == int(CHANGED) and NOW in request.opt.uri_query:
            text = now_payload(self._clock())
            options["content_format"] = CBOR
        return Message(code=Code(code), payload=text, **options)

    def _whole(self, request: Message, path: tuple[str, ...], authenticated: str | None) -> bytes | Step:
        """A request's payload with its last block."""
        block = request.opt.block1
        # A device that has proved who it is may come from another address on the way.
        key = authenticated or (request.remote.blockwise_key, path)
        return self._blocks.take(
            key, block.block_number, block.size, request.payload, asyncio.get_running_loop().time(),
            more=block.more, announced=request.opt.size1 or 0,
        )  # fmt: skip

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
