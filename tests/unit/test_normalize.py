"""Normalisation: canonical units, quality, and one bad record that never costs its neighbours."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.clock_repair import AHEAD, EARLIEST
from devices.model import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Calibration,
    Device,
    Measurement,
    Ne107,
    Quality,
    Reason,
    Report,
)
from devices.normalize import CLOCK_ERROR, normalize
from devices.profile import Profile, shipped_profiles
from devices.units import UnitMismatchError, accepted, conversion

NOW = 1_790_000_000 * SECOND
PUMP = shipped_profiles()["centrifugal-pump"]
DEVICE = Device("urn:dev:imei:867000000000001", "centrifugal-pump")


def run(*measurements: Measurement) -> tuple[list[tuple[str, float, Quality]], list[Reason]]:
    readings, rejects, _ = normalize(Report(None, list(measurements)), DEVICE, PUMP, NOW)
    assert all(reading.device == DEVICE.identity for reading in readings)
    return [(r.metric, r.value, r.quality) for r in readings], [reject.reason for reject in rejects]


@pytest.mark.parametrize(
    ("name", "unit", "value", "expected"),
    [
        ("pressure", "Pa", 412_000, ("pressure", 4.12)),
        ("discharge_pressure", "kPa", 412, ("pressure", 4.12)),
        ("pressure", None, 4.12, ("pressure", 4.12)),
        ("flow", "l/s", 10, ("flow", 36.0)),
        ("flow", "m3/s", 0.01, ("flow", 36.0)),
        ("temperature", "K", 293.15, ("temperature", 20.0)),
        ("vibration", "m/s", 0.0064, ("vibration", 6.4)),
        ("speed", "Hz", 25, ("speed", 1500.0)),
        ("power", "W", 7500, ("power", 7.5)),
        ("battery", "/", 0.87, ("battery", 87.0)),
        ("acceleration", "m/s2", 9.80665, ("acceleration", 1.0)),
        ("running", None, True, ("running", 1.0)),
    ],
)
def test_values_arrive_in_the_canonical_unit(
    name: str, unit: str | None, value: float, expected: tuple[str, float]
) -> None:
    [(metric, number, _)], rejects = run(Measurement(name, unit, value, NOW))
    assert metric == expected[0]
    assert number == pytest.approx(expected[1])
    assert not rejects


@pytest.mark.parametrize(
    ("pressure", "quality"),
    [
        (5.0, Quality.GOOD),
        (16.0, Quality.GOOD),
        (20.0, Quality.UNCERTAIN_HIGH),
        (-0.5, Quality.UNCERTAIN_LOW),
        (26.0, Quality.BAD_HIGH),
        (-1.5, Quality.BAD_LOW),
    ],
)
def test_quality_follows_the_process_and_the_sensor_range(pressure: float, quality: Quality) -> None:
    [(_, _, found)], _ = run(Measurement("pressure", "bar", pressure, NOW))
    assert found is quality


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Measurement("presure", "bar", 5.0, NOW), Reason.UNKNOWN_METRIC),
        (Measurement("pressure", "Cel", 5.0, NOW), Reason.UNIT_MISMATCH),
        (Measurement("pressure", "no such unit", 5.0, NOW), Reason.UNIT_MISMATCH),
        (Measurement("pressure", "bar", math.nan, NOW), Reason.NOT_A_NUMBER),
        (Measurement("pressure", "bar", math.inf, NOW), Reason.NOT_A_NUMBER),
        (Measurement("pressure", "bar", "5", NOW), Reason.NOT_A_NUMBER),
        (Measurement("pressure", "bar", None, NOW), Reason.NOT_A_NUMBER),
        (Measurement("pressure", "bar", 5.0, 4_102_444_800 * SECOND), Reason.FUTURE_TIME),
        (Measurement("pressure", "bar", 5.0, NOW + HOUR), Reason.FUTURE_TIME),
    ],
)
def test_one_bad_record_is_set_aside_and_its_neighbours_are_kept(bad: Measurement, reason: Reason) -> None:
    good = Measurement("flow", "m3/h", 12.0, NOW)
    readings, rejects = run(good, bad, good._replace(time=NOW - HOUR))
    assert [metric for metric, _, _ in readings] == ["flow", "flow"]
    assert rejects == [reason]


def test_every_accepted_unit_text_converts_by_its_factor_and_offset() -> None:
    for canonical in {spec.unit for spec in map(PUMP.metrics.get, PUMP.metrics) if spec and spec.unit} | {
        "bar",
        "degC",
    }:
        for text, scale in accepted(canonical).items():
            assert scale == conversion(text, canonical)


def test_levels_are_never_converted() -> None:
    with pytest.raises(UnitMismatchError):
        conversion("W", "dBm")


@pytest.mark.parametrize("quality", Quality)
def test_a_quality_is_of_one_class_and_says_so_to_ne_107(quality: Quality) -> None:
    assert quality.status in (Quality.BAD, Quality.UNCERTAIN, Quality.GOOD)
    assert (quality.status is Quality.GOOD) == (quality.ne107 is Ne107.OK)
    assert (quality.status is Quality.BAD) == (quality.ne107 is Ne107.FAILURE)


def test_values_are_corrected_by_the_calibration_of_their_time() -> None:
    steps = [Calibration(NOW - 2 * HOUR, 1.1, 0.0), Calibration(NOW - HOUR, 1.0, -0.5)]
    device = replace(DEVICE, calibrations={"pressure": steps})
    times = [NOW - 3 * HOUR, NOW - 2 * HOUR, NOW - HOUR - 1, NOW - HOUR, NOW]
    report = Report(None, [Measurement("pressure", "kPa", 500.0, at) for at in times])
    readings, _, _ = normalize(report, device, PUMP, NOW)
    assert [reading.value for reading in readings] == pytest.approx([5.0, 5.5, 5.5, 4.5, 4.5])


# Clocks.


def times(report: Report, *, stamped: bool = False) -> tuple[list[tuple[int, Quality]], list[Reason], int]:
    """Sample times after the repair with their quality, what was refused, and the offset."""
    reporting = PUMP.reporting.model_copy(update={"stamped": stamped})
    readings, rejects, offset = normalize(report, DEVICE, PUMP.model_copy(update={"reporting": reporting}), NOW)
    said = [reading for reading in readings if reading.metric != CLOCK_ERROR]
    return [(r.measured_at, r.quality) for r in said], [reject.reason for reject in rejects], offset


def clock_errors(report: Report, profile: Profile = PUMP, *, stamped: bool = False) -> list[tuple[int, float]]:
    reporting = profile.reporting.model_copy(update={"stamped": stamped})
    readings, _, _ = normalize(report, DEVICE, profile.model_copy(update={"reporting": reporting}), NOW)
    return [(r.measured_at, r.value) for r in readings if r.metric == CLOCK_ERROR]


def flows(*at: int) -> list[Measurement]:
    return [Measurement("flow", "m3/h", 12.0, time) for time in at]


def test_a_clock_that_began_again_at_an_epoch_is_put_right_by_when_it_sent() -> None:
    report = Report(None, flows(100 * SECOND, 400 * SECOND), sent_at=500 * SECOND)
    assert times(report) == (
        [(NOW - 400 * SECOND, Quality.UNCERTAIN), (NOW - 100 * SECOND, Quality.UNCERTAIN)], [], NOW - 500 * SECOND
    )  # fmt: skip


def test_without_a_sending_time_the_newest_sample_is_of_now() -> None:
    report = Report(None, flows(100 * SECOND, 400 * SECOND))
    assert times(report)[0] == [(NOW - 300 * SECOND, Quality.UNCERTAIN), (NOW, Quality.UNCERTAIN)]


def test_samples_from_before_the_reset_keep_their_times() -> None:
    report = Report(None, flows(NOW - HOUR, 400 * SECOND), sent_at=500 * SECOND)
    assert times(report)[0] == [(NOW - HOUR, Quality.GOOD), (NOW - 100 * SECOND, Quality.UNCERTAIN)]


def test_a_clock_that_is_ahead_is_wrong_for_certain() -> None:
    report = Report(None, flows(NOW + 8 * HOUR - MINUTE), sent_at=NOW + 8 * HOUR)
    assert times(report) == ([(NOW - MINUTE, Quality.UNCERTAIN)], [], -8 * HOUR)


def test_a_time_beyond_any_mistake_is_refused() -> None:
    report = Report(None, flows(NOW + 30 * DAY), sent_at=NOW + 30 * DAY)
    assert times(report) == ([], [Reason.FUTURE_TIME], 0)
    honest = Report(None, flows(NOW + HOUR), sent_at=NOW)
    assert times(honest) == ([], [Reason.FUTURE_TIME], 0)


def test_without_a_sending_time_a_series_that_reaches_into_the_future_ends_now() -> None:
    ahead = 20 * MINUTE
    report = Report(None, flows(NOW + ahead - 2 * MINUTE, NOW + ahead - MINUTE, NOW + ahead))
    moved = [(NOW - 2 * MINUTE, Quality.UNCERTAIN), (NOW - MINUTE, Quality.UNCERTAIN), (NOW, Quality.UNCERTAIN)]
    assert times(report) == (moved, [], -ahead)


@pytest.mark.parametrize(
    "at",
    [
        (NOW - MINUTE, NOW, NOW + HOUR),
        (NOW + 30 * DAY - MINUTE, NOW + 30 * DAY),  # beyond any mistake
    ],
)
def test_a_sample_that_stands_alone_in_the_future_moves_no_other(at: tuple[int, ...]) -> None:
    readings, reasons, offset = times(Report(None, flows(*at)))
    assert set(reasons) == {Reason.FUTURE_TIME}
    assert readings == [(time, Quality.GOOD) for time in at if time <= NOW]
    assert offset == 0


def test_what_a_clock_was_wrong_by_is_a_reading_where_it_was_repaired() -> None:
    reset = Report(None, flows(100 * SECOND, 400 * SECOND), sent_at=500 * SECOND)
    assert clock_errors(reset) == [(NOW - 100 * SECOND, 500.0 - NOW / SECOND)]
    ahead = Report(None, flows(NOW + 8 * HOUR - MINUTE), sent_at=NOW + 8 * HOUR)
    assert clock_errors(ahead) == [(NOW - MINUTE, 8 * 3600.0)]
    late = Report(None, flows(NOW - 3 * HOUR), sent_at=NOW - 2 * HOUR)
    assert clock_errors(late) == []
    assert clock_errors(late, stamped=True) == [(NOW - HOUR, -2 * 3600.0)]
    assert clock_errors(Report(None, flows(NOW), sent_at=NOW + AHEAD)) == [], "that much is left as it is"
    assert clock_errors(Report(None, flows(NOW + 30 * DAY), sent_at=NOW + 30 * DAY)) == [], "nothing was stored"
    parts = PUMP.model_dump()
    del parts["metrics"][CLOCK_ERROR]
    assert clock_errors(ahead, Profile.model_validate(parts)) == [], "the profile does not want it"


def test_every_shipped_profile_keeps_what_clocks_were_wrong_by() -> None:
    assert all(CLOCK_ERROR in profile.metrics for profile in shipped_profiles().values())


def test_a_late_uplink_is_only_then_a_slow_clock_where_the_device_stamps_each_transmission() -> None:
    report = Report(None, flows(NOW - 3 * HOUR), sent_at=NOW - 2 * HOUR)
    assert times(report) == ([(NOW - 3 * HOUR, Quality.GOOD)], [], 0)
    assert times(report, stamped=True) == ([(NOW - HOUR, Quality.UNCERTAIN)], [], 2 * HOUR)


def test_a_sample_of_1970_in_an_uplink_with_a_good_clock_cannot_be_repaired() -> None:
    assert times(Report(None, flows(3600 * SECOND), sent_at=NOW))[1] == [Reason.TIME_OUT_OF_RANGE]


@given(st.lists(st.integers(0, 2 * NOW), min_size=1, max_size=5), st.none() | st.integers(0, 2 * NOW), st.booleans())
def test_no_reading_is_ever_of_the_future_or_of_before_there_were_devices(
    at: list[int], sent_at: int | None, stamped: bool
) -> None:
    found, refused, _ = times(Report(None, flows(*at), sent_at=sent_at), stamped=stamped)
    assert all(EARLIEST <= time <= NOW + AHEAD for time, _ in clock_errors(Report(None, flows(*at), sent_at=sent_at)))
    assert all(EARLIEST <= time <= NOW + AHEAD for time, _ in found)
    assert len(found) + len(refused) == len(at)
