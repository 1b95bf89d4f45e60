"""The platform itself: does everything that comes in get stored, judged and told, and what does it cost?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.common import StackingConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import StackingMode
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from dashboards import platform_queries as sql
from dashboards import variables
from dashboards.assets import CLASSES, PRIORITIES
from dashboards.panels import (
    ACT,
    LOOK,
    PALE,
    badge,
    bars,
    coloured,
    counts,
    gauge,
    in_unit,
    place,
    rows,
    trend,
    wide,
    words,
)
from dashboards.query import IN_SITES, Query

UID = "headworks-platform"
_NOTHING = "Nothing was committed in this time range."


def build() -> Dashboard:
    """The dashboard; the same one at every call."""
    board = (
        variables.board(
            UID,
            "The platform itself",
            "What comes in, how long it takes to be safe, what was refused and why, and what is stored. For whoever "
            "runs Headworks. It is about the whole installation; the chosen sites are those whose alarms are marked.",
            ["platform"],
        )
        .variables([variables.data_source(), variables.sites(), *variables.hidden()])
        .annotations(variables.alarms(IN_SITES))
    )
    for panel in (*_flow(), *_refused(), *_kept()):
        board = board.with_panel(panel)
    return board.build()


def _flow() -> list[Builder[Panel]]:
    return [
        place(
            counts(),
            1,
            (0, 0, 24, 4),
            "Now",
            "Of the last five minutes: what is committed a second and how long a commit takes from the arrival of its "
            "newest uplink, which is how long a device waits for its acknowledgement. Quarantine of a day, and what "
            "was only counted as the quarantine was full; announcements that wait, and dead letters; uplinks that no "
            "rule has judged yet, and those that wait in spools. Normal: a delay below a second, no dead letters, an "
            "empty spool. To do: `headworks doctor`, `headworks quarantine`, `headworks notify "
            "dead`.",
            Query(sql.NOW),
            nothing="0",
        )
        .override_by_name("Readings a second", in_unit("none", 1))
        .override_by_name("Uplinks a second", in_unit("none", 1))
        .override_by_name("Commit delay, 95 %", [*in_unit("s", 2), *coloured(((None, PALE), (1, LOOK), (10, ACT)))])
        .override_by_name("Only counted", coloured(((None, PALE), (1, LOOK))))
        .override_by_name("Announcements waiting", coloured(((None, PALE), (100, LOOK))))
        .override_by_name("Dead letters", coloured(((None, PALE), (1, ACT))))
        .override_by_name("Not judged yet", coloured(((None, PALE), (10_000, LOOK))))
        .override_by_name("In the spool", coloured(((None, PALE), (1, LOOK))))
        .override_by_name("Database", in_unit("bytes", 1)),
        place(
            trend("none").axis_soft_min(0),
            2,
            (0, 4, 12, 8),
            "Throughput",
            "What was committed, a second, in 200 steps of the time range. Normal: the rhythm of the fleet. To do: a "
            "gap is the broker, the network or the platform; a peak after it is what devices had kept, and is well.",
            Query(sql.THROUGHPUT, "time_series"),
            nothing=_NOTHING,
        ),
        place(
            trend("s").axis_soft_min(0),
            3,
            (12, 4, 12, 8),
            "From arrival to commit",
            "How long the oldest uplink of a commit had waited. An acknowledgement is sent after the commit, so this "
            "is what devices feel. Normal: below a second. To do: where it grows look at the database's disk; what "
            "came out of the spool after an outage is long on purpose.",
            Query(sql.LATENCY, "time_series"),
            nothing=_NOTHING,
        ),
    ]


def _refused() -> list[Builder[Panel]]:
    return [
        place(
            bars("none").stacking(StackingConfig().mode(StackingMode.NORMAL)),
            4,
            (0, 12, 12, 8),
            "Quarantine by reason",
            "Records that could not be stored as readings, by the hour and reason; they are kept and can be decoded "
            "again. Normal: empty, or single ones. To do: many of one reason point to one profile or firmware: "
            "`headworks quarantine list`.",
            Query(sql.QUARANTINE, "time_series"),
            nothing="Nothing came into quarantine in this time range.",
        ),
        place(
            rows(),
            5,
            (12, 12, 12, 8),
            "Reasons",
            "Everything that is in quarantine now by reason, and what was only counted as its share was full. Normal: "
            "no security events (identity mismatch, not authenticated). To do: mend the profile, then `headworks "
            "quarantine redecode`.",
            Query(sql.REASONS),
            nothing="The quarantine is empty.",
        ).override_by_name("Only counted", badge(((None, PALE), (1, LOOK)))),
    ]


def _kept() -> list[Builder[Panel]]:
    return [
        place(
            counts(),
            10,
            (0, 20, 24, 4),
            "Readings on disk",
            "How many readings are stored (an estimate), what one takes with its indexes, and how much of that is in "
            "the columnstore, which only TimescaleDB under its community licence has. Normal: about 100 bytes a "
            "reading as rows, 5 to 12 in the columnstore. To do: where that matters and none is there, change the "
            "server's licence or keep readings for a shorter time.",
            Query(sql.ON_DISK),
            nothing="0",
        )
        .override_by_name("Readings", in_unit("short", 1))
        .override_by_name("Bytes a reading", in_unit("bytes", 1))
        .override_by_name("Saved there", in_unit("percent", 0)),
        place(
            rows(),
            6,
            (0, 24, 8, 9),
            "Storage",
            "The largest tables with their indexes and parts. Normal: readings first. To do: shorten retention, or see "
            "in `headworks doctor` whether the columnstore is on; the whole database is at the top.",
            Query(sql.STORAGE),
            nothing="Nothing is stored yet.",
        )
        .override_by_name("Size", in_unit("bytes", 1))
        .override_by_name("Share", gauge(((None, PALE),), 0, 100)),
        place(
            rows(),
            7,
            (8, 24, 8, 9),
            "Upkeep",
            "What maintenance did in seven days: aggregates, retention, compression. Normal: runs, and none failed. To "
            "do: the last error says why; it is tried again by itself.",
            Query(sql.UPKEEP),
            nothing="No maintenance has run yet; it begins a minute after the start.",
        )
        .override_by_name(
            "Task",
            words(
                {
                    name: (name, "transparent")
                    for name in ("aggregates", "retention", "columnstore", "sweep", "heartbeat")
                }
            ),
        )
        .override_by_name("Longest", in_unit("s", 1))
        .override_by_name("Last", wide(160))
        .override_by_name("Failed", badge(((None, PALE), (1, ACT)))),
        place(
            rows(),
            8,
            (16, 24, 8, 9),
            "Up to date",
            "Up to when each part has got. Normal: contact within two minutes, the hourly aggregate within five hours, "
            "the daily one within two days. To do: what stands still has stopped; see the log of the platform.",
            Query(sql.JUDGED),
            nothing="Nothing has run yet.",
        )
        .override_by_name("Behind", in_unit("dtdurations"))
        .override_by_name("As of", wide(160)),
        place(
            rows(),
            11,
            (0, 33, 24, 5),
            "Platforms and their spools",
            "The processes that wrote here in the last week, as each says of itself once a minute, with what waits in "
            "its spool: uplinks that were acknowledged while the database was away. Normal: seen within two minutes, "
            "nothing waiting. To do: one that is silent has stopped: see its log; a spool that fills means that the "
            "database refuses or is slow.",
            Query(sql.PLATFORMS),
            nothing="No platform process has said anything in the last week.",
        )
        .override_by_name("Spool", words({"on": ("on", "transparent"), "off": ("off", PALE)}))
        .override_by_name("Silent for", [*in_unit("dtdurations"), *badge(((None, PALE), (120, LOOK), (600, ACT)))])
        .override_by_name("Waiting", badge(((None, PALE), (1, LOOK))))
        .override_by_name("Size", in_unit("bytes", 1))
        .override_by_name("Full", [*in_unit("percent", 0), *gauge(((None, PALE), (50, LOOK), (90, ACT)), 0, 100)]),
        place(
            rows(),
            9,
            (0, 38, 24, 10),
            "Rules",
            "The rules as the engine last loaded them, with their alarms of 30 days; what needs care first. Normal: "
            "well, or never calls. To do: one that fails cannot be calculated, the last column says why; false pages "
            "are alarms that late readings took back after people were told: give it a longer delay; chatters: a "
            "wider deadband; stands for more than a day: mend the cause or the limit; one that never calls may lack a "
            "metric or a nameplate entry (the log says `rule.idle`).",
            Query(sql.RULES),
            nothing="The platform has not loaded its rules yet.",
        )
        .override_by_name("Priority", [*words(PRIORITIES), *wide(90)])
        .override_by_name("Class", words(CLASSES))
        .override_by_name(
            "Health",
            words(
                {
                    "well": ("well", "transparent"),
                    "never_calls": ("never calls", "transparent"),
                    "gone": ("gone", PALE),
                    "stands": ("stands", LOOK),
                    "chatters": ("chatters", LOOK),
                    "false_pages": ("false pages", LOOK),
                    "fails": ("fails", ACT),
                }
            ),
        )
        .override_by_name("Last", wide(160)),
    ]
