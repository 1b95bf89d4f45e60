"""What dashboards need beyond readings and alarms: where sites lie and which units they read; what platforms say of
themselves. The dashboards' own queries are in `dashboards/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg.types.json import Jsonb

from devices.model import Instant, moment
from storage.database import Connection, unavailable

QUANTITIES = ("pressure", "flow")
"""What can be shown in several units."""


@dataclass(frozen=True, slots=True)
class SiteDisplay:
    """Degrees north and east (WGS 84), both or none; a unit is None where it is the stored one."""

    latitude: float | None = None
    longitude: float | None = None
    pressure_unit: str | None = None
    flow_unit: str | None = None


@dataclass(frozen=True, slots=True)
class PlatformState:
    """What one platform process says of itself once a minute; `spool` is its number, None where there is none, and
    `failing` are the rules that it cannot calculate, each with why."""

    instance: str
    version: str
    console_url: str
    started_at: Instant
    spool: str | None = None
    spool_waiting: int = 0
    spool_bytes: int = 0
    spool_limit: int = 0
    failing: Mapping[str, str] = field(default_factory=dict)


def units(connection: Connection, quantity: str) -> dict[str, float]:
    """The units a quantity can be shown in, and how many of each are one of the stored unit."""
    with unavailable():
        rows = connection.execute(
            "SELECT unit, factor FROM display_unit WHERE quantity = %s ORDER BY factor = 1 DESC, unit", (quantity,)
        ).fetchall()
    return {str(unit): float(str(factor)) for unit, factor in rows}


def site_displays(connection: Connection) -> dict[str, SiteDisplay]:
    """Of every site of which something is known."""
    with unavailable():
        rows = connection.execute(
            "SELECT site, latitude, longitude, pressure_unit, flow_unit FROM site ORDER BY site"
        ).fetchall()
    return {str(site): SiteDisplay(*rest) for site, *rest in rows}  # type: ignore[arg-type]  # the columns' types


def set_display(connection: Connection, site: str, display: SiteDisplay) -> None:
    """Say where a site lies and which units its people read, all of it anew."""
    with unavailable():
        connection.execute(
            "INSERT INTO site (site, latitude, longitude, pressure_unit, flow_unit) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (site) DO UPDATE SET latitude = excluded.latitude, longitude = excluded.longitude,"
            " pressure_unit = excluded.pressure_unit, flow_unit = excluded.flow_unit",
            (site, display.latitude, display.longitude, display.pressure_unit, display.flow_unit),
        )


def platform_seen(connection: Connection, state: PlatformState, now: Instant) -> None:
    """Write down what a platform process says of itself."""
    with unavailable():
        connection.execute(
            "INSERT INTO platform_state VALUES (%s, %s, %s, %s, %s, %s::uuid, %s, %s, %s, %s)"
            " ON CONFLICT (instance) DO UPDATE SET version = excluded.version, console_url = excluded.console_url,"
            " started_at = excluded.started_at, seen_at = excluded.seen_at, spool = excluded.spool,"
            " spool_waiting = excluded.spool_waiting, spool_bytes = excluded.spool_bytes,"
            " spool_limit = excluded.spool_limit, failing = excluded.failing",
            (
                state.instance, state.version, state.console_url, moment(state.started_at), moment(now), state.spool,
                state.spool_waiting, state.spool_bytes, state.spool_limit, Jsonb(dict(state.failing)),
            ),
        )  # fmt: skip
