"""How often somebody may speak: pure, with the time as an argument, and bounded however many there are."""

from __future__ import annotations

from collections.abc import Hashable

KEYS = 200_000
"""How many are remembered; whoever has been quiet is forgotten first."""


class Rate:
    """At most `per_second` in the long run, with up to `burst` at once, for each key on its own.

    This is the generic cell rate algorithm (ITU-T I.371): one number for each key, the time at which it will have paid
    for what it has sent.
    """

    def __init__(self, per_second: float, burst: int, keys: int = KEYS) -> None:
        if per_second <= 0 or burst < 1:
            raise ValueError("a rate has to let something through")
        self._interval = 1 / per_second
        self._credit = (burst - 1) * self._interval
        self._keys = keys
        self._paid: dict[Hashable, float] = {}

    def wait(self, key: Hashable, now: float) -> float:
        """Count one, and say 0; or the seconds after which it would be let through, without counting."""
        paid = self._paid.get(key, now)
        if paid < now:
            paid = now
        over = paid - now - self._credit
        if over > 1e-9:
            return over
        if len(self._paid) >= self._keys:
            self._make_room(now)
        self._paid[key] = paid + self._interval
        return 0.0

    def peek(self, key: Hashable, now: float) -> bool:
        """Whether the next would have to wait, without counting."""
        return self._paid.get(key, now) - now - self._credit > 1e-9

    def __len__(self) -> int:
        return len(self._paid)

    def _make_room(self, now: float) -> None:
        self._paid = {key: paid for key, paid in self._paid.items() if paid > now}
        if len(self._paid) > self._keys // 2:
            # So many at once are no fleet but a flood of invented addresses, which no memory of addresses can stop; and
            # looking through it again for every datagram would be its success.
            self._paid.clear()
