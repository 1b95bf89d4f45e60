"""What an MQTT topic says: whose message it is, and in which dialect."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

from devices.model import Codec

FILTERS = (
    "headworks/+/telemetry",
    "$oc/devices/+/sys/properties/report",
    "$oc/devices/+/sys/gateway/sub_devices/properties/report",
    "v1/devices/+/telemetry",
    "v1/gateway/telemetry",
)
"""Our own, Huawei IoTDA's and ThingsBoard's."""

SPARKPLUG = (
    "spBv1.0/+/NBIRTH/+",
    "spBv1.0/+/NDATA/+",
    "spBv1.0/+/NDEATH/+",
    "spBv1.0/+/DBIRTH/+/+",
    "spBv1.0/+/DDATA/+/+",
    "spBv1.0/+/DDEATH/+/+",
)
"""What a Sparkplug B host listens to; `ingest.sparkplug_session` reads these topics."""

GATEWAY_RIGHTS = (
    *(f"read {one}" for one in (*FILTERS, *SPARKPLUG)),
    "readwrite spBv1.0/STATE/+",
    "write spBv1.0/+/NCMD/+",
)
"""What the platform may do at the broker, as mosquitto's ACL files say it."""


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


def own_rights(identity: str) -> list[str]:
    """What a device may do at the broker: speak for itself. One in whose name a topic cannot be read alone may nothing.

    A Sparkplug edge node speaks for its devices too and hears its commands; a device behind one has no own topic.
    """
    if not identity or set(unquote(identity)) & set("/+#"):
        return []
    if identity.startswith("spBv1.0:"):
        return _edge_nodes_rights(*identity.split(":")[1:])
    # Nothing in v1/gateway/telemetry says who has sent it, so it is nobody's own.
    return [f"write {one.replace('+', identity)}" for one in FILTERS if "+" in one]


def _edge_nodes_rights(group: str, node: str = "", *device: str) -> list[str]:
    if not group or not node or device:
        return []
    group, node = unquote(group), unquote(node)
    own = [f"write {one.replace('+', group, 1).replace('+', node, 1)}" for one in SPARKPLUG]
    return [*own, f"read spBv1.0/{group}/NCMD/{node}", f"read spBv1.0/{group}/DCMD/{node}/+", "read spBv1.0/STATE/+"]
