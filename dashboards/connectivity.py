"""Connectivity and battery: who is not heard of and why, how good the radio is, and which battery is next."""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from dashboards import connectivity_queries as sql
from dashboards import variables
from dashboards.assets import CONTACT, SITE_UID, linked
from dashboards.panels import (
    ACT,
    DAY_GAP,
    LOOK,
    PALE,
    badge,
    coloured,
    counts,
    gauge,
    in_unit,
    link,
    place,
    rows,
    trend,
    wide,
    words,
)
from dashboards.query import IN_SITES, Query

UID = "headworks-connectivity"
_NOTHING = "No device of these sites has reported this in the time range."
_SIGNAL = in_unit("suffix: dBm", 0)
_BATTERY = gauge(((None, ACT), (10, LOOK), (20, PALE)), 0, 100)


def build() -> Dashboard:
    """The dashboard; the same one at every call."""
    board = (
        variables.board(
            UID,
            "Connectivity and battery",
            "Who is not heard of and why, how good the radio is, and which battery is to be changed next. For whoever "
            "keeps the devices running.",
            ["fleet"],
        )
        .variables([variables.data_source(), variables.sites(), *variables.hidden()])
        .annotations(variables.alarms(IN_SITES))
    )
    for panel in (*_contact(), *_radio(), *_battery()):
        board = board.with_panel(panel)
    return board.build()


def _contact() -> list[Builder[Panel]]:
    return [
        place(
            counts(),
            1,
            (0, 0, 24, 4),
            "Contact",
            "Active devices by what the engine last judged, once a minute: heard or asleep as their profile allows, "
            "late (two intervals without a word), or silent with what their last words say: a flat battery, no "
            "coverage, nothing. Cut off are those whose gateway or transport is out. Normal: heard and asleep only. To "
            "do: see the list below.",
            Query(sql.CONTACT),
            nothing="0",
        )
        .override_by_name("Late", coloured(((None, PALE), (1, LOOK))))
        .override_by_name("Cut off", coloured(((None, PALE), (1, ACT))))
        .override_by_name("Out of coverage", coloured(((None, PALE), (1, ACT))))
        .override_by_name("Flat battery", coloured(((None, PALE), (1, ACT))))
        .override_by_name("Silent", coloured(((None, PALE), (1, ACT)))),
        linked(
            place(
                rows(),
                2,
                (0, 4, 16, 8),
                "Not heard of",
                "Devices that are late or silent, with the last values of radio and battery that they told; the "
                "longest silence first, at most 200. Normal: empty, or a few that are late. To do: a poor signal "
                "before the silence points to the cell or a flooded chamber, a low battery to the battery, neither to "
                "the device.",
                Query(sql.MISSING),
                nothing="Every device is heard of.",
            )
            .override_by_name("Contact", words(CONTACT))
            .override_by_name("Since", wide(170))
            .override_by_name("Expected every", in_unit("dtdurations"))
            .override_by_name("Signal", _SIGNAL)
            .override_by_name("Battery", in_unit("percent", 0))
        ),
        place(
            rows(),
            3,
            (16, 4, 8, 8),
            "Outages of a path",
            "Times at which nobody on a gateway or a transport was heard of; they blame no device. Normal: empty. To "
            "do: while one lasts, look at the broker, the gateway and the operator's network before any device.",
            Query(sql.OUTAGES),
            nothing="No path was out in this time range.",
        )
        .override_by_name("Lasting", in_unit("dtdurations"))
        .override_by_name("Since", wide(160))
        .override_by_name("Ended", wide(160)),
    ]


def _radio() -> list[Builder[Panel]]:
    return [
        place(
            rows(),
            4,
            (0, 12, 24, 7),
            "Coverage by site",
            "Devices by their newest RSRP: good from -100 dBm, fair from -120 dBm, poor below; and how many repeat "
            "everything up to 2,048 times in coverage level 2, which costs a battery years. Normal: few poor ones, "
            "none at level 2. To do: a better place or an outside antenna for the worst; ask the operator where a "
            "whole site is poor.",
            Query(sql.COVERAGE),
            nothing="No active device is registered for these sites yet.",
        )
        .override_by_name("Site", link("This site", variables.url(SITE_UID, site="${__data.fields.Site}")))
        .override_by_name("Poor", badge(((None, PALE), (1, LOOK))))
        .override_by_name("Level 2", badge(((None, PALE), (1, LOOK))))
        .override_by_name("Signal, median", _SIGNAL)
        .override_by_name("Signal, worst 5 %", _SIGNAL),
        place(
            trend("suffix: dBm").insert_nulls(DAY_GAP),
            5,
            (0, 19, 12, 8),
            "Signal (RSRP)",
            "Median of the devices' hourly (beyond eight days: daily) means, with the worst and the best twentieth. "
            "Normal: level over weeks. To "
            "do: a step down of all is the cell; a slow fall of the worst are antennas and chambers.",
            Query(sql.SIGNAL, "time_series"),
            nothing=_NOTHING,
        ),
        place(
            trend("suffix: dB").insert_nulls(DAY_GAP),
            6,
            (12, 19, 12, 8),
            "Signal to noise",
            "The same of the signal to noise ratio. Normal: above 0 dB for most. To do: a good signal with a poor "
            "ratio is interference; tell the operator.",
            Query(sql.NOISE, "time_series"),
            nothing=_NOTHING,
        ),
        place(
            trend("percent").axis_soft_min(0).decimals(1),
            7,
            (0, 27, 12, 8),
            "Sent again",
            "Readings that were stored before, of all that came on the last day of the time range: a device sends "
            "again what was not acknowledged in "
            "time. Each is stored once. Normal: a few percent. To do: more says that acknowledgements are lost or "
            "late; compare with the platform's own delay.",
            Query(sql.REPEATS, "time_series"),
            nothing=_NOTHING,
        ),
        place(
            trend("s").axis_soft_min(0),
            8,
            (12, 27, 12, 8),
            "Delay of the newest sample",
            "From an uplink's newest sample to its arrival, on the last day of the time range. Normal: seconds for a "
            "device that wakes to send; up to a "
            "reporting interval for one that gathers. To do: where the 95 % grow, devices cannot get through at the "
            "first try.",
            Query(sql.DELAY, "time_series"),
            nothing=_NOTHING,
        ),
    ]


def _battery() -> list[Builder[Panel]]:
    return [
        linked(
            place(
                rows(),
                9,
                (0, 35, 14, 10),
                "Batteries, the next to be changed first",
                "Charge now, what 30 days take by a straight line through the last 90 days, and when that line reaches "
                "zero (20 years at most). It takes a week of days to draw one. Normal: years ahead. To do: plan the "
                "change for whole streets, not device by device.",
                Query(sql.BATTERIES),
                nothing="No device of these sites reports its battery.",
            )
            .override_by_name("Battery", _BATTERY)
            .override_by_name("A month", in_unit("suffix: %", 2))
            .override_by_name("Flat on", in_unit("dateTimeAsLocal"))
        ),
        place(
            rows(),
            10,
            (14, 35, 10, 10),
            "By model",
            "The same by maker and model: what one device does may be its place, what a model does is its making. "
            "Normal: models alike at alike signal. To do: a model that drains faster at the same signal has a fault "
            "in firmware or radio.",
            Query(sql.BY_MODEL),
            nothing="No active device is registered for these sites yet.",
        )
        .override_by_name("Battery, median", in_unit("percent", 0))
        .override_by_name("Battery, least", in_unit("percent", 0))
        .override_by_name("A month", in_unit("suffix: %", 2))
        .override_by_name("First flat on", in_unit("dateTimeAsLocal"))
        .override_by_name("Signal, median", _SIGNAL)
        .override_by_name("Heard", in_unit("percent", 0)),
        place(
            rows(),
            11,
            (0, 45, 24, 8),
            "By cell",
            "The same by radio cell, as base station and sector: devices that say which one serves them; the least "
            "heard first. Normal: all heard, alike in signal. To do: where many devices of one cell are silent or at "
            "level 2 while other cells are well, tell the operator the cell's number; no visit to a device helps.",
            Query(sql.BY_CELL),
            nothing="No active device is registered for these sites yet.",
        )
        .override_by_name("Signal, median", _SIGNAL)
        .override_by_name("Noise ratio, median", in_unit("suffix: dB", 0))
        .override_by_name("Level 2", badge(((None, PALE), (1, LOOK))))
        .override_by_name("Heard", [*in_unit("percent", 0), *gauge(((None, ACT), (80, LOOK), (95, PALE)), 0, 100)])
        .override_by_name("A month", in_unit("suffix: %", 2))
        .override_by_name("First flat on", in_unit("dateTimeAsLocal")),
    ]
