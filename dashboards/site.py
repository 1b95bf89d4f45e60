"""One site (ISA-101 level 2): its pumps and valves as they are now, and its process beside what is usual."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from dashboards import site_queries as sql
from dashboards import variables
from dashboards.assets import CONTACT, PRIORITIES, SITE_UID, linked
from dashboards.panels import (
    ACT,
    GREY,
    HIGH,
    LOOK,
    LOW,
    MEDIUM,
    PALE,
    badge,
    band_edge,
    coloured,
    counts,
    gauge,
    in_unit,
    measured_in,
    place,
    rows,
    trend,
    wide,
    words,
)
from dashboards.query import BEARING_NORMAL, BEARING_SAFE, FLOW_UNIT, PRESSURE_UNIT, Query

UID = SITE_UID
_NOTHING = "No good readings of such assets in this time range."
_DAY = 26 * 3_600_000


def build() -> Dashboard:
    """The dashboard; the same one at every call."""
    board = (
        variables.board(
            UID,
            "Site",
            "The process of one site (ISA-101 level 2): its pumps and valves with their state, pressures and flows "
            "against the band in which they usually are, and the balance. Click a tag for the asset itself.",
            ["isa-101-level-2"],
        )
        .variables([variables.data_source(), variables.one_site(), variables.areas(), *variables.hidden()])
        .annotations(variables.alarms(sql.ALARM_DEVICES))
    )
    for panel in (*_now(), *_assets(), *_process()):
        board = board.with_panel(panel)
    return board.build()


def _now() -> list[Builder[Panel]]:
    return [
        place(
            counts(),
            1,
            (0, 0, 14, 4),
            "Active alarms",
            "The site's alarms whose condition holds now, by priority, and how many of them nobody has taken note of. "
            "Normal: none high. To do: work from the left; the assets below are sorted by their worst alarm.",
            Query(sql.ACTIVE_ALARMS),
            nothing="0",
        )
        .override_by_name("High", coloured(((None, PALE), (1, HIGH))))
        .override_by_name("Medium", coloured(((None, PALE), (1, MEDIUM))))
        .override_by_name("Low", coloured(((None, PALE), (1, LOW))))
        .override_by_name("To acknowledge", coloured(((None, PALE), (1, LOOK)))),
        place(
            counts(),
            2,
            (14, 0, 10, 4),
            "Contact",
            "Devices by whether they are heard of, as last judged by the platform; being asleep counts as heard. "
            "Normal: all heard. To do: many silent at once point to the radio cell or the power; one alone to its "
            "battery or antenna.",
            Query(sql.CONTACT),
            nothing="0",
        )
        .override_by_name("Late", coloured(((None, PALE), (1, LOOK))))
        .override_by_name("Silent", coloured(((None, PALE), (1, ACT)))),
    ]


def _assets() -> list[Builder[Panel]]:
    return [
        linked(
            place(
                rows(),
                3,
                (0, 4, 24, 9),
                "Pumps",
                "Each pump with its newest values, the worst alarm first. Normal: no priority, zone A or B (up to 5.1 "
                f"mm/s), bearing up to {BEARING_NORMAL} °C. To do: click the tag of what stands out.",
                Query(sql.PUMPS),
                nothing="This site has no active pump.",
            )
            .override_by_name("Priority", [*words(PRIORITIES), *wide(90)])
            .override_by_name("Running", words({"1": ("runs", "transparent"), "0": ("stands still", PALE)}))
            .override_by_name("Flow", measured_in("Flow", FLOW_UNIT))
            .override_by_name("Suction", measured_in("Suction", PRESSURE_UNIT))
            .override_by_name("Discharge", measured_in("Discharge", PRESSURE_UNIT))
            .override_by_name("Power", in_unit("suffix: kW", 1))
            .override_by_name(
                "Vibration", [*in_unit("suffix: mm/s", 1), *gauge(((None, GREY), (5.1, LOOK), (8.5, ACT)), 0, 12)]
            )
            .override_by_name(
                "Bearing", [*in_unit("celsius", 0), *badge(((None, GREY), (BEARING_NORMAL, LOOK), (BEARING_SAFE, ACT)))]
            )
            .override_by_name("Contact", words(CONTACT)),
            "${site}",
        ),
        linked(
            place(
                rows(),
                4,
                (0, 13, 24, 9),
                "Valves",
                "Each valve with its newest values, the worst alarm first. Normal: no priority, position at its "
                "command. To do: click the tag of what stands out.",
                Query(sql.VALVES),
                nothing="This site has no active valve.",
            )
            .override_by_name("Priority", [*words(PRIORITIES), *wide(90)])
            .override_by_name("Position", [*in_unit("percent", 0), *gauge(((None, GREY),), 0, 100)])
            .override_by_name("Command", [*in_unit("percent", 0), *gauge(((None, PALE),), 0, 100)])
            .override_by_name("Flow", measured_in("Flow", FLOW_UNIT))
            .override_by_name("Inlet", measured_in("Inlet", PRESSURE_UNIT))
            .override_by_name("Outlet", measured_in("Outlet", PRESSURE_UNIT))
            .override_by_name("Torque", in_unit("suffix: Nm", 1))
            .override_by_name("Contact", words(CONTACT)),
            "${site}",
        ),
    ]


def _banded(unit: str) -> timeseries.Panel:
    """A trend in its grey band. Buckets are hours, or days in long time ranges."""
    banded = trend("none").axis_label(unit).insert_nulls(_DAY)
    return banded.override_by_name("p5", band_edge()).override_by_name("p95", band_edge("p5"))


def _process() -> list[Builder[Panel]]:
    return [
        place(
            _banded(PRESSURE_UNIT),
            5,
            (0, 22, 12, 8),
            "Discharge pressure",
            "The highest mean gauge pressure behind one of the site's pumps, by the hour. The grey band is where it "
            "was 90 % of the time at this hour of the day (UTC) in the time range and the four weeks before; beyond "
            "two months both are daily. Normal: inside. To do: below it look for a burst or a pump that stopped; above "
            "it for a closed valve.",
            Query(sql.DISCHARGE, "time_series"),
            nothing=_NOTHING,
        ),
        place(
            _banded(PRESSURE_UNIT),
            6,
            (12, 22, 12, 8),
            "District pressure",
            "Mean gauge pressure behind the site's valves by the hour, which is what customers get, with the band of "
            "the last four weeks. Normal: inside. To do: below it compare with the discharge beside: if that is "
            "normal, the trouble lies at a valve or in the district.",
            Query(sql.DISTRICT, "time_series"),
            nothing=_NOTHING,
        ),
        place(
            _banded(FLOW_UNIT),
            7,
            (0, 30, 12, 8),
            "Pumped",
            "Sum of the pumps' mean flows by the hour, with the band of the last four weeks. A pump that is not "
            "heard of is missing in it. Normal: inside. To do: above the band with less pressure is a burst; above "
            "it at night a leak, a tank that overflows, or a valve left open.",
            Query(sql.PUMPED, "time_series"),
            nothing=_NOTHING,
        ),
        place(
            _banded(FLOW_UNIT),
            8,
            (12, 30, 12, 8),
            "Through valves",
            "Sum of the valves' mean flows by the hour, with the band of the last four weeks. Normal: inside. To do: "
            "find the valve in the table above whose flow has changed.",
            Query(sql.DELIVERED, "time_series"),
            nothing=_NOTHING,
        ),
        place(
            trend("none").axis_label(FLOW_UNIT).insert_nulls(_DAY),
            9,
            (0, 38, 12, 8),
            "Balance",
            "What the pumps give less what goes through the valves, by the hour: into storage or lost, provided that "
            "every branch has a valve that measures. Normal: up while tanks fill, down while they empty, about zero "
            "over a day. To do: a difference that stays is a leak between them, or a meter that drifts.",
            Query(sql.BALANCE, "time_series"),
            nothing=_NOTHING,
        ),
        place(
            trend("suffix: kWh/m³").decimals(3).insert_nulls(_DAY).axis_soft_min(0),
            10,
            (12, 38, 12, 8),
            "Energy a cubic metre",
            "Electrical energy of the pumps over the water they gave, by the hour. Normal: level. To do: a rise at the "
            "same pressure is wear or an unlucky choice of pumps; see the efficiency of each.",
            Query(sql.ENERGY, "time_series"),
            nothing="No pump of the site delivered in this time range, or none reports its power.",
        ),
    ]
