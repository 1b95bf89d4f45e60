"""The device registry and the metric catalogue as the database knows them, with their numbers.

The pure rooms speak of devices and metrics by name; the numbers that the hypertable uses are given and looked up here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from devices.metrics import CATALOGUE
from devices.model import Calibration, Device, DeviceStatus, Quality, moment
from devices.profile import Profile
from storage.database import Connection, unavailable

_COLUMNS = "identity, profile, tag, site, area, unit, manufacturer, model, serial, gateway, design, status"
_PROTECTED = "EXISTS (SELECT FROM credential c WHERE c.device_id = device.device_id AND c.kind IN ('oscore', 'psk'))"


_CALIBRATIONS = (
    "(SELECT jsonb_agg(jsonb_build_array(m.name, (extract(epoch FROM c.valid_from) * 1000000)::bigint, c.gain,"
    ' c."offset") ORDER BY c.valid_from) FROM calibration c JOIN metric m USING (metric_id)'
    " WHERE c.device_id = device.device_id)"
)


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
        # By COPY through a table of this transaction's own: a hundred thousand devices are a matter of seconds.
        connection.execute(
            "CREATE TEMPORARY TABLE incoming (ord integer GENERATED ALWAYS AS IDENTITY, identity text, profile text,"
            " tag text, site text, area text, unit text, manufacturer text, model text, serial text, gateway text,"
            " design jsonb, status text, kind text, report_interval interval) ON COMMIT DROP"
        )
        with connection.cursor().copy(f"COPY incoming ({_COLUMNS}, kind, report_interval) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        connection.execute(
            f"INSERT INTO device ({_COLUMNS}, kind, report_interval)"  # noqa: S608 - a constant of this module
            f" SELECT DISTINCT ON (identity) {_COLUMNS}, kind, report_interval FROM incoming"
            " ORDER BY identity, ord DESC"
            " ON CONFLICT (identity) DO UPDATE SET"
            " (profile, tag, site, area, unit, manufacturer, model, serial, gateway, design,"
            " status, kind, report_interval) = (excluded.profile, excluded.tag, excluded.site, excluded.area,"
            " excluded.unit, excluded.manufacturer, excluded.model, excluded.serial, excluded.gateway,"
            " excluded.design, excluded.status,"
            " excluded.kind, excluded.report_interval)"
        )
        connection.execute("DROP TABLE incoming")  # another call may follow in the same transaction
    return len(rows)


def find(connection: Connection, identities: Sequence[str]) -> dict[str, Registered]:
    """The registered devices among these identities, retired ones too."""
    with unavailable():
        rows = connection.execute(
            f"SELECT device_id, {_COLUMNS}, {_PROTECTED}, {_CALIBRATIONS} FROM device WHERE identity = ANY(%s)",  # noqa: S608
            (list(identities),),
        ).fetchall()
    return {registered.device.identity: registered for registered in map(_registered, rows)}


def all_devices(connection: Connection, site: str | None = None) -> list[Registered]:
    """Every device, or those of one site, by site and tag."""
    with unavailable():
        rows = connection.execute(
            f"SELECT device_id, {_COLUMNS}, {_PROTECTED}, {_CALIBRATIONS} FROM device"  # noqa: S608
            " WHERE %s::text IS NULL OR site = %s ORDER BY site, tag, identity",
            (site, site),
        ).fetchall()
    return [_registered(row) for row in rows]


def calibrate(connection: Connection, identity: str, metric: str, calibration: Calibration, note: str = "") -> bool:
    """Correct a metric's values from a sample time on; what is stored stays as it is. False for an unknown device or
    metric. `ValueError` where that metric has a calibration of that very time: history is not rewritten."""
    with unavailable():
        done = connection.execute(
            'INSERT INTO calibration (device_id, metric_id, valid_from, gain, "offset", note)'
            " SELECT d.device_id, m.metric_id, %s, %s, %s, %s FROM device d, metric m"
            " WHERE d.identity = %s AND m.name = %s ON CONFLICT DO NOTHING RETURNING true",
            (moment(calibration.since), calibration.gain, calibration.offset, note, identity, metric),
        )
        if done.fetchone():
            return True
        known = connection.execute(
            "SELECT FROM calibration c JOIN device d USING (device_id) JOIN metric m USING (metric_id)"
            " WHERE d.identity = %s AND m.name = %s AND c.valid_from = %s",
            (identity, metric, moment(calibration.since)),
        )
        if known.fetchone():
            raise ValueError(f"{identity} has a calibration of {metric} from that very time; give another one")
    return False


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
        calibrated,
    ) = row
    calibrations: dict[str, list[Calibration]] = {}
    for metric, since, gain, offset in calibrated if isinstance(calibrated, list) else ():
        calibrations.setdefault(str(metric), []).append(Calibration(int(since), float(gain), float(offset)))
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
        calibrations=calibrations,
        protected=bool(protected),
    )
    return Registered(number, device)


@dataclass(frozen=True, slots=True)
class Latest:
    """A device's newest reading of one metric, as people read it."""

    metric: str
    value: float
    unit: str
    quality: Quality
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
        Latest(str(name), float(str(value)), str(unit), Quality(int(str(quality))), measured_at)
        for name, value, unit, quality, measured_at in rows
        if isinstance(measured_at, datetime)
    ]
