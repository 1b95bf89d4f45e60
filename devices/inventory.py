"""The device list as a CSV table, in and out: one device a row, design data in columns named `design.<name>`.

Pure: text in, devices out; the registry itself is `storage.registry`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping

from devices.document import DocumentError, suggest
from devices.model import Device, DeviceStatus
from devices.profile import Profile

_TEXTS = ("identity", "profile", "tag", "site", "area", "unit", "manufacturer", "model", "serial", "gateway")
_DESIGN = "design."


def parse_inventory(text: str, source: str, profiles: Mapping[str, Profile]) -> list[Device]:
    """The devices of a table; `DocumentError` with one `file:line: what is wrong` for each bad row, all at once."""
    reader = csv.DictReader(io.StringIO(text), strict=True)
    header = list(reader.fieldnames or ())
    problems = [
        f"{source}:1: unknown column ‘{name}’{suggest(name, [*_TEXTS, 'status'])}"
        for name in header
        if name not in _TEXTS and name != "status" and not name.startswith(_DESIGN)
    ]
    problems += [
        f"{source}:1: the column ‘{name}’ is missing" for name in ("identity", "profile") if name not in header
    ]
    if problems:
        raise DocumentError(problems)
    devices: dict[str, Device] = {}
    try:
        for row in reader:
            where = f"{source}:{reader.line_num}"
            try:
                device = _device(row, profiles)
                if device.identity in devices:
                    raise ValueError(f"the identity ‘{device.identity}’ stands twice in this table")
                devices[device.identity] = device
            except ValueError as error:
                problems.append(f"{where}: {error}")
    except csv.Error as error:
        problems.append(f"{source}:{reader.line_num}: {error}")
    if problems:
        raise DocumentError(problems)
    return list(devices.values())


def write_inventory(devices: Iterable[Device]) -> str:
    """The table of these devices; `parse_inventory` reads it back to the same."""
    listed = list(devices)
    design = sorted({name for device in listed for name in device.design})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_TEXTS, "status", *(_DESIGN + name for name in design)])
    for device in listed:
        texts = [getattr(device, name) for name in _TEXTS]
        writer.writerow([*texts, device.status.value, *(device.design.get(name, "") for name in design)])
    return out.getvalue()


def check_device(device: Device, profiles: Mapping[str, Profile]) -> None:
    """`ValueError` where a device cannot be registered."""
    if not device.identity or not device.identity.isprintable() or any(c in device.identity for c in "/+# "):
        raise ValueError(
            f"‘{device.identity}’ is no identity: no blanks and none of / + # (it is a level of MQTT topics)"
        )
    if device.profile not in profiles:
        raise ValueError(f"unknown profile ‘{device.profile}’{suggest(device.profile, list(profiles))}")
    for name, value in device.design.items():
        if not name or not math.isfinite(value):
            raise ValueError(f"design.{name}: {value} is not a finite number of something")


def _device(row: Mapping[str | None, str | list[str] | None], profiles: Mapping[str, Profile]) -> Device:
    if None in row or None in row.values():
        raise ValueError("the row has more or fewer fields than the header")
    texts = {name: str(row.get(name) or "").strip() for name in _TEXTS}
    design: dict[str, float] = {}
    for name, value in row.items():
        if name is not None and name.startswith(_DESIGN) and value:
            try:
                design[name.removeprefix(_DESIGN)] = float(str(value))
            except ValueError:
                raise ValueError(f"{name}: {value!r} is not a number") from None
    status = str(row.get("status") or DeviceStatus.ACTIVE.value)
    if status not in list(DeviceStatus):
        raise ValueError(f"status: {status!r} is neither ‘active’ nor ‘retired’")
    device = Device(**texts, design=design, status=DeviceStatus(status))  # type: ignore[arg-type]  # names of texts
    check_device(device, profiles)
    return device
