"""What stands around the panels of every dashboard: variables, alarm annotations, and the links between dashboards.

The variables are the same everywhere and are called the same, so that a link can hand them on: `site`, `area`, and
`asset`, whose value is the registry's number of a device. A number survives a rename, and no name with a quote in it
can break a query. Three more are hidden: the units in which the chosen sites read pressures and flows, and where the
console is. The database knows them, so files from a disk need no editing.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    DashboardCursorSync,
    DashboardLinkType,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from dashboards import variables_queries as sql
from dashboards.panels import HIGH, MEDIUM
from dashboards.query import DATA_SOURCE, PLUGIN, AssetKind, Query
from devices.alarm import Priority

TAG = "headworks"
"""On every dashboard of ours: the menu of dashboards finds them by it."""

_CONSOLE = "${console:raw}"
_HANDED_ON = "var-datasource=${datasource:percentencode}&${__url_time_range}"


def board(uid: str, title: str, description: str, tags: list[str]) -> builders.Dashboard:
    """A dashboard as all of ours begin: 24 hours, read only, with the menu of the others."""
    return (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG, *tags])
        .timezone("browser")
        .time("now-24h", "now")
        .refresh("1m")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .links(
            [
                builders.DashboardLink("Dashboards")
                .type(DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .as_dropdown(True)  # noqa: FBT003
                .keep_time(True)  # noqa: FBT003
                .include_vars(True),  # noqa: FBT003
                builders.DashboardLink("Console")
                .type(DashboardLinkType.LINK)
                .icon("bell")
                .tooltip("Work on alarms: acknowledge, shelve, look up what to do")
                .url(f"{_CONSOLE}/#/alarms")
                .target_blank(True),  # noqa: FBT003
            ]
        )
    )


def data_source() -> builders.DatasourceVariable:
    """The database, chosen at the top."""
    return builders.DatasourceVariable("datasource").label("Database").type(PLUGIN)


def sites() -> builders.QueryVariable:
    """Any number of sites, all at first."""
    return _several("site", "Site", sql.SITES)


def one_site() -> builders.QueryVariable:
    """One site, the first by name at first."""
    return _query("site", "Site", sql.SITES)


def areas() -> builders.QueryVariable:
    """Any number of areas of the chosen sites, all at first."""
    return _several("area", "Area", sql.AREAS)


def asset(kind: AssetKind) -> builders.QueryVariable:
    """One pump or valve of the chosen sites and areas."""
    return _query("asset", kind.capitalize(), sql.assets(kind))


def hidden() -> list[builders.QueryVariable]:
    """Units and console; last, as they depend on the sites that are chosen."""
    return [
        _query("pressure_unit", "Unit of pressure", sql.unit("pressure")).hide(VariableHide.HIDE_VARIABLE),
        _query("flow_unit", "Unit of flow", sql.unit("flow")).hide(VariableHide.HIDE_VARIABLE),
        _query("console", "Console", sql.CONSOLE).hide(VariableHide.HIDE_VARIABLE),
    ]


def _query(name: str, label: str, query: str) -> builders.QueryVariable:
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(DATA_SOURCE)
        .query(query.strip())
        .definition(query.strip())
        .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
        .sort(VariableSort.DISABLED)
        .allow_custom_value(False)  # noqa: FBT003
    )


def _several(name: str, label: str, query: str) -> builders.QueryVariable:
    return (
        _query(name, label, query)
        .multi(True)  # noqa: FBT003
        .include_all(True)  # noqa: FBT003
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def alarms(where: str) -> list[Builder[AnnotationQuery]]:
    """High and medium alarms as regions in every trend; `where` chooses their devices `d`."""
    return [_alarms(Priority.HIGH, HIGH, where), _alarms(Priority.MEDIUM, MEDIUM, where)]


def _alarms(priority: Priority, colour: str, where: str) -> builders.AnnotationQuery:
    return (
        builders.AnnotationQuery()
        .name(f"{priority.capitalize()} alarms")
        .datasource(DATA_SOURCE)
        .enable(True)  # noqa: FBT003
        .icon_color(colour)
        .target(Query(sql.alarm_annotations(priority, where), "table", "Anno"))
    )


def url(uid: str, **values: str) -> str:
    """The address of a dashboard of ours, with the time range, the database and other variables handed on.

    `uid` and the values may be Grafana expressions such as `${__data.fields.Asset}`; values are encoded here.
    """
    given = "".join(f"&var-{name}={value.removesuffix('}')}:percentencode}}" for name, value in values.items())
    return f"/d/{uid}?{_HANDED_ON}{given}"


def asset_url(site: str) -> str:
    """The dashboard of a row's asset; the row has `query.ASSET_COLUMNS`, and `site` is where its site's name is."""
    return url("headworks-${__data.fields.Board}", site=site, asset="${__data.fields.Asset}")


CONSOLE_ASSET = f"{_CONSOLE}/#/assets/${{__data.fields.Device:percentencode}}"
"""The console's page of a row's asset."""
CONSOLE_ALARM = f"{_CONSOLE}/#/alarms/${{__data.fields.Number:percentencode}}"
"""The console's list with a row's alarm open."""
