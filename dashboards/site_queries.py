"""The SQL of the site dashboard, one constant a panel.

Trends read the hourly aggregate for up to two months and the daily one beyond.

S608 is off for this file: what is put together here are fragments of our own; values come through Grafana's variables.
"""

# ruff: noqa: S608

from __future__ import annotations

from dashboards.query import AREA, ASSET_COLUMNS, FACTORS, FLOW, IN_AREAS, IN_SITES, TAG, AssetKind

_HERE = f"d.status = 'active' AND {IN_SITES} AND {IN_AREAS}"

ALARM_DEVICES = f"{IN_SITES} AND {IN_AREAS}"

ACTIVE_ALARMS = f"""
SELECT count(*) FILTER (WHERE a.priority = 'high') AS "High",
       count(*) FILTER (WHERE a.priority = 'medium') AS "Medium",
       count(*) FILTER (WHERE a.priority = 'low') AS "Low",
       count(*) FILTER (WHERE a.state = 'unacknowledged') AS "To acknowledge"
FROM alarm_state a JOIN device d ON d.device_id = a.device_id
WHERE a.state IN ('unacknowledged', 'acknowledged') AND {IN_SITES} AND {IN_AREAS}
"""

CONTACT = f"""
SELECT count(*) FILTER (WHERE c.state IN ('heard', 'asleep')) AS "Heard",
       count(*) FILTER (WHERE c.state = 'late') AS "Late",
       count(*) FILTER (WHERE c.state IN ('cut_off', 'flat_battery', 'out_of_coverage', 'silent')) AS "Silent",
       count(*) FILTER (WHERE c.state = 'never_heard') AS "Never heard"
FROM device d JOIN contact_state c ON c.device_id = d.device_id
WHERE {_HERE}
"""

_NEWEST = """
SELECT {columns}
FROM latest l JOIN metric m ON m.metric_id = l.metric_id
WHERE l.device_id = d.device_id AND m.name IN ({metrics})
"""


def _newest(*metrics: str) -> str:
    columns = ", ".join(
        f"max(l.value) FILTER (WHERE m.name = '{metric}')"
        f"{f' * {FACTORS[metric]}' if metric in FACTORS else ''} AS {metric}"
        for metric in metrics
    )
    return _NEWEST.format(columns=columns, metrics=", ".join(f"'{metric}'" for metric in metrics)).strip()


_ALARMS = """
SELECT CASE WHEN bool_or(a.priority = 'high') THEN 'high' WHEN bool_or(a.priority = 'medium') THEN 'medium'
            WHEN count(*) > 0 THEN 'low' ELSE 'none' END AS worst
FROM alarm a WHERE a.device_id = d.device_id AND a.cleared_at IS NULL AND NOT a.retracted
""".strip()

_ORDER = "CASE w.worst WHEN 'high' THEN 0 WHEN 'medium' THEN 1 WHEN 'low' THEN 2 ELSE 3 END"

PUMPS = f"""
SELECT {TAG} AS "Tag", {AREA} AS "Area", w.worst AS "Priority", n.running AS "Running", n.flow AS "Flow",
       n.suction_pressure AS "Suction", n.pressure AS "Discharge", n.power AS "Power", n.vibration AS "Vibration",
       n.bearing_temperature AS "Bearing", replace(c.state, '_', ' ') AS "Contact", {ASSET_COLUMNS}
FROM device d JOIN contact_state c ON c.device_id = d.device_id
CROSS JOIN LATERAL ({_newest("running", "flow", "suction_pressure", "pressure", "power", "vibration", "bearing_temperature")}) n
CROSS JOIN LATERAL ({_ALARMS}) w
WHERE d.kind = 'pump' AND {_HERE}
ORDER BY {_ORDER}, 1
LIMIT 500
"""  # noqa: E501

VALVES = f"""
SELECT {TAG} AS "Tag", {AREA} AS "Area", w.worst AS "Priority", n.position AS "Position",
       n.position_command AS "Command", n.flow AS "Flow", n.pressure AS "Inlet", n.outlet_pressure AS "Outlet",
       n.torque AS "Torque", replace(c.state, '_', ' ') AS "Contact", {ASSET_COLUMNS}
FROM device d JOIN contact_state c ON c.device_id = d.device_id
CROSS JOIN LATERAL ({_newest("position", "position_command", "flow", "pressure", "outlet_pressure", "torque")}) n
CROSS JOIN LATERAL ({_ALARMS}) w
WHERE d.kind = 'valve' AND {_HERE}
ORDER BY {_ORDER}, 1
LIMIT 500
"""

_MONTHS = "$__timeTo()::timestamptz - $__timeFrom()::timestamptz > interval '62 days'"


def _buckets(kind: AssetKind, metric: str, aggregate: str, since: str) -> str:
    """Rows (at, slot, value) of one metric over the site's devices of a kind; `slot` is what compares with what: hours
    of the same hour of the day, all days with each other. `since` is how far back."""
    which = (
        f"device_id = ANY(ARRAY(SELECT d.device_id FROM device d WHERE d.kind = '{kind}' AND {_HERE}))\n"
        f"  AND metric_id = (SELECT m.metric_id FROM metric m WHERE m.name = '{metric}')\n"
        f"  AND bucket >= {since} AND bucket <= $__timeTo()::timestamptz"
    )
    return f"""
SELECT bucket AS at, EXTRACT(hour FROM bucket AT TIME ZONE 'UTC')::integer AS slot, {aggregate}(avg_value) AS value
FROM reading_hourly WHERE {which} AND NOT ({_MONTHS})
GROUP BY 1
UNION ALL
SELECT bucket, 0, {aggregate}(avg_value) FROM reading_daily WHERE {which} AND {_MONTHS}
GROUP BY 1
""".strip()


def _band(kind: AssetKind, metric: str, aggregate: str, column: str) -> str:
    """A trend within the band from the 5th to the 95th percentile of the time range and the four weeks before it."""
    factor = FACTORS[metric]
    return f"""
WITH b AS ({_buckets(kind, metric, aggregate, "$__timeFrom()::timestamptz - interval '28 days'")}),
usual AS (
    SELECT slot, percentile_cont(0.05) WITHIN GROUP (ORDER BY value) AS low,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY value) AS high
    FROM b GROUP BY slot
)
SELECT b.at AS "time", u.low * {factor} AS "p5", u.high * {factor} AS "p95", b.value * {factor} AS "{column}"
FROM b JOIN usual u ON u.slot = b.slot
WHERE $__timeFilter(b.at)
ORDER BY 1
"""


# The highest of the pumps: one at rest shows the pressure of the suction side, and its mean would say little.
DISCHARGE = _band("pump", "pressure", "max", "Discharge")
DISTRICT = _band("valve", "outlet_pressure", "avg", "Outlet")
PUMPED = _band("pump", "flow", "sum", "Pumped")
DELIVERED = _band("valve", "flow", "sum", "Through valves")

_FROM = "$__timeFrom()::timestamptz"

BALANCE = f"""
WITH pumped AS ({_buckets("pump", "flow", "sum", _FROM)}),
delivered AS ({_buckets("valve", "flow", "sum", _FROM)})
SELECT COALESCE(p.at, v.at) AS "time", p.value * {FLOW} AS "Pumped", v.value * {FLOW} AS "Through valves",
       (p.value - v.value) * {FLOW} AS "Difference"
FROM pumped p FULL JOIN delivered v ON v.at = p.at
ORDER BY 1
"""

ENERGY = f"""
WITH power AS ({_buckets("pump", "power", "sum", _FROM)}),
pumped AS ({_buckets("pump", "flow", "sum", _FROM)})
SELECT p.at AS "time", p.value / NULLIF(q.value, 0) AS "kWh per m³"
FROM power p JOIN pumped q ON q.at = p.at
ORDER BY 1
"""
