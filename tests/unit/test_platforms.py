"""The JSON dialects of device platforms, by their public specifications and by whatever else may come."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs import iotda, thingsboard
from devices.errors import DecodeError
from devices.model import SECOND, Codec, Measurement, Reason, Report, Transport, Uplink
from devices.profile import shipped_profiles
from ingest.outcome import Verdict
from ingest.topics import FILTERS, address_of, own_rights
from ingest.translate import translate
from tests.conftest import PUMP, VALVE

NOW = 1_790_000_000 * SECOND


def utc(*parts: int) -> int:
    return round(datetime(*parts, tzinfo=UTC).timestamp() * 1e6)  # type: ignore[misc,arg-type]


def iotda_report(**properties: object) -> bytes:
    return json.dumps(
        {"services": [{"service_id": "pump", "properties": properties, "event_time": "20260801T101112Z"}]}
    ).encode()


def test_an_iotda_report() -> None:
    document = {
        "services": [
            {"service_id": "Battery", "properties": {"level": "57"}, "event_time": "20151212T121212Z"},
            {"service_id": "Meter", "properties": {"flow": 1.5, "open": True, "note": "ok"},
             "event_time": "2020-08-12T12:12:12.333Z"},
        ]
    }  # fmt: skip
    assert iotda.decode_device(json.dumps(document).encode(), NOW) == [
        Report(
            None,
            [
                Measurement("level", None, 57.0, utc(2015, 12, 12, 12, 12, 12)),
                Measurement("flow", None, 1.5, utc(2020, 8, 12, 12, 12, 12) + 333_000),
                Measurement("open", None, True, utc(2020, 8, 12, 12, 12, 12) + 333_000),
                Measurement("note", None, "ok", utc(2020, 8, 12, 12, 12, 12) + 333_000),
            ],
        )
    ]


@pytest.mark.parametrize("text", [None, 7, "", "20151312T121212Z", "yesterday", "2020-08-12T12:12:12+08:00"])
def test_a_time_that_cannot_be_read_is_that_of_receipt(text: object) -> None:
    assert iotda.event_time(text, NOW) == NOW


def test_a_property_of_two_services_is_told_apart_where_the_profile_does() -> None:
    payload = json.dumps(
        {"services": [{"service_id": s, "properties": {"value": 1}} for s in ("Inlet", "Outlet")]}
    ).encode()
    (report,) = iotda.decode_device(payload, NOW, {"Outlet/value"})
    assert [record.name for record in report.measurements] == ["value", "Outlet/value"]


def test_an_iotda_gateways_report() -> None:
    devices = [
        {"device_id": name, "services": [{"service_id": "analog", "properties": {"PhV_phsA": "1"}}]}
        for name in ("a", "b", "a")
    ]
    reports = iotda.decode_gateway(json.dumps({"devices": devices}).encode(), NOW)
    assert [(report.identity, len(report.measurements)) for report in reports] == [("a", 2), ("b", 1)]


def test_how_an_iotda_device_proves_itself() -> None:
    # Value computed once with `printf secret | openssl dgst -sha256 -hmac 2026080110`.
    at = datetime(2026, 8, 1, 10, 59, tzinfo=UTC)
    assert iotda.client_id("p_n", at) == "p_n_0_0_2026080110"
    assert iotda.client_id("p_n", at, checked=True) == "p_n_0_1_2026080110"
    assert iotda.password("secret", at) == "08f51c38b442a1913b2d05b84d84dc5b9c9ec769ab0672613bbce9b114a959f0"


def test_thingsboards_three_shapes() -> None:
    at = 1_451_649_600_512_000
    assert thingsboard.decode_device(b'{"flow": 42, "open": true}', NOW)[0].measurements == [
        Measurement("flow", None, 42.0, NOW),
        Measurement("open", None, True, NOW),
    ]
    long = b'{"ts": 1451649600512, "values": {"flow": 42}}'
    assert thingsboard.decode_device(long, NOW)[0].measurements == [Measurement("flow", None, 42.0, at)]
    both = b"[" + long + b', {"flow": "43"}]'
    assert thingsboard.decode_device(both, NOW)[0].measurements == [
        Measurement("flow", None, 42.0, at),
        Measurement("flow", None, 43.0, NOW),
    ]


def test_a_thingsboard_gateways_telemetry() -> None:
    payload = b'{"Device A": [{"ts": 1483228800000, "values": {"flow": 42}}, {"flow": 1}], "Device B": [{"flow": 2}]}'
    reports = thingsboard.decode_gateway(payload, NOW)
    assert [(report.identity, len(report.measurements)) for report in reports] == [("Device A", 2), ("Device B", 1)]


WRONG = [b"", b"x", b"[1]", b'"x"', b"7", b'{"services": {}}', b'{"services": [7]}',
         b'{"services": [{"properties": []}]}',
         b'{"devices": [{}]}', b'{"devices": 1}', b'{"ts": 1e400, "values": {}}', b"[" * 100_000, b"\xff",
         b'{"ts": "now", "values": {}}', b'{"ts": 99999999999999999, "values": {}}']  # fmt: skip


@pytest.mark.parametrize("payload", WRONG, ids=lambda payload: str(payload[:20]))
def test_what_is_not_of_the_dialect_is_told(payload: bytes) -> None:
    for decode in (iotda.decode_device, iotda.decode_gateway):
        with pytest.raises(DecodeError):
            decode(payload, NOW)


def test_too_much_is_refused() -> None:
    many = json.dumps({f"k{i}": i for i in range(20_001)}).encode()
    for decode, payload in (
        (thingsboard.decode_device, many),
        (iotda.decode_device, b'{"services": [{"service_id": "s", "properties": %s}]}' % many),
        (thingsboard.decode_device, b'{"a": "' + b"x" * (1 << 20) + b'"}'),
    ):
        with pytest.raises(DecodeError) as error:
            decode(payload, NOW)
        assert error.value.reason is Reason.TOO_LARGE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["services", "devices", "values", "ts", "properties", "service_id", "device_id", "event_time", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_report_or_a_decode_error(payload: bytes) -> None:
    for decode in (iotda.decode_device, iotda.decode_gateway, thingsboard.decode_device, thingsboard.decode_gateway):
        try:
            reports = decode(payload, NOW)
        except DecodeError:
            continue
        for report in reports:
            for record in report.measurements:
                assert record.value is None or isinstance(record.value, bool | str | float)
                assert isinstance(record.time, int)


@pytest.mark.parametrize(
    ("topic", "identity", "codec"),
    [
        ("headworks/urn:dev:x:1/telemetry", "urn:dev:x:1", None),
        ("$oc/devices/d_1/sys/properties/report", "d_1", Codec.IOTDA),
        ("$oc/devices/d_1/sys/gateway/sub_devices/properties/report", "d_1", Codec.IOTDA_GATEWAY),
        ("v1/devices/token/telemetry", "token", Codec.THINGSBOARD),
        ("v1/gateway/telemetry", None, Codec.THINGSBOARD_GATEWAY),
    ],
)
def test_a_topic_names_device_and_dialect(topic: str, identity: str | None, codec: Codec | None) -> None:
    assert address_of(topic) == (identity, codec)


def test_every_filter_is_understood_and_nothing_else() -> None:
    assert all(address_of(one.replace("+", "x")) for one in FILTERS)
    for topic in (
        "",
        "headworks/x",
        "a/headworks/x/telemetry",
        "$oc/devices/x/sys/messages/up",
        "v1/devices/x/attributes",
    ):
        assert address_of(topic) is None


def test_a_gateway_speaks_for_its_own_devices_and_no_others() -> None:
    gateway = VALVE.identity
    children = {PUMP.identity: gateway, "urn:dev:x:other": "urn:dev:x:another gateway", "urn:dev:x:alone": ""}
    devices = {name: type(PUMP)(name, PUMP.profile, gateway=of) for name, of in children.items()} | {gateway: VALVE}
    payload = json.dumps(
        {
            "devices": [
                {"device_id": name, "services": [{"service_id": "s", "properties": {"pressure": 4.0}}]}
                for name in [*children, "urn:dev:x:unknown"]
            ]
        }
    ).encode()
    uplink = Uplink(Transport.MQTT, payload, NOW, gateway, None, "topic", Codec.IOTDA_GATEWAY)
    batch, (outcome,) = translate(
        [uplink], lambda names: {n: devices[n] for n in names if n in devices}, shipped_profiles()
    )
    assert outcome.verdict is Verdict.STORED
    assert [(entry.device, len(entry.readings)) for entry in batch.uplinks] == [(PUMP.identity, 1)]
    assert {record.identity: record.reason for record in batch.quarantine} == dict.fromkeys(
        ["urn:dev:x:other", "urn:dev:x:alone", "urn:dev:x:unknown"], Reason.IDENTITY_MISMATCH
    )


def test_who_has_a_gateway_does_not_speak_without_it() -> None:
    child = type(PUMP)(PUMP.identity, PUMP.profile, gateway=VALVE.identity)
    payload = b'{"%s": [{"pressure": 4.0}]}' % PUMP.identity.encode()
    uplink = Uplink(Transport.MQTT, payload, NOW, None, None, "topic", Codec.THINGSBOARD_GATEWAY)
    batch, (outcome,) = translate([uplink], lambda _: {PUMP.identity: child}, shipped_profiles())
    assert (outcome.verdict, outcome.reason) == (Verdict.REJECTED, Reason.IDENTITY_MISMATCH)
    assert not batch.uplinks


def test_an_edge_node_speaks_for_itself_and_its_devices_and_hears_its_commands() -> None:
    assert own_rights("spBv1.0:North:RTU%3A7") == [
        "write spBv1.0/North/NBIRTH/RTU:7",
        "write spBv1.0/North/NDATA/RTU:7",
        "write spBv1.0/North/NDEATH/RTU:7",
        "write spBv1.0/North/DBIRTH/RTU:7/+",
        "write spBv1.0/North/DDATA/RTU:7/+",
        "write spBv1.0/North/DDEATH/RTU:7/+",
        "read spBv1.0/North/NCMD/RTU:7",
        "read spBv1.0/North/DCMD/RTU:7/+",
        "read spBv1.0/STATE/+",
    ]


@pytest.mark.parametrize(
    "identity", ["", "a/b", "a%2Fb", "+", "spBv1.0:North", "spBv1.0:North:RTU:P-101", "spBv1.0::x"]
)
def test_who_has_no_topics_of_its_own_may_nothing(identity: str) -> None:
    assert own_rights(identity) == []
