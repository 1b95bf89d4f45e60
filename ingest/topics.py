"""What an MQTT topic says: whose message it is, and in which dialect."""

from __future__ import annotations

from typing import NamedTuple

from devices.model import Codec

FILTERS = (
    "headworks/+/telemetry",
    "$oc/devices/+/sys/properties/report",
    "$oc/devices/+/sys/gateway/sub_devices/properties/report",
    "v1/devices/+/telemetry",
    "v1/gateway/telemetry",
)
"""Our own, Huawei IoTDA's and ThingsBoard's."""


class Address(NamedTuple):
    """`identity` is None where only the payload names devices; `codec` where content type and profile say it."""

    identity: str | None
    codec: Codec | None


def address_of(topic: str) -> Address | None:
    """None for a topic that means nothing here."""
    parts = topic.split("/")
    if len(parts) == 3 and parts[0] == "headworks" and parts[2] == "telemetry":
        return Address(parts[1], None)  # nearly all of them; a match over patterns takes six times as long
    match parts:
        case ["$oc", "devices", identity, "sys", "properties", "report"]:
            return Address(identity, Codec.IOTDA)
        case ["$oc", "devices", identity, "sys", "gateway", "sub_devices", "properties", "report"]:
            return Address(identity, Codec.IOTDA_GATEWAY)
        case ["v1", "devices", identity, "telemetry"]:
            return Address(identity, Codec.THINGSBOARD)
        case ["v1", "gateway", "telemetry"]:
            return Address(None, Codec.THINGSBOARD_GATEWAY)
    return None


def own_topics(identity: str) -> list[str]:
    """Where a device may write. One in whose name a topic cannot be read alone may write nowhere."""
    if not identity or set(identity) & set("/+#"):
        return []
    # Nothing in v1/gateway/telemetry says who has sent it, so it is nobody's own.
    return [one.replace("+", identity) for one in FILTERS if "+" in one]
