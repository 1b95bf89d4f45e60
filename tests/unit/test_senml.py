"""SenML decoding and encoding: the resolution rules of RFC 8428 and what must be refused."""

from decimal import Decimal

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.senml import decode_cbor, decode_json, encode_cbor, encode_json
from devices.errors import DecodeError
from devices.model import SECOND, Measurement, Reason

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
        b"", b"\x80", b"\xa0", b"\x81\x80", b"\x81\xa1\x00\x61a", b"\x81" * 100_000, b"\x9a\x7f\xff\xff\xff",
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
