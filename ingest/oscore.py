"""OSCORE (RFC 8613): CoAP messages protected end to end, whatever is between; the context is the identity.

The cryptography is aiocoap's. Here: which context a message belongs to, and what is kept of it. Contexts are leased
from the registry and held in memory, a bounded number of them. A replay window goes back there at an orderly end; a
crash loses it, and then a device's first message is answered with a challenge (4.01 with Echo, appendix B.1.2), so that
no recorded message is taken again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog
from aiocoap import CON, UNAUTHORIZED, Message, error, oscore
from aiocoap.numbers import codes

from devices.credential import OscoreLease
from devices.errors import UnavailableError
from ingest import counters

log = structlog.get_logger()

CONTEXTS = 50_000
"""How many are held; whoever has been silent for longest gives its window back."""
FRESH_SECONDS = 30.0
"""How old the answer may be to the question whether a context is still good."""

RETRY_SECONDS = 10
"""After how long a device whose context cannot be looked up should try again."""

Render = Callable[[Message, str], Awaitable[Message]]
"""Answers a request of the device that was proved to send it."""


class Contexts(Protocol):
    """Where contexts come from; each may raise `UnavailableError`."""

    def lease(self, device_id: bytes) -> OscoreLease | None:
        """Take one."""
        ...

    def versions(self, device_ids: Sequence[bytes]) -> Mapping[bytes, str]:
        """Which are still good."""
        ...

    def give_back(self, windows: Mapping[bytes, tuple[str, int, int]]) -> None:
        """Version, first number and bits of replay windows."""
        ...


class _Context(oscore.CanProtect, oscore.CanUnprotect, oscore.SecurityContextUtils):  # type: ignore[misc]
    """A lease as aiocoap wants it."""

    def __init__(self, lease: OscoreLease) -> None:
        self.lease = lease
        self.checked = 0.0
        self.echo_recovery = secrets.token_bytes(8)
        self.alg_aead = oscore.algorithms[oscore.DEFAULT_ALGORITHM]
        self.hashfun = oscore.hashfunctions[oscore.DEFAULT_HASHFUNCTION]
        self.sender_id, self.recipient_id = lease.keys.server_id, lease.keys.device_id
        self.id_context = None
        self.sender_sequence_number = lease.first_number
        self.recipient_replay_window = oscore.ReplayWindow(oscore.DEFAULT_WINDOWSIZE, lambda: None)
        if lease.window is not None:
            first, bits = lease.window
            self.recipient_replay_window.initialize_from_persisted({"index": first, "bitfield": bits})
        self.derive_keys(lease.keys.salt, lease.keys.secret)

    def post_seqnoincrease(self) -> None:
        """Numbers are leased beforehand; beyond the lease there are none."""
        if self.sender_sequence_number > self.lease.end_number:
            raise oscore.ContextUnavailable("its leased numbers are used up")

    @property
    def window(self) -> tuple[str, int, int] | None:
        """What is to be given back."""
        if not self.recipient_replay_window.is_initialized():
            return None
        held = self.recipient_replay_window.persist()
        return self.lease.version, held["index"], held["bitfield"]


class Oscore:
    """Takes the protection off requests and puts it on their answers. For one event loop."""

    def __init__(self, contexts: Contexts, limit: int = CONTEXTS) -> None:
        self._source = contexts
        self._limit = limit
        self._held: OrderedDict[bytes, _Context] = OrderedDict()
        self._leasing: dict[bytes, asyncio.Task[_Context | None]] = {}

    async def answer(self, request: Message, render: Render) -> Message | None:
        """The protected answer to a protected request; None where silence is due. Whatever is wrong with the protection
        is told unprotected, and tells nothing (section 8.2)."""
        confirmable = request.mtype == CON
        try:
            kid = oscore.verify_start(request).get(oscore.COSE_KID)
            context = None if kid is None else await self._context(kid)
            if context is None:
                return self._refuse("unknown_context", UNAUTHORIZED, confirmable)
            inner, request_id = context.unprotect(request)
        except oscore.ReplayErrorWithEcho as challenge:
            counters.OSCORE_REFUSED.labels("window_lost").inc()
            return challenge.to_message()
        except oscore.ReplayError:
            return self._refuse("replay", UNAUTHORIZED, confirmable)
        except oscore.DecodeError:
            return self._refuse("malformed", codes.BAD_OPTION, confirmable)
        except UnavailableError:
            return Message(code=codes.SERVICE_UNAVAILABLE, max_age=RETRY_SECONDS)
        except (oscore.ProtectionInvalid, oscore.NotAProtectedMessage, error.Error):
            return self._refuse("not_authentic", codes.BAD_REQUEST, confirmable)
        inner.remote, inner.mtype, inner.mid = request.remote, request.mtype, request.mid
        reply = await render(inner, context.lease.keys.identity)
        protected, _ = context.protect(reply, request_id)
        return protected

    async def close(self) -> None:
        """Give every window back."""
        windows = {key: context.window for key, context in self._held.items()}
        self._held.clear()
        held = {key: window for key, window in windows.items() if window is not None}
        if held:
            await asyncio.to_thread(self._source.give_back, held)

    def _refuse(self, why: str, code: Any, confirmable: bool) -> Message | None:  # noqa: FBT001
        counters.OSCORE_REFUSED.labels(why).inc()
        return Message(code=code, max_age=0) if confirmable else None

    async def _context(self, kid: bytes) -> _Context | None:
        context = self._held.get(kid)
        now = asyncio.get_running_loop().time()
        if context is not None and now - context.checked < FRESH_SECONDS and self._has_numbers(context):
            self._held.move_to_end(kid)
            return context
        # One question for all that ask meanwhile: two leases of one context would have two replay windows.
        task = self._leasing.get(kid)
        if task is None:
            task = self._leasing[kid] = asyncio.create_task(self._renew(kid, context))
            task.add_done_callback(lambda _: self._leasing.pop(kid, None))
        return await asyncio.shield(task)

    def _has_numbers(self, context: _Context) -> bool:
        return bool(context.sender_sequence_number < context.lease.end_number)

    async def _renew(self, kid: bytes, context: _Context | None) -> _Context | None:
        """A context that is good now: the one held, if it was not made anew meanwhile, or another lease."""
        if context is not None and self._has_numbers(context):
            try:
                good = await asyncio.to_thread(self._source.versions, [kid])
            except UnavailableError:
                return context  # what was good before the database went away, is good while it is away
            if good.get(kid) == context.lease.version:
                context.checked = asyncio.get_running_loop().time()
                return context
        elif context is not None and (window := context.window) is not None:
            await asyncio.to_thread(self._source.give_back, {kid: window})
        self._held.pop(kid, None)
        lease = await asyncio.to_thread(self._source.lease, kid)
        if lease is None:
            return None
        context = _Context(lease)
        context.checked = asyncio.get_running_loop().time()
        self._held[kid] = context
        if len(self._held) > self._limit:
            oldest, gone = self._held.popitem(last=False)
            if gone.window is not None:
                await asyncio.to_thread(self._source.give_back, {oldest: gone.window})
        return context
