"""What can be wrong with an uplink, as an error that carries the quarantine reason."""

from __future__ import annotations

from devices.model import Reason

LONGEST = 400
"""Characters of a detail that are kept: it goes to quarantine, logs and the device's answer."""


def clipped(detail: str) -> str:
    """A detail of at most `LONGEST` characters: what a sender wrote may be part of it, as long as the sender likes."""
    return detail if len(detail) <= LONGEST else f"{detail[:LONGEST]} …"


class DecodeError(ValueError):
    """The uplink as a whole cannot be used; `reason` is what quarantine and counters say."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail = clipped(detail)
        super().__init__(f"{reason.value}: {detail}")


class UnavailableError(RuntimeError):
    """The store cannot take anything now (away, full, starting); nothing was written, and the same call may succeed
    later."""
