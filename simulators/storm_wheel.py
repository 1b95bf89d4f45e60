"""A timing wheel: what is due when, in columns, so that a million timers cost an append each."""

from __future__ import annotations

import heapq

import numpy as np

from simulators.noise import Floats
from simulators.storm import Numbers

_TICK = 0.02
"""Seconds; a timer fires up to one tick late, never early."""


class Wheel:
    """Numbers that come back once their time has come. Nothing is cancelled: whoever takes them looks whether it still
    matters."""

    def __init__(self) -> None:
        self._slots: dict[int, list[Numbers]] = {}
        self._ticks: list[int] = []

    def add(self, numbers: Numbers, due: Floats) -> None:
        """Have each number come back at its own time."""
        ticks = np.ceil(due / _TICK).astype(np.int64)
        if len(ticks) == 0:
            return
        order = np.argsort(ticks, kind="stable")
        found, starts = np.unique(ticks[order], return_index=True)
        for tick, part in zip(found.tolist(), np.split(numbers[order], starts[1:]), strict=True):
            slot = self._slots.get(tick)
            if slot is None:
                self._slots[tick] = [part]
                heapq.heappush(self._ticks, tick)
            else:
                slot.append(part)

    def take(self, now: float) -> Numbers | None:
        """What is due by now, or None."""
        parts: list[Numbers] = []
        while self._ticks and self._ticks[0] * _TICK <= now:
            parts += self._slots.pop(heapq.heappop(self._ticks))
        return np.concatenate(parts) if parts else None

    @property
    def next(self) -> float:
        """When something is due next; infinity where nothing is."""
        return self._ticks[0] * _TICK if self._ticks else float("inf")
