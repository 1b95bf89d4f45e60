"""The states of ISA-18.2 and what each step asks for."""

from itertools import product

import pytest

from alerts.lifecycle import LifecycleError, check_reset, check_shelving, state, suppressed_by
from devices.alarm import AlarmState, Suppression, SuppressionKind
from devices.model import HOUR, MINUTE

NOW = 1_790_000_000_000_000


@pytest.mark.parametrize(
    ("active", "acknowledged", "latching", "reset", "expected"),
    [
        (True, False, False, False, AlarmState.UNACKNOWLEDGED),
        (True, True, False, False, AlarmState.ACKNOWLEDGED),
        (False, False, False, False, AlarmState.RETURNED_UNACKNOWLEDGED),
        (False, True, False, False, AlarmState.NORMAL),
        (False, False, True, False, AlarmState.UNACKNOWLEDGED),
        (False, True, True, False, AlarmState.LATCHED),
        (False, True, True, True, AlarmState.NORMAL),
        (True, True, True, False, AlarmState.ACKNOWLEDGED),
    ],
)
def test_the_state_follows_the_standards_table(
    *, active: bool, acknowledged: bool, latching: bool, reset: bool, expected: AlarmState
) -> None:
    assert state(active=active, acknowledged=acknowledged, latching=latching, reset=reset) is expected


def test_only_what_is_latched_can_be_reset() -> None:
    check_reset(AlarmState.LATCHED)
    for found in set(AlarmState) - {AlarmState.LATCHED}:
        with pytest.raises(LifecycleError):
            check_reset(found)
    with pytest.raises(LifecycleError, match="does not clear a live condition"):
        check_reset(AlarmState.ACKNOWLEDGED)


@pytest.mark.parametrize(
    ("until", "reason", "problem"),
    [
        (NOW + HOUR, "  ", "a reason is needed"),
        (NOW, "noise", "in the future"),
        (NOW + 13 * HOUR, "noise", "at most 12 hours"),
    ],
)
def test_shelving_is_for_a_time_and_for_a_reason(until: int, reason: str, problem: str) -> None:
    check_shelving(NOW, NOW + 12 * HOUR, "noise")
    with pytest.raises(LifecycleError, match=problem):
        check_shelving(NOW, until, reason)


def suppression(kind: SuppressionKind, rule: str | None = "r", until: int | None = NOW + MINUTE) -> Suppression:
    return Suppression(kind, rule, "urn:a", until, "why", "kim")


def test_a_suppression_covers_its_rule_on_its_device_until_its_end() -> None:
    shelved = [suppression(SuppressionKind.SHELVED)]
    assert suppressed_by(shelved, "r", "urn:a", NOW) is SuppressionKind.SHELVED
    assert suppressed_by(shelved, "r", "urn:a", NOW + MINUTE) is None
    assert suppressed_by(shelved, "other", "urn:a", NOW) is None
    assert suppressed_by(shelved, "r", "urn:b", NOW) is None


def test_the_most_lasting_suppression_is_named() -> None:
    for kinds in product(SuppressionKind, repeat=2):
        found = suppressed_by([suppression(kind, None, None) for kind in kinds], "any", "urn:a", NOW)
        assert found is max(kinds, key=list(SuppressionKind).index)
