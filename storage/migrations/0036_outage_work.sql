-- An outage of a path is worked on like an alarm: who has seen it, when, and what they said. And how often each device
-- calls, whatever the rule: the standard's rate, asset by asset.

ALTER TABLE outage
    ADD COLUMN acked_at    timestamptz,
    ADD COLUMN acked_by    text,
    ADD COLUMN ack_comment text,
    ADD CONSTRAINT outage_acked_by_somebody CHECK ((acked_at IS NULL) = (acked_by IS NULL));

CREATE VIEW alarm_asset_rate AS
SELECT a.site, a.device_id, d.tag, sum(a.alarms) AS alarms,
       sum(a.alarms) FILTER (WHERE a.bucket > now() - interval '1 day') AS alarms_last_day,
       sum(a.alarms) / (30 * 144.0) AS alarms_per_10min, max(a.alarms) AS most_per_10min
FROM (SELECT site, device_id, time_bucket(interval '10 minutes', annunciated_at) AS bucket, count(*) AS alarms
      FROM alarm_annunciated GROUP BY 1, 2, 3) a
JOIN device d USING (device_id) GROUP BY 1, 2, 3;
COMMENT ON VIEW alarm_asset_rate IS 'Alarms of each device that people were told of in the last 30 days. Devices without one are not listed.';

DO $$
BEGIN
    GRANT SELECT ON alarm_asset_rate TO headworks_reader, headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
