"""SenML (RFC 8428) in its JSON and CBOR forms.

Decoding resolves a pack as section 4.6 says: base values are carried from record to record, and a time below 2**28 is
relative to when the uplink was received. A base value counts for a named record without a value; a sum (`s`) is a
measurement of its own, named `…#sum`. A record named `seq` is not a measurement: its value is the uplink's sequence
number (SenML itself has none). Units are not judged here but in `devices.normalize`.

Encoding (for simulated devices and replays) writes one base record and plain names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from io import BytesIO
from typing import Any, NoReturn

import cbor2
import msgspec

from devices.clock_repair import AHEAD
from devices.errors import DecodeError
from devices.model import SECOND, Instant, Measurement, Reason, Report

MAX_RECORDS = 20_000
"""More records than this are refused: a day of 8 metrics by the minute is 11,520."""
VERSION = 10
"""The SenML version of RFC 8428; a pack that asks for a later one is refused (section 4.4)."""
MAX_BYTES = 1 << 20
"""A longer payload is refused before anything of it is decoded."""
SEQUENCE = "seq"
"""The name that carries the uplink's sequence number."""
RELATIVE = 1 << 28
"""A time in seconds below this is relative to now (section 4.5.3)."""
SUM = "#sum"
"""What the name of a sum ends in (section 4.2, `s`): a quantity of its own, which a profile may name. The character
cannot stand in a SenML name."""

_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9:./_-]*")
"""What a name may consist of (section 4.5.1)."""

_NAMES = {
    -1: "bver", -2: "bn", -3: "bt", -4: "bu", -5: "bv", -6: "bs",
    0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb", 5: "s", 6: "t", 7: "ut", 8: "vd",
}  # fmt: skip
_LABELS = {name: label for label, name in _NAMES.items()}


class _Record(msgspec.Struct, gc=False):
    """One record as it stands in JSON; the decoder checks the types on the way in."""

    n: str | None = None
    v: float | None = None
    t: float = 0.0
    u: str | None = None
    bn: str | None = None
    bt: float | None = None
    bu: str | None = None
    bv: float | None = None
    bs: float | None = None
    bver: int | None = None
    vs: str | None = None
    vb: bool | None = None
    vd: str | None = None
    s: float | None = None
    ut: float | None = None


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("a tag that has no place in SenML (only numbers of tags 2 to 5 do)")


# Dates, regular expressions, shared references and what else a CBOR library knows: nothing that a sender may spend our
# time with. Tags without a decoder of their own come to the same end through `tag_hook`.
_TAGS = dict.fromkeys(
    (0, 1, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799), _refuse_tag
)

_json_decoder = msgspec.json.Decoder(list[_Record])


def decode_json(payload: bytes, received_at: Instant) -> list[Report]:
    """Decode `application/senml+json`; `DecodeError` (malformed, too large) for anything else.

    One report a device named in the pack, in order of appearance.
    """
    if len(payload) > MAX_BYTES or payload.count(b"{") > MAX_RECORDS:
        raise _too_large(payload)
    # An unknown field ending in "_" must be understood or the pack refused (section 4.4). The decoder skips unknown
    # fields, so the rare payload that could hold one is looked at separately.
    if b'_"' in payload or b"\\" in payload:
        _refuse_must_understand(payload)
    try:
        records = _json_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(Reason.MALFORMED, f"not SenML JSON: {error}") from error
    return _resolve(records, received_at)


def decode_cbor(payload: bytes, received_at: Instant) -> list[Report]:
    """Decode `application/senml+cbor`; `DecodeError` (malformed, too large) for anything else."""
    if len(payload) > MAX_BYTES:
        raise _too_large(payload)
    stream = BytesIO(payload)
    decoder = cbor2.CBORDecoder(
        stream, max_depth=6, allow_duplicate_keys=False, semantic_decoders=_TAGS, tag_hook=_refuse_tag
    )
    try:
        pack = decoder.decode()
    except Exception as error:  # what tags stand for raises more than CBORDecodeError
        raise DecodeError(Reason.MALFORMED, f"not CBOR: {error}") from error
    if stream.tell() < len(payload):
        raise DecodeError(Reason.MALFORMED, f"{len(payload) - stream.tell()} bytes are left over after the pack")
    if not isinstance(pack, list):
        raise DecodeError(Reason.MALFORMED, "a SenML pack is an array of records")
    if len(pack) > MAX_RECORDS:
        raise DecodeError(Reason.TOO_LARGE, f"{len(pack)} records; at most {MAX_RECORDS}")
    try:
        named = [_from_cbor(entry, index) for index, entry in enumerate(pack)]
        records = msgspec.convert(named, list[_Record])
    except (msgspec.ValidationError, TypeError, OverflowError) as error:
        raise DecodeError(Reason.MALFORMED, f"not SenML CBOR: {error}") from error
    return _resolve(records, received_at)


def _refuse_must_understand(payload: bytes) -> None:
    try:
        pack = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(Reason.MALFORMED, f"not JSON: {error}") from error
    for entry in pack if isinstance(pack, list) else ():
        for key in entry if isinstance(entry, dict) else ():
            if key.endswith("_"):
                raise _must_understand(key)


def _from_cbor(entry: Any, index: int) -> dict[str, Any]:
    """One CBOR map with the labels of RFC 8428 table 6 spelt out, so that one record type checks both forms."""
    if not isinstance(entry, dict):
        raise DecodeError(Reason.MALFORMED, f"record {index} is not a map")
    named: dict[str, Any] = {}
    for label, value in entry.items():
        name = _NAMES.get(label) if label.__class__ is int else None  # True and 1.0 would be found as 1
        if name is not None:
            # A decimal fraction (tag 4) is a number of SenML; data (vd) is kept as the fact that there was some.
            named[name] = float(value) if isinstance(value, Decimal) else "data" if name == "vd" else value
        elif isinstance(label, str) and label.endswith("_"):
            raise _must_understand(label)
    return named


def _too_large(payload: bytes) -> DecodeError:
    detail = f"{len(payload)} bytes; at most {MAX_BYTES}, and {MAX_RECORDS} records"
    return DecodeError(Reason.TOO_LARGE, detail)


def _several_values(index: int) -> DecodeError:
    return DecodeError(Reason.MALFORMED, f"record {index} has more than one value")


def _must_understand(field: str) -> DecodeError:
    return DecodeError(Reason.MALFORMED, f"the field {field!r} must be understood, and is not known here")


def _resolve(records: list[_Record], received_at: Instant) -> list[Report]:  # noqa: C901 - one pass, one rule a branch
    """Carry the base values through the pack and split it by the device that each base name names."""
    if len(records) > MAX_RECORDS:
        raise DecodeError(Reason.TOO_LARGE, f"{len(records)} records; at most {MAX_RECORDS}")
    base_time, base_unit, base_sum = 0.0, None, 0.0
    base_value: float | None = None
    packs: dict[str | None, list[Measurement]] = {}
    sequences: dict[str | None, int] = {}
    identity: str | None = None
    measurements = packs.setdefault(identity, [])
    now = received_at / 1e6
    make = tuple.__new__  # in place of Measurement's own: see `devices.normalize`
    later = next((record.bver for record in records if record.bver is not None and record.bver > VERSION), None)
    if later is not None:
        raise DecodeError(Reason.MALFORMED, f"SenML version {later}; this is {VERSION}")
    for index, record in enumerate(records):
        if record.bn is not None:
            identity = _identity(record.bn)
            measurements = packs.setdefault(identity, [])
        if record.bt is not None:
            base_time = record.bt
        if record.bu is not None:
            base_unit = record.bu
        if record.bv is not None:
            base_value = record.bv
        if record.bs is not None:
            base_sum = record.bs
        value: float | bool | str | None
        if record.v is not None:
            if record.vb is not None or record.vs is not None or record.vd is not None:
                raise _several_values(index)
            value = record.v if base_value is None else record.v + base_value
        elif record.vb is not None or record.vs is not None or record.vd is not None:
            if (record.vb is None) + (record.vs is None) + (record.vd is None) < 2:
                raise _several_values(index)
            value = record.vb if record.vb is not None else record.vs if record.vs is not None else record.vd
        elif record.n is None and record.s is None:
            continue  # a record of base values only
        else:
            value = base_value if record.s is None else None
        time = base_time + record.t
        # Further ahead than any drift is a future that nobody has measured: it counts from when a clock began again,
        # and stays of 1970 for `devices.clock_repair` to see.
        if time < RELATIVE and time * SECOND <= AHEAD:
            time += now
        if not -1e12 < time < 1e12:  # also NaN; keeps the instant inside 64 bits
            raise DecodeError(Reason.MALFORMED, f"record {index}: the time {time} is no time")
        if record.n == SEQUENCE and isinstance(value, float):
            sequences[identity] = _sequence(value)
            continue
        name, at = record.n or "", round(time * 1e6)
        if record.s is not None:
            measurements.append(Measurement(name + SUM, None, record.s + base_sum, at))
            if value is None:
                continue
        unit = record.u if record.u is not None else base_unit
        measurements.append(make(Measurement, (name, unit, value, at)))
    reports = [
        Report(identity=device, measurements=found, sequence=sequences.get(device))
        for device, found in packs.items()
        if found
    ]
    if not reports:
        raise DecodeError(Reason.MALFORMED, "a pack without a single measurement")
    return reports


def _identity(base_name: str) -> str | None:
    """The device that a base name stands for, without the sign that divides it from the names."""
    identity = base_name.rstrip(":/")
    if identity and not _IDENTITY.fullmatch(identity):
        raise DecodeError(Reason.MALFORMED, f"the base name {base_name!r} has signs that no SenML name has")
    return identity or None


def _sequence(value: float) -> int:
    if not 0 <= value < 1 << 53:
        raise DecodeError(Reason.MALFORMED, f"the sequence number {value} is not a whole number from 0")
    return int(value)


def encode_json(identity: str, measurements: Iterable[Measurement], sequence: int | None = None) -> bytes:
    """A SenML JSON pack of one device's measurements; times are written with microseconds."""
    return json.dumps(_pack(identity, measurements, sequence), separators=(",", ":"), allow_nan=False).encode()


def encode_cbor(identity: str, measurements: Iterable[Measurement], sequence: int | None = None) -> bytes:
    """A SenML CBOR pack of one device's measurements."""
    records = _pack(identity, measurements, sequence)
    return cbor2.dumps([{_LABELS[key]: value for key, value in record.items()} for record in records])


def _pack(identity: str, measurements: Iterable[Measurement], sequence: int | None) -> list[dict[str, Any]]:
    entries = list(measurements)
    base = min((entry.time for entry in entries), default=0)
    records: list[dict[str, Any]] = []
    for entry in entries:
        record: dict[str, Any] = {"n": entry.name}
        if entry.unit is not None:
            record["u"] = entry.unit
        match entry.value:
            case bool():
                record["vb"] = entry.value
            case str():
                record["vs"] = entry.value
            case None:
                raise ValueError(f"the measurement {entry.name!r} has no value to encode")
            case number:
                record["v"] = number
        if entry.time != base:
            record["t"] = (entry.time - base) / 1_000_000
        records.append(record)
    if sequence is not None:
        records.append({"n": SEQUENCE, "v": sequence})
    head: dict[str, Any] = {"bn": f"{identity}:", "bt": base / 1_000_000}
    return [head | records[0], *records[1:]] if records else [head]
