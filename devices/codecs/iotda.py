"""Huawei IoTDA's device reports (properties of a device, and of a gateway's sub-devices) in JSON.

A property is known by its own name, or as `service/property` where the profile says so, for devices that have one name
in two services. A report without a time, or with one that cannot be read, is of when it was received, as it is there.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Container
from datetime import UTC, datetime, timedelta

from devices.codecs.platform_json import bounded, malformed, measurements, parse
from devices.model import Instant, Measurement, Report, instant

MAX_DEVICES = 1_000
"""Sub-devices in one report; the platform itself takes 100."""

_SECONDS = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_MILLISECONDS = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")


def decode_device(payload: bytes, received_at: Instant, known: Container[str] = ()) -> list[Report]:
    """`…/sys/properties/report`: one report, of the device that the topic names."""
    document = parse(payload, "an IoTDA report")
    if not isinstance(document, dict):
        raise malformed("an IoTDA report is an object with `services`")
    return [Report(None, _services(document.get("services"), received_at, known))]


def decode_gateway(payload: bytes, received_at: Instant, known: Container[str] = ()) -> list[Report]:
    """`…/sys/gateway/sub_devices/properties/report`: a report a sub-device, in order of appearance."""
    document = parse(payload, "an IoTDA report")
    devices = document.get("devices") if isinstance(document, dict) else None
    if not isinstance(devices, list):
        raise malformed("an IoTDA gateway's report is an object with a list `devices`")
    if len(devices) > MAX_DEVICES:
        raise malformed(f"{len(devices)} sub-devices; at most {MAX_DEVICES}")
    found: dict[str, list[Measurement]] = {}
    for device in devices:
        identity = device.get("device_id") if isinstance(device, dict) else None
        if not isinstance(identity, str) or not identity:
            raise malformed("a sub-device without a `device_id`")
        found.setdefault(identity, []).extend(_services(device.get("services"), received_at, known))
    bounded(sum(map(len, found.values())))
    return [Report(identity, values) for identity, values in found.items()]


def _services(services: object, received_at: Instant, known: Container[str]) -> list[Measurement]:
    if not isinstance(services, list):
        raise malformed("`services` is a list")
    found: list[Measurement] = []
    for service in services:
        properties = service.get("properties") if isinstance(service, dict) else None
        name = service.get("service_id") if isinstance(service, dict) else None
        if not isinstance(properties, dict) or not isinstance(name, str):
            raise malformed("a service is an object with `service_id` and `properties`")
        at = event_time(service.get("event_time"), received_at)
        longer = ((f"{name}/{key}", key, value) for key, value in properties.items())
        found += measurements(((full if full in known else key, value) for full, key, value in longer), at)
        bounded(len(found))
    return found


def event_time(text: object, received_at: Instant) -> Instant:
    """`20161219T114920Z` or `2020-08-12T12:12:12.333Z`; `received_at` for anything else."""
    if not isinstance(text, str):
        return received_at
    try:
        if _SECONDS.fullmatch(text):
            return instant(datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC))
        if _MILLISECONDS.fullmatch(text):
            return instant(datetime.fromisoformat(text[:-1]).replace(tzinfo=UTC))
    except ValueError:
        pass
    return received_at


def client_id(device_id: str, at: datetime, *, checked: bool = False) -> str:
    """What an IoTDA device connects as: `{id}_0_{0|1}_{YYYYMMDDHH}` (UTC); `checked` is whether the hour is."""
    return f"{device_id}_0_{int(checked)}_{at.astimezone(UTC):%Y%m%d%H}"


def password(secret: str, at: datetime) -> str:
    """What it proves itself with, under its id as user name: HMAC-SHA256 of its secret, keyed with the hour."""
    return hmac.new(f"{at.astimezone(UTC):%Y%m%d%H}".encode(), secret.encode(), hashlib.sha256).hexdigest()


def proves(secret: str, client: str, user: str, given: str, now: datetime) -> bool:
    """Whether this is how the device of that secret connects. The hour is held against the clock (an hour's difference
    is let pass) only where the client id says so: a device without a clock says 0, and its password is always the same.
    """
    parts = client.removeprefix(f"{user}_").split("_")
    if not client.startswith(f"{user}_") or len(parts) != 3 or parts[0] != "0" or parts[1] not in ("0", "1"):
        return False
    try:
        hour = datetime.strptime(parts[2], "%Y%m%d%H").replace(tzinfo=UTC)
    except ValueError:
        return False
    if parts[1] == "1" and abs(hour + timedelta(minutes=30) - now) > timedelta(minutes=90):
        return False
    return hmac.compare_digest(password(secret, hour), given)
