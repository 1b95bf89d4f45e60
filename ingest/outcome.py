"""What the pipeline tells a gateway about an uplink; each gateway renders it in its own protocol."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from devices.model import Reason


class Verdict(Enum):
    """The three answers there are."""

    STORED = "stored"
    """Durable: committed with at least one reading, or known already."""
    REJECTED = "rejected"
    """Durable in quarantine; nothing of it became a reading, and sending it again will not help."""
    UNAVAILABLE = "unavailable"
    """Nothing was kept; send it again later."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict with what the sender may want to know: the reason, and after how many seconds to try again."""

    verdict: Verdict
    reason: Reason | None = None
    detail: str = ""
    retry_after: int = 0


STORED = Outcome(Verdict.STORED)
HELD = Outcome(Verdict.STORED, Reason.UNKNOWN_DEVICE, "held until the device is approved")
"""Durable in quarantine, where the site holds what unknown devices send until somebody approves them."""
