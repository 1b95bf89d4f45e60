"""What people do with alarms, by ISA-18.2 / IEC 62682: the states, and what each step asks for. Pure.

An occurrence is two booleans (active, acknowledged) and a latch; the state is derived from them, never stored.
Shelving, suppression by design and out of service belong to a rule on a device, not to an occurrence: evaluation and
journal go on beneath them, and on exit the current state shows again. How all this is kept is in `storage.lifecycle`.
"""

from __future__ import annotations

from devices.alarm import AlarmState, Suppression, SuppressionKind
from devices.model import HOUR, Instant

MAX_SHELVED: Instant = 12 * HOUR
"""How long an alarm may be shelved at the most: a shift. What is a nuisance for longer is out of service or a bad rule
(MaxTimeShelved of OPC UA Part 9; the value is per custom of the field, unverified)."""


class LifecycleError(ValueError):
    """The step is not possible for this alarm; the message says why and what to do instead."""


def state(*, active: bool, acknowledged: bool, latching: bool, reset: bool) -> AlarmState:
    """The state of an occurrence.

    A latched alarm stays as it is when its condition returns to normal: unacknowledged until somebody acknowledges it,
    then latched until somebody resets it. A recurrence is a new occurrence, which is announced again.
    """
    held = active or (latching and not reset)
    if not acknowledged:
        return AlarmState.UNACKNOWLEDGED if held else AlarmState.RETURNED_UNACKNOWLEDGED
    if active:
        return AlarmState.ACKNOWLEDGED
    return AlarmState.LATCHED if held else AlarmState.NORMAL


def check_reset(found: AlarmState) -> None:
    """`LifecycleError` unless the alarm is latched: a reset never clears a live condition."""
    if found is AlarmState.LATCHED:
        return
    if found is AlarmState.UNACKNOWLEDGED:
        raise LifecycleError("it is not acknowledged; acknowledge it first")
    if found is AlarmState.ACKNOWLEDGED:
        raise LifecycleError("its condition still holds; a reset does not clear a live condition")
    raise LifecycleError(f"it is not latched but {found.value}; there is nothing to reset")


def check_reason(reason: str) -> None:
    """`LifecycleError` where nobody says why an alarm is kept from people, or is so no longer."""
    if not reason.strip():
        raise LifecycleError("a reason is needed: whoever looks at the list next must know why it is there, or is not")


def check_shelving(now: Instant, until: Instant, reason: str, longest: Instant = MAX_SHELVED) -> None:
    """`LifecycleError` where an alarm may not be shelved like this."""
    check_reason(reason)
    if until <= now:
        raise LifecycleError("the end of shelving must lie in the future")
    if until - now > longest:
        raise LifecycleError(
            f"at most {longest // HOUR} hours; for longer, take the device out of service or change the rule"
        )


def suppressed_by(suppressions: list[Suppression], rule: str, device: str, now: Instant) -> SuppressionKind | None:
    """What keeps an alarm from being announced at a moment, the most lasting first; None if nothing does."""
    kinds = {entry.kind for entry in suppressions if entry.covers(rule, device, now)}
    return next((kind for kind in reversed(SuppressionKind) if kind in kinds), None)
