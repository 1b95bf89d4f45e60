-- What every commit writes beside its readings, made cheap. Measured for 10,000 readings of 1,250 uplinks, where the
-- COPY of the readings takes 17 ms: the newest values as one row a device 5 ms (a row a device and metric: 24), the
-- uplink log with one index by COPY 3 ms (three indexes by INSERT: 7).

CREATE TABLE latest_pack (
    device_id   integer PRIMARY KEY,
    newest      timestamptz NOT NULL,
    metric_id   smallint[] NOT NULL,
    measured_at timestamptz[] NOT NULL,
    value       double precision[] NOT NULL,
    quality     smallint[] NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE latest_pack IS 'The newest reading by sample time of each metric of a device, as parallel arrays; what the device sent last stands first. Read it as the view latest. Without foreign keys, as reading.';
COMMENT ON COLUMN latest_pack.newest IS 'The newest of measured_at: what is after it cannot be late for any metric.';
INSERT INTO latest_pack
SELECT device_id, max(measured_at), array_agg(metric_id ORDER BY metric_id), array_agg(measured_at ORDER BY metric_id),
       array_agg(value ORDER BY metric_id), array_agg(quality ORDER BY metric_id)
FROM latest GROUP BY device_id;
DROP TABLE latest;
CREATE VIEW latest AS
SELECT p.device_id, u.metric_id, u.measured_at, u.value, u.quality
FROM latest_pack p, unnest(p.metric_id, p.measured_at, p.value, p.quality) AS u(metric_id, measured_at, value, quality);
COMMENT ON VIEW latest IS 'The newest reading by sample time of each device and metric; never goes back in time.';

CREATE TABLE commit_log (
    xid               xid8 PRIMARY KEY DEFAULT pg_current_xact_id(),
    committed_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    first_received_at timestamptz NOT NULL,
    last_received_at  timestamptz NOT NULL,
    first_measured_at timestamptz NOT NULL,
    last_measured_at  timestamptz NOT NULL,
    uplinks           integer NOT NULL,
    readings          integer NOT NULL,
    duplicates        integer NOT NULL
);
COMMENT ON TABLE commit_log IS 'One row a transaction that wrote to the uplink log. Whoever follows the log asks here what is new, and then reads uplink by received_at: an index on the transaction for every uplink would cost more than the uplink itself.';
INSERT INTO commit_log
SELECT xid, max(received_at), min(received_at), max(received_at), min(first_measured_at), max(last_measured_at),
       count(*), sum(readings), sum(duplicates)
FROM uplink GROUP BY xid;

ALTER TABLE uplink DROP CONSTRAINT uplink_pkey;
ALTER TABLE uplink DROP COLUMN uplink_id;
DROP INDEX uplink_xid;
-- Rows come nearly in this order: a block range index costs nothing and finds a minute of a day.
CREATE INDEX uplink_received ON uplink USING brin (received_at) WITH (pages_per_range = 32, autosummarize = on);

DO $$
BEGIN
    GRANT SELECT ON latest, latest_pack, commit_log TO headworks_reader;
    GRANT SELECT, INSERT, UPDATE ON latest_pack TO headworks_writer;
    GRANT SELECT, INSERT ON commit_log TO headworks_writer;
    GRANT SELECT ON latest TO headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
