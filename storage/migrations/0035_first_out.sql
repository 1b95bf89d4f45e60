-- First-out (ISA-18.2): what fell first when one thing after another in a unit called.

CREATE VIEW alarm_sequence AS
SELECT alarm_id, site, area, unit, since, sequence,
       first_value(alarm_id) OVER (one ORDER BY since, raised_at, alarm_id) AS first_out,
       row_number() OVER (one ORDER BY since, raised_at, alarm_id) AS place,
       count(*) OVER one AS alarms
FROM (SELECT s.*, count(*) FILTER (WHERE begins) OVER (PARTITION BY site, area, unit ORDER BY since, raised_at, alarm_id)
                 AS sequence
      FROM (SELECT a.alarm_id, d.site, d.area, d.unit, a.since, a.raised_at,
                   a.since - lag(a.since) OVER (PARTITION BY d.site, d.area, d.unit
                                                ORDER BY a.since, a.raised_at, a.alarm_id)
                       <= interval '10 minutes' IS NOT TRUE AS begins
            FROM alarm a JOIN device d USING (device_id)
            WHERE NOT a.retracted AND d.unit <> '' AND a.raised_at > now() - interval '30 days') s) t
WINDOW one AS (PARTITION BY site, area, unit, sequence);
COMMENT ON VIEW alarm_sequence IS 'Alarms of one unit of which each began within ten minutes of the one before, over the last 30 days: which was the first (first_out), and the place of each. By since, so that on-delays do not change the order.';

DO $$
BEGIN
    GRANT SELECT ON alarm_sequence TO headworks_reader, headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
