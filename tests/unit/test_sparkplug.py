"""Sparkplug B: what a payload says, and what a host remembers of its edge nodes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.codecs.sparkplug import MAX_BYTES, decode, node_identity
from devices.codecs.sparkplug_schema import Payload
from devices.errors import DecodeError
from devices.model import MINUTE, SECOND, Measurement, Reason
from devices.profile import shipped_profiles
from ingest.sparkplug_session import (
    BIRTH_TIMEOUT,
    REBIRTH_PAUSE,
    REORDER_TIMEOUT,
    Bounds,
    EdgeNode,
    Forward,
    Session,
    rebirth_request,
)

NOW = 1_790_000_000 * SECOND
NODE = EdgeNode("North", "RTU-7")
INT8, INT32, UINT8, INT64, FLOAT, DOUBLE, BOOLEAN, STRING, DATASET = 1, 3, 5, 4, 9, 10, 11, 12, 16


def metric(payload: Any, name: str = "", *, alias: int | None = None, unit: str = "", **fields: Any) -> None:
    """Add a metric to a payload."""
    added = payload.metrics.add(**fields)
    if name:
        added.name = name.encode()
    if alias is not None:
        added.alias = alias
    if unit:
        added.properties.keys.append(b"engUnit")
        added.properties.values.add(string_value=unit.encode())


def payload(*, seq: int | None = None, at: int = NOW) -> Any:
    made = Payload(timestamp=at // 1000)
    if seq is not None:
        made.seq = seq
    return made


def raw(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def node_birth(bd_seq: int = 0, seq: int = 0) -> bytes:
    made = payload(seq=seq)
    metric(made, "bdSeq", datatype=INT64, long_value=bd_seq)
    metric(made, "Node Control/Rebirth", datatype=BOOLEAN, boolean_value=False)
    metric(made, "voltage", alias=1, datatype=FLOAT, float_value=230.0, unit="V")
    return raw(made)


def node_death(bd_seq: int = 0) -> bytes:
    made = payload()
    metric(made, "bdSeq", datatype=INT64, long_value=bd_seq)
    return raw(made)


def device_birth(seq: int = 1) -> bytes:
    made = payload(seq=seq)
    metric(made, "pressure", alias=10, datatype=DOUBLE, double_value=4.0, unit="bar")
    metric(made, "starts", alias=11, datatype=INT32, int_value=7)
    return raw(made)


def device_data(seq: int, value: float = 4.5, *, alias: int = 10, at: int = NOW) -> bytes:
    made = payload(seq=seq, at=at)
    metric(made, alias=alias, double_value=value)
    return raw(made)


def topic(kind: str, device: str | None = None) -> str:
    return "/".join(("spBv1.0", NODE.group, kind, NODE.node, *([device] if device else [])))


def said(forward: Forward) -> dict[str, object]:
    """What a message on its way says, by name, to a device whose profile has `connected`."""
    (report,) = decode(forward.payload, forward.received_at, shipped_profiles()["centrifugal-pump"])
    return {one.name: one.value for one in report.measurements}


def born() -> Session:
    session = Session()
    session.receive(topic("NBIRTH"), node_birth(), NOW)
    session.receive(topic("DBIRTH", "P-101"), device_birth(), NOW)
    return session


# The payload.


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"datatype": INT8, "int_value": 0xFF}, -1.0),
        ({"datatype": INT8, "int_value": 0xFFFF_FFFF}, -1.0),  # the sign extended beyond the width
        ({"datatype": UINT8, "int_value": 0xFF}, 255.0),
        ({"datatype": INT32, "int_value": 0x8000_0000}, -2_147_483_648.0),
        ({"datatype": INT64, "long_value": 2**64 - 5}, -5.0),
        ({"datatype": FLOAT, "float_value": 1.5}, 1.5),
        ({"datatype": DOUBLE, "double_value": -2.5}, -2.5),
        ({"datatype": BOOLEAN, "boolean_value": True}, True),
        ({"datatype": STRING, "string_value": b"ok"}, "ok"),
        ({"datatype": DATASET, "dataset_value": b"\x08\x01"}, "a DataSet"),
        ({"datatype": 99, "int_value": 1}, "of type 99"),
        ({"int_value": 1}, "without a type"),
    ],
)
def test_a_value_is_read_by_its_type(fields: dict[str, Any], value: object) -> None:
    made = payload()
    metric(made, "x", **fields)
    (report,) = decode(raw(made), NOW)
    assert [(one.value, type(one.value)) for one in report.measurements] == [(value, type(value))]


def test_a_metric_has_its_own_time_else_the_payloads_else_that_of_receipt() -> None:
    made = payload(at=NOW - MINUTE)
    metric(made, "a", datatype=FLOAT, float_value=1.0, timestamp=(NOW - 2 * MINUTE) // 1000, is_historical=True)
    metric(made, "b", datatype=FLOAT, float_value=2.0)
    (report,) = decode(raw(made), NOW)
    assert [one.time for one in report.measurements] == [NOW - 2 * MINUTE, NOW - MINUTE]
    assert report.sent_at == NOW - MINUTE
    bare = Payload()
    metric(bare, "a", datatype=FLOAT, float_value=1.0)
    assert decode(raw(bare), NOW)[0].measurements == [Measurement("a", None, 1.0, NOW)]


def test_nulls_commands_and_descriptions_are_no_readings() -> None:
    made = payload()
    metric(made, "flow", datatype=FLOAT, is_null=True)
    metric(made, "Node Control/Rebirth", datatype=BOOLEAN, boolean_value=False)
    metric(made, "Properties/Hardware Make", datatype=STRING, string_value=b"x")
    metric(made, "bdSeq", datatype=INT64, long_value=1)
    assert decode(raw(made), NOW)[0].measurements == []


def test_a_value_that_its_sender_calls_bad_is_not_a_number() -> None:
    made = payload()
    metric(made, "flow", datatype=FLOAT, float_value=3.0)
    made.metrics[0].properties.keys.append(b"Quality")
    made.metrics[0].properties.values.add(int_value=500)
    assert decode(raw(made), NOW)[0].measurements[0].value == "of quality 500"


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"\xff", Reason.MALFORMED),
        (b"\x12\x03\x0a\x01\xff", Reason.MALFORMED),  # a name that is not UTF-8
        (bytes(MAX_BYTES + 1), Reason.TOO_LARGE),
        (b"\x12\x00" * 20_001, Reason.TOO_LARGE),
    ],
)
def test_bad_octets_are_the_codecs_own_error(octets: bytes, reason: Reason) -> None:
    with pytest.raises(DecodeError) as error:
        decode(octets, NOW)
    assert error.value.reason is reason


@given(st.binary(max_size=400))
def test_any_octets_are_a_report_or_the_codecs_own_error(octets: bytes) -> None:
    try:
        decode(octets, NOW)
    except DecodeError:
        return


def test_an_identity_is_one_level_of_a_topic() -> None:
    assert node_identity("North", "RTU-7", "P-101") == "spBv1.0:North:RTU-7:P-101"
    assert node_identity("a:b", "c d") == "spBv1.0:a%3Ab:c%20d"


# The session.


def test_data_by_alias_get_the_name_type_and_unit_of_their_birth() -> None:
    step = born().receive(topic("DDATA", "P-101"), device_data(2), NOW, "token")
    assert step is not None
    (forward,) = step.forwards
    assert (forward.identity, forward.token) == ("spBv1.0:North:RTU-7:P-101", "token")
    assert decode(forward.payload, NOW)[0].measurements == [Measurement("pressure", "bar", 4.5, NOW)]


def test_a_birth_says_its_values_and_that_the_device_is_connected() -> None:
    session = Session()
    session.receive(topic("NBIRTH"), node_birth(), NOW)
    step = session.receive(topic("DBIRTH", "P-101"), device_birth(), NOW)
    assert step is not None
    assert [said(one) for one in step.forwards] == [{"pressure": 4.0, "starts": 7.0, "connected": True}]


def test_a_nodes_death_is_its_devices_death() -> None:
    session = born()
    step = session.receive(topic("NDEATH"), node_death(), NOW + MINUTE, "will")
    assert step is not None
    assert [(one.identity, said(one), one.token) for one in step.forwards] == [
        ("spBv1.0:North:RTU-7:P-101", {"connected": False}, None),
        ("spBv1.0:North:RTU-7", {"connected": False}, "will"),
    ]
    assert session.online == 0


def test_a_devices_death_leaves_the_node_alive() -> None:
    session = born()
    step = session.receive(topic("DDEATH", "P-101"), raw(payload(seq=2)), NOW)
    assert step is not None
    assert [said(one) for one in step.forwards] == [{"connected": False}]
    assert session.online == 1


def test_the_will_of_an_earlier_life_kills_nobody() -> None:
    session = Session()
    session.receive(topic("NBIRTH"), node_birth(bd_seq=4), NOW)
    step = session.receive(topic("NDEATH"), node_death(bd_seq=3), NOW, "late will")
    assert step is not None
    assert step.ignored == 1
    assert [(said(one), one.token) for one in step.forwards] == [({}, "late will")]
    assert session.online == 1


def test_data_before_any_birth_wait_for_it_and_it_is_asked_for_once() -> None:
    session = Session()
    first = session.receive(topic("DDATA", "P-101"), device_data(57, 1.0), NOW, 1)
    second = session.receive(topic("DDATA", "P-101"), device_data(58, 2.0), NOW, 2)
    assert first is not None
    assert second is not None
    assert (first.forwards, first.rebirths, second.forwards, second.rebirths) == ([], [NODE], [], [])
    session.receive(topic("NBIRTH"), node_birth(), NOW + SECOND)
    step = session.receive(topic("DBIRTH", "P-101"), device_birth(), NOW + SECOND, 3)
    assert step is not None
    assert [(one.token, said(one)["pressure"]) for one in step.forwards] == [(3, 4.0), (1, 1.0), (2, 2.0)]
    assert session.waiting == 0


def test_no_birth_in_time_leaves_the_data_to_quarantine() -> None:
    session = Session()
    session.receive(topic("DDATA", "P-101"), device_data(57), NOW, 1)
    assert session.tick(NOW + REBIRTH_PAUSE).rebirths == [NODE]
    step = session.tick(NOW + BIRTH_TIMEOUT)
    assert [(one.token, said(one)) for one in step.forwards] == [(1, {"alias 10": 4.5})]


def test_messages_out_of_order_are_put_right() -> None:
    session = born()
    early = session.receive(topic("DDATA", "P-101"), device_data(3, 3.0), NOW, 3)
    step = session.receive(topic("DDATA", "P-101"), device_data(2, 2.0), NOW, 2)
    assert early is not None
    assert early.forwards == []
    assert step is not None
    assert [one.token for one in step.forwards] == [2, 3]
    assert session.tick(NOW + MINUTE).rebirths == []


def test_a_message_that_stays_missing_is_a_reason_to_ask_for_a_birth() -> None:
    session = born()
    session.receive(topic("DDATA", "P-101"), device_data(3, 3.0), NOW, 3)
    assert session.tick(NOW + REORDER_TIMEOUT - SECOND).forwards == []
    step = session.tick(NOW + REORDER_TIMEOUT)
    assert ([one.token for one in step.forwards], step.rebirths) == ([3], [NODE])


def test_the_sequence_goes_round() -> None:
    session = Session()
    session.receive(topic("NBIRTH"), node_birth(seq=254), NOW)
    session.receive(topic("DBIRTH", "P-101"), device_birth(seq=255), NOW)
    step = session.receive(topic("DDATA", "P-101"), device_data(0), NOW)
    assert step is not None
    assert len(step.forwards) == 1


def test_octets_that_are_no_payload_go_on_as_they_are() -> None:
    step = Session().receive(topic("DDATA", "P-101"), b"\xff\xff", NOW, "token")
    assert step is not None
    assert step.forwards == [Forward("spBv1.0:North:RTU-7:P-101", topic("DDATA", "P-101"), b"\xff\xff", NOW, "token")]


@pytest.mark.parametrize("other", ["spBv1.0/STATE/us", "spBv1.0/North/NCMD/RTU-7", "spBv1.0/North/NDATA//", "x"])
def test_other_topics_are_none_of_its_business(other: str) -> None:
    assert Session().receive(other, b"", NOW) is None


def test_what_waits_is_bounded_and_whoever_holds_most_gives_way() -> None:
    session = Session(Bounds(waiting=10))
    released: list[object] = []
    for number in range(40):
        step = session.receive(topic("NDATA"), device_data(number), NOW, number)
        assert step is not None
        released += [one.token for one in step.forwards]
        assert session.waiting <= 10
    released += [one.token for one in session.close().forwards]
    assert sorted(map(str, released)) == sorted(map(str, range(40)))


def test_the_longest_silent_node_is_forgotten_where_there_are_too_many() -> None:
    session = Session(Bounds(nodes=2))
    for name in ("a", "b", "c"):
        session.receive(f"spBv1.0/North/NBIRTH/{name}", node_birth(), NOW)
    assert session.online == 2
    step = session.receive("spBv1.0/North/NDATA/a", device_data(1), NOW)
    assert step is not None
    assert step.rebirths == [EdgeNode("North", "a")]


def test_a_rebirth_request_is_the_command_of_the_specification() -> None:
    asked = Payload.FromString(rebirth_request(NOW))
    (command,) = asked.metrics
    assert (command.name, command.datatype, command.boolean_value) == (b"Node Control/Rebirth", BOOLEAN, True)


_EVENTS = st.lists(
    st.one_of(
        st.builds(lambda bd: ("NBIRTH", None, node_birth(bd)), st.integers(0, 2)),
        st.builds(lambda bd: ("NDEATH", None, node_death(bd)), st.integers(0, 2)),
        st.builds(lambda seq, name: ("DBIRTH", name, device_birth(seq)), st.integers(0, 255), st.sampled_from("xy")),
        st.builds(
            lambda seq, name: ("DDEATH", name, raw(payload(seq=seq))), st.integers(0, 255), st.sampled_from("xy")
        ),
        st.builds(
            lambda seq, name, alias: ("DDATA", name, device_data(seq, alias=alias)),
            st.integers(0, 5),
            st.sampled_from("xy"),
            st.integers(9, 12),
        ),
        st.builds(lambda octets: ("NDATA", None, octets), st.binary(max_size=20)),
        st.builds(lambda seconds: ("tick", None, bytes(seconds)), st.integers(0, 70)),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(_EVENTS)
def test_whatever_comes_each_message_leaves_exactly_once(events: list[tuple[str, str | None, bytes]]) -> None:
    session = Session(Bounds(nodes=1, waiting=5))
    now = NOW
    left: list[object] = []
    sent = 0
    for kind, device, octets in events:
        if kind == "tick":
            now += len(octets) * SECOND
            step = session.tick(now)
        else:
            received = session.receive(topic(kind, device), octets, now, sent)
            assert received is not None
            step = received
            sent += 1
        left += [one.token for one in step.forwards if one.token is not None]
        assert session.waiting <= 5
    left += [one.token for one in session.close().forwards]
    assert sorted(left) == list(range(sent))  # type: ignore[type-var]
