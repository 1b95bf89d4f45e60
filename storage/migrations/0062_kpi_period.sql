-- A rate is by the time that a site has been watched: thirty days, or since its first device was registered. A plant that is
-- two days old would otherwise look fifteen times as quiet as it is.

CREATE VIEW alarm_watched AS
SELECT site, greatest(1, floor(extract(epoch FROM least(interval '30 days', now() - min(created_at))) / 600)) AS periods
FROM device GROUP BY 1;
COMMENT ON VIEW alarm_watched IS 'How many times ten minutes of the last 30 days each site has been watched.';

CREATE OR REPLACE VIEW alarm_kpi AS
SELECT s.site,
       coalesce(a.alarms, 0) AS alarms,
       coalesce(a.alarms, 0) / s.periods AS alarms_per_10min,
       coalesce(r.most, 0) AS most_per_10min,
       coalesce(r.floods, 0) / s.periods AS flood_share,
       coalesce(t.share, 0) AS top10_share,
       coalesce(c.alarms, 0) AS chattering,
       coalesce(st.alarms, 0) AS stale,
       a.median_seconds_to_acknowledge,
       coalesce(a.unacknowledged, 0) AS unacknowledged
FROM alarm_watched s
LEFT JOIN (SELECT site, count(*) AS alarms, count(*) FILTER (WHERE acked_at IS NULL) AS unacknowledged,
                  percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM acked_at - annunciated_at))
                      AS median_seconds_to_acknowledge
           FROM alarm_annunciated GROUP BY 1) a USING (site)
LEFT JOIN (SELECT site, max(alarms) AS most, count(*) FILTER (WHERE flood) AS floods FROM alarm_rate_10min GROUP BY 1) r
    USING (site)
LEFT JOIN (SELECT site, sum(share) AS share FROM alarm_top WHERE place <= 10 GROUP BY 1) t USING (site)
LEFT JOIN (SELECT site, count(*) AS alarms FROM alarm_chattering GROUP BY 1) c USING (site)
LEFT JOIN (SELECT site, count(*) AS alarms FROM alarm_stale GROUP BY 1) st USING (site);
COMMENT ON VIEW alarm_kpi IS 'One row a site, last 30 days or as long as it has been watched. Targets: alarms_per_10min about 1, most 2; flood_share below 0.01; top10_share 0.01 to 0.05; chattering 0; stale below 5.';

CREATE OR REPLACE VIEW alarm_asset_rate AS
SELECT a.site, a.device_id, d.tag, sum(a.alarms) AS alarms,
       sum(a.alarms) FILTER (WHERE a.bucket > now() - interval '1 day') AS alarms_last_day,
       sum(a.alarms) / min(w.periods) AS alarms_per_10min, max(a.alarms) AS most_per_10min
FROM (SELECT site, device_id, time_bucket(interval '10 minutes', annunciated_at) AS bucket, count(*) AS alarms
      FROM alarm_annunciated GROUP BY 1, 2, 3) a
JOIN device d USING (device_id) JOIN alarm_watched w ON w.site = a.site GROUP BY 1, 2, 3;

DO $$
BEGIN
    GRANT SELECT ON alarm_watched TO headworks_reader, headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
