"""An event loop in which nobody waits: where nothing is left to do, its time is that of the next timer at once.

So what is said about pauses is exact, and a busy machine changes nothing about it. For both ends of a conversation in
one process: what one has sent is there before the other's patience ends.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_LOOK_SECONDS = 0.01
"""Real time that the kernel has for handing a datagram over."""


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        found = super().select(_LOOK_SECONDS)
        if not found:
            self.now += timeout
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._own = _Selector()
        super().__init__(self._own)

    def time(self) -> float:
        return self._own.now


def hurried(main: Coroutine[Any, Any, T]) -> T:
    """Run it to its end in such a loop."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)
