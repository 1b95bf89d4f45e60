"""From an uplink's bytes to reports: topic, content format and the device's profile choose the codec."""

from __future__ import annotations

from devices.codecs import iotda, senml, sparkplug, thingsboard
from devices.errors import DecodeError
from devices.model import Codec, ContentFormat, Reason, Report, Uplink
from devices.profile import Profile

_SENML = (ContentFormat.SENML_JSON, ContentFormat.SENML_CBOR)


def decode(uplink: Uplink, profile: Profile | None = None) -> list[Report]:
    """Decode an uplink; `DecodeError` with the quarantine reason where that is not possible.

    `profile` is the speaking device's, where the transport established who speaks.
    """
    codec = uplink.codec or (profile.codec if profile else Codec.SENML)
    if codec is Codec.FRAME and uplink.codec is None and uplink.content_format in _SENML:
        codec = Codec.SENML  # the sender says so; a frame is octets of no format of their own
    if codec is Codec.SENML:
        return _decode_senml(uplink)
    if codec is Codec.FRAME:
        return _decode_frame(uplink, profile)
    match codec:
        case Codec.IOTDA:
            return iotda.decode_device(uplink.payload, uplink.received_at, profile.compiled if profile else ())
        case Codec.IOTDA_GATEWAY:
            return iotda.decode_gateway(uplink.payload, uplink.received_at)
        case Codec.THINGSBOARD:
            return thingsboard.decode_device(uplink.payload, uplink.received_at)
        case Codec.THINGSBOARD_GATEWAY:
            return thingsboard.decode_gateway(uplink.payload, uplink.received_at)
        case Codec.SPARKPLUG:
            return sparkplug.decode(uplink.payload, uplink.received_at, profile)


def _decode_frame(uplink: Uplink, profile: Profile | None) -> list[Report]:
    if profile is None or profile.frame is None:
        raise DecodeError(Reason.UNSUPPORTED_FORMAT, "a binary frame needs a device whose profile declares one")
    if uplink.content_format not in (None, ContentFormat.OCTET_STREAM):
        raise DecodeError(
            Reason.UNSUPPORTED_FORMAT, f"content format {uplink.content_format}; the frame of a profile is 42 (octets)"
        )
    return profile.frame_decoder.decode(uplink.payload, uplink.received_at)


def _decode_senml(uplink: Uplink) -> list[Report]:
    """By the content format, or by the first byte where none is given."""
    content_format = uplink.content_format
    if content_format is None:
        content_format = _sniff(uplink.payload)
    if content_format == ContentFormat.SENML_JSON:
        return senml.decode_json(uplink.payload, uplink.received_at)
    if content_format == ContentFormat.SENML_CBOR:
        return senml.decode_cbor(uplink.payload, uplink.received_at)
    raise DecodeError(Reason.UNSUPPORTED_FORMAT, f"content format {content_format}; 110 or 112 (SenML) is understood")


def _sniff(payload: bytes) -> ContentFormat:
    """SenML JSON begins with `[`, SenML CBOR with the head of an array (RFC 8949: major type 4)."""
    head = payload.lstrip(b" \t\r\n")[:1]
    if head == b"[":
        return ContentFormat.SENML_JSON
    if payload and payload[0] >> 5 == 4:
        return ContentFormat.SENML_CBOR
    raise DecodeError(Reason.MALFORMED, "neither SenML JSON nor SenML CBOR" if payload else "an empty payload")
