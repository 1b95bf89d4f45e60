-- Hourly and daily aggregates of good readings, kept up to date by storage.aggregates. The views have the names and columns
-- that everybody reads: what is closed comes from the stored part, the last hours from the readings themselves.

CREATE TABLE hourly_store (
    bucket    timestamptz NOT NULL,
    device_id integer NOT NULL,
    metric_id smallint NOT NULL,
    min_value double precision NOT NULL,
    max_value double precision NOT NULL,
    sum_value double precision NOT NULL,
    readings  integer NOT NULL,
    p95_value double precision NOT NULL,
    -- Rows lie in the order of hours; without what is read in the index a month of a device is 720 pages.
    PRIMARY KEY (device_id, metric_id, bucket) INCLUDE (min_value, max_value, sum_value, readings)
);
SELECT headworks_hypertable('hourly_store', 'bucket', interval '30 days');
-- Today's hours of a whole fleet are the last pages: rows come in this order, so that a block range index finds them.
CREATE INDEX hourly_store_bucket ON hourly_store USING brin (bucket) WITH (pages_per_range = 32, autosummarize = on);
CREATE TABLE daily_store (
    bucket    timestamptz NOT NULL,
    device_id integer NOT NULL,
    metric_id smallint NOT NULL,
    min_value double precision NOT NULL,
    max_value double precision NOT NULL,
    sum_value double precision NOT NULL,
    readings  integer NOT NULL,
    p95_value double precision,
    PRIMARY KEY (device_id, metric_id, bucket)
);
SELECT headworks_hypertable('daily_store', 'bucket', interval '365 days');
-- A year of a whole fleet is one range of this, read without the table: 1,000 devices in a tenth of a second, not a second.
CREATE INDEX daily_store_metric ON daily_store (metric_id, bucket)
    INCLUDE (device_id, min_value, max_value, sum_value, readings, p95_value);
COMMENT ON COLUMN daily_store.p95_value IS 'Null where the readings of the day were no longer there when it was computed';

CREATE TABLE aggregate_state (
    width     text PRIMARY KEY CHECK (width IN ('hour', 'day')),
    closed_to timestamptz NOT NULL,
    xid       xid8 NOT NULL
);
COMMENT ON COLUMN aggregate_state.closed_to IS 'Buckets before this are read from the store';
COMMENT ON COLUMN aggregate_state.xid IS 'Uplinks of transactions below this have been marked';
INSERT INTO aggregate_state VALUES ('hour', '-infinity', '0'), ('day', '-infinity', '0');

CREATE TABLE aggregate_due (
    width     text NOT NULL,
    bucket    timestamptz NOT NULL,
    device_id integer NOT NULL,
    PRIMARY KEY (width, bucket, device_id)
);
COMMENT ON TABLE aggregate_due IS 'Buckets of devices that got readings since they were computed';

DROP VIEW reading_hourly, reading_daily;
CREATE VIEW reading_hourly AS
SELECT bucket, device_id, metric_id, min_value, max_value, sum_value / readings AS avg_value, readings::bigint, p95_value
FROM hourly_store WHERE bucket < (SELECT closed_to FROM aggregate_state WHERE width = 'hour')
UNION ALL
SELECT time_bucket(interval '1 hour', measured_at), device_id, metric_id, min(value), max(value), avg(value), count(*),
       percentile_disc(0.95) WITHIN GROUP (ORDER BY value)
FROM reading
WHERE quality = 192 AND measured_at >= (SELECT closed_to FROM aggregate_state WHERE width = 'hour')
GROUP BY 1, 2, 3;
COMMENT ON VIEW reading_hourly IS 'Good readings by the hour. Readings more than three hours late are in it a minute after they came.';

CREATE VIEW reading_daily AS
SELECT bucket, device_id, metric_id, min_value, max_value, sum_value / readings AS avg_value, readings::bigint, p95_value
FROM daily_store WHERE bucket < (SELECT closed_to FROM aggregate_state WHERE width = 'day')
UNION ALL
SELECT time_bucket(interval '1 day', bucket), device_id, metric_id, min(min_value), max(max_value),
       sum(avg_value * readings) / sum(readings), sum(readings)::bigint, NULL
FROM reading_hourly
WHERE bucket >= (SELECT closed_to FROM aggregate_state WHERE width = 'day')
GROUP BY 1, 2, 3;
COMMENT ON VIEW reading_daily IS 'Good readings by the day (UTC). The 95th percentile of a day is known two hours after its end.';

CREATE TABLE maintenance_run (
    run_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task     text NOT NULL,
    began_at timestamptz NOT NULL,
    seconds  double precision NOT NULL,
    rows     bigint NOT NULL,
    error    text
);
COMMENT ON TABLE maintenance_run IS 'What maintenance did: one row a run that changed something or failed.';
CREATE INDEX maintenance_run_task ON maintenance_run (task, began_at DESC);

DO $$
BEGIN
    GRANT SELECT ON reading_hourly, reading_daily, maintenance_run, aggregate_state TO headworks_reader;
    GRANT SELECT, INSERT, UPDATE, DELETE ON hourly_store, daily_store, aggregate_state, aggregate_due, maintenance_run
        TO headworks_writer;
    GRANT SELECT ON reading_hourly, reading_daily TO headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
