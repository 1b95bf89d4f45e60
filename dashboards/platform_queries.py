"""The SQL of the dashboard of the platform itself, one constant a panel.

These are about the whole installation, whichever sites are chosen elsewhere.

S608 is off for this file: what is put together here are fragments of our own; values come through Grafana's variables.
"""

# ruff: noqa: S608

from __future__ import annotations

NOW = """
SELECT COALESCE(sum(c.readings), 0)::double precision / 300 AS "Readings a second",
       COALESCE(sum(c.uplinks), 0)::double precision / 300 AS "Uplinks a second",
       COALESCE(percentile_cont(0.95) WITHIN GROUP (
           ORDER BY EXTRACT(epoch FROM c.committed_at - c.last_received_at)), 0)::double precision
           AS "Commit delay, 95 %",
       (SELECT COALESCE(sum(q.records), 0) FROM quarantine_hourly q
        WHERE q.bucket > now() - interval '24 hours')::bigint AS "Quarantined in a day",
       (SELECT COALESCE(sum(q.dropped), 0) FROM quarantine_dropped q)::bigint AS "Only counted",
       (SELECT COALESCE(sum(a.announcements) FILTER (WHERE a.state = 'waiting'), 0) FROM announcement_state a)::bigint
           AS "Announcements waiting",
       (SELECT COALESCE(sum(a.announcements) FILTER (WHERE a.state = 'dead'), 0) FROM announcement_state a)::bigint
           AS "Dead letters",
       pg_database_size(current_database()) AS "Database"
FROM commit_log c
WHERE c.committed_at > now() - interval '5 minutes'
"""

# The time range in 200 steps, of ten seconds at least.
_STEP = "GREATEST(10, EXTRACT(epoch FROM $__timeTo()::timestamptz - $__timeFrom()::timestamptz) / 200)"
_AT = f"to_timestamp(floor(EXTRACT(epoch FROM c.committed_at) / {_STEP}) * {_STEP})"

THROUGHPUT = f"""
SELECT {_AT} AS "time", (sum(c.readings) / {_STEP})::double precision AS "Readings a second",
       (sum(c.uplinks) / {_STEP})::double precision AS "Uplinks a second",
       (sum(c.duplicates) / {_STEP})::double precision AS "Sent again, a second"
FROM commit_log c
WHERE $__timeFilter(c.committed_at)
GROUP BY 1
ORDER BY 1
"""

LATENCY = f"""
SELECT {_AT} AS "time",
       percentile_cont(0.5) WITHIN GROUP (ORDER BY w.delay) AS "Median",
       percentile_cont(0.95) WITHIN GROUP (ORDER BY w.delay) AS "95 %",
       max(w.delay) AS "Longest"
FROM commit_log c CROSS JOIN LATERAL (
    SELECT GREATEST(0, EXTRACT(epoch FROM c.committed_at - c.first_received_at))::double precision AS delay
) w
WHERE $__timeFilter(c.committed_at)
GROUP BY 1
ORDER BY 1
"""

QUARANTINE = """
SELECT q.bucket AS "time", replace(q.reason, '_', ' ') AS metric, sum(q.records)::double precision AS value
FROM quarantine_hourly q
WHERE $__timeFilter(q.bucket)
GROUP BY 1, 2
ORDER BY 1, 2
"""

REASONS = """
SELECT replace(r.reason, '_', ' ') AS "Reason", sum(r.kept)::bigint AS "Kept", sum(r.dropped)::bigint AS "Only counted",
       count(DISTINCT r.identity) AS "Devices", max(r.last) AS "Last"
FROM (
    SELECT q.reason, q.records AS kept, 0 AS dropped, q.identity, q.bucket AS last FROM quarantine_hourly q
    UNION ALL
    SELECT x.reason, 0, x.dropped, NULL, x.last_dropped_at FROM quarantine_dropped x
) r
GROUP BY 1
ORDER BY 2 DESC, 1
"""

STORAGE = """
SELECT s.name AS "Table", s.parts AS "Parts", s.bytes AS "Size",
       (100.0 * s.bytes / NULLIF(sum(s.bytes) OVER (), 0))::double precision AS "Share"
FROM storage_size s
ORDER BY 3 DESC, 1
LIMIT 15
"""

UPKEEP = """
SELECT m.task AS "Task", count(*) AS "Runs", max(m.began_at) AS "Last", sum(m.rows)::bigint AS "Rows",
       max(m.seconds) AS "Longest", count(m.error) AS "Failed",
       (array_agg(m.error ORDER BY m.began_at DESC) FILTER (WHERE m.error IS NOT NULL))[1] AS "Last error"
FROM maintenance_run m
WHERE m.began_at > now() - interval '7 days'
GROUP BY 1
ORDER BY 6 DESC, 1
"""

RULES = """
SELECT r.rule AS "Rule", r.priority AS "Priority", r.alarm_class AS "Class",
       CASE WHEN r.in_use THEN 'in use' ELSE 'gone' END AS "State", COALESCE(a.alarms, 0) AS "Alarms",
       COALESCE(a.active, 0) AS "Active", COALESCE(a.retracted, 0) AS "Retracted", a.last AS "Last"
FROM alarm_rule r
LEFT JOIN (
    SELECT a.rule, count(*) AS alarms, count(*) FILTER (WHERE a.cleared_at IS NULL AND NOT a.retracted) AS active,
           count(*) FILTER (WHERE a.retracted) AS retracted, max(a.raised_at) AS last
    FROM alarm a WHERE a.raised_at > now() - interval '30 days' GROUP BY 1
) a ON a.rule = r.rule
ORDER BY 5 DESC, 1
LIMIT 200
"""

JUDGED = """
SELECT x.part AS "Part", x.at AS "As of", EXTRACT(epoch FROM now() - x.at)::double precision AS "Behind"
FROM (
    SELECT 'last commit' AS part, (SELECT max(c.committed_at) FROM commit_log c
                                   WHERE c.committed_at > now() - interval '7 days') AS at
    UNION ALL
    SELECT 'contact judged', (SELECT t.ticked_at FROM contact_tick t)
    UNION ALL
    SELECT CASE s.width WHEN 'hour' THEN 'hourly aggregate' ELSE 'daily aggregate' END,
           CASE WHEN s.closed_to > '-infinity' THEN s.closed_to END
    FROM aggregate_state s
) x
ORDER BY 1
"""
