"""SenML decoding and encoding: the resolution rules of RFC 8428 and what must be refused."""

import json
import re
import tracemalloc
from decimal import Decimal
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.senml import decode_cbor, decode_json, encode_cbor, encode_json
from devices.errors import DecodeError
from devices.model import SECOND, Measurement, Reason, Report
from devices.units import accepted

NOW = 1_790_000_000 * SECOND
DEVICE = "urn:dev:imei:867000000000001"


def json_measurements(text: str) -> list[Measurement]:
    [report] = decode_json(text.encode(), NOW)
    return report.measurements


def test_base_values_are_carried_from_record_to_record() -> None:
    [report] = decode_json(
        b'[{"bn":"urn:dev:ow:10e2073a01080063:","bt":1.276020076e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},'
        b'{"n":"current","t":-5,"v":1.2},{"n":"current","t":-4,"v":1.3}]',
        NOW,
    )
    assert report.identity == "urn:dev:ow:10e2073a01080063"
    assert report.measurements == [
        Measurement("voltage", "V", 120.1, 1_276_020_076 * SECOND),
        Measurement("current", "A", 1.2, 1_276_020_071 * SECOND),
        Measurement("current", "A", 1.3, 1_276_020_072 * SECOND),
    ]


def test_a_base_value_is_added() -> None:
    assert json_measurements('[{"bv":20,"n":"a","v":1.5},{"n":"b","v":-2}]') == [
        Measurement("a", None, 21.5, NOW),
        Measurement("b", None, 18.0, NOW),
    ]


def test_a_time_below_two_to_the_28_is_relative_to_the_arrival() -> None:
    times = [
        entry.time for entry in json_measurements('[{"n":"a","v":1},{"n":"a","v":1,"t":-60},{"n":"a","v":1,"t":5.5}]')
    ]
    assert times == [NOW, NOW - 60 * SECOND, NOW + 5_500_000]


def test_a_relative_time_that_no_sensor_can_mean_is_of_a_clock_that_began_again() -> None:
    times = [entry.time for entry in json_measurements('[{"n":"a","v":1,"t":3600},{"n":"a","v":1,"t":86400}]')]
    assert times == [3600 * SECOND, 86400 * SECOND]


def test_a_record_named_seq_is_the_sequence_number() -> None:
    [report] = decode_json(b'[{"n":"a","v":1},{"n":"seq","v":42}]', NOW)
    assert report.sequence == 42
    assert [entry.name for entry in report.measurements] == ["a"]


def test_one_report_a_device_of_a_mixed_pack() -> None:
    reports = decode_json(
        b'[{"bn":"urn:a:","n":"x","v":1},{"bn":"urn:b/","n":"x","v":2},{"bn":"urn:a:","n":"y","v":3}]', NOW
    )
    assert {report.identity: [entry.name for entry in report.measurements] for report in reports} == {
        "urn:a": ["x", "y"],
        "urn:b": ["x"],
    }


def test_booleans_and_texts_keep_their_kind() -> None:
    assert [entry.value for entry in json_measurements('[{"n":"a","vb":true},{"n":"b","vs":"open"}]')] == [True, "open"]


def test_an_unknown_field_is_skipped_and_one_ending_in_an_underscore_refuses_the_pack() -> None:
    assert len(json_measurements('[{"n":"a","v":1,"x":{"y":[1]}}]')) == 1
    for payload in (b'[{"n":"a","v":1,"x_":2}]', b'[{"n":"a","v":1,"x\\u005f":2}]'):
        with pytest.raises(DecodeError, match="must be understood"):
            decode_json(payload, NOW)
    with pytest.raises(DecodeError, match="must be understood"):
        decode_cbor(cbor2.dumps([{0: "a", 2: 1, "x_": 2}]), NOW)


def test_cbor_decimal_fractions_are_numbers() -> None:
    [report] = decode_cbor(cbor2.dumps([{0: "a", 2: Decimal("21.25")}]), NOW)
    assert report.measurements[0].value == 21.25


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{}", b"[]", b"[1]", b"[{}]", b'[{"n":"a","v":"x"}]', b'[{"n":"a","v":NaN}]', b'[{"n":"a","v":1e999}]',
        b'[{"n":"\xff","v":1}]', b'[{"n":"a","v":1', b"[" * 100_000, b'[{"bver":11,"n":"a","v":1}]',
        b'[{"n":"a","v":1,"t":1e30}]', b'[{"n":"seq","v":-1}]',
    ],
)  # fmt: skip
def test_what_is_not_senml_json_is_malformed(payload: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_json(payload, NOW)
    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\x80", b"\xa0", b"\x81\x80", b"\x81" * 100_000, b"\x9a\x7f\xff\xff\xff",
        b"\x5a\x7f\xff\xff\xff", cbor2.dumps([{0: "a", 2: 2**2000}]), cbor2.dumps([{0: b"a", 2: 1}]),
        cbor2.dumps([{0: "a", 2: 1, 6: float("nan")}]), cbor2.dumps([{0: "a", 3: "x", 6: float("inf")}]),
        b"\x81\xa2\x00\x61a\x00\x61b",
    ],
)  # fmt: skip
def test_what_is_not_senml_cbor_is_malformed(payload: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_cbor(payload, NOW)
    assert caught.value.reason is Reason.MALFORMED


def test_more_records_than_the_limit_are_too_large() -> None:
    with pytest.raises(DecodeError) as caught:
        decode_json(b"[" + b",".join([b'{"n":"a","v":1}'] * 20_001) + b"]", NOW)
    assert caught.value.reason is Reason.TOO_LARGE


@given(payload=st.binary(max_size=200))
def test_any_bytes_give_reports_or_the_codecs_own_error(payload: bytes) -> None:
    for decode in (decode_json, decode_cbor):
        try:
            reports = decode(payload, NOW)
        except DecodeError:
            continue
        assert all(report.measurements for report in reports)


measurement = st.builds(
    Measurement,
    name=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8).filter(
        lambda n: n != "seq"
    ),
    unit=st.sampled_from([None, "Pa", "Cel", "l/s"]),
    value=st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text(min_size=1, max_size=5)),
    time=st.integers(1_500_000_000_000, 1_900_000_000_000).map(lambda ms: ms * 1000),
)


@given(entries=st.lists(measurement, min_size=1, max_size=12), sequence=st.none() | st.integers(0, 2**32))
def test_what_is_encoded_decodes_to_the_same(entries: list[Measurement], sequence: int | None) -> None:
    for encode, decode in ((encode_json, decode_json), (encode_cbor, decode_cbor)):
        [report] = decode(encode(DEVICE, entries, sequence), NOW)
        assert report.identity == DEVICE
        assert report.sequence == sequence
        assert report.measurements == entries


# The examples of RFC 8428, section 5.1: what they mean, in both forms

OW = "urn:dev:ow:10e2073a01080063"
LABELS = {"bver": -1, "bn": -2, "bt": -3, "bu": -4, "bv": -5, "bs": -6, "n": 0, "u": 1, "v": 2, "vs": 3, "vb": 4,
          "s": 5, "t": 6, "ut": 7, "vd": 8}  # fmt: skip


def both(pack: list[dict[str, Any]]) -> list[Report]:
    """What a pack means; its JSON and its CBOR form must mean the same."""
    cbor = cbor2.dumps([{LABELS[key]: value for key, value in record.items()} for record in pack])
    found = decode_json(json.dumps(pack).encode(), NOW)
    if not any("vd" in record for record in pack):
        assert decode_cbor(cbor, NOW) == found
    return found


def test_rfc_example_of_a_single_value() -> None:
    [found] = both([{"n": OW, "u": "Cel", "v": 23.1}])
    assert found == Report(None, [Measurement(OW, "Cel", 23.1, NOW)])


def test_rfc_example_of_several_values_and_times() -> None:
    start = 1_276_020_076
    [found] = both(
        [
            {"bn": OW + ":", "bt": start + 0.001, "bu": "A", "bver": 5, "n": "voltage", "u": "V", "v": 120.1},
            *({"n": "current", "t": t, "v": v} for t, v in ((-5, 1.2), (-4, 1.3), (-3, 1.4), (-2, 1.5), (-1, 1.6))),
            {"n": "current", "v": 1.7},
        ]
    )
    at = start * SECOND + 1000
    assert found.identity == OW
    assert found.measurements[0] == Measurement("voltage", "V", 120.1, at)
    assert found.measurements[1] == Measurement("current", "A", 1.2, at - 5 * SECOND)
    assert found.measurements[6] == Measurement("current", "A", 1.7, at)


def test_rfc_example_of_a_moving_sensor() -> None:
    start = 1_320_067_464
    [found] = both(
        [
            {"bn": OW, "bt": start, "bu": "%RH", "v": 20.0},
            {"u": "lon", "v": 24.30621}, {"u": "lat", "v": 60.07965},
            {"t": 60, "v": 20.3}, {"u": "lon", "t": 60, "v": 24.30622},
            {"u": "%EL", "t": 150, "v": 98.0},
        ]
    )  # fmt: skip
    assert [(m.unit, m.time // SECOND - start) for m in found.measurements] == [
        ("%RH", 0), ("lon", 0), ("lat", 0), ("%RH", 60), ("lon", 60), ("%EL", 150),
    ]  # fmt: skip


def test_rfc_example_of_several_data_types() -> None:
    [found] = both(
        [
            {"bn": OW + ":", "n": "temp", "u": "Cel", "v": 23.1}, {"n": "label", "vs": "Machine Room"},
            {"n": "open", "vb": False}, {"n": "nfc-reader", "vd": "aGkgCg"},
        ]
    )  # fmt: skip
    assert [(m.name, m.value) for m in found.measurements] == [
        ("temp", 23.1), ("label", "Machine Room"), ("open", False), ("nfc-reader", "aGkgCg"),
    ]  # fmt: skip


def test_rfc_example_of_a_collection_of_devices() -> None:
    first, second = both(
        [
            {"bn": "2001:db8::2/", "bt": 1.320078429e09, "n": "temperature", "u": "Cel", "v": 25.2},
            {"n": "humidity", "u": "%RH", "v": 30},
            {"bn": "2001:db8::1/", "n": "temperature", "u": "Cel", "v": 12.3}, {"n": "humidity", "u": "%RH", "v": 67},
        ]
    )  # fmt: skip
    assert (first.identity, second.identity) == ("2001:db8::2", "2001:db8::1")
    assert {m.time for m in first.measurements + second.measurements} == {1_320_078_429 * SECOND}


def test_a_sum_is_a_measurement_of_its_own() -> None:
    [found] = both([{"bs": 100, "n": "flow", "s": 5.5}, {"n": "flow", "v": 2, "s": 6.5}])
    assert found.measurements == [
        Measurement("flow#sum", None, 105.5, NOW),
        Measurement("flow#sum", None, 106.5, NOW),
        Measurement("flow", None, 2.0, NOW),
    ]


def test_a_base_value_counts_for_a_named_record_without_one() -> None:
    [found] = both([{"bv": 20}, {"n": "a"}, {"n": "b", "vs": ""}, {"n": "c", "v": 1}])
    assert [m.value for m in found.measurements] == [20, "", 21]


def test_a_named_record_without_any_value_does_not_cost_its_neighbours() -> None:
    [found] = both([{"n": "a"}, {"n": "b", "v": 1}])
    assert [m.value for m in found.measurements] == [None, 1]


@pytest.mark.parametrize(
    ("pack", "why"),
    [
        ([{"n": "a", "v": 1, "vs": "x"}], "record 0 has more than one value"),
        ([{"n": "b", "v": 1}, {"n": "a", "vb": True, "vd": "x"}], "record 1 has more than one value"),
        ([{"bn": "urn:dev\n", "n": "a", "v": 1}], "has signs that no SenML name has"),
        ([{"bn": "urn:\x00", "n": "a", "v": 1}], "has signs that no SenML name has"),
        ([{"n": "a", "v": 1, "t": 1e300}], "record 0: the time 1e+300 is no time"),
        ([{"bver": 11, "n": "a", "v": 1}], "SenML version 11"),
    ],
)
def test_what_breaks_the_rules_says_which(pack: list[dict[str, Any]], why: str) -> None:
    for decode, payload in (
        (decode_json, json.dumps(pack).encode()),
        (decode_cbor, cbor2.dumps([{LABELS[key]: value for key, value in record.items()} for record in pack])),
    ):
        with pytest.raises(DecodeError, match=re.escape(why)) as caught:
            decode(payload, NOW)
        assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(cbor2.dumps([{0: "a", 2: 1}]) + b"\x00", id="bytes after the pack"),
        pytest.param(b"\x9b\x00\x00\x01\x00\x00\x00\x00\x00", id="2**40 records announced"),
        pytest.param(b"\x9a\x80\x00\x00\x00" + b"\xa0" * 1000, id="2**31 records announced"),
        pytest.param(b"\x81\xa1\x00\x7b\x7f\xff\xff\xff\xff\xff\xff\xff", id="a text of 2**63 bytes"),
        pytest.param(b"\xc1" * 1_000_000, id="tags in tags"),
        pytest.param(b"\x81" * 1_000_000, id="arrays in arrays"),
        pytest.param(b"\xd8\x1c" * 500_000, id="shared values in shared values"),
        pytest.param(bytes.fromhex("81a102c5821a7fffffff03"), id="bigfloat"),
        pytest.param(bytes.fromhex("81a102c4821b0fffffffffffffff03"), id="decimal fraction"),
        pytest.param(b"\x81\xc0\x749999-12-31T23:59:59Z", id="a date of the year 9999"),
        pytest.param(b"\x81\xd8\x23\x64(a+)", id="a regular expression"),
        pytest.param(bytes.fromhex("d81c81d81d00"), id="a cycle"),
        pytest.param(b"\x81\xa1\x02\xc2\x5a\x00\x07\xa1\x20" + b"\xff" * 500_000, id="an integer of 4 million bits"),
        pytest.param(bytes.fromhex("81a202010202"), id="a key twice"),
        pytest.param(bytes.fromhex("81a1f563626172"), id="True is not the label 1"),
        pytest.param(b"\x81\xa1\x00\x62\xff\xfe", id="invalid UTF-8"),
    ],
)
def test_cbor_bombs_are_refused_within_little_memory(payload: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError) as caught:
            decode_cbor(payload, NOW)
        assert tracemalloc.get_traced_memory()[1] < 16 * len(payload) + 1_000_000
    finally:
        tracemalloc.stop()
    assert caught.value.reason is Reason.MALFORMED
    assert len(caught.value.detail) < 500


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"[" * 1_000_000, Reason.MALFORMED),
        (b'[{"x":' * 100_000, Reason.TOO_LARGE),
        (b'[{"x":' + b"[" * 900_000, Reason.MALFORMED),
        (b"[" + b"{}," * 1_000_000 + b"{}]", Reason.TOO_LARGE),
        (b"[" + b'{"n":"a","v":1},' * 20_000 + b"{}]", Reason.TOO_LARGE),
        (b'[{"n":"a","v":NaN}]', Reason.MALFORMED),
        (b'[{"n":"a","v":1e999}]', Reason.MALFORMED),
        (b'[{"n":"a","v":1,"t":253402300799e9}]', Reason.MALFORMED),
        (b'[{"n":"\xff\xfe","v":1}]', Reason.MALFORMED),
        (b'[{"n":"\\ud800","v":1}]', Reason.MALFORMED),
        (b'[{"n":"a","v":1}] x', Reason.MALFORMED),
        (b'[{"' + b"k" * 100_000 + b'_":1}]', Reason.MALFORMED),
    ],
)
def test_json_bombs_are_refused(payload: bytes, reason: Reason) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_json(payload, NOW)
    assert caught.value.reason is reason
    assert len(caught.value.detail) < 500


def test_a_time_in_the_year_9999_is_a_time_for_normalisation_to_judge() -> None:
    [found] = both([{"n": "a", "v": 1, "t": 253_402_300_799}])
    assert found.measurements[0].time == 253_402_300_799 * SECOND


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_cbor_numbers_that_are_none_reach_normalisation(number: float) -> None:
    [found] = decode_cbor(cbor2.dumps([{0: "a", 2: number}]), NOW)
    assert repr(found.measurements[0].value) == repr(number)


# Units of RFC 8428 (section 12.1) and RFC 8798, with what one of each is in a metric's canonical unit.
@pytest.mark.parametrize(
    ("unit", "canonical", "one"),
    [
        ("Pa", "bar", 1e-5), ("hPa", "bar", 1e-3), ("m3/s", "m3/h", 3600), ("l/s", "m3/h", 3.6), ("m3", "m3", 1),
        ("l", "m3", 1e-3), ("W", "kW", 1e-3), ("kW", "kW", 1), ("VA", "kW", 1e-3), ("kVA", "kW", 1),
        ("var", "kW", 1e-3), ("kvar", "kW", 1), ("J", "kWh", 1 / 3.6e6), ("Wh", "kWh", 1e-3), ("kWh", "kWh", 1),
        ("K", "degC", -272.15), ("Cel", "degC", 1), ("V", "V", 1), ("mV", "V", 1e-3), ("A", "A", 1), ("mA", "A", 1e-3),
        ("m", "m", 1), ("mm", "m", 1e-3), ("cm", "m", 1e-2), ("km", "m", 1e3), ("m/s", "mm/s", 1e3),
        ("km/h", "mm/s", 1e6 / 3600), ("mm/h", "mm/s", 1 / 3600), ("m/h", "mm/s", 1e3 / 3600), ("Hz", "rpm", 60),
        ("1/s", "rpm", 60), ("1/min", "rpm", 1), ("MHz", "Hz", 1e6), ("s", "s", 1), ("ms", "s", 1e-3), ("min", "s", 60),
        ("h", "s", 3600), ("EL", "s", 1), ("/", "%", 100), ("%", "%", 1), ("%RH", "%", 1), ("%EL", "%", 1),
        ("/100", "%", 1), ("/1000", "%", 0.1), ("ppm", "%", 1e-4), ("count", "1", 1), ("Ohm", "MOhm", 1e-6),
        ("dBm", "dBm", 1), ("dB", "dB", 1),
    ],
)  # fmt: skip
def test_registered_units_convert(unit: str, canonical: str, one: float) -> None:
    scale = accepted(canonical)[unit]
    assert scale.convert(1.0) == pytest.approx(one, rel=1e-9)
    assert scale.back(scale.convert(7.0)) == pytest.approx(7.0, rel=1e-9)
