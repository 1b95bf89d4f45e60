"""SQL fragments for one chosen asset: its history, its limits, its state now and its alarms.

The history comes from the readings themselves for up to three days and from the hourly aggregate beyond: a year of one
asset is then 8,760 rows a metric, all of them in one index. Only good readings are drawn.

S608 is off for this file: what is put together here are fragments of our own; values come through Grafana's variables.
"""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping

from dashboards.query import AREA, ASSET, FACTORS, FLOW, SITE, TAG
from devices.model import Quality

SHORT = "$__timeTo()::timestamptz - $__timeFrom()::timestamptz <= interval '3 days'"
"""Whether the readings themselves are shown. Of constants only, so that the planner drops the branch not taken."""


def history(*metrics: str) -> str:
    """Rows (at, name, value) of the chosen asset's good readings in the time range.

    Device and metrics are settled before the scan, which therefore enters the key (device_id, metric_id, time).
    """
    chosen = f"""m.name IN ({", ".join(f"'{metric}'" for metric in metrics)})"""
    ids = f"ANY(ARRAY(SELECT m.metric_id FROM metric m WHERE {chosen}))"
    return f"""
SELECT r.measured_at AS at, m.name, r.value
FROM reading r JOIN metric m ON m.metric_id = r.metric_id
WHERE r.device_id = {ASSET} AND r.metric_id = {ids} AND r.quality = {Quality.GOOD.value}
  AND $__timeFilter(r.measured_at) AND {SHORT}
UNION ALL
SELECT h.bucket, m.name, h.avg_value
FROM reading_hourly h JOIN metric m ON m.metric_id = h.metric_id
WHERE h.device_id = {ASSET} AND h.metric_id = {ids} AND $__timeFilter(h.bucket) AND NOT {SHORT}
""".strip()


def series(labels: Mapping[str, str], *limits: str) -> str:
    """A trend: one series a metric, named by its label, and `limits` (`limit`) as lines of two points.

    The metrics are of one quantity, in whose unit of the site they and the limits are shown.
    """
    factor = FACTORS.get(next(iter(labels)))
    value = f"s.value * {factor} AS value" if factor else "s.value"
    names = " ".join(f"WHEN '{metric}' THEN '{label}'" for metric, label in labels.items())
    lines = "".join(f"\nUNION ALL\n{line}" for line in limits)
    return f"""
WITH h AS ({history(*labels)})
SELECT s."time", s.metric, {value}
FROM (
SELECT at AS "time", CASE h.name {names} END AS metric, value FROM h{lines}
) s
ORDER BY 1, 2
"""


def pivoted(*metrics: str) -> str:
    """CTEs `h` and `p`: the history, and one row a time with a column a metric; absent ones are null."""
    columns = ", ".join(f"max(value) FILTER (WHERE h.name = '{metric}') AS {metric}" for metric in metrics)
    return f"h AS ({history(*metrics)}),\np AS (SELECT at, {columns} FROM h GROUP BY at)"


def limit(label: str, value: str) -> str:
    """Rows (time, metric, value) of a horizontal line across the time range; none where `value` is null.

    `value` is SQL over the chosen device `d`; `design` gives its nameplate's numbers.
    """
    return (
        f"SELECT t.at, '{label}', w.value FROM device d\n"
        f"CROSS JOIN LATERAL (SELECT ({value})::double precision AS value) w\n"
        "CROSS JOIN (VALUES ($__timeFrom()::timestamptz), ($__timeTo()::timestamptz)) AS t(at)\n"
        f"WHERE d.device_id = {ASSET} AND w.value IS NOT NULL"
    )


def design(name: str) -> str:
    """A number of the nameplate of device `d`; null where it is not given."""
    return f"(d.design ->> '{name}')::double precision"


def latest(columns: Mapping[str, str]) -> str:
    """One row: the newest value of each metric by column name, whatever its age, and the newest sample's time.

    No row before the asset has reported.
    """
    values = ",\n       ".join(
        f"max(l.value) FILTER (WHERE m.name = '{metric}'){_times(metric)} AS \"{column}\""
        for column, metric in columns.items()
    )
    return f"""
SELECT {values},
       max(l.measured_at) AS "As of"
FROM latest l JOIN metric m ON m.metric_id = l.metric_id
WHERE l.device_id = {ASSET}
HAVING count(*) > 0
"""


def _times(metric: str) -> str:
    return f" * {FACTORS[metric]}" if metric in FACTORS else ""


def nameplate(columns: Mapping[str, str]) -> str:
    """One row: who the asset is and what it is built for; `columns` are the nameplate's numbers by column name."""
    numbers = "".join(
        f',\n       {design(name)}{f" * {FLOW}" if name == "rated_flow" else ""} AS "{column}"'
        for column, name in columns.items()
    )
    return f"""
SELECT {TAG} AS "Tag", {SITE} AS "Site", {AREA} AS "Area", d.manufacturer AS "Manufacturer", d.model AS "Model",
       d.serial AS "Serial"{numbers},
       replace(c.state, '_', ' ') AS "Contact", d.identity AS "Device"
FROM device d JOIN contact_state c ON c.device_id = d.device_id
WHERE d.device_id = {ASSET}
"""


ALARMS = f"""
SELECT a.priority AS "Priority", a.state AS "State", a.message AS "What", a.since AS "Since",
       GREATEST(0, EXTRACT(epoch FROM COALESCE(a.cleared_at, now()) - a.since))::double precision AS "Lasting",
       COALESCE(r.guidance ->> 'corrective_action', '') AS "To do", a.rule AS "Rule",
       a.alarm_id::text AS "Number"
FROM alarm_state a LEFT JOIN alarm_rule r ON r.rule = a.rule
WHERE a.device_id = {ASSET} AND NOT a.retracted
  AND (a.state <> 'normal'
       OR (a.raised_at <= $__timeTo()::timestamptz AND a.cleared_at >= $__timeFrom()::timestamptz))
ORDER BY CASE WHEN a.state = 'normal' THEN 1 ELSE 0 END, a.since DESC
LIMIT 50
"""
