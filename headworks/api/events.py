"""Live updates: one look at the alarm journal a second, shared by everybody who listens, and only while somebody does.

What is sent says what has changed, not what it is now: whoever listens asks for what they show. So a storm of alarms
is a message a second, and a slow listener misses nothing that a fresh look would not show.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from devices.errors import UnavailableError
from headworks.api.pool import Pool
from storage import api_queries, api_queries_plant

log = structlog.get_logger()

LOOK_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
CHECK_SECONDS = 30.0
"""How often it is looked whether a listener still may listen."""
MOST_NUMBERS = 500
"""More changed alarms than that are told as “look at everything again”."""
AGAIN = 1000
"""How many of the journal's last lines are looked at again, as a slow transaction may write a smaller number late."""
MOST_LISTENERS = 64


@dataclass(eq=False)
class Listener:
    """Somebody who listens; what waits for them is merged, so that it stays small however slow they are."""

    device: str | None
    numbers: set[int] = field(default_factory=set)
    everything: bool = False
    suppressions: bool = False
    readings: str | None = None
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        """What is to be sent now."""
        self.woken.clear()
        events: list[tuple[str, dict[str, Any]]] = []
        if self.everything or len(self.numbers) > MOST_NUMBERS:
            events.append(("reload", {}))
        elif self.numbers or self.suppressions:
            events.append(("alarms", {"numbers": sorted(self.numbers), "suppressions": self.suppressions}))
        if self.readings is not None:
            events.append(("readings", {"device": self.device, "newest": self.readings}))
        self.numbers = set()
        self.everything = self.suppressions = False
        self.readings = None
        return events


class Hub:
    """Follows the journal for everybody. All but `close` belong to the loop of the HTTP door."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()
        """The first look was taken: what happens from then on is told."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._seen: set[int] = set()
        self._line = 0
        self._newest: dict[str, str] = {}

    @property
    def full(self) -> bool:
        """Whether nobody more can listen."""
        return len(self._listeners) >= MOST_LISTENERS

    async def stream(self, device: str | None, allowed: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Server-sent events until the listener goes, may listen no more, or the platform stops."""
        listener = Listener(device)
        self._loop = asyncio.get_running_loop()
        self._listeners.add(listener)
        if self._task is None:
            self._begun.clear()
            self._task = asyncio.create_task(self._follow(), name="api events")
        try:
            await self._begun.wait()
            yield _event("hello", {})
            checked = self._loop.time()
            while not self._closed:
                try:
                    await asyncio.wait_for(listener.woken.wait(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield b": still here\n\n"
                for name, data in listener.take():
                    yield _event(name, data)
                if self._loop.time() - checked > CHECK_SECONDS:
                    checked = self._loop.time()
                    if not await asyncio.to_thread(allowed):
                        return
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._task is not None:
                self._task.cancel()
                self._task = None

    def close(self) -> None:
        """End every stream; from any thread."""

        def end() -> None:
            self._closed = True
            self._begun.set()
            for listener in self._listeners:
                listener.woken.set()

        self._closed = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is gone, and the streams with it
                self._loop.call_soon_threadsafe(end)

    async def _follow(self) -> None:
        await self._look(first=True)
        self._begun.set()
        while not self._closed:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look(first=False)

    async def _look(self, *, first: bool) -> None:
        try:
            if first or not self._line:
                self._line = await asyncio.to_thread(self._pool.run, api_queries.newest_line)
                past = await self._lines()
                self._seen = {change.line for change in past}
                if not first:
                    self._tell(everything=True)
                return
            found = await self._lines()
            fresh = [change for change in found if change.line not in self._seen]
            if fresh:
                self._seen = {change.line for change in found}
                self._line = max(self._line, *(change.line for change in found))
                self._tell(
                    numbers={change.number for change in fresh if change.number is not None},
                    suppressions=any(change.number is None for change in fresh),
                )
            await self._look_at_readings()
        except UnavailableError as error:
            log.warning("api.events_waiting", why=str(error))
            self._line = 0  # what happened meanwhile is told as “look at everything again”
        except Exception:
            log.exception("api.events_failed")
            self._line = 0

    async def _lines(self) -> list[api_queries.Change]:
        since = max(0, self._line - AGAIN)
        return await asyncio.to_thread(
            self._pool.run, lambda connection: api_queries.lines_after(connection, since, AGAIN + 20_000)
        )

    async def _look_at_readings(self) -> None:
        wanted = sorted({listener.device for listener in self._listeners if listener.device is not None})
        if not wanted:
            return
        found = await asyncio.to_thread(
            self._pool.run, lambda connection: api_queries_plant.newest_readings(connection, wanted)
        )
        newest = {device: at.isoformat() for device, at in found.items()}
        for listener in self._listeners:
            at = newest.get(listener.device or "")
            if at is not None and self._newest.get(listener.device or "", at) != at:
                listener.readings = at
                listener.woken.set()
        self._newest = newest

    def _tell(self, *, numbers: set[int] | None = None, suppressions: bool = False, everything: bool = False) -> None:
        for listener in self._listeners:
            listener.numbers |= numbers or set()
            listener.suppressions |= suppressions
            listener.everything |= everything
            listener.woken.set()


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
