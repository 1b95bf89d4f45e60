"""The fleet overview: the first level of ISA-101, which answers “is anything wrong, and where?” without a click.

From top to bottom: what is abnormal now, where it is, how the plant has been running, which assets come next, and
whether the data can be trusted. The SQL is in `dashboards.fleet_queries`.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders.common import StackingConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import StackingMode
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from dashboards import fleet_queries as sql
from dashboards import variables
from dashboards.assets import KINDS, PRIORITIES, SITE_UID, STATES, linked, numbered
from dashboards.panels import (
    ACT,
    DAY_GAP,
    GREY,
    HIGH,
    LOOK,
    LOW,
    MEDIUM,
    PALE,
    atlas,
    badge,
    bars,
    changed,
    coloured,
    counts,
    gauge,
    in_unit,
    links,
    measured_in,
    place,
    plain_numbers,
    rows,
    thresholds,
    trend,
    value_words,
    wide,
    words,
)
from dashboards.query import FLOW_UNIT, IN_SITES, PRESSURE_UNIT, Query

UID = "headworks-fleet"

_SITE = "${__data.fields.Site}"
_THIS_SITE = links(
    ("This site", variables.url(SITE_UID, site=_SITE)), ("Only this site here", variables.url(UID, site=_SITE))
)

_NO_DEVICES = "No active device is registered for these sites yet."
_NO_READINGS = "No good readings in this time range for these sites."


def build() -> Dashboard:
    """The dashboard; the same one at every call."""
    board = (
        variables.board(
            UID,
            "Fleet overview",
            "Pumps and valves of all sites at a glance (ISA-101 level 1). Grey is normal. Red, orange and yellow are "
            "alarm priorities and nothing else; blue deserves a look, purple deserves action. Made for the light "
            "theme.",
            ["isa-101-level-1"],
        )
        .variables([variables.data_source(), variables.sites(), *variables.hidden()])
        .annotations(variables.alarms(IN_SITES))
    )
    for panel in (*_abnormal_now(), *_where(), *_places(), *_trends(), *_next(), *_data()):
        board = board.with_panel(panel)
    return board.build()


def _abnormal_now() -> list[Builder[Panel]]:
    return [
        place(
            counts(),
            1,
            (0, 0, 9, 4),
            "Active alarms",
            "Alarms whose condition holds now, by priority, acknowledged or not. Normal: none high, few medium; of all "
            "alarms about 80 % low, 15 % medium, 5 % high (ISA-18.2). To do: work through the list below from the top.",
            Query(sql.ACTIVE_ALARMS),
            nothing="0",
        )
        .override_by_name("High", coloured(((None, PALE), (1, HIGH))))
        .override_by_name("Medium", coloured(((None, PALE), (1, MEDIUM))))
        .override_by_name("Low", coloured(((None, PALE), (1, LOW)))),
        place(
            counts(),
            2,
            (9, 0, 3, 4),
            "To acknowledge",
            "Alarms that nobody has taken note of, still active or already returned to normal. Normal: 0 within "
            "minutes. To do: acknowledge what you have understood, so that the next one stands out.",
            Query(sql.TO_ACKNOWLEDGE),
            nothing="0",
        ).override_by_name("To acknowledge", coloured(((None, PALE), (1, LOOK)))),
        place(
            counts(),
            3,
            (12, 0, 3, 4),
            "Alarm rate",
            "Alarms that became known in the last 10 minutes. Normal: 0 or 1; more than 2 is more than one person can "
            "handle in the long run, more than 10 is a flood (ISA-18.2). To do in a flood: look for the common cause, "
            "such as a power cut or a burst main, before single alarms.",
            Query(sql.ALARM_RATE),
            nothing="0",
        ).override_by_name("Last 10 min", coloured(((None, PALE), (3, LOOK), (11, ACT)))),
        place(
            counts(),
            4,
            (15, 0, 9, 4),
            "Device freshness",
            "Active devices by the time since their last uplink, in units of the interval their profile promises: "
            "fresh below 2, late below 4, else silent. Devices sleep, so a late one is often only that. Normal: "
            "nearly all fresh, none silent. To do: for a silent device see the list below; many at one site point to "
            "the radio cell.",
            Query(sql.FRESHNESS),
            nothing="0",
        )
        .override_by_name("Late", coloured(((None, PALE), (1, LOOK))))
        .override_by_name("Silent", coloured(((None, PALE), (1, ACT)))),
        linked(
            numbered(
                place(
                    rows(),
                    5,
                    (0, 4, 24, 9),
                    "Alarms active or not acknowledged",
                    "One line an alarm: unacknowledged first, then by priority, the newest first; at most 200. Times "
                    "are those of the samples, not of their arrival. Normal: empty. To do: what the rule's guidance "
                    "says, and acknowledge it; an alarm that stands for days needs a work order or a better rule.",
                    Query(sql.ALARM_LIST),
                    nothing="No alarm is active, and none waits to be acknowledged.",
                )
                .override_by_name("Priority", [*words(PRIORITIES), *wide(90)])
                .override_by_name(
                    "State",
                    [
                        *words(STATES),
                        *wide(190),
                    ],
                )
                .override_by_name("Lasting", [*in_unit("dtdurations"), *wide(140)])
                .override_by_name("Since", wide(170))
                .override_by_name("Site", _THIS_SITE)
            )
        ),
    ]


def _where() -> list[Builder[Panel]]:
    return [
        place(
            rows(),
            6,
            (0, 13, 13, 9),
            "Sites",
            "Each site with its active devices, active alarms by priority, and the freshness of its devices; the worst "
            "first. Normal: a grey row with all devices fresh. To do: click a site to see only it.",
            Query(sql.BY_SITE),
            nothing=_NO_DEVICES,
        )
        .override_by_name("Site", _THIS_SITE)
        .override_by_name("High", badge(((None, GREY), (1, HIGH))))
        .override_by_name("Medium", badge(((None, GREY), (1, MEDIUM))))
        .override_by_name("Low", badge(((None, GREY), (1, LOW))))
        .override_by_name("Fresh", [*in_unit("percent", 0), *gauge(((None, GREY),), 0, 100)])
        .override_by_name("Late", badge(((None, GREY), (1, LOOK))))
        .override_by_name("Silent", badge(((None, GREY), (1, ACT)))),
        linked(
            place(
                rows(),
                7,
                (13, 13, 11, 9),
                "Late and silent devices",
                "Active devices without an uplink for at least twice their expected interval, the longest silence "
                "first; at most 100. Age is in expected intervals. Normal: empty. To do: one device: battery, "
                "antenna, a flooded pit; many of one site: ask the network operator. What they measured meanwhile "
                "usually arrives later.",
                Query(sql.UNHEARD),
                nothing="Every device has been heard from in time, or none is registered yet.",
            )
            .override_by_name("Kind", words(KINDS))
            .override_by_name("Freshness", words({"late": ("late", LOOK), "silent": ("silent", ACT)}))
            .override_by_name("Age", in_unit("suffix: ×", 1))
            .override_by_name("Expected every", in_unit("dtdurations"))
            .override_by_name("Last contact", wide(170))
        ),
    ]


def _places() -> list[Builder[Panel]]:
    return [
        place(
            atlas("Sites", "State", "Devices"),
            15,
            (0, 22, 10, 9),
            "Map",
            "Sites whose place is known; larger is more devices, the colour is the worst: an alarm's priority, blue "
            "for devices that are not heard of, grey for nothing. Normal: grey. To do: several sites beside each "
            "other point to one cause, such as a radio cell or a power cut; click one for its numbers and its "
            "dashboard. Place a site with `headworks sites set SITE --position NORTH,EAST`.",
            Query(sql.MAP),
            nothing="No site has a place yet: headworks sites set SITE --position NORTH,EAST",
        )
        .thresholds(thresholds(((None, GREY), (1, LOOK), (2, LOW), (3, MEDIUM), (4, HIGH))))
        .mappings(
            [
                value_words(
                    {
                        "0": "nothing abnormal",
                        "1": "devices not heard of",
                        "2": "alarm of priority low",
                        "3": "alarm of priority medium",
                        "4": "alarm of priority high",
                    }
                )
            ]
        )
        .override_by_name("Devices", [*plain_numbers()])
        .override_by_name("Alarms", [*plain_numbers()])
        .override_by_name("Not heard of", [*plain_numbers()])
        .override_by_name("Latitude", [*plain_numbers()])
        .override_by_name("Longitude", [*plain_numbers()])
        .override_by_name("Site", _THIS_SITE),
        place(
            rows(),
            16,
            (10, 22, 14, 9),
            "Yesterday against the last weeks",
            "The last whole day (UTC) of each site, and by how much it differs from the median of the four weeks "
            "before: water pumped, energy of the pumps, mean pressure behind the valves, alarms; the largest "
            "difference first. Normal: within 20 % (pressure 5 %), with weekends and weather. To do: more water at "
            "the same pressure is a leak or a new customer; more energy for the same water is wear; see the site.",
            Query(sql.YESTERDAY),
            nothing=_NO_DEVICES,
        )
        .override_by_name("Site", _THIS_SITE)
        .override_by_name("Pumped", in_unit("suffix: m³", 0))
        .override_by_name("Pumped, change", changed(20, 50))
        .override_by_name("Energy", in_unit("kwatth", 0))
        .override_by_name("Energy, change", changed(20, 50))
        .override_by_name("District pressure", measured_in("District pressure", PRESSURE_UNIT))
        .override_by_name("District pressure, change", changed(5, 20))
        .override_by_name("Alarms", in_unit("none", 0))
        .override_by_name("Alarms, change", in_unit("none", 1)),
    ]


def _trends() -> list[Builder[Panel]]:
    return [
        place(
            trend("none").insert_nulls(DAY_GAP),
            8,
            (0, 31, 12, 8),
            "Pressure",
            "Mean gauge pressure an hour (beyond eight days: a day) of a site's pumps (discharge) and valves (inlet), "
            "from good readings. "
            "Normal: the daily rhythm of demand. To do: a step down with more flow suggests a burst, with less flow "
            "a pump that stopped or lost its suction; compare with the flow beside.",
            Query(sql.PRESSURE, "time_series"),
            nothing=_NO_READINGS,
        ).axis_label(PRESSURE_UNIT),
        place(
            trend("none").insert_nulls(DAY_GAP),
            9,
            (12, 31, 12, 8),
            "Flow",
            "Sum of the hourly (beyond eight days: daily) mean flow of a site's pumps, valves and meters, each kind on "
            "its own, as water that "
            "passes a pump may pass a valve too. Normal: the daily rhythm of demand, with a low at night. To do: a "
            "night flow that rises from day to day is a leak.",
            Query(sql.FLOW, "time_series"),
            nothing=_NO_READINGS,
        ).axis_label(FLOW_UNIT),
    ]


def _next() -> list[Builder[Panel]]:
    return [
        linked(
            place(
                rows(),
                10,
                (0, 39, 12, 8),
                "Highest vibration",
                "The ten machines with the highest latest vibration velocity, RMS, with their zone by ISO 10816-7 "
                "category II (limits differ above 200 kW rated power). Normal: zones A and B. To do: zone C: plan a "
                "check of alignment, bearings and cavitation; zone D: damage is likely, stop the machine if the "
                "process allows.",
                Query(sql.VIBRATION),
                nothing="No machine has reported vibration yet.",
            )
            .override_by_name("Vibration", [*in_unit("suffix: mm/s", 1), *gauge(((None, GREY),), 0, 12)])
            .override_by_name(
                "Zone",
                words({"A": ("A", "transparent"), "B": ("B", "transparent"), "C": ("C", LOOK), "D": ("D", ACT)}),
            )
            .override_by_name(
                "Quality",
                words(
                    {"good": ("good", "transparent"), "uncertain": ("uncertain", PALE), "bad": ("bad (sensor)", PALE)},
                ),
            )
            .override_by_name("As of", wide(170))
        ),
        linked(
            place(
                rows(),
                11,
                (12, 39, 12, 8),
                "Lowest battery",
                "The ten devices with the least battery charge, with their radio signal (NRSRP) and NB-IoT coverage "
                "level: level 2 repeats every message and empties a battery several times faster. Normal: above 20 %. "
                "To do: below 20 % plan a change with the next visit, below 10 % go.",
                Query(sql.BATTERY),
                nothing="No device has reported its battery yet.",
            )
            .override_by_name(
                "Battery", [*in_unit("percent", 0), *gauge(((None, ACT), (10, LOOK), (20, GREY)), 0, 100)]
            )
            .override_by_name("Signal", in_unit("dBm", 0))
            .override_by_name("Coverage level", in_unit("none", 0))
            .override_by_name("As of", wide(170))
        ),
    ]


def _data() -> list[Builder[Panel]]:
    return [
        place(
            bars("short"),
            12,
            (0, 47, 8, 7),
            "Readings stored per hour",
            "Readings by the hour in which they arrived, of the last day of the time range. The last bar is the hour "
            "in progress. Normal: even; a high "
            "bar after a low one is a backlog that came in. To do when it drops for all sites: check the gateways "
            "and the database (`headworks doctor`).",
            Query(sql.READINGS_PER_HOUR, "time_series"),
            nothing="No readings in this time range.",
        ),
        place(
            bars("short").stacking(StackingConfig().mode(StackingMode.NORMAL).group("A")),
            13,
            (8, 47, 8, 7),
            "Uplinks per hour",
            "Uplinks that stored something, by transport and hour of arrival. Normal: even, with more while devices "
            "report faster because of an alarm. To do when one transport drops to 0: check its gateway or the broker.",
            Query(sql.UPLINKS_PER_HOUR, "time_series"),
            nothing="No uplinks in this time range.",
        ),
        place(
            trend("s"),
            14,
            (16, 47, 8, 7),
            "Age of the oldest sample at arrival",
            "How old the oldest sample of an uplink was when it arrived, by hour of arrival. Normal: about the "
            "reporting interval, as devices collect and then send. To do when it grows: the radio is worse than "
            "planned, or batches are being repeated; alarms come that much later.",
            Query(sql.DELAY, "time_series"),
            nothing="No uplinks in this time range.",
        ),
    ]
