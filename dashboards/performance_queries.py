"""The SQL of the dashboard of alarm performance, one constant a panel: the KPIs of ISA-18.2 / IEC 62682 over 30 days.

The views of the KPIs are in the database (`storage/migrations/0010_alarm_kpi.sql`); a site counts as an operator.

S608 is off for this file: what is put together here are fragments of our own; values come through Grafana's variables.
"""

# ruff: noqa: S608

from __future__ import annotations

from dashboards.query import ASSET_COLUMNS, IN_SITES, SITE, TAG

# False are pages of what late readings showed never to have been; people were called for nothing.
KPIS = f"""
SELECT sum(d.alarms)::bigint AS "Alarms",
       avg(d.alarms_per_10min)::double precision AS "In 10 min",
       max(d.most_per_10min)::bigint AS "Most in 10 min",
       100 * avg(d.flood_share)::double precision AS "Time in flood",
       100 * max(d.top10_share)::double precision AS "Share of the top 10",
       sum(d.chattering)::bigint AS "Chattering",
       sum(d.stale)::bigint AS "Stale",
       max(d.median_seconds_to_acknowledge)::double precision AS "To acknowledge",
       (SELECT 100.0 * count(*) FILTER (WHERE a.retracted) / NULLIF(count(*), 0)
        FROM alarm a JOIN device d ON d.device_id = a.device_id
        WHERE a.annunciated_at > now() - interval '30 days' AND {IN_SITES})::double precision AS "False pages"
FROM alarm_kpi d
WHERE {IN_SITES}
"""

BY_SITE = f"""
SELECT {SITE} AS "Site", d.alarms AS "Alarms", d.alarms_per_10min::double precision AS "In 10 min",
       d.most_per_10min AS "Most in 10 min", 100 * d.flood_share::double precision AS "Time in flood",
       100 * d.top10_share::double precision AS "Share of the top 10", d.chattering AS "Chattering",
       d.stale AS "Stale", d.unacknowledged AS "Unacknowledged",
       d.median_seconds_to_acknowledge::double precision AS "To acknowledge"
FROM alarm_kpi d
WHERE {IN_SITES}
ORDER BY 2 DESC, 1
"""

RATE = f"""
SELECT b.at AS "time", COALESCE(n.alarms, 0)::double precision AS "Alarms"
FROM generate_series(time_bucket(interval '10 minutes',
                                 GREATEST($__timeFrom()::timestamptz, $__timeTo()::timestamptz - interval '30 days')),
                     $__timeTo()::timestamptz, interval '10 minutes') AS b(at)
LEFT JOIN (
    SELECT d.bucket, max(d.alarms) AS alarms FROM alarm_rate_10min d WHERE {IN_SITES} GROUP BY 1
) n ON n.bucket = b.at
ORDER BY 1
"""

PRIORITIES = f"""
SELECT p.priority AS "Priority", COALESCE(sum(n.alarms), 0)::bigint AS "Alarms",
       COALESCE(100.0 * sum(n.alarms) / NULLIF(sum(sum(n.alarms)) OVER (), 0), 0)::double precision AS "Share",
       100.0 * p.target::double precision AS "Should be",
       max(k.seconds) AS "To acknowledge, median"
FROM (VALUES ('high', 0.05, 0), ('medium', 0.15, 1), ('low', 0.80, 2)) AS p(priority, target, place)
LEFT JOIN (SELECT d.priority, d.alarms FROM alarm_priority_share d WHERE {IN_SITES}) n ON n.priority = p.priority
LEFT JOIN (
    SELECT d.priority, (percentile_cont(0.5) WITHIN GROUP (
        ORDER BY EXTRACT(epoch FROM d.acked_at - d.annunciated_at)::double precision)) AS seconds
    FROM alarm_annunciated d WHERE d.acked_at IS NOT NULL AND {IN_SITES} GROUP BY 1
) k ON k.priority = p.priority
GROUP BY p.priority, p.target, p.place
ORDER BY p.place
"""

TOP = f"""
WITH told AS (
    SELECT a.rule, a.device_id, count(*) AS alarms,
           count(*) FILTER (WHERE a.retracted) AS retracted,
           count(*) FILTER (WHERE a.cleared_at IS NULL AND NOT a.retracted
                              AND a.raised_at < now() - interval '24 hours') AS stale
    FROM alarm a JOIN device d ON d.device_id = a.device_id
    WHERE a.annunciated_at > now() - interval '30 days' AND {IN_SITES}
    GROUP BY 1, 2
)
SELECT t.rule AS "Rule", {TAG} AS "Tag", {SITE} AS "Site", t.alarms AS "Alarms",
       (100.0 * t.alarms / sum(t.alarms) OVER ())::double precision AS "Share",
       COALESCE(c.bursts, 0) AS "Chattered", t.stale AS "Stale", t.retracted AS "False",
       {ASSET_COLUMNS}
FROM told t JOIN device d ON d.device_id = t.device_id
LEFT JOIN alarm_chattering c ON c.rule = t.rule AND c.device_id = t.device_id
ORDER BY 4 DESC, 1, 2
LIMIT 10
"""

ASSETS = f"""
SELECT {TAG} AS "Tag", {SITE} AS "Site", count(*) AS "Alarms", count(DISTINCT a.rule) AS "Rules",
       count(*)::double precision / 30 AS "A day",
       count(*) FILTER (WHERE s.place > 1) AS "Followed another",
       {ASSET_COLUMNS}
FROM alarm a JOIN device d ON d.device_id = a.device_id
LEFT JOIN alarm_sequence s ON s.alarm_id = a.alarm_id
WHERE a.annunciated_at > now() - interval '30 days' AND NOT a.retracted AND {IN_SITES}
GROUP BY d.device_id
ORDER BY 3 DESC, 1
LIMIT 50
"""

SUPPRESSED = f"""
SELECT k.kind AS "How", count(s.suppression_id) AS "Now",
       count(s.suppression_id) FILTER (WHERE s.until_at IS NULL) AS "Without an end",
       COALESCE(max(EXTRACT(epoch FROM now() - s.began_at)), 0)::double precision AS "Longest"
FROM (VALUES ('shelved', 0), ('suppressed', 1), ('out_of_service', 2)) AS k(kind, place)
LEFT JOIN (
    SELECT a.* FROM alarm_suppressed a JOIN device d ON d.device_id = a.device_id WHERE {IN_SITES}
) s ON s.kind = k.kind
GROUP BY k.kind, k.place
ORDER BY k.place
"""
