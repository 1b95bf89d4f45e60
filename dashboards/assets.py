"""Panels that the dashboards of a pump and of a valve share."""

from __future__ import annotations

from grafana_foundation_sdk.builders import table

from dashboards import history, variables
from dashboards.panels import (
    ACT,
    HIGH,
    LOOK,
    LOW,
    MEDIUM,
    PALE,
    hidden,
    in_unit,
    link,
    links,
    measured_in,
    place,
    rows,
    wide,
    words,
)
from dashboards.query import ASSET, FLOW_UNIT, Query

ASSET_DEVICES = f"d.device_id = {ASSET}"
"""For annotations: the chosen asset's alarms only."""

PRIORITIES = {"high": ("HIGH", HIGH), "medium": ("MEDIUM", MEDIUM), "low": ("LOW", LOW), "none": ("–", "transparent")}

CONTACT = {
    "late": ("late", LOOK),
    "silent": ("silent", ACT),
    "cut off": ("cut off", ACT),
    "flat battery": ("flat battery", ACT),
    "out of coverage": ("out of coverage", ACT),
    "never heard": ("never heard", PALE),
}
"""What `device_contact` says, by words; being heard and being asleep are normal."""

STATES = {
    "unacknowledged": ("active, unacknowledged", PALE),
    "acknowledged": ("active, acknowledged", "transparent"),
    "returned_unacknowledged": ("returned, unacknowledged", "transparent"),
    "latched": ("latched", PALE),
    "normal": ("over", "transparent"),
}

KINDS = {"pump": ("pump", "transparent"), "valve": ("valve", "transparent"), "meter": ("meter", "transparent")}

CLASSES = {
    name: (name, "transparent") for name in ("safety", "environment", "equipment", "process", "security", "instrument")
}
"""Alarm classes by words."""

SITE_UID = "headworks-site"

_UNITS = {
    "Rated head": ("suffix: m", 0),
    "Rated power": ("suffix: kW", 1),
    "Rated speed": ("suffix: rpm", 0),
    "Stroke time": ("s", 0),
    "DN": ("prefix:DN ", 0),
    "PN": ("prefix:PN ", 0),
    "Kv": ("suffix: m³/h", 0),
}


def nameplate(panel_id: int, at: tuple[int, int, int, int], sql: str, columns: list[str]) -> table.Panel:
    """Who the asset is."""
    panel = place(
        rows(),
        panel_id,
        at,
        "Nameplate",
        "What the registry knows of the asset, and whether it is heard of. Normal: every number filled in, as limits "
        "and curves below are drawn from them. To do: complete what is empty with `headworks devices import`.",
        Query(sql),
        nothing="Choose an asset at the top. If none is offered, register one: `headworks devices add`.",
    )
    for column in columns:
        unit = measured_in(column, FLOW_UNIT) if column == "Rated flow" else in_unit(*_UNITS[column])
        panel = panel.override_by_name(column, unit)
    return (
        panel.override_by_name("Contact", words(CONTACT))
        .override_by_name("Tag", link("This asset in the console", variables.CONSOLE_ASSET))
        .override_by_name("Site", link("This site", variables.url(SITE_UID, site="${__data.fields.Site}")))
        .override_by_name("Device", hidden())
    )


def linked(panel: table.Panel, site: str = "${__data.fields.Site}") -> table.Panel:
    """Make the tags of a table links to each asset's dashboard and console page; its query has `ASSET_COLUMNS`."""
    targets = (("This asset", variables.asset_url(site)), ("This asset in the console", variables.CONSOLE_ASSET))
    panel = panel.override_by_name("Tag", links(*targets))
    for name in ("Asset", "Device", "Board"):
        panel = panel.override_by_name(name, hidden())
    return panel


def numbered(panel: table.Panel) -> table.Panel:
    """Make the words of an alarm a link to it in the console; its query has its number as “Number”."""
    target = link("This alarm in the console", variables.CONSOLE_ALARM)
    return panel.override_by_name("What", target).override_by_name("Number", hidden())


def alarms(panel_id: int, at: tuple[int, int, int, int]) -> table.Panel:
    """The asset's alarms."""
    return numbered(
        place(
            rows(),
            panel_id,
            at,
            "Alarms",
            "The asset's alarms that are not over, and those of the time range, newest first; at most 50. Normal: "
            "empty, or a few that are over. To do: the column “To do” has the rule's own guidance; acknowledge what "
            "you have understood.",
            Query(history.ALARMS),
            nothing="No alarm is active, and none was in this time range.",
        )
        .override_by_name("Priority", [*words(PRIORITIES), *wide(90)])
        .override_by_name("State", [*words(STATES), *wide(180)])
        .override_by_name("Since", wide(170))
        .override_by_name("Lasting", [*in_unit("dtdurations"), *wide(140)])
    )
