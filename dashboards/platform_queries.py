"""The SQL of the dashboard of the platform itself, one constant a panel.

These are about the whole installation, whichever sites are chosen elsewhere.

S608 is off for this file: what is put together here are fragments of our own; values come through Grafana's variables.
"""

# ruff: noqa: S608

from __future__ import annotations

from devices.model import Reason

_REASONS = " ".join(f"WHEN '{reason.value}' THEN '{reason.value.replace('_', ' ')}'" for reason in Reason)


def _reason(column: str) -> str:
    return f"CASE {column} {_REASONS} ELSE {column} END"


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
       (SELECT COALESCE(sum(b.uplinks), 0) FROM engine_backlog b)::bigint AS "Not judged yet",
       (SELECT COALESCE(sum(p.spool_waiting), 0) FROM platform_instance p
        WHERE p.seen_at > now() - interval '7 days')::bigint AS "In the spool",
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

QUARANTINE = f"""
SELECT q.bucket AS "time", {_reason("q.reason")} AS metric, sum(q.records)::double precision AS value
FROM quarantine_hourly q
WHERE $__timeFilter(q.bucket)
GROUP BY 1, 2
ORDER BY 1, 2
"""

REASONS = f"""
SELECT {_reason("r.reason")} AS "Reason", sum(r.kept)::bigint AS "Kept", sum(r.dropped)::bigint AS "Only counted",
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

# The worst of what can be wrong with a rule; each has its number beside it.
RULES = """
SELECT r.rule AS "Rule", r.priority AS "Priority", r.alarm_class AS "Class",
       CASE WHEN NOT r.in_use THEN 'gone' WHEN f.why IS NOT NULL THEN 'fails' WHEN a.false_pages > 0 THEN 'false_pages'
            WHEN c.bursts > 0 THEN 'chatters' WHEN a.stale > 0 THEN 'stands' WHEN a.alarms IS NULL THEN 'never_calls'
            ELSE 'well' END AS "Health",
       COALESCE(a.alarms, 0) AS "Alarms", COALESCE(a.active, 0) AS "Active", COALESCE(a.stale, 0) AS "Stale",
       COALESCE(c.bursts, 0)::bigint AS "Chattered", COALESCE(a.retracted, 0) AS "Retracted",
       COALESCE(a.false_pages, 0) AS "False", a.last AS "Last", COALESCE(f.why, '') AS "Why it fails"
FROM alarm_rule r
LEFT JOIN (
    SELECT a.rule, count(*) AS alarms, count(*) FILTER (WHERE a.cleared_at IS NULL AND NOT a.retracted) AS active,
           count(*) FILTER (WHERE a.cleared_at IS NULL AND NOT a.retracted
                              AND a.raised_at < now() - interval '24 hours') AS stale,
           count(*) FILTER (WHERE a.retracted) AS retracted,
           count(*) FILTER (WHERE a.retracted AND a.annunciated_at IS NOT NULL) AS false_pages, max(a.raised_at) AS last
    FROM alarm a WHERE a.raised_at > now() - interval '30 days' GROUP BY 1
) a ON a.rule = r.rule
LEFT JOIN (SELECT k.rule, sum(k.bursts) AS bursts FROM alarm_chattering k GROUP BY 1) c ON c.rule = r.rule
LEFT JOIN (
    SELECT e.key AS rule, min(e.value) AS why
    FROM platform_instance p CROSS JOIN LATERAL jsonb_each_text(p.failing) e
    WHERE p.seen_at > now() - interval '10 minutes' GROUP BY 1
) f ON f.rule = r.rule
ORDER BY CASE WHEN f.why IS NOT NULL THEN 0 WHEN a.false_pages > 0 OR c.bursts > 0 THEN 1 ELSE 2 END, 5 DESC, 1
LIMIT 200
"""

PLATFORMS = """
SELECT COALESCE(NULLIF(p.instance, ''), '(the only one)') AS "Process", p.version AS "Version",
       p.started_at AS "Started", p.seen_at AS "Seen",
       EXTRACT(epoch FROM now() - p.seen_at)::double precision AS "Silent for",
       CASE WHEN p.has_spool THEN 'on' ELSE 'off' END AS "Spool", p.spool_waiting AS "Waiting",
       p.spool_bytes AS "Size", (100.0 * p.spool_bytes / NULLIF(p.spool_limit, 0))::double precision AS "Full",
       p.drained_at AS "Last drained"
FROM platform_instance p
WHERE p.seen_at > now() - interval '7 days'
ORDER BY p.seen_at DESC
LIMIT 50
"""

# What a columnstore saves can be told of its own chunks only.
ON_DISK = """
SELECT s.readings AS "Readings", (s.bytes / NULLIF(s.readings, 0)::double precision) AS "Bytes a reading",
       s.chunks AS "Chunks", s.columnar AS "In the columnstore",
       COALESCE(100.0 * (1 - s.columnar_after::double precision / NULLIF(s.columnar_before, 0)), 0) AS "Saved there"
FROM reading_storage() s
"""

JUDGED = """
SELECT x.part AS "Part", x.at AS "As of", EXTRACT(epoch FROM now() - x.at)::double precision AS "Behind"
FROM (
    SELECT 'last commit' AS part, (SELECT max(c.committed_at) FROM commit_log c
                                   WHERE c.committed_at > now() - interval '7 days') AS at
    UNION ALL
    SELECT 'alarms judged', (SELECT COALESCE(min(b.oldest), now()) FROM engine_backlog b HAVING count(*) > 0)
    UNION ALL
    SELECT 'contact judged', (SELECT t.ticked_at FROM contact_tick t)
    UNION ALL
    SELECT CASE s.width WHEN 'hour' THEN 'hourly aggregate' ELSE 'daily aggregate' END,
           CASE WHEN s.closed_to > '-infinity' THEN s.closed_to END
    FROM aggregate_state s
) x
ORDER BY 1
"""
