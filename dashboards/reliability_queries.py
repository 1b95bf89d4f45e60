"""The SQL of the dashboard of reliability by maker and model, one constant a panel.

Exposure is counted in days on which a device told something (`reading_daily`), not by its registration: evidence, not
a list of what was bought. Rates are events a device-year with Byar's approximation of the exact Poisson interval of
95 % (Breslow and Day 1987).

S608 is off for this file: what is put together here are fragments of our own; values come through Grafana's variables.
"""

# ruff: noqa: S608

from __future__ import annotations

from dashboards.query import IN_SITES

_MAKER = """translate(COALESCE(NULLIF(d.manufacturer, ''), '(no maker)'), '"$', '”＄')"""
_MODEL = """translate(COALESCE(NULLIF(d.model, ''), '(no model)'), '"$', '”＄')"""
_FROM, _TO = "$__timeFrom()::timestamptz", "$__timeTo()::timestamptz"

# That of its battery a device tells as long as it lives, so a day without is a day without a word. One look at it gives
# the days and the slope; by metric and time, as these are all devices.
_DAYS = """
SELECT r.device_id, max(r.days) AS days, min(r.first) AS first, max(r.last) AS last, max(r.a_day) AS a_day
FROM (
    SELECT r.device_id, count(*) AS days, min(r.bucket) AS first, max(r.bucket) AS last,
           CASE WHEN r.metric_id = (SELECT m.metric_id FROM metric m WHERE m.name = 'battery')
                THEN regr_slope(r.avg_value, EXTRACT(epoch FROM r.bucket)) * 86400 END AS a_day
    FROM reading_daily r
    WHERE r.metric_id = ANY(ARRAY(SELECT m.metric_id FROM metric m WHERE m.name IN ('battery', 'battery_voltage')))
      AND $__timeFilter(r.bucket)
    GROUP BY r.device_id, r.metric_id
) r
GROUP BY 1
""".strip()

# A failure is an alarm of class equipment or safety that people were told, of high priority; a defect of the device
# itself is one of class instrument.
_ALARMS = f"""
SELECT a.device_id, count(*) AS alarms,
       count(*) FILTER (WHERE a.alarm_class IN ('equipment', 'safety') AND a.priority = 'high') AS failures,
       count(*) FILTER (WHERE a.alarm_class = 'instrument') AS defects
FROM alarm a
WHERE NOT a.retracted AND a.raised_at >= {_FROM} AND a.raised_at <= {_TO}
GROUP BY 1
""".strip()


def _rate(events: str, years: str, name: str) -> str:
    """Events a year, and the interval in which the true rate lies with 95 %."""
    low = f"{events} * (1 - 1 / (9.0 * {events}) - 1.96 / (3 * sqrt({events}::double precision))) ^ 3"
    high = f"({events} + 1) * (1 - 1 / (9.0 * ({events} + 1)) + 1.96 / (3 * sqrt({events} + 1::double precision))) ^ 3"
    return f"""({events} / {years})::double precision AS "{name} a year",
       (CASE WHEN {events} = 0 THEN 0 ELSE {low} END / {years})::double precision AS "{name}, at least",
       ({high} / {years})::double precision AS "{name}, at most\""""


def _grades(groups: dict[str, str], order: str) -> str:
    """One row a maker or model and kind: how many, how long, and how often what."""
    columns = ", ".join(f'{value} AS "{name}"' for name, value in groups.items())
    names = ", ".join(f'"{name}"' for name in groups)
    return f"""
WITH days AS ({_DAYS}),
called AS ({_ALARMS}),
grouped AS (
    SELECT {columns}, d.kind, count(*) AS devices, sum(y.days) / 365.25 AS years,
           COALESCE(sum(c.alarms), 0)::double precision AS alarms,
           COALESCE(sum(c.failures), 0)::double precision AS failures,
           COALESCE(sum(c.defects), 0)::double precision AS defects,
           (100.0 * sum(y.days) / sum(EXTRACT(epoch FROM y.last - y.first) / 86400 + 1))::double precision AS complete,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY -100 / (LEAST(y.a_day, -0.005) * 365.25))
               FILTER (WHERE y.a_day IS NOT NULL AND y.days >= 7) AS life
    FROM device d JOIN days y ON y.device_id = d.device_id
    LEFT JOIN called c ON c.device_id = d.device_id
    WHERE {IN_SITES}
    GROUP BY {names}, d.kind
)
SELECT {names}, kind AS "Kind", devices AS "Devices", years::double precision AS "Device-years",
       {_rate("failures", "years", "Failures")},
       {_rate("alarms", "years", "Alarms")},
       {_rate("defects", "years", "Defects")},
       complete AS "Days with data", life AS "Battery life"
FROM grouped
ORDER BY {order}
LIMIT 200
"""


BY_MAKER = _grades({"Maker": _MAKER}, "6, 1, 2")
BY_MODEL = _grades({"Maker": _MAKER, "Model": _MODEL}, "7, 1, 2, 3")

# What fails: the failures of each kind by rule.
FAILURES = f"""
SELECT d.kind AS "Kind", COALESCE(max(r.title), a.rule) AS "What", count(*) AS "Times",
       count(DISTINCT a.device_id) AS "Devices", count(DISTINCT d.manufacturer || d.model) AS "Models",
       max(a.raised_at) AS "Last"
FROM alarm a JOIN device d ON d.device_id = a.device_id LEFT JOIN alarm_rule r ON r.rule = a.rule
WHERE NOT a.retracted AND a.alarm_class IN ('equipment', 'safety', 'instrument')
  AND a.raised_at >= {_FROM} AND a.raised_at <= {_TO} AND {IN_SITES}
GROUP BY d.kind, a.rule
ORDER BY 3 DESC, 1, 2
LIMIT 100
"""

# Each device is counted by one metric that it tells, so that nothing has to be made distinct.
MEASURED = f"""
WITH told AS MATERIALIZED (
    SELECT l.device_id, min(l.metric_id) AS metric_id
    FROM latest l JOIN metric m ON m.metric_id = l.metric_id AND m.name IN ('battery', 'battery_voltage')
    JOIN device d ON d.device_id = l.device_id
    WHERE {IN_SITES}
    GROUP BY 1
)
SELECT r.bucket AS "time", count(*)::double precision AS "Devices with data"
FROM reading_daily r JOIN told t ON t.device_id = r.device_id AND t.metric_id = r.metric_id
WHERE r.metric_id = ANY(ARRAY(SELECT t.metric_id FROM told t GROUP BY 1)) AND $__timeFilter(r.bucket)
GROUP BY 1
ORDER BY 1
"""
