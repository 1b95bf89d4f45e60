"""Alarm performance by ISA-18.2 / IEC 62682: do alarms still help, or do they only disturb?"""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from dashboards import performance_queries as sql
from dashboards import variables
from dashboards.assets import PRIORITIES, SITE_UID, linked
from dashboards.panels import (
    ACT,
    LOOK,
    PALE,
    Steps,
    badge,
    bars,
    coloured,
    counts,
    in_unit,
    link,
    place,
    rows,
    wide,
    words,
)
from dashboards.query import IN_SITES, Query

UID = "headworks-performance"
_NONE = "Nobody was told of any alarm in the last 30 days."

# Targets of the standard: about 1 alarm in 10 minutes is acceptable, 2 the most; less than 1 % of the time in flood;
# the ten most frequent 1 to 5 % of all; no chattering; fewer than five stale ones.
_RATE: Steps = ((None, PALE), (1, LOOK), (2, ACT))
_MOST: Steps = ((None, PALE), (3, LOOK), (11, ACT))
_FLOOD: Steps = ((None, PALE), (1, LOOK), (5, ACT))
_TOP: Steps = ((None, PALE), (5, LOOK))
_ANY: Steps = ((None, PALE), (1, LOOK))
_STALE: Steps = ((None, PALE), (5, LOOK))


def build() -> Dashboard:
    """The dashboard; the same one at every call."""
    board = (
        variables.board(
            UID,
            "Alarm performance",
            "The KPIs of ISA-18.2 / IEC 62682 over the last 30 days: do alarms still help, or do they only disturb? "
            "Counted is what people were told, when they were told; a site counts as one operator.",
            ["alarms"],
        )
        .variables([variables.data_source(), variables.sites(), *variables.hidden()])
        .annotations(variables.alarms(IN_SITES))
    )
    for panel in (*_kpis(), *_actors()):
        board = board.with_panel(panel)
    return board.build()


def _kpis() -> list[Builder[Panel]]:
    return [
        place(
            counts(),
            1,
            (0, 0, 24, 4),
            "KPIs",
            "Alarms told in 30 days; per 10 minutes on average and at most for one site; the share of the time with "
            "more than 10 in 10 minutes; what the ten most frequent make of all; how many chatter, how many are active "
            "for more than a day; the median time to acknowledge at the slowest site; and the pages that late readings "
            "showed to be false. Normal: grey. To do: begin with the list of bad actors below, it usually holds most "
            "of the load.",
            Query(sql.KPIS),
            nothing="0",
        )
        .override_by_name("In 10 min", [*in_unit("none", 2), *coloured(_RATE)])
        .override_by_name("Most in 10 min", coloured(_MOST))
        .override_by_name("Time in flood", [*in_unit("percent", 1), *coloured(_FLOOD)])
        .override_by_name("Share of the top 10", [*in_unit("percent", 0), *coloured(_TOP)])
        .override_by_name("Chattering", coloured(_ANY))
        .override_by_name("Stale", coloured(_STALE))
        .override_by_name("To acknowledge", in_unit("dtdurations"))
        .override_by_name("False pages", [*in_unit("percent", 1), *coloured(_ANY)]),
        place(
            bars("none"),
            2,
            (0, 4, 16, 8),
            "Alarms in ten minutes, the busiest site",
            "How many alarms the operator of the busiest site was told in each ten minutes. Normal: 0 or 1, 2 at the "
            "most. To do: above 10 is a flood; look for its first-out and for alarms that should be suppressed by "
            "design when that one comes.",
            Query(sql.RATE, "time_series"),
            nothing=_NONE,
        ),
        place(
            rows(),
            3,
            (16, 4, 8, 8),
            "By priority",
            "Shares beside what the standard recommends, and the median time until somebody acknowledged. Normal: near "
            "80 / 15 / 5 %. To do: where everything is high, nothing is; lower the priority of what has time.",
            Query(sql.PRIORITIES),
            nothing=_NONE,
        )
        .override_by_name("Priority", [*words(PRIORITIES), *wide(90)])
        .override_by_name("Share", in_unit("percent", 0))
        .override_by_name("Should be", in_unit("percent", 0))
        .override_by_name("To acknowledge, median", in_unit("dtdurations")),
        place(
            rows(),
            4,
            (0, 12, 16, 8),
            "By site",
            "The same KPIs for each site. Normal: grey in every column. To do: compare sites that are alike; the "
            "difference is in their limits and delays.",
            Query(sql.BY_SITE),
            nothing="No device is registered for these sites yet.",
        )
        .override_by_name("Site", link("This site", variables.url(SITE_UID, site="${__data.fields.Site}")))
        .override_by_name("In 10 min", [*in_unit("none", 2), *badge(_RATE)])
        .override_by_name("Most in 10 min", badge(_MOST))
        .override_by_name("Time in flood", [*in_unit("percent", 1), *badge(_FLOOD)])
        .override_by_name("Share of the top 10", [*in_unit("percent", 0), *badge(_TOP)])
        .override_by_name("Chattering", badge(_ANY))
        .override_by_name("Stale", badge(_STALE))
        .override_by_name("To acknowledge", in_unit("dtdurations")),
        place(
            rows(),
            5,
            (16, 12, 8, 8),
            "Kept quiet now",
            "Alarms that are shelved by an operator, suppressed by design or out of service at this moment. Normal: "
            "few, each with an end. To do: go through what lasts for days; a shelved alarm that nobody misses is no "
            "alarm.",
            Query(sql.SUPPRESSED),
            nothing="Nothing is kept quiet.",
        )
        .override_by_name(
            "How",
            words(
                {
                    "shelved": ("shelved", "transparent"),
                    "suppressed": ("suppressed by design", "transparent"),
                    "out_of_service": ("out of service", "transparent"),
                }
            ),
        )
        .override_by_name("Without an end", badge(_ANY))
        .override_by_name("Longest", in_unit("dtdurations")),
    ]


def _actors() -> list[Builder[Panel]]:
    return [
        linked(
            place(
                rows(),
                6,
                (0, 20, 14, 9),
                "Bad actors",
                "The ten most frequent alarms, with their share of all, how often they chattered (three times within "
                "four reporting intervals), which are stale, and how often they were false. Normal: together 1 to 5 "
                "%. To do: one after the other: mend the cause, else give it a deadband or a delay, and try that on "
                "the past with `headworks backtest`.",
                Query(sql.TOP),
                nothing=_NONE,
            )
            .override_by_name("Share", in_unit("percent", 0))
            .override_by_name("Chattered", badge(_ANY))
            .override_by_name("Stale", badge(_ANY))
            .override_by_name("False", badge(_ANY))
        ),
        linked(
            place(
                rows(),
                7,
                (14, 20, 10, 9),
                "By asset",
                "Alarms of each asset in 30 days, by how many rules, and how many followed another one of its unit "
                "within ten minutes. Normal: few assets with more than one a week. To do: what always follows another "
                "alarm tells nothing new; suppress it by design.",
                Query(sql.ASSETS),
                nothing=_NONE,
            ).override_by_name("A day", in_unit("none", 2))
        ),
    ]
