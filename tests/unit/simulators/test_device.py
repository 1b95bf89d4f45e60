"""What devices send, and what a bad radio makes of it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.decode import decode
from devices.model import HOUR, MINUTE, Quality, instant
from devices.model import Uplink as Received
from devices.normalize import normalize
from devices.profile import shipped_profiles
from simulators.device import Uplink, manner, uplinks
from simulators.faults import Fault, FaultKind
from simulators.observation import observe
from simulators.plant import Asset, build
from simulators.radio import Disturbance, disturbed
from simulators.sensors import INSTRUMENTS, canonical

START = instant(datetime(2026, 3, 2, 20, tzinfo=UTC))
PLANT = build(7, 8, 8)
HOURS = observe(PLANT.works, [], START, START + 6 * HOUR)
PROFILES = shipped_profiles()


def sent_by(asset: Asset) -> list[Uplink]:
    return list(uplinks(asset, PROFILES[asset.device.profile].reporting, 7, HOURS))


@pytest.mark.parametrize("asset", PLANT.assets, ids=lambda asset: asset.tag)
def test_the_platform_reads_every_uplink_as_it_was_meant(asset: Asset) -> None:
    way = manner(asset)
    profile = PROFILES[asset.device.profile]
    times = HOURS.times.tolist()
    for number, uplink in enumerate(sent_by(asset), start=1):
        assert uplink.sequence == number
        assert len(uplink.payload) <= way.payload_limit
        received = Received(way.transport, uplink.payload, uplink.due, None, way.content_format)
        [report] = decode(received)
        assert (report.identity, report.sequence) == (asset.device.identity, number)
        readings, rejects, _ = normalize(report, asset.device, profile, uplink.due)
        assert not rejects
        assert Counter((r.metric, r.measured_at) for r in readings) == Counter(
            (metric, at) for metric, ats in uplink.readings.items() for at in ats
        )
        assert len(readings) == uplink.count
        for reading in readings:
            shown = canonical(reading.metric, HOURS.values[asset.tag][reading.metric])[times.index(reading.measured_at)]
            assert reading.value == pytest.approx(shown, rel=1e-9, abs=1e-9)
            assert reading.quality is Quality.GOOD
            assert reading.measured_at < uplink.due


@pytest.mark.parametrize("asset", [PLANT.assets[0], PLANT.assets[1], PLANT.assets[8], PLANT.assets[9]])
def test_every_sample_is_sent_once(asset: Asset) -> None:
    counted = Counter(
        (metric, at) for uplink in sent_by(asset) for metric, times in uplink.readings.items() for at in times
    )
    assert max(counted.values()) == 1
    leading = "flow"
    assert {at for metric, at in counted if metric == leading} == set(HOURS.times.tolist())
    assert {metric for metric, _ in counted} == set(HOURS.values[asset.tag])


def test_every_instrument_has_a_metric_and_the_profiles_know_all_that_is_sent() -> None:
    for asset in PLANT.assets:
        known = set(PROFILES[asset.device.profile].metrics)
        assert set(HOURS.values[asset.tag]) <= known & set(INSTRUMENTS)


def test_a_run_that_begins_between_two_reports_sends_the_same_ones_from_then_on() -> None:
    asset = PLANT.assets[0]
    later = observe(PLANT.works, [], START + 7 * MINUTE, START + HOUR)
    parts = [list(u.readings["flow"]) for u in uplinks(asset, PROFILES["centrifugal-pump"].reporting, 7, later)]
    whole = [list(u.readings["flow"]) for u in sent_by(asset)]
    assert parts[0] == [START + minute * MINUTE for minute in (7, 8, 9)]
    assert all(part in whole for part in parts[1:])


def test_an_opened_enclosure_is_told_with_the_sample_it_was_opened_at() -> None:
    asset = next(asset for asset in PLANT.assets if not asset.is_pump)
    opened = START + HOUR + 4 * MINUTE
    seen = observe(
        PLANT.works,
        [Fault(FaultKind.TAMPER, asset.tag, opened, opened + 20 * MINUTE)],
        START,
        START + 2 * HOUR,
    )
    sent = uplinks(asset, PROFILES[asset.device.profile].reporting, 7, seen)
    times = [at for uplink in sent for at in uplink.readings["enclosure_open"]]
    assert opened in times
    assert opened + 20 * MINUTE in times
    assert len(times) == 2 * 4 + 2, "otherwise once a report"


def numbered(count: int) -> list[Uplink]:
    return [Uplink(START + n * 5 * MINUTE, n + 1, b"", {}) for n in range(count)]


shares = st.floats(0.0, 0.4)


@given(count=st.integers(0, 60), seed=st.integers(0, 99), repeated=shares, swapped=shares, delayed=shares)
def test_whatever_the_radio_does_every_uplink_goes_out_and_none_before_it_is_due(
    count: int, seed: int, repeated: float, swapped: float, delayed: float
) -> None:
    sent = numbered(count)
    plan = list(disturbed(sent, seed, "P-1", Disturbance(repeated, swapped, delayed, 2 * HOUR)))
    firsts = [t.uplink.sequence for t in plan if not t.repeat]
    assert sorted(firsts) == [uplink.sequence for uplink in sent]
    assert all(t.at >= t.uplink.due for t in plan)
    seen: set[int] = set()
    for transmission in plan:
        assert transmission.repeat == (transmission.uplink.sequence in seen)
        seen.add(transmission.uplink.sequence)


def test_the_radio_disturbs_about_as_much_as_it_is_told_and_the_same_each_time() -> None:
    sent = numbered(5000)
    plan = list(disturbed(sent, 4, "P-1"))
    assert plan == list(disturbed(sent, 4, "P-1"))
    assert 60 < sum(t.repeat for t in plan) < 140
    late = [t for t in plan if t.at > t.uplink.due + 9 * MINUTE]
    assert 25 < len(late) < 90
    assert max(t.at - t.uplink.due for t in late) <= 90 * MINUTE
    quiet = list(disturbed(sent, 4, "P-1", Disturbance(0.0, 0.0, 0.0)))
    assert [t.uplink for t in quiet] == sent
