"""An uplink under another name, or at another time: for pseudonyms, and for replaying as other devices. Pure.

SenML is decoded record by record and written again; in the JSON of gateways a name is replaced where their dialect has
it; of binary frames only what the transport says can be changed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import cbor2

from devices.clock_repair import AHEAD
from devices.codecs.senml import RELATIVE
from devices.model import SECOND, Codec, ContentFormat, Instant, Transport, Uplink
from simulators.sparkplug_lives import SCHEME, identity_of, parts_of, read

Rename = Callable[[str], str]

_NAMES = {-2: "bn", -3: "bt", 6: "t"}
_LABELS = {"bn": -2, "bt": -3, "t": 6}


class Rewritten(NamedTuple):
    """An uplink, and whether everything that should differ could be changed."""

    uplink: Uplink
    whole: bool


def rewrite(uplink: Uplink, rename: Rename | None = None, shift: Instant | None = None) -> Rewritten:
    """With a shift, every sample time of SenML is written out, also where it was relative to the receipt."""
    renamed = uplink if rename is None else _readdressed(uplink, rename)
    if uplink.codec is Codec.SPARKPLUG:
        return _shifted_metrics(renamed, shift)
    if uplink.codec not in (None, Codec.SENML):
        payload = _named_texts(uplink.payload, rename)
        return Rewritten(replace(renamed, payload=payload or uplink.payload), payload is not None and shift is None)
    pack, is_json = _pack(uplink.payload, uplink.content_format)
    if pack is None:
        return Rewritten(renamed, whole=False)
    if rename is not None:
        _rename_pack(pack, rename)
    if shift is not None:
        _shift_pack(pack, uplink.received_at, shift)
    payload = _dump(pack, is_json=is_json)
    return Rewritten(replace(renamed, payload=payload), whole=True)


def pseudonyms(key: bytes) -> Rename:
    """Names by a keyed hash (HMAC-SHA256): the same for the same key, and without it nobody's.

    Of Sparkplug's identities each part has its own, so that devices stay behind their edge node.
    """
    known: dict[str, str] = {}

    def hashed(name: str) -> str:
        return "p-" + hmac.new(key, name.encode(), hashlib.sha256).hexdigest()[:16]

    def rename(name: str) -> str:
        if name not in known:
            parts = parts_of(name)
            whole = (name.split(":")[: count + 2] for count in range(len(parts or ())))
            known[name] = (
                "urn:dev:ser:" + hashed(name)
                if parts is None
                else identity_of([hashed(":".join(beginning)) for beginning in whole])
            )
        return known[name]

    return rename


def masked(uplink: Uplink, original: Uplink) -> Uplink:
    """The same without the original's name anywhere in the payload: where it still stands, there are `x` now."""
    payload = uplink.payload
    for name in {original.identity, original.authenticated} - {None}:
        text = str(name).encode()
        payload = payload.replace(text, b"x" * len(text))
    return replace(uplink, payload=payload)


def _readdressed(uplink: Uplink, rename: Rename) -> Uplink:
    identity = None if uplink.identity is None else rename(uplink.identity)
    source = uplink.source
    if uplink.transport is Transport.MQTT and uplink.identity and identity:
        source = "/".join(identity if part == uplink.identity else part for part in source.split("/"))
        if uplink.codec is Codec.SPARKPLUG:
            source = _topic(uplink.source, identity)
    return replace(
        uplink,
        identity=identity,
        source=source,
        authenticated=None if uplink.authenticated is None else rename(uplink.authenticated),
    )


def _topic(source: str, identity: str) -> str:
    """A topic of Sparkplug as that of another edge node or device; one without names where that is none."""
    levels, parts = source.split("/"), parts_of(identity)
    kind = levels[2] if len(levels) in (4, 5) else ""
    if parts is None:
        return f"{SCHEME}//{kind}/"
    group, node, *device = parts
    return "/".join([SCHEME, group, kind, node, *(device if len(levels) == 5 else [])])


def _shifted_metrics(uplink: Uplink, shift: Instant | None) -> Rewritten:
    """Sparkplug's times are milliseconds; names of devices stand in its topics only."""
    payload = read(uplink)
    if payload is None:
        return Rewritten(uplink, whole=False)
    if shift is None:
        return Rewritten(uplink, whole=True)
    for timed in (payload, *payload.metrics):
        if timed.HasField("timestamp"):
            timed.timestamp = max(timed.timestamp + shift // 1000, 0)
    return Rewritten(replace(uplink, payload=payload.SerializeToString()), whole=True)


def _pack(payload: bytes, content_format: int | None) -> tuple[list[dict[Any, Any]] | None, bool]:
    """The records of a SenML pack with names in place of CBOR's labels, or None; and whether it is JSON."""
    is_json = content_format == ContentFormat.SENML_JSON or (content_format is None and payload[:1] in (b"[", b" "))
    try:
        found = json.loads(payload) if is_json else cbor2.loads(payload)
    except (ValueError, RecursionError, cbor2.CBORError):
        return None, is_json
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        return None, is_json
    if not is_json:
        found = [{_NAMES.get(key, key): value for key, value in record.items()} for record in found]
    return found, is_json


def _dump(pack: list[dict[Any, Any]], *, is_json: bool) -> bytes:
    if is_json:
        return json.dumps(pack, separators=(",", ":"), ensure_ascii=False).encode()
    return cbor2.dumps([{_LABELS.get(key, key): value for key, value in record.items()} for record in pack])


def _rename_pack(pack: list[dict[Any, Any]], rename: Rename) -> None:
    for record in pack:
        if isinstance(name := record.get("bn"), str) and name:
            bare = name.rstrip(":/")
            record["bn"] = rename(bare) + name[len(bare) :] if bare else name


def _shift_pack(pack: list[dict[Any, Any]], received_at: Instant, shift: Instant) -> None:
    """Write every time out, `shift` later. Times of a clock that began again in 1970 stay what they are."""

    def resolved(time: float) -> float:
        if time < RELATIVE and time * SECOND <= AHEAD:
            return time + (received_at + shift) / SECOND
        return time if time < RELATIVE else time + shift / SECOND

    base = new_base = 0.0
    for number, record in enumerate(pack):
        if number == 0 or "bt" in record:
            base = _number(record.get("bt"))
            new_base = record["bt"] = resolved(base)
        own = _number(record.get("t"))
        offset = round(resolved(base + own) - new_base, 6)
        if offset != own:
            record["t"] = offset


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _named_texts(payload: bytes, rename: Rename | None) -> bytes | None:
    """JSON whose keys and texts are devices' names (gateways of ThingsBoard and IoTDA); None where it is none.

    Only gateways' dialects name devices in the payload, as keys at the top or as `device_id`.
    """
    if rename is None:
        return payload
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return payload
    for entry in found.get("devices", []) if isinstance(found.get("devices"), list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("device_id"), str):
            entry["device_id"] = rename(entry["device_id"])
    if found and all(isinstance(value, list) for value in found.values()) and "services" not in found:
        found = {key if key == "devices" else rename(key): value for key, value in found.items()}
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()
