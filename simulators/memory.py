"""What a unit keeps until it is answered: a bounded memory of uplinks, the oldest dropped when it is full."""

from __future__ import annotations

from collections import deque

from simulators.firmware import Written


class Memory:
    """The uplinks of one unit that nobody has acknowledged yet. `keeps` is whether it outlives a reboot."""

    def __init__(self, limit: int, *, keeps: bool) -> None:
        self._limit, self._keeps = limit, keeps
        self._held: deque[Written] = deque()
        self._octets = 0
        self._tries: dict[tuple[int, int], int] = {}
        self._lent: Written | None = None

    def __len__(self) -> int:
        return len(self._held)

    def keep(self, written: Written) -> list[Written]:
        """Take in an uplink; returns those that are lost for it: by a reboot, or as there is no more room."""
        lost: list[Written] = []
        if not self._keeps:
            lost = [one for one in self._held if one.boot != written.boot and one is not self._lent]
            for one in lost:
                self.forget(one)
        self._held.append(written)
        self._octets += len(written.payload)
        for one in [one for one in self._held if one is not self._lent and one is not written]:
            if self._octets <= self._limit:
                break
            lost.append(one)
            self.forget(one)
        return lost

    def next(self, *, newest: bool = False) -> Written | None:
        """What is to be sent next: the oldest, or the newest; None where there is nothing."""
        if not self._held:
            return None
        return self._held[-1] if newest else self._held[0]

    def lend(self, written: Written) -> None:
        """The modem has it now: it is not dropped before it was answered, or was sent in vain."""
        self._lent = written

    def tries(self, written: Written) -> int:
        """How often it was sent in vain."""
        return self._tries.get((written.boot, written.sequence), 0)

    def in_vain(self, written: Written) -> None:
        """Nobody has answered."""
        self._lent = None
        self._tries[written.boot, written.sequence] = self.tries(written) + 1

    def forget(self, written: Written) -> None:
        """It was answered for good, or is lost."""
        if written is self._lent:
            self._lent = None
        self._held.remove(written)
        self._octets -= len(written.payload)
        self._tries.pop((written.boot, written.sequence), None)
