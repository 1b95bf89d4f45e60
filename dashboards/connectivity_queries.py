"""The SQL of the dashboard of connectivity and battery, one constant a panel.

“Now” is the newest value that a device told; trends read the hourly aggregate, the forecast the daily one.

S608 is off for this file: what is put together here are fragments of our own; values come through Grafana's variables.
"""

# ruff: noqa: S608

from __future__ import annotations

from dashboards.query import ASSET_COLUMNS, IN_SITES, LAST_DAY, LONG, SITE, TAG

_HERE = f"d.status = 'active' AND {IN_SITES}"
_DEVICES = f"ANY(ARRAY(SELECT d.device_id FROM device d WHERE {_HERE}))"
_MODEL = "COALESCE(NULLIF(concat_ws(' ', NULLIF(d.manufacturer, ''), NULLIF(d.model, '')), ''), '(no model)')"

CONTACT = f"""
SELECT count(*) FILTER (WHERE c.state = 'heard') AS "Heard",
       count(*) FILTER (WHERE c.state = 'asleep') AS "Asleep",
       count(*) FILTER (WHERE c.state = 'late') AS "Late",
       count(*) FILTER (WHERE c.state = 'cut_off') AS "Cut off",
       count(*) FILTER (WHERE c.state = 'out_of_coverage') AS "Out of coverage",
       count(*) FILTER (WHERE c.state = 'flat_battery') AS "Flat battery",
       count(*) FILTER (WHERE c.state = 'silent') AS "Silent",
       count(*) FILTER (WHERE c.state = 'never_heard') AS "Never heard"
FROM device d JOIN contact_state c ON c.device_id = d.device_id
WHERE {_HERE}
"""

_WORDS = """
SELECT max(l.value) FILTER (WHERE m.name = 'battery') AS battery,
       max(l.value) FILTER (WHERE m.name = 'rsrp') AS rsrp,
       max(l.value) FILTER (WHERE m.name = 'snr') AS snr,
       max(l.value) FILTER (WHERE m.name = 'coverage_level') AS coverage_level,
       max(l.value) FILTER (WHERE m.name = 'cell_id') AS cell_id
FROM latest l JOIN metric m ON m.metric_id = l.metric_id
WHERE l.device_id = d.device_id AND m.name IN ('battery', 'rsrp', 'snr', 'coverage_level', 'cell_id')
""".strip()

MISSING = f"""
SELECT {TAG} AS "Tag", {SITE} AS "Site", replace(c.state, '_', ' ') AS "Contact", c.since AS "Since",
       EXTRACT(epoch FROM d.report_interval)::double precision AS "Expected every", w.rsrp AS "Signal",
       w.coverage_level AS "Coverage level", w.battery AS "Battery", {_MODEL} AS "Model", {ASSET_COLUMNS}
FROM device d JOIN contact c ON c.device_id = d.device_id
CROSS JOIN LATERAL ({_WORDS}) w
WHERE c.state NOT IN ('heard', 'asleep') AND {_HERE}
ORDER BY CASE c.state WHEN 'late' THEN 1 ELSE 0 END, c.since
LIMIT 200
"""

# Classes of RSRP for NB-IoT as far as operators agree: -100 dBm is good, -120 dBm needs coverage level 2 (MCL 164 dB).
COVERAGE = f"""
SELECT {SITE} AS "Site", count(*) AS "Devices",
       count(*) FILTER (WHERE w.rsrp >= -100) AS "Good",
       count(*) FILTER (WHERE w.rsrp < -100 AND w.rsrp >= -120) AS "Fair",
       count(*) FILTER (WHERE w.rsrp < -120) AS "Poor",
       count(*) FILTER (WHERE w.coverage_level >= 2) AS "Level 2",
       percentile_cont(0.5) WITHIN GROUP (ORDER BY w.rsrp) AS "Signal, median",
       percentile_cont(0.05) WITHIN GROUP (ORDER BY w.rsrp) AS "Signal, worst 5 %"
FROM device d CROSS JOIN LATERAL ({_WORDS}) w
WHERE {_HERE}
GROUP BY 1
ORDER BY 8 NULLS LAST, 1
"""


def _of(view: str, metric: str) -> str:
    return f"""SELECT bucket, avg_value FROM {view}
      WHERE device_id = {_DEVICES} AND metric_id = (SELECT m.metric_id FROM metric m WHERE m.name = '{metric}')
        AND $__timeFilter(bucket)"""


def _spread(metric: str, low: str, high: str) -> str:
    """The median of the devices' hourly or daily means, and where their worst and best twentieth begin."""
    return f"""
SELECT bucket AS "time", percentile_cont(0.05) WITHIN GROUP (ORDER BY avg_value) AS "{low}",
       percentile_cont(0.5) WITHIN GROUP (ORDER BY avg_value) AS "Median",
       percentile_cont(0.95) WITHIN GROUP (ORDER BY avg_value) AS "{high}"
FROM ({_of("reading_hourly", metric)} AND NOT ({LONG})
      UNION ALL
      {_of("reading_daily", metric)} AND {LONG}) h
GROUP BY 1
ORDER BY 1
"""


SIGNAL = _spread("rsrp", "Worst 5 %", "Best 5 %")
NOISE = _spread("snr", "Worst 5 %", "Best 5 %")

# What was stored before is what a device sent again as its acknowledgement was lost on the way.
REPEATS = f"""
SELECT time_bucket(interval '1 hour', u.received_at) AS "time",
       100.0 * sum(u.duplicates)::double precision / NULLIF(sum(u.readings + u.duplicates), 0) AS "Repeated"
FROM uplink u JOIN device d ON d.device_id = u.device_id
WHERE u.received_at BETWEEN {LAST_DAY} AND $__timeTo()::timestamptz AND u.transport <> 'import' AND {IN_SITES}
GROUP BY 1
ORDER BY 1
"""

DELAY = f"""
SELECT time_bucket(interval '1 hour', u.received_at) AS "time",
       percentile_cont(0.5) WITHIN GROUP (ORDER BY w.delay) AS "Median",
       percentile_cont(0.95) WITHIN GROUP (ORDER BY w.delay) AS "95 %"
FROM uplink u JOIN device d ON d.device_id = u.device_id
CROSS JOIN LATERAL (
    SELECT GREATEST(0, EXTRACT(epoch FROM u.received_at - u.last_measured_at))::double precision AS delay
) w
WHERE u.received_at BETWEEN {LAST_DAY} AND $__timeTo()::timestamptz AND u.transport <> 'import' AND {IN_SITES}
GROUP BY 1
ORDER BY 1
"""

# A straight line through the daily means of the last 90 days; a week of them is the least that says anything.
_SLOPES = f"""
SELECT r.device_id, count(*) AS days,
       regr_slope(r.avg_value, EXTRACT(epoch FROM r.bucket)) * 86400 AS a_day
FROM reading_daily r
WHERE r.device_id = {_DEVICES} AND r.metric_id = (SELECT m.metric_id FROM metric m WHERE m.name = 'battery')
  AND r.bucket >= now() - interval '90 days'
GROUP BY 1
""".strip()

BATTERIES = f"""
WITH slopes AS ({_SLOPES})
SELECT {TAG} AS "Tag", {SITE} AS "Site", {_MODEL} AS "Model", w.battery AS "Battery",
       CASE WHEN s.days >= 7 THEN s.a_day * 30 END AS "A month",
       CASE WHEN s.days >= 7 AND s.a_day < -0.001
            THEN now() + LEAST(-w.battery / s.a_day, 7300) * interval '1 day' END AS "Flat on",
       w.coverage_level AS "Coverage level", {ASSET_COLUMNS}
FROM device d LEFT JOIN slopes s ON s.device_id = d.device_id
CROSS JOIN LATERAL ({_WORDS}) w
WHERE w.battery IS NOT NULL AND {_HERE}
ORDER BY 6 NULLS LAST, 4, 1
LIMIT 200
"""

BY_MODEL = f"""
WITH slopes AS ({_SLOPES})
SELECT {_MODEL} AS "Model", count(*) AS "Devices",
       percentile_cont(0.5) WITHIN GROUP (ORDER BY w.battery) AS "Battery, median",
       min(w.battery) AS "Battery, least",
       percentile_cont(0.5) WITHIN GROUP (ORDER BY s.a_day * 30) FILTER (WHERE s.days >= 7) AS "A month",
       min(CASE WHEN s.days >= 7 AND s.a_day < -0.001
                THEN now() + LEAST(-w.battery / s.a_day, 7300) * interval '1 day' END) AS "First flat on",
       percentile_cont(0.5) WITHIN GROUP (ORDER BY w.rsrp) AS "Signal, median",
       (100.0 * count(*) FILTER (WHERE c.state IN ('heard', 'asleep')) / count(*))::double precision AS "Heard"
FROM device d LEFT JOIN slopes s ON s.device_id = d.device_id JOIN contact_state c ON c.device_id = d.device_id
CROSS JOIN LATERAL ({_WORDS}) w
WHERE {_HERE}
GROUP BY 1
ORDER BY 2 DESC, 1
"""

# By base station and sector, as the operator counts them; a device that does not say is in the row without a number.
BY_CELL = f"""
WITH slopes AS ({_SLOPES})
SELECT COALESCE((w.cell_id::bigint >> 8)::text || '-' || (w.cell_id::bigint & 255)::text, '(not told)') AS "Cell",
       count(DISTINCT d.site) AS "Sites", count(*) AS "Devices",
       percentile_cont(0.5) WITHIN GROUP (ORDER BY w.rsrp) AS "Signal, median",
       percentile_cont(0.5) WITHIN GROUP (ORDER BY w.snr) AS "Noise ratio, median",
       count(*) FILTER (WHERE w.coverage_level >= 2) AS "Level 2",
       (100.0 * count(*) FILTER (WHERE c.state IN ('heard', 'asleep')) / count(*))::double precision AS "Heard",
       percentile_cont(0.5) WITHIN GROUP (ORDER BY s.a_day * 30) FILTER (WHERE s.days >= 7) AS "A month",
       min(CASE WHEN s.days >= 7 AND s.a_day < -0.001
                THEN now() + LEAST(-w.battery / s.a_day, 7300) * interval '1 day' END) AS "First flat on"
FROM device d LEFT JOIN slopes s ON s.device_id = d.device_id JOIN contact_state c ON c.device_id = d.device_id
CROSS JOIN LATERAL ({_WORDS}) w
WHERE {_HERE}
GROUP BY w.cell_id
ORDER BY 7, 3 DESC, 1
LIMIT 100
"""

# A path that is no gateway's is the transport of everybody.
OUTAGES = f"""
SELECT o.path AS "Path", o.devices::bigint AS "Devices", o.since AS "Since", o.ended_at AS "Ended",
       EXTRACT(epoch FROM COALESCE(o.ended_at, now()) - o.since)::double precision AS "Lasting"
FROM outage o
WHERE o.since <= $__timeTo()::timestamptz AND COALESCE(o.ended_at, now()) >= $__timeFrom()::timestamptz
  AND (o.ended_at IS NULL OR o.ended_at >= o.raised_at)
  AND (EXISTS (SELECT FROM device d WHERE d.gateway = o.path AND {IN_SITES})
       OR NOT EXISTS (SELECT FROM device d WHERE d.gateway = o.path))
ORDER BY o.since DESC
LIMIT 50
"""
