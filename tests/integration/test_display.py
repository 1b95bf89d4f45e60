"""Where sites lie, which units they read, and what a platform says of itself, on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pint import UnitRegistry
from typer.testing import CliRunner, Result

from devices.model import HOUR, MINUTE, SECOND
from headworks.cli import app
from headworks.heartbeat import heartbeat
from headworks.settings import Settings
from storage.api_queries_plant import set_time_zone, time_zones
from storage.database import Connection, connect
from storage.display import QUANTITIES, PlatformState, SiteDisplay, platform_seen, set_display, site_displays, units
from storage.maintenance import Keep
from storage.spool import Spool

NOW = 1_790_000_000 * SECOND
_PINT = {"m³/h": "m**3/hour", "l/s": "liter/second", "m³/d": "m**3/day", "US gpm": "gallon/minute"}


@pytest.fixture
def connection(registered: str) -> Iterator[Connection]:
    with connect(registered) as found:
        yield found


def test_the_factors_are_those_of_the_units(connection: Connection) -> None:
    registry: UnitRegistry[float] = UnitRegistry()
    # A metre of water at 4 °C under standard gravity, which is what gauges in it are marked by.
    registry.define("water_metre = 9806.65 pascal")
    for quantity, stored in (("pressure", "bar"), ("flow", "m**3/hour")):
        found = units(connection, quantity)
        assert next(iter(found.values())) == 1, "the stored unit stands first"
        for unit, factor in found.items():
            other = {"mH₂O": "water_metre"}.get(unit, _PINT.get(unit, unit))
            assert factor == pytest.approx(registry.Quantity(1, stored).to(other).magnitude, rel=1e-12), unit
    assert all(len(units(connection, quantity)) > 1 for quantity in QUANTITIES)


def test_a_site_has_a_place_and_units_with_or_without_a_time_zone(connection: Connection) -> None:
    shown = SiteDisplay(31.23, 121.47, "MPa", "l/s")
    set_display(connection, "North", shown)
    assert time_zones(connection) == {}
    set_time_zone(connection, "North", "Asia/Shanghai")
    set_time_zone(connection, "South", "Europe/Berlin")
    assert site_displays(connection) == {"North": shown, "South": SiteDisplay()}
    set_time_zone(connection, "North", None)
    assert site_displays(connection)["North"] == shown, "taking one thing back leaves the other"
    assert time_zones(connection) == {"South": "Europe/Berlin"}


def test_no_place_outside_of_the_earth(connection: Connection) -> None:
    for place in ((91.0, 0.0), (0.0, 181.0), (1.0, None)):
        with pytest.raises(psycopg.errors.CheckViolation):
            set_display(connection, "North", SiteDisplay(*place))


def sites(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(
        app,
        ["sites", "set", *arguments],
        env={"HEADWORKS_DATABASE_URL": f"postgresql:///?{url.replace(' ', '&')}", "COLUMNS": "200"},
    )


def test_the_command_sets_what_is_given_and_leaves_the_rest(registered: str, connection: Connection) -> None:
    done = sites(registered, "North", "--position", "31.23, 121.47", "--pressure-unit", "MPa")
    assert done.exit_code == 0, done.output
    assert done.output == "North: HEADWORKS_TIME_ZONE; 31.23000, 121.47000; MPa, m³/h\n"
    assert sites(registered, "North", "--flow-unit", "l/s", "--time-zone", "Asia/Shanghai").exit_code == 0
    assert site_displays(connection) == {"North": SiteDisplay(31.23, 121.47, "MPa", "l/s")}
    assert sites(registered, "North", "--position", "", "--pressure-unit", "").exit_code == 0
    assert site_displays(connection) == {"North": SiteDisplay(flow_unit="l/s")}
    assert time_zones(connection) == {"North": "Asia/Shanghai"}


def test_what_cannot_be_is_refused(registered: str, connection: Connection) -> None:
    for arguments, said in (
        (("North", "--position", "91,0"), "is no position; write degrees north and east"),
        (("North", "--position", "here"), "is no position; write degrees north and east"),
        (("North", "--pressure-unit", "furlong"), "is no unit of pressure here; choose of bar"),
        (("Elsewhere", "--flow-unit", "l/s"), "no device has the site 'Elsewhere'"),
    ):
        done = sites(registered, *arguments)
        assert done.exit_code != 0
        assert said in " ".join(done.output.replace("│", " ").split())
    assert site_displays(connection) == {}


def test_a_platform_says_that_it_is_there_with_its_spool(connection: Connection, tmp_path: Path) -> None:
    settings = Settings(console_url="https://console.example", spool_bytes=1_000_000, instance="a")
    spool = Spool(tmp_path / "spool.db", 1_000_000, lambda _: 0)
    try:
        task = heartbeat(settings, NOW, spool, lambda: {"dry-run": "unknown metric"})
        for at in (NOW + MINUTE, NOW + 2 * MINUTE):
            task.run(connection, at, Keep())
    finally:
        spool.close()
    platform_seen(connection, PlatformState("b", "1.0", "http://127.0.0.1:8080", NOW), NOW + HOUR)
    rows = connection.execute(
        "SELECT instance, console_url, extract(epoch FROM seen_at)::int, has_spool, spool_waiting, failing"
        " FROM platform_instance ORDER BY 1"
    ).fetchall()
    assert rows == [
        ("a", "https://console.example", (NOW + 2 * MINUTE) // SECOND, True, 0, {"dry-run": "unknown metric"}),
        ("b", "http://127.0.0.1:8080", (NOW + HOUR) // SECOND, False, 0, {}),
    ]


def test_readings_on_disk_are_told_on_every_edition(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO reading SELECT to_timestamp(1790000000 + n), 1, 1, n, 192 FROM generate_series(1, 5000) n"
    )
    connection.execute("ANALYZE reading")
    row = connection.execute("SELECT readings, bytes, chunks, columnar FROM reading_storage()").fetchone()
    assert row is not None
    readings, size, chunks, columnar = (int(str(value)) for value in row)
    assert readings == pytest.approx(5000, rel=0.05)
    assert size > 5000 * 40
    assert (chunks >= 1, columnar) == (True, 0)
