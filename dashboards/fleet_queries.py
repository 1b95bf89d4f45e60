"""The SQL of the fleet overview, one constant a panel; what the panels look like is in `dashboards.fleet`.

S608 is off for this file: what is put together here are fragments of our own. The one value from outside is `${site}`,
which Grafana quotes.

“Now” is the database's `now()`: an overview of the present does not follow the time picker. Trends and counts do.
"""

# ruff: noqa: S608

from __future__ import annotations

from dashboards.query import ASSET_COLUMNS, FACTORS, IN_SITES, LAST_DAY, LONG, SITE, TAG
from devices.model import Quality, Transport

ACTIVE_ALARMS = f"""
SELECT count(*) FILTER (WHERE a.priority = 'high') AS "High",
       count(*) FILTER (WHERE a.priority = 'medium') AS "Medium",
       count(*) FILTER (WHERE a.priority = 'low') AS "Low"
FROM alarm_state a JOIN device d ON d.device_id = a.device_id
WHERE a.state IN ('unacknowledged', 'acknowledged') AND {IN_SITES}
"""

TO_ACKNOWLEDGE = f"""
SELECT count(*) AS "To acknowledge"
FROM alarm_state a JOIN device d ON d.device_id = a.device_id
WHERE a.state IN ('unacknowledged', 'returned_unacknowledged') AND {IN_SITES}
"""

ALARM_RATE = f"""
SELECT count(*) AS "Last 10 min"
FROM alarm a JOIN device d ON d.device_id = a.device_id
WHERE a.recorded_at > now() - interval '10 minutes' AND NOT a.retracted AND {IN_SITES}
"""

ALARM_LIST = f"""
SELECT a.priority AS "Priority", a.state AS "State", {TAG} AS "Tag", {SITE} AS "Site", a.message AS "What",
       a.since AS "Since",
       GREATEST(0, EXTRACT(epoch FROM COALESCE(a.cleared_at, now()) - a.since))::double precision AS "Lasting",
       a.rule AS "Rule", a.alarm_id::text AS "Number", {ASSET_COLUMNS}
FROM alarm_state a JOIN device d ON d.device_id = a.device_id
WHERE a.state IN ('unacknowledged', 'acknowledged', 'returned_unacknowledged') AND {IN_SITES}
ORDER BY CASE a.state WHEN 'unacknowledged' THEN 0 WHEN 'returned_unacknowledged' THEN 2 ELSE 1 END,
         CASE a.priority WHEN 'high' THEN 0 WHEN 'medium' THEN 1 ELSE 2 END, a.since DESC
LIMIT 200
"""

# By arrival, as silence is about arrival. Uplinks older than 30 days are not looked for (each day is a chunk): beyond
# that the newest sample time serves. A device that never spoke counts from its registration.
_CONTACT = f"""
SELECT d.device_id, d.identity, {TAG} AS tag, {SITE} AS site, d.kind, d.report_interval,
       COALESCE(u.received_at, l.measured_at) AS last_contact,
       GREATEST(0, EXTRACT(epoch FROM now() - COALESCE(u.received_at, l.measured_at, d.created_at))
                   / NULLIF(EXTRACT(epoch FROM d.report_interval), 0))::double precision AS age
FROM device d
LEFT JOIN LATERAL (SELECT x.received_at FROM uplink x
                   WHERE x.device_id = d.device_id AND x.received_at > now() - interval '30 days'
                     AND x.transport <> 'import'
                   ORDER BY x.received_at DESC LIMIT 1) u ON true
LEFT JOIN LATERAL (SELECT max(x.measured_at) AS measured_at FROM latest x WHERE x.device_id = d.device_id) l ON true
WHERE d.status = 'active' AND {IN_SITES}
""".strip()

FRESHNESS = f"""
WITH contact AS ({_CONTACT})
SELECT count(*) FILTER (WHERE age < 2) AS "Fresh",
       count(*) FILTER (WHERE age >= 2 AND age < 4) AS "Late",
       count(*) FILTER (WHERE age >= 4) AS "Silent"
FROM contact
"""

UNHEARD = f"""
WITH contact AS ({_CONTACT})
SELECT tag AS "Tag", site AS "Site", kind AS "Kind", CASE WHEN age < 4 THEN 'late' ELSE 'silent' END AS "Freshness",
       age AS "Age", EXTRACT(epoch FROM report_interval)::double precision AS "Expected every",
       last_contact AS "Last contact", {ASSET_COLUMNS}
FROM contact d
WHERE age >= 2
ORDER BY age DESC, tag
LIMIT 100
"""

BY_SITE = f"""
WITH contact AS ({_CONTACT}),
alarms AS (
    SELECT {SITE} AS site, a.priority, a.state
    FROM alarm_state a JOIN device d ON d.device_id = a.device_id
    WHERE a.state IN ('unacknowledged', 'acknowledged') AND {IN_SITES}
),
devices AS (
    SELECT site, count(*) AS devices, count(*) FILTER (WHERE age < 2) AS fresh,
           count(*) FILTER (WHERE age >= 2 AND age < 4) AS late, count(*) FILTER (WHERE age >= 4) AS silent
    FROM contact GROUP BY site
),
priorities AS (
    SELECT site, count(*) FILTER (WHERE priority = 'high') AS high,
           count(*) FILTER (WHERE priority = 'medium') AS medium, count(*) FILTER (WHERE priority = 'low') AS low,
           count(*) FILTER (WHERE state = 'unacknowledged') AS unacked
    FROM alarms GROUP BY site
)
SELECT s.site AS "Site", COALESCE(s.devices, 0) AS "Devices", COALESCE(p.high, 0) AS "High",
       COALESCE(p.medium, 0) AS "Medium", COALESCE(p.low, 0) AS "Low", COALESCE(p.unacked, 0) AS "Unacknowledged",
       (100.0 * s.fresh / s.devices)::double precision AS "Fresh", s.late AS "Late", s.silent AS "Silent"
FROM devices s LEFT JOIN priorities p ON p.site = s.site
ORDER BY 3 DESC, 4 DESC, 5 DESC, 9 DESC, 1
"""

# 0 all well, 1 something to look at, 2 a low, 3 a medium, 4 a high alarm.
MAP = f"""
SELECT {SITE} AS "Site", s.latitude AS "Latitude", s.longitude AS "Longitude", count(*) AS "Devices",
       GREATEST(max(w.worst), max(CASE WHEN c.state IS NULL OR c.state IN ('heard', 'asleep') THEN 0 ELSE 1 END))
           ::bigint AS "State",
       COALESCE(sum(w.alarms), 0)::bigint AS "Alarms",
       count(*) FILTER (WHERE c.state NOT IN ('heard', 'asleep')) AS "Not heard of"
FROM device d JOIN site s ON s.site = d.site AND s.latitude IS NOT NULL
LEFT JOIN contact c ON c.device_id = d.device_id
LEFT JOIN (
    SELECT a.device_id, count(*) AS alarms,
           max(CASE a.priority WHEN 'high' THEN 4 WHEN 'medium' THEN 3 ELSE 2 END) AS worst
    FROM alarm a WHERE a.cleared_at IS NULL AND NOT a.retracted GROUP BY 1
) w ON w.device_id = d.device_id
WHERE d.status = 'active' AND {IN_SITES}
GROUP BY d.site, s.latitude, s.longitude
ORDER BY 5, 1
"""


def _is(metric: str) -> str:
    return f"r.metric_id = (SELECT m.metric_id FROM metric m WHERE m.name = '{metric}')"


# Days are UTC's, as the aggregates are. Means times 24 hours are the day's volume and energy; the median of the days
# before is not moved by a single odd one.
YESTERDAY = f"""
WITH day AS (SELECT time_bucket(interval '1 day', now()) AS today),
chosen AS (
    SELECT d.device_id, {SITE} AS site, d.kind FROM device d WHERE d.status = 'active' AND {IN_SITES}
),
measured AS (
    SELECT c.site, r.bucket, sum(r.avg_value) FILTER (WHERE {_is("flow")}) * 24 AS pumped,
           sum(r.avg_value) FILTER (WHERE {_is("power")}) * 24 AS energy,
           avg(r.avg_value) FILTER (WHERE {_is("outlet_pressure")}) AS outlet
    FROM reading_daily r JOIN chosen c ON c.device_id = r.device_id
    WHERE ({_is("flow")} AND c.kind = 'pump' OR {_is("power")} OR {_is("outlet_pressure")})
      AND r.metric_id = ANY(ARRAY(SELECT m.metric_id FROM metric m
                                  WHERE m.name IN ('flow', 'power', 'outlet_pressure')))
      AND r.bucket >= (SELECT today FROM day) - interval '29 days' AND r.bucket < (SELECT today FROM day)
    GROUP BY 1, 2
),
called AS (
    SELECT c.site, time_bucket(interval '1 day', a.raised_at) AS bucket, count(*)::double precision AS alarms
    FROM alarm a JOIN chosen c ON c.device_id = a.device_id
    WHERE NOT a.retracted AND a.raised_at >= (SELECT today FROM day) - interval '29 days'
      AND a.raised_at < (SELECT today FROM day)
    GROUP BY 1, 2
),
days AS (
    SELECT m.site, m.bucket, m.pumped, m.energy, m.outlet, COALESCE(k.alarms, 0) AS alarms,
           m.bucket = (SELECT today FROM day) - interval '1 day' AS yesterday
    FROM measured m LEFT JOIN called k ON k.site = m.site AND k.bucket = m.bucket
),
compared AS (
    SELECT site, max(pumped) FILTER (WHERE yesterday) AS pumped, max(energy) FILTER (WHERE yesterday) AS energy,
           max(outlet) FILTER (WHERE yesterday) AS outlet, max(alarms) FILTER (WHERE yesterday) AS alarms,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY pumped) FILTER (WHERE NOT yesterday) AS usual_pumped,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY energy) FILTER (WHERE NOT yesterday) AS usual_energy,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY outlet) FILTER (WHERE NOT yesterday) AS usual_outlet,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY alarms) FILTER (WHERE NOT yesterday) AS usual_alarms
    FROM days GROUP BY 1
)
SELECT s.site AS "Site", c.pumped AS "Pumped", 100 * (c.pumped / NULLIF(c.usual_pumped, 0) - 1) AS "Pumped, change",
       c.energy AS "Energy", 100 * (c.energy / NULLIF(c.usual_energy, 0) - 1) AS "Energy, change",
       c.outlet * {FACTORS["outlet_pressure"]} AS "District pressure",
       100 * (c.outlet / NULLIF(c.usual_outlet, 0) - 1) AS "District pressure, change",
       c.alarms AS "Alarms", c.alarms - c.usual_alarms AS "Alarms, change"
FROM (SELECT DISTINCT site FROM chosen) s LEFT JOIN compared c ON c.site = s.site
ORDER BY GREATEST(abs(c.pumped / NULLIF(c.usual_pumped, 0) - 1), abs(c.energy / NULLIF(c.usual_energy, 0) - 1))
             DESC NULLS LAST, 1
"""


def _of(view: str, metric: str) -> str:
    return f"""SELECT bucket, device_id, avg_value FROM {view}
      WHERE metric_id = (SELECT m.metric_id FROM metric m WHERE m.name = '{metric}') AND $__timeFilter(bucket)"""


def _trend(metric: str, aggregate: str) -> str:
    # Which devices and which metric are settled before the view is read, so that its scan enters the key (device_id,
    # metric_id, time) for these alone; joined to the registry the planner reads every device's history.
    # What a device's line is called is settled once a device, too, and not once a day of each.
    return f"""
WITH chosen AS MATERIALIZED (
    SELECT d.device_id, {SITE} || ' · ' || CASE d.kind WHEN 'pump' THEN 'pumps' WHEN 'valve' THEN 'valves'
               ELSE 'meters' END AS metric
    FROM device d WHERE d.status = 'active' AND {IN_SITES}
)
SELECT h.bucket AS "time", c.metric, {aggregate} * {FACTORS[metric]} AS value
FROM ({_of("reading_hourly", metric)} AND NOT ({LONG})
      AND device_id = ANY(ARRAY(SELECT d.device_id FROM chosen d))
      UNION ALL
      {_of("reading_daily", metric)} AND {LONG}) h JOIN chosen c USING (device_id)
GROUP BY 1, 2
ORDER BY 1, 2
"""


PRESSURE = _trend("pressure", "avg(h.avg_value)")
FLOW = _trend("flow", "sum(h.avg_value)")

# Zone limits of ISO 10816-7 category II (domain default; the category of each pump is not in the registry), mm/s RMS:
# A/B 3.2, B/C 5.1, C/D 8.5 up to 200 kW, and 4.2, 6.1, 9.5 above.
VIBRATION = f"""
SELECT v.tag AS "Tag", v.site AS "Site", v.value AS "Vibration",
       CASE WHEN v.value >= v.cd THEN 'D' WHEN v.value >= v.bc THEN 'C'
            WHEN v.value >= v.ab THEN 'B' ELSE 'A' END AS "Zone",
       CASE WHEN v.quality >= {Quality.GOOD.value} THEN 'good'
            WHEN v.quality >= {Quality.UNCERTAIN.value} THEN 'uncertain' ELSE 'bad' END AS "Quality",
       v.measured_at AS "As of", v."Asset", v."Device", v."Board"
FROM (
    SELECT {TAG} AS tag, {SITE} AS site, l.value, l.quality, l.measured_at, {ASSET_COLUMNS},
           CASE WHEN big THEN 4.2 ELSE 3.2 END AS ab, CASE WHEN big THEN 6.1 ELSE 5.1 END AS bc,
           CASE WHEN big THEN 9.5 ELSE 8.5 END AS cd
    FROM device d
    JOIN latest l ON l.device_id = d.device_id
    JOIN metric m ON m.metric_id = l.metric_id AND m.name = 'vibration'
    CROSS JOIN LATERAL (SELECT jsonb_path_exists(d.design, '$.rated_power ? (@ > 200)') AS big) p
    WHERE d.status = 'active' AND {IN_SITES}
) v
ORDER BY v.value DESC, v.tag
LIMIT 10
"""

BATTERY = f"""
SELECT {TAG} AS "Tag", {SITE} AS "Site",
       max(l.value) FILTER (WHERE m.name = 'battery') AS "Battery",
       max(l.value) FILTER (WHERE m.name = 'rsrp') AS "Signal",
       max(l.value) FILTER (WHERE m.name = 'coverage_level') AS "Coverage level",
       max(l.measured_at) FILTER (WHERE m.name = 'battery') AS "As of", {ASSET_COLUMNS}
FROM device d
JOIN latest l ON l.device_id = d.device_id
JOIN metric m ON m.metric_id = l.metric_id
WHERE m.name IN ('battery', 'rsrp', 'coverage_level') AND d.status = 'active' AND {IN_SITES}
GROUP BY d.device_id
HAVING count(*) FILTER (WHERE m.name = 'battery') > 0
ORDER BY 3, 1
LIMIT 10
"""

# Whole hours, the one in which the time range begins included: a part of an hour would look like a drop.
_HOURS = f"""generate_series(time_bucket(interval '1 hour', {LAST_DAY}),
                     $__timeTo()::timestamptz, interval '1 hour')"""
_ARRIVED = f"""u.received_at >= time_bucket(interval '1 hour', {LAST_DAY})
      AND u.received_at <= $__timeTo()::timestamptz AND {IN_SITES}"""

READINGS_PER_HOUR = f"""
SELECT h.hour AS "time", COALESCE(n.readings, 0) AS "Readings"
FROM {_HOURS} AS h(hour)
LEFT JOIN (
    SELECT time_bucket(interval '1 hour', u.received_at) AS hour, sum(u.readings)::double precision AS readings
    FROM uplink u JOIN device d ON d.device_id = u.device_id
    WHERE {_ARRIVED}
    GROUP BY 1
) n ON n.hour = h.hour
ORDER BY 1
"""

_TRANSPORTS = ", ".join(f"('{transport.value}')" for transport in Transport)

UPLINKS_PER_HOUR = f"""
SELECT h.hour AS "time", t.transport AS metric, COALESCE(n.uplinks, 0) AS value
FROM {_HOURS} AS h(hour)
CROSS JOIN (VALUES {_TRANSPORTS}) AS t(transport)
LEFT JOIN (
    SELECT time_bucket(interval '1 hour', u.received_at) AS hour, u.transport, count(*) AS uplinks
    FROM uplink u JOIN device d ON d.device_id = u.device_id
    WHERE {_ARRIVED}
    GROUP BY 1, 2
) n ON n.hour = h.hour AND n.transport = t.transport
ORDER BY 1, 2
"""

DELAY = f"""
SELECT time_bucket(interval '1 hour', u.received_at) AS "time",
       percentile_cont(0.5) WITHIN GROUP (ORDER BY w.delay) AS "Median",
       percentile_cont(0.95) WITHIN GROUP (ORDER BY w.delay) AS "95 %"
FROM uplink u JOIN device d ON d.device_id = u.device_id
CROSS JOIN LATERAL (
    SELECT GREATEST(0, EXTRACT(epoch FROM u.received_at - u.first_measured_at))::double precision AS delay
) w
WHERE {_ARRIVED}
GROUP BY 1
ORDER BY 1
"""
