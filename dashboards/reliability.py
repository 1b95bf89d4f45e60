"""Reliability by maker and model: evidence from the field, with its uncertainty, for who grades or buys."""

from __future__ import annotations

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from dashboards import reliability_queries as sql
from dashboards import variables
from dashboards.assets import KINDS
from dashboards.panels import GREY, LOOK, PALE, badge, days, gauge, in_unit, place, rows, words
from dashboards.query import IN_SITES, Query

UID = "headworks-reliability"
_NOTHING = "No device of these sites has told anything in this time range."
_INTERVAL = (
    "With each rate stand the bounds between which the true one lies with 95 %: few device-years say little, whatever "
    "the rate. "
)


def build() -> Dashboard:
    """The dashboard; the same one at every call."""
    board = (
        variables.board(
            UID,
            "Reliability by maker and model",
            "Failures, alarms and defects a device-year by maker and model, with confidence intervals, battery life "
            "and completeness of data: for an association that grades quality, or a buyer. Choose a year at the top.",
            ["quality"],
        )
        .time("now-1y", "now")
        .variables([variables.data_source(), variables.sites(), *variables.hidden()])
        .annotations(variables.alarms(IN_SITES))
    )
    for panel in _panels():
        board = board.with_panel(panel)
    return board.build()


def _rates(panel: table.Panel) -> table.Panel:
    for name in ("Failures", "Alarms", "Defects"):
        panel = panel.override_by_name(f"{name} a year", in_unit("none", 2))
        panel = panel.override_by_name(f"{name}, at least", in_unit("none", 2))
        panel = panel.override_by_name(f"{name}, at most", in_unit("none", 2))
    return (
        panel.override_by_name("Kind", words(KINDS))
        .override_by_name("Device-years", in_unit("none", 2))
        .override_by_name("Days with data", gauge(((None, LOOK), (95, GREY)), 0, 100))
        .override_by_name("Battery life", [*in_unit("suffix: years", 1), *badge(((None, LOOK), (6, PALE)))])
    )


def _panels() -> list[Builder[Panel]]:
    return [
        _rates(
            place(
                rows(),
                1,
                (0, 0, 24, 9),
                "By maker",
                "Device-years are days on which a device told something. Failures are high alarms of equipment and "
                "safety, defects are alarms of the device itself. " + _INTERVAL + "Normal: intervals that overlap: no "
                "difference is shown. To do: ask a maker whose least is above the others' most.",
                Query(sql.BY_MAKER),
                nothing=_NOTHING,
            )
        ),
        _rates(
            place(
                rows(),
                2,
                (0, 9, 24, 12),
                "By model",
                "The same by model; at most 200, the fewest failures first. "
                + _INTERVAL
                + "Battery life is the median "
                "of straight lines through the daily charge, of devices with a week of data. Normal: 95 % of the days "
                "with data, a battery of six years and more. To do: before you blame a model compare where it is "
                "built in: a hard duty looks like a bad make.",
                Query(sql.BY_MODEL),
                nothing=_NOTHING,
            )
        ),
        place(
            rows(),
            3,
            (0, 21, 14, 9),
            "What fails",
            "Alarms of equipment, safety and instruments in the time range by kind and rule: how often, on how many "
            "devices and of how many models. Normal: spread over models. To do: a fault that many devices of one model "
            "have is a fault of its making; tell the maker with this list.",
            Query(sql.FAILURES),
            nothing="Nothing failed in this time range.",
        ).override_by_name("Kind", words(KINDS)),
        place(
            days("none"),
            4,
            (14, 21, 10, 9),
            "Devices with data",
            "How many devices told something on each day (UTC). Normal: level, and up as devices are added. To do: a "
            "step down is an outage or a batch of batteries; see connectivity and battery.",
            Query(sql.MEASURED, "time_series"),
            nothing=_NOTHING,
        ),
    ]
