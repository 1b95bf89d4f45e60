"""The words of the domain as plain data: what travels from the wire to the hypertable.

An `Uplink` (bytes as they came) is decoded to a `Report` (what the device says), whose `Measurement`s are normalised to
`Reading`s (what we keep). Profiles are in `devices.profiles`, the metric catalogue in `devices.metrics`.

Times are `Instant`s: whole microseconds since the Unix epoch, UTC. One integer is cheap on the hot path, compares
exactly, and is PostgreSQL's own resolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import NamedTuple

Instant = int
"""Microseconds since 1970-01-01T00:00:00Z."""

SECOND: Instant = 1_000_000
MINUTE: Instant = 60 * SECOND
HOUR: Instant = 60 * MINUTE
DAY: Instant = 24 * HOUR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(moment: datetime) -> Instant:
    """The instant of an aware `datetime`; a naive one is an error (`ValueError`), as its zone would be a guess."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(at: Instant) -> datetime:
    """The aware UTC `datetime` of an instant; `OverflowError` outside the years 1 to 9999."""
    return _EPOCH + timedelta(microseconds=at)


class Transport(StrEnum):
    """How an uplink reached us."""

    COAP = "coap"
    MQTT = "mqtt"


class Codec(StrEnum):
    """A payload format. A device's profile names the one it speaks; an MQTT topic may settle it by itself."""

    SENML = "senml"
    FRAME = "frame"
    """A binary frame that the device's profile declares."""
    IOTDA = "iotda"
    """Huawei IoTDA's property reports."""
    IOTDA_GATEWAY = "iotda_gateway"
    THINGSBOARD = "thingsboard"
    """ThingsBoard's telemetry."""
    THINGSBOARD_GATEWAY = "thingsboard_gateway"
    SPARKPLUG = "sparkplug"
    """Sparkplug B, with the names that the session has filled in."""


class ContentFormat(IntEnum):
    """CoAP content-format numbers (IANA registry) of the payloads we take; MQTT content types map to the same."""

    OCTET_STREAM = 42
    SENML_JSON = 110
    SENML_CBOR = 112


class Quality(IntEnum):
    """Quality of a reading: the byte of OPC DA (quality, sub-status, limit), so that other systems read it as it is.

    `status` is one of three classes: good may feed conditions, and so may uncertain; bad is no measurement.
    """

    BAD = 0
    BAD_LOW = 0x10 | 1
    """Sensor failure: below what the sensor can measure (NAMUR NE 43 calls it a failure signal)."""
    BAD_HIGH = 0x10 | 2
    """Sensor failure: above what the sensor can measure."""
    UNCERTAIN = 64
    """Nothing more is known than that it is doubtful: a repaired time, for instance."""
    UNCERTAIN_LOW = 0x54 | 1
    """Engineering units exceeded: below what the process can do."""
    UNCERTAIN_HIGH = 0x54 | 2
    """Engineering units exceeded: above what the process can do."""
    GOOD = 192

    @property
    def status(self) -> Quality:
        """`BAD`, `UNCERTAIN` or `GOOD`."""
        return Quality(self & 0xC0)

    @property
    def ne107(self) -> Ne107:
        """What NAMUR NE 107 calls the device's state, as far as one reading shows it."""
        return _NE107[self.status]


class Ne107(StrEnum):
    """The status signals of NAMUR NE 107, the gravest first."""

    FAILURE = "failure"
    FUNCTION_CHECK = "function check"
    """Not from a reading: while somebody works on the device (out of service, ISA-18.2)."""
    OUT_OF_SPECIFICATION = "out of specification"
    MAINTENANCE = "maintenance required"
    """Not from a reading either: an alarm of the device's own says it."""
    OK = "ok"


_NE107 = {
    Quality.BAD: Ne107.FAILURE,
    Quality.UNCERTAIN: Ne107.OUT_OF_SPECIFICATION,
    Quality.GOOD: Ne107.OK,
}


class Reason(StrEnum):
    """Why an uplink, or one record of it, is in quarantine."""

    MALFORMED = "malformed"
    """The bytes are not what their format says."""
    UNSUPPORTED_FORMAT = "unsupported_format"
    """A content format that we do not take."""
    TOO_LARGE = "too_large"
    """More bytes or more records than one uplink may have."""
    UNKNOWN_DEVICE = "unknown_device"
    """No device of that identity is registered."""
    UNKNOWN_PROFILE = "unknown_profile"
    """The device is registered with a profile that is not installed here."""
    IDENTITY_MISMATCH = "identity_mismatch"
    """The payload speaks for another device than the one the transport established: a security event."""
    NOT_AUTHENTICATED = "not_authenticated"
    """The device has a credential for this transport and came without it: a security event."""
    UNKNOWN_METRIC = "unknown_metric"
    """The device's profile has no such metric."""
    UNIT_MISMATCH = "unit_mismatch"
    """The unit is unknown or of another dimension than the metric's."""
    NOT_A_NUMBER = "not_a_number"
    """NaN, an infinity, or a text where the metric is a number."""
    TIME_OUT_OF_RANGE = "time_out_of_range"
    """A sample time before the device can have existed, which could not be repaired."""
    FUTURE_TIME = "future_time"
    """A sample time that has not come yet, beyond any drift: a security event, as it would outlive what is true."""
    CONFLICTING_VALUE = "conflicting_value"
    """The same device, metric and time was already stored with a different value."""
    STORAGE_REFUSED = "storage_refused"
    """The database refused this uplink and no other of its batch."""
    INTERNAL_ERROR = "internal_error"
    """A defect of ours met this uplink; it can be decoded again once that is mended."""


@dataclass(frozen=True, slots=True)
class Uplink:
    """One message as it came.

    `identity` is what the transport established (URI, topic, security context), or None where only the payload names
    the device. `content_format` is the CoAP number, or None where the sender gave none. `codec` is what the address
    (a topic) says that the payload is; None leaves that to the content format and the device's profile. `source` is
    for people: a peer address or a topic; it never identifies a device (NAT rebinding changes it). `authenticated` is
    the device that the transport has proved to speak (by a security context), None where it has proved nothing.
    """

    transport: Transport
    payload: bytes
    received_at: Instant
    identity: str | None = None
    content_format: int | None = None
    source: str = ""
    codec: Codec | None = None
    authenticated: str | None = None


class Measurement(NamedTuple):
    """One sample as the device says it: full name within the device, unit text, value, and sample time."""

    name: str
    unit: str | None
    value: float | bool | str | None
    time: Instant


@dataclass(frozen=True, slots=True)
class Report:
    """An uplink decoded. `identity` is the one the payload claims (None if it names none); `sequence` and `sent_at`
    are None where the format does not carry them."""

    identity: str | None
    measurements: list[Measurement]
    sequence: int | None = None
    sent_at: Instant | None = None


class Reading(NamedTuple):
    """One normalised value: the unit is the metric's canonical one (`devices.metrics`).

    (device, metric, measured_at) is its identity: the same three are the same reading, whenever and however often it
    arrives.
    """

    device: str
    metric: str
    measured_at: Instant
    value: float
    quality: Quality = Quality.GOOD


class Calibration(NamedTuple):
    """What a metric's values are corrected by from a sample time on: gain × value + offset, in its canonical unit."""

    since: Instant
    gain: float
    offset: float


class DeviceStatus(StrEnum):
    """Where a device stands in its life."""

    ACTIVE = "active"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Device:
    """A registered device.

    `identity` is a URN (`urn:dev:imei:…`, RFC 9039) or another stable name the transport establishes; `tag` follows
    ISA-5.1; site, area and unit are the ISA-95 place. `design` holds the nameplate in canonical units
    (`pn` bar, `rated_flow` m3/h, `rated_power` kW, …).
    """

    identity: str
    profile: str
    tag: str = ""
    site: str = ""
    area: str = ""
    unit: str = ""
    manufacturer: str = ""
    model: str = ""
    serial: str = ""
    gateway: str = ""
    """The device that speaks for this one; empty where it speaks for itself."""
    design: Mapping[str, float] = field(default_factory=dict)
    status: DeviceStatus = DeviceStatus.ACTIVE
    calibrations: Mapping[str, Sequence[Calibration]] = field(default_factory=dict)
    """By metric, in order of `since`."""
    protected: bool = False
    """Whether it has a credential for CoAP, so that nothing in its name is taken there without."""
