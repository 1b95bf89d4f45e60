"""The radio's model, against the figures that it is calibrated by."""

from __future__ import annotations

import pytest

from devices.model import DAY, MINUTE, SECOND
from devices.profile import Sleep
from simulators import nbiot
from simulators.firmware import Written
from simulators.memory import Memory
from simulators.nbiot import Radio

RADIO = Radio()


@pytest.mark.parametrize(("level", "expected"), [(0, 25.0), (1, 18.0), (2, 4.0)])
def test_a_battery_of_5_wh_lasts_as_long_as_the_study_says(level: int, expected: float) -> None:
    assert nbiot.years(84, 1, level, 5.0) == pytest.approx(expected, rel=0.01)


def test_listening_and_being_reachable_cost_more_than_sleep() -> None:
    edrx = Sleep.model_validate({"edrx": "81.92s", "paging_window": "10.24s"})
    psm = Sleep.model_validate({"t3412": "24h", "t3324": "10s"})
    assert nbiot.sleep_energy(edrx, DAY) > 5 * nbiot.sleep_energy(psm, DAY)
    assert nbiot.reachable_energy(psm) > 0.0 == nbiot.reachable_energy(edrx)


def test_losses_come_at_their_share_and_a_retransmission_has_dice_of_its_own() -> None:
    times = [at * MINUTE for at in range(2000)]
    for level in range(nbiot.LEVELS):
        for attempt in (0, 1):
            lost = sum(nbiot.fate(RADIO, 1, "P", at, attempt, level).uplink_lost for at in times) / len(times)
            assert lost == pytest.approx(RADIO.loss[level], abs=0.022)
    both = [
        (nbiot.fate(RADIO, 1, "P", at, 0, 2).uplink_lost, nbiot.fate(RADIO, 1, "P", at, 1, 2).uplink_lost)
        for at in times
    ]
    assert sum(a and b for a, b in both) / len(times) == pytest.approx(0.12**2, abs=0.01)


def test_a_deep_level_takes_longer_and_more_transmissions() -> None:
    times = [at * MINUTE for at in range(500)]
    longest = [max(nbiot.delay(RADIO, 1, "P", at, level) for at in times) / SECOND for level in range(3)]
    assert longest == sorted(longest)
    assert longest[2] <= 10.0, "TR 45.820"
    mean = [sum(nbiot.attempts(RADIO, 1, "P", at, level) for at in times) / len(times) for level in range(3)]
    assert 1.0 <= mean[0] < mean[1] < mean[2] < 2.0


def test_ack_timeout_is_10_to_20_seconds() -> None:
    assert [RADIO.timeout(level) for level in range(3)] == [10.0, 15.0, 20.0]


def test_levels_are_drawn_with_their_shares() -> None:
    drawn = [nbiot.usual_level(1, f"P-{i}", (0.5, 0.3, 0.2)) for i in range(2000)]
    assert [drawn.count(level) / 2000 for level in range(3)] == pytest.approx([0.5, 0.3, 0.2], abs=0.04)
    assert nbiot.usual_level(1, "P", (0.0, 0.0, 1.0)) == 2


def uplink(sequence: int, boot: int = 0, octets: int = 100) -> Written:
    return Written(sequence, sequence, bytes(octets), {}, 0, boot, 0, 0.0)


def test_a_full_memory_drops_its_oldest() -> None:
    memory = Memory(250, keeps=True)
    assert memory.keep(uplink(1)) == memory.keep(uplink(2)) == []
    assert [one.sequence for one in memory.keep(uplink(3))] == [1]
    assert (memory.next(), memory.next(newest=True)) == (uplink(2), uplink(3))
    memory.in_vain(uplink(2))
    assert memory.tries(uplink(2)) == 1
    memory.forget(uplink(2))
    assert len(memory) == 1
    assert memory.tries(uplink(2)) == 0
    assert [one.sequence for one in memory.keep(uplink(4, octets=1000))] == [3], "but it takes one that is too large"


def test_what_the_modem_has_is_not_dropped_until_it_was_sent_in_vain() -> None:
    memory = Memory(250, keeps=False)
    first = uplink(1)
    assert memory.keep(first) == memory.keep(uplink(2)) == []
    memory.lend(first)
    assert [one.sequence for one in memory.keep(uplink(3))] == [2], "the oldest that is not on its way"
    memory.in_vain(first)
    assert [one.sequence for one in memory.keep(uplink(4))] == [1]


def test_what_does_not_outlive_a_reboot_is_lost_by_it() -> None:
    for keeps, lost in ((True, []), (False, [1, 2])):
        memory = Memory(10_000, keeps=keeps)
        memory.keep(uplink(1))
        memory.keep(uplink(2))
        assert [one.sequence for one in memory.keep(uplink(3, boot=1))] == lost
