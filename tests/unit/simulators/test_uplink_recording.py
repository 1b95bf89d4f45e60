"""Recordings: nothing of them is lost by a kill or a full disk, names go, times move, and the rest stays as it was."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
from pathlib import Path

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.senml import encode_cbor, encode_json
from devices.codecs.sparkplug_schema import Payload
from devices.decode import decode
from devices.model import DAY, SECOND, Codec, ContentFormat, Device, Measurement, Transport, Uplink
from simulators.recording import ReplayError
from simulators.replay_sender import Way
from simulators.rewriting import masked, pseudonyms, rewrite
from simulators.sparkplug_lives import Lives, Place, is_echo, place_of
from simulators.uplink_recording import (
    Contents,
    Recorder,
    RecordingError,
    is_recording,
    read_recording,
    survey,
)
from simulators.uplink_replay import Changes, Resent, parse_names, replay_recording
from tests.unit.simulators.peer import CHANGED, CONTINUE, INCOMPLETE, Manners, Peer, Request, serving

AT = 1_790_000_000 * SECOND
PUMP = "urn:dev:imei:867000000000017"


def uplink(number: int = 0, payload: bytes = b"\x00\xff", **more: object) -> Uplink:
    return Uplink(Transport.COAP, payload, AT + number, PUMP, 112, "10.0.0.1:5683", **more)  # type: ignore[arg-type]


def uplinks_of(path: Path, after: int = 0) -> list[Uplink]:
    return [one for frame in read_recording(path, Contents(), after) for one in frame]


def written(path: Path) -> list[Uplink]:
    recorder = Recorder(path, {"pseudonyms": False})
    recorder.devices([Device(PUMP, "centrifugal-pump", tag="P-101", design={"pn": 16.0})])
    recorder.uplinks([uplink(number) for number in range(3)])
    recorder.lost(2, "the recorder was too slow")
    recorder.uplinks([uplink(3, authenticated=PUMP), uplink(4, codec=Codec.FRAME)])
    recorder.close()
    return uplinks_of(path)


def test_what_is_read_is_what_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.hwrec"
    found = written(path)
    assert found == [
        *(uplink(number) for number in range(3)),
        uplink(3, authenticated=PUMP),
        uplink(4, codec=Codec.FRAME),
    ]
    contents = survey(path)
    assert (contents.uplinks, contents.lost, contents.torn) == (5, 2, False)
    assert contents.devices == {PUMP: Device(PUMP, "centrifugal-pump", tag="P-101", design={"pn": 16.0})}
    assert uplinks_of(path, 2) == found[2:]
    assert uplinks_of(path, 5) == []
    assert is_recording(path)


def test_a_kill_anywhere_loses_the_last_frame_at_the_most(tmp_path: Path) -> None:
    path = tmp_path / "a.hwrec"
    whole = written(path)
    data = path.read_bytes()
    for end in {*range(8, len(data), 11), len(data) - 1}:
        path.write_bytes(data[:end])
        before = uplinks_of(path)
        assert before == whole[: len(before)]
        recorder = Recorder(path, {})
        recorder.uplinks([uplink(99)])
        recorder.close()
        assert uplinks_of(path) == [*before, uplink(99)], "a recording that was cut off is gone on with"
        assert not survey(path).torn


def test_a_flipped_byte_ends_it_before_that_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.hwrec"
    written(path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    contents = Contents()
    assert [one for frame in read_recording(path, contents) for one in frame] == [uplink(n) for n in range(3)]
    assert contents.torn


def test_a_full_disk_is_an_error_and_leaves_a_whole_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.hwrec"
    recorder = Recorder(path, {})
    recorder.uplinks([uplink(1)])
    size, limits = path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            recorder.uplinks([uplink(number, bytes(range(256))) for number in range(200)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert path.stat().st_size == size
    recorder.uplinks([uplink(2)])  # there is room again
    recorder.close()
    assert uplinks_of(path) == [uplink(1), uplink(2)]


@pytest.mark.parametrize("content", [b"", b"time,value\n", b"HWREC\x00\x02\n1234"])
def test_another_file_is_no_recording(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(RecordingError):
        uplinks_of(path)
    if content:
        with pytest.raises(RecordingError):
            Recorder(path, {})
        assert path.read_bytes() == content


ENTRIES = [
    Measurement("pressure", "Pa", 412_000.5, AT),
    Measurement("running", None, True, AT + 60 * SECOND),
]


@pytest.mark.parametrize(("encode", "form"), [(encode_json, 110), (encode_cbor, 112)])
@pytest.mark.parametrize("named", [True, False])
def test_a_renamed_and_shifted_pack_means_the_same_of_another_device_later(
    encode: object, form: int, *, named: bool
) -> None:
    payload = encode(PUMP, ENTRIES, 7)  # type: ignore[operator]
    was = Uplink(Transport.MQTT, payload, AT + DAY, PUMP, form if named else None, f"headworks/{PUMP}/telemetry")
    now, whole = rewrite(was, lambda _: "urn:dev:ser:other", 3 * DAY)
    assert whole
    assert (now.identity, now.source) == ("urn:dev:ser:other", "headworks/urn:dev:ser:other/telemetry")
    (before,), (after,) = decode(was), decode(now)
    assert after.identity == "urn:dev:ser:other"
    assert after.sequence == before.sequence
    assert after.measurements == [entry._replace(time=entry.time + 3 * DAY) for entry in before.measurements]


@given(
    st.lists(
        st.fixed_dictionaries(
            {"n": st.just("flow"), "v": st.floats(-1e6, 1e6)},
            optional={
                "t": st.one_of(st.integers(-5000, 500), st.integers(1_700_000_000, 1_790_000_000)),
                "bt": st.sampled_from([0, -3600, 1_789_000_000, 1_780_000_000.25]),
            },
        ),
        min_size=1,
        max_size=6,
    )
)
def test_shifting_moves_every_time_whatever_its_base(pack: list[dict[str, object]]) -> None:
    was = uplink(payload=json.dumps(pack).encode())
    was = Uplink(Transport.COAP, was.payload, AT, PUMP, ContentFormat.SENML_JSON)
    try:
        (before,) = decode(was)
    except ValueError:
        return
    # Later received, with all times written out: the receipt no longer matters.
    now, _ = rewrite(was, None, DAY)
    (after,) = decode(Uplink(Transport.COAP, now.payload, AT + 5 * DAY, PUMP, ContentFormat.SENML_JSON))
    for one, other in zip(before.measurements, after.measurements, strict=True):
        if abs(one.time - AT) < 100 * 365 * DAY and one.time > 1_600_000_000 * SECOND:
            assert abs(other.time - one.time - DAY) <= 1, "a microsecond of a double's last bit"
        assert other.value == one.value


def test_pseudonyms_are_of_one_key_and_hide_the_name_everywhere() -> None:
    first, again, other = pseudonyms(b"key"), pseudonyms(b"key"), pseudonyms(b"other")
    assert first(PUMP) == again(PUMP) != other(PUMP)
    assert first(PUMP) != first(PUMP + "1")
    was = uplink(payload=encode_cbor(PUMP, ENTRIES), authenticated=PUMP)
    now, whole = rewrite(was, first)
    assert whole
    assert PUMP.encode() not in now.payload
    assert (now.identity, now.authenticated) == (first(PUMP), first(PUMP))
    assert cbor2.loads(now.payload)[0][-2] == first(PUMP) + ":"
    broken = uplink(payload=b"\x9f" + encode_cbor(PUMP, ENTRIES)[:-5])
    now, whole = rewrite(broken, first)
    assert not whole, "what cannot be decoded cannot be searched"
    hidden = masked(now, broken)
    assert PUMP.encode() not in hidden.payload
    assert len(hidden.payload) == len(broken.payload)


def test_an_edge_nodes_pseudonym_keeps_its_devices_behind_it_and_its_topic_tells_no_name() -> None:
    names = pseudonyms(b"key")
    node, device = names("spBv1.0:North:RTU-7"), names("spBv1.0:North:RTU-7:P-101")
    assert device.startswith(node + ":")
    assert not {"North", "RTU-7", "P-101"} & set(device.split(":"))
    assert names("spBv1.0:South:RTU-7").split(":")[2] != node.split(":")[2], "the same name elsewhere is another one"
    payload = Payload(timestamp=AT // 1000, seq=3)
    payload.metrics.add(name=b"pressure", datatype=10, double_value=4.0, timestamp=AT // 1000)
    was = Uplink(
        Transport.MQTT, payload.SerializeToString(), AT, "spBv1.0:North:RTU-7:P-101",
        source="spBv1.0/North/DDATA/RTU-7/P-101", codec=Codec.SPARKPLUG,
    )  # fmt: skip
    now, whole = rewrite(was, names, DAY)
    assert whole
    place = place_of(now)
    assert place is not None
    assert now.source == place.topic == "/".join(["spBv1.0", device.split(":")[1], "DDATA", *device.split(":")[2:]])
    moved = Payload.FromString(now.payload)
    assert (moved.timestamp, moved.metrics[0].timestamp) == ((AT + DAY) // 1000, (AT + DAY) // 1000)


def test_only_what_has_its_birth_before_it_is_part_of_a_life() -> None:
    lives = Lives()

    def takes(kind: str, device: str | None = None) -> bool:
        return lives.take(Place("North", "RTU-7", device, kind), uplink())

    assert not takes("DDATA", "P"), "the recording began after its birth"
    assert not takes("DBIRTH", "P"), "a device's birth needs its node's"
    assert takes("NBIRTH")
    assert not takes("DDATA", "P")
    assert takes("DBIRTH", "P")
    assert takes("DDATA", "P")
    assert takes("DDEATH", "P")
    assert not takes("DDATA", "P")
    assert takes("NDATA")
    assert takes("NDEATH")
    assert not takes("NDATA")
    assert is_echo(Place("North", "RTU-7", "P", "NDEATH")), "the host's own word about a device"


def test_gateways_names_are_replaced_in_their_json() -> None:
    rename = {"P-1": "Q-1", "G": "H"}.__getitem__
    thingsboard = Uplink(
        Transport.MQTT, b'{"P-1":[{"ts":1,"values":{"flow":2}}]}', AT, None, None, "v1/gateway/telemetry",
        Codec.THINGSBOARD_GATEWAY,
    )  # fmt: skip
    assert json.loads(rewrite(thingsboard, rename).uplink.payload) == {"Q-1": [{"ts": 1, "values": {"flow": 2}}]}
    payload = b'{"devices":[{"device_id":"P-1","services":[{"service_id":"s","properties":{"flow":2}}]}]}'
    iotda = Uplink(Transport.MQTT, payload, AT, "G", None, "", Codec.IOTDA_GATEWAY)
    now = rewrite(iotda, rename).uplink
    assert now.identity == "H"
    assert json.loads(now.payload)["devices"][0]["device_id"] == "Q-1"


def test_names_are_mapped_by_lines_and_patterns() -> None:
    names = parse_names(["# remark", "urn:a = urn:b", "urn:dev:imei:* = urn:dev:ser:test-*  # all others"], "map.txt")
    changes = Changes(names)
    assert changes.rename("urn:a") == "urn:b"
    assert changes.rename(PUMP) == "urn:dev:ser:test-867000000000017"
    assert changes.rename("other") == "other"
    with pytest.raises(ReplayError, match=r"map\.txt:2: write old = new"):
        parse_names(["a = b", "c"], "map.txt")
    with pytest.raises(ReplayError, match="one \\* on both sides"):
        parse_names(["a* = b"], "map.txt")


def resent(tmp_path: Path, payload: bytes, manners: Manners) -> tuple[Resent, Peer]:
    """Replay one uplink by CoAP to a peer of this test's own."""
    recorder = Recorder(tmp_path / "a.hwrec", {})
    recorder.uplinks([uplink(payload=payload)])
    recorder.close()

    async def main() -> tuple[Resent, Peer]:
        async with serving(manners) as peer:
            way = Way(coap=("127.0.0.1", peer.port))
            done = await replay_recording(tmp_path / "a.hwrec", way, tmp_path / "checkpoint.json", Changes())
            return done, peer

    return asyncio.run(asyncio.wait_for(main(), 60))


def test_a_gateway_that_has_always_forgotten_the_blocks_before_is_asked_six_times(tmp_path: Path) -> None:
    """4.08 says that a transfer has to begin anew, and so it does, but not for ever."""
    done, peer = resent(
        tmp_path, bytes(2500), lambda peer, request: peer.piggyback(request, INCOMPLETE, payload=b"which blocks?")
    )
    assert [request.block for request in peer.requests] == [0] * 6, "a transfer ends with the first refusal"
    assert (done.complete, done.rejected_uplinks) == (True, 1)
    assert "which blocks?" in done.rejections[0]


def test_a_transfer_that_is_begun_anew_for_the_fifth_time_may_succeed(tmp_path: Path) -> None:
    begun = 0

    def manners(peer: Peer, request: Request) -> None:
        nonlocal begun
        begun += request.block == 0
        last = CHANGED if begun == 6 else INCOMPLETE
        peer.piggyback(request, CONTINUE if request.more else last)

    done, peer = resent(tmp_path, payload := bytes(range(250)) * 10, manners)
    assert [request.block for request in peer.requests] == [0, 1, 2] * 6
    assert b"".join(request.payload for request in peer.requests[-3:]) == payload
    assert (done.complete, done.rejected_uplinks) == (True, 0)
