"""The device registry and the metric catalogue as the database knows them, with their numbers.

The pure rooms speak of devices and metrics by name; the numbers that the hypertable uses are given and looked up here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from devices.metrics import CATALOGUE
from devices.model import Device, DeviceStatus, Quality
from devices.profile import Profile
from storage.database import Connection, unavailable

_COLUMNS = "identity, profile, tag, site, area, unit, manufacturer, model, serial, gateway, design, status"
_PROTECTED = "EXISTS (SELECT FROM credential c WHERE c.device_id = device.device_id AND c.kind IN ('oscore', 'psk'))"


@dataclass(frozen=True, slots=True)
class Registered:
    """A device with the number under which its readings are stored."""

    device_id: int
    device: Device


def sync_metrics(connection: Connection) -> dict[str, int]:
    """Make the database know every metric of the catalogue; returns the number of each name.

    A metric never changes its unit once values are stored under it: that is refused with `ValueError`.
    """
    with unavailable(), connection.transaction():
        connection.cursor().executemany(
            "INSERT INTO metric (name, unit, description) VALUES (%s, %s, %s)"
            " ON CONFLICT (name) DO UPDATE SET description = excluded.description"
            " WHERE metric.description <> excluded.description",
            [(metric.name, metric.unit, metric.description) for metric in CATALOGUE.values()],
        )
        rows = connection.execute("SELECT name, metric_id, unit FROM metric").fetchall()
        for name, _, unit in rows:
            known = CATALOGUE.get(str(name))
            if known is not None and known.unit != unit:
                raise ValueError(f"metric {name!r} is stored in {unit!r}, but the catalogue now says {known.unit!r}")
    return {str(name): int(str(number)) for name, number, _ in rows}


def register(connection: Connection, devices: Iterable[Device], profiles: Mapping[str, Profile]) -> int:
    """Add devices, or bring known ones up to date; returns how many there were. All of them or none.

    `ValueError` naming the device where its profile is not known.
    """
    rows = []
    for device in devices:
        profile = profiles.get(device.profile)
        if profile is None:
            raise ValueError(
                f"device {device.identity!r}: there is no profile {device.profile!r}; known are {', '.join(profiles)}"
            )
        rows.append(
            (
                device.identity, device.profile, device.tag, device.site, device.area, device.unit,
                device.manufacturer, device.model, device.serial, device.gateway, Jsonb(dict(device.design)),
                device.status.value, profile.kind.value, f"{profile.reporting.interval} microseconds",
            )
        )  # fmt: skip
    with unavailable(), connection.transaction():
        connection.cursor().executemany(
            f"INSERT INTO device ({_COLUMNS}, kind, report_interval)"  # noqa: S608 - a constant of this module
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::interval)"
            " ON CONFLICT (identity) DO UPDATE SET"
            " (profile, tag, site, area, unit, manufacturer, model, serial, gateway, design,"
            " status, kind, report_interval) = (excluded.profile, excluded.tag, excluded.site, excluded.area,"
            " excluded.unit, excluded.manufacturer, excluded.model, excluded.serial, excluded.gateway,"
            " excluded.design, excluded.status,"
            " excluded.kind, excluded.report_interval)",
            rows,
        )
    return len(rows)


def find(connection: Connection, identities: Sequence[str]) -> dict[str, Registered]:
    """The registered devices among these identities, retired ones too."""
    with unavailable():
        rows = connection.execute(
            f"SELECT device_id, {_COLUMNS}, {_PROTECTED} FROM device WHERE identity = ANY(%s)",  # noqa: S608
            (list(identities),),
        ).fetchall()
    return {registered.device.identity: registered for registered in map(_registered, rows)}


def all_devices(connection: Connection, site: str | None = None) -> list[Registered]:
    """Every device, or those of one site, by site and tag."""
    with unavailable():
        rows = connection.execute(
            f"SELECT device_id, {_COLUMNS}, {_PROTECTED} FROM device"  # noqa: S608
            " WHERE %s::text IS NULL OR site = %s ORDER BY site, tag, identity",
            (site, site),
        ).fetchall()
    return [_registered(row) for row in rows]


def retire(connection: Connection, identity: str) -> bool:
    """Take a device out of service: its uplinks are refused from now on, its history stays. False if unknown."""
    with unavailable():
        done = connection.execute("UPDATE device SET status = 'retired' WHERE identity = %s", (identity,))
    return done.rowcount == 1


def _registered(row: tuple[object, ...]) -> Registered:
    (
        number,
        identity,
        profile,
        tag,
        site,
        area,
        unit,
        manufacturer,
        model,
        serial,
        gateway,
        design,
        status,
        protected,
    ) = row
    assert isinstance(number, int)
    assert isinstance(design, dict)
    device = Device(
        identity=str(identity),
        profile=str(profile),
        tag=str(tag),
        site=str(site),
        area=str(area),
        unit=str(unit),
        manufacturer=str(manufacturer),
        model=str(model),
        serial=str(serial),
        gateway=str(gateway),
        design={str(key): float(value) for key, value in design.items()},
        status=DeviceStatus(str(status)),
        protected=bool(protected),
    )
    return Registered(number, device)


@dataclass(frozen=True, slots=True)
class Latest:
    """A device's newest reading of one metric, as people read it."""

    metric: str
    value: float
    unit: str
    quality: str
    measured_at: datetime


def latest(connection: Connection, device_id: int) -> list[Latest]:
    """The newest reading of each metric of a device, by metric name."""
    with unavailable():
        rows = connection.execute(
            "SELECT m.name, l.value, m.unit, l.quality, l.measured_at FROM latest l JOIN metric m USING (metric_id)"
            " WHERE l.device_id = %s ORDER BY m.name",
            (device_id,),
        ).fetchall()
    return [
        Latest(str(name), float(str(value)), str(unit), Quality(int(str(quality))).name.lower(), measured_at)
        for name, value, unit, quality, measured_at in rows
        if isinstance(measured_at, datetime)
    ]
