"""Normalisation: canonical units, quality, and one bad record that never costs its neighbours."""

import math

import pytest

from devices.model import HOUR, SECOND, Device, Measurement, Quality, Reason, Report
from devices.normalize import normalize
from devices.profile import shipped_profiles
from devices.units import UnitMismatchError, accepted, conversion

NOW = 1_790_000_000 * SECOND
PUMP = shipped_profiles()["centrifugal-pump"]
DEVICE = Device("urn:dev:imei:867000000000001", "centrifugal-pump")


def run(*measurements: Measurement) -> tuple[list[tuple[str, float, Quality]], list[Reason]]:
    readings, rejects = normalize(Report(None, list(measurements)), DEVICE, PUMP, NOW)
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
        (20.0, Quality.UNCERTAIN),
        (-0.5, Quality.UNCERTAIN),
        (26.0, Quality.BAD),
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
        (Measurement("pressure", "bar", 5.0, 3600 * SECOND), Reason.TIME_OUT_OF_RANGE),
        (Measurement("pressure", "bar", 5.0, 4_102_444_800 * SECOND), Reason.TIME_OUT_OF_RANGE),
        (Measurement("pressure", "bar", 5.0, NOW + HOUR), Reason.TIME_OUT_OF_RANGE),
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
