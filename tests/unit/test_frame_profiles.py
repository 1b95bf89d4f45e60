"""The shipped binary profiles end to end: bytes in, readings out, and back; which codec reads an uplink."""

from __future__ import annotations

import pytest

from devices.codecs.frame_encode import Message
from devices.decode import decode
from devices.errors import DecodeError
from devices.model import (
    MINUTE,
    SECOND,
    Device,
    Measurement,
    Quality,
    Reading,
    Reason,
    Transport,
    Uplink,
    instant,
    moment,
)
from devices.normalize import normalize
from devices.profile import Profile, shipped_profiles

NOW = 1_790_000_000 * SECOND
PROFILES = shipped_profiles()
BALL_VALVE = PROFILES["motorised-ball-valve"]
LOGGER = PROFILES["flow-pressure-logger"]


def cjt188(body: str, preamble: str = "fefe") -> bytes:
    """A frame around its body: preamble, sum from 68 on, end."""
    frame = bytes.fromhex(body)
    return bytes.fromhex(preamble) + frame + bytes([sum(frame) % 256, 0x16])


READ = "68 10 44 33 22 11 00 33 78 81 16 1F 90 00 77 66 55 00 2C 77 66 50 00 2C 31 01 22 11 05 26 20 01 84"


def readings(profile: Profile, payload: bytes, content_format: int | None = 42) -> list[Reading]:
    uplink = Uplink(Transport.COAP, payload, NOW, "urn:x", content_format)
    [report] = decode(uplink, profile)
    found, rejects, _ = normalize(report, Device("urn:x", profile.profile), profile, NOW)
    assert not rejects
    return found


def refusal(profile: Profile, payload: bytes) -> str:
    with pytest.raises(DecodeError) as caught:
        decode(Uplink(Transport.COAP, payload, NOW, "urn:x", 42), profile)
    assert caught.value.reason is Reason.MALFORMED
    return caught.value.detail


@pytest.mark.parametrize("preamble", ["", "fe", "fefefefe"])
@pytest.mark.parametrize("identifier", ["1F 90", "90 1F"])
def test_a_cjt188_answer_to_read_gives_volume_valve_and_battery(preamble: str, identifier: str) -> None:
    at = instant(moment(0).replace(year=2026, month=5, day=11, hour=14, minute=1, second=31))
    found = readings(BALL_VALVE, cjt188(READ.replace("1F 90", identifier), preamble))
    assert found == [
        Reading("urn:x", metric, at, value, Quality.GOOD)
        for metric, value in (
            ("volume", 5566.77), ("settlement_volume", 5066.77), ("position", 0), ("valve_fault", 0),
            ("battery_low", 0),
        )
    ]  # fmt: skip


def test_the_widely_published_example_means_what_its_authors_say() -> None:
    # 556,677.00 m³ of meter 0011223344 of maker 7833 on 2015-05-11 22:01:31; its printed sum (08) does not fit its
    # bytes, so the right one is put in its place.
    payload = cjt188(
        "68 10 44 33 22 11 00 33 78 81 16 1F 90 00 00 77 66 55 2C 00 77 66 55 2C 31 01 22 11 05 15 20 21 84", "fefefefe"
    )
    found = {r.metric: r.value for r in readings(BALL_VALVE, payload)}
    assert found["volume"] == found["settlement_volume"] == 556_677
    shown = {field.name: field.meaning for field in BALL_VALVE.frame_decoder.explain(payload, NOW).fields}
    assert shown["address"] == "address = 78330011223344"
    assert shown["a time"] == "time 2015-05-11T14:01:31+00:00"


def test_a_unit_byte_of_litres_is_converted() -> None:
    found = {r.metric: r.value for r in readings(BALL_VALVE, cjt188(READ.replace("55 00 2C", "55 00 29")))}
    assert found["volume"] == 5.56677


def test_status_bits_tell_the_valve_and_the_battery() -> None:
    def status(bits: str) -> dict[str, float]:
        payload = cjt188(f"68 10 44 33 22 11 00 33 78 84 05 A0 17 07 {bits}")
        return {r.metric: r.value for r in readings(BALL_VALVE, payload)}

    assert status("00 00") == {"position": 100, "valve_fault": 0, "battery_low": 0}
    assert status("01 00") == {"position": 0, "valve_fault": 0, "battery_low": 0}
    assert status("07 00") == {"valve_fault": 1, "battery_low": 1}


def test_a_damaged_cjt188_frame_names_its_byte() -> None:
    whole = cjt188(READ)
    assert refusal(BALL_VALVE, whole[:-2] + b"\x00\x16").startswith("byte 35: the checksum is 00, the bytes before it")
    assert refusal(BALL_VALVE, whole[:20]) == "byte 13: the block ‘data’ takes 22 bytes, 7 left"
    assert refusal(BALL_VALVE, cjt188(READ.replace("81 16", "82 16"))) == (
        "byte 13: nothing is declared for ‘control’ 130 (0x82)"
    )
    assert refusal(BALL_VALVE, cjt188(READ.replace("77 66 55", "7F 66 55"))).endswith("0055667f is not packed decimal")
    assert refusal(BALL_VALVE, whole + b"\x00") == "byte 37: 1 bytes are left over after the frame"


def test_a_ball_valves_frame_goes_there_and_back() -> None:
    frame = cjt188(READ, "")
    [report] = BALL_VALVE.frame_decoder.decode(frame, NOW)
    message = Message(report.measurements, NOW, reads={"address": 78330011223344})
    again = BALL_VALVE.frame_encoder.encode(message)
    # The vendor's own bits of the status are not declared, so they are written as 0.
    assert again[:32] == frame[:32]
    assert BALL_VALVE.frame_decoder.decode(again, NOW) == [report]


def test_a_loggers_batch_goes_there_and_back_in_canonical_units() -> None:
    sent = [
        Measurement("pressure", "bar", 4.12, NOW - 30 * MINUTE),
        Measurement("pressure", "bar", 4.2, NOW),
        Measurement("flow", None, -12.5, NOW - 30 * MINUTE),
        Measurement("flow", None, 30.1, NOW - 15 * MINUTE),
        Measurement("battery_voltage", "V", 3.6, NOW),
        Measurement("rsrp", "dBm", -101, NOW),
    ]
    payload = LOGGER.frame_encoder.encode(Message(sent, NOW, sequence=7))
    assert payload[:-2].hex(" ") == "01 00 07 6a b1 3b 80 0e 10 65 03 01 9c ff 83 ff ff 01 2d 01 a4 80 00"
    found = readings(LOGGER, payload)
    assert sorted(found) == sorted(Reading("urn:x", m.name, m.time, float(m.value or 0)) for m in sent)


def test_what_reads_an_uplink_of_a_device_with_a_frame() -> None:
    senml = b'[{"n":"flow","v":5}]'
    assert readings(LOGGER, senml, content_format=110) == [Reading("urn:x", "flow", NOW, 5)]
    with pytest.raises(DecodeError, match="42"):
        decode(Uplink(Transport.COAP, senml, NOW, "urn:x", 50), LOGGER)
    with pytest.raises(DecodeError, match="unsupported_format"):
        decode(Uplink(Transport.COAP, b"\x01", NOW, "urn:x", 42), PROFILES["water-meter"])
