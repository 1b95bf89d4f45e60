-- What dashboards need beyond readings and alarms: where a site lies, the units it reads, and how the platform itself fares.

-- A site may have a place or units without a time zone of its own.
ALTER TABLE site ALTER COLUMN time_zone DROP NOT NULL;
ALTER TABLE site
    ADD COLUMN latitude double precision CHECK (latitude BETWEEN -90 AND 90),
    ADD COLUMN longitude double precision CHECK (longitude BETWEEN -180 AND 180),
    ADD COLUMN pressure_unit text,
    ADD COLUMN flow_unit text,
    ADD CHECK ((latitude IS NULL) = (longitude IS NULL));
COMMENT ON COLUMN site.latitude IS 'Degrees north, WGS 84; for the map';
COMMENT ON COLUMN site.pressure_unit IS 'What its people read, one of display_unit; null is the unit that values are stored in';

-- One of a stored unit is so many of the shown one. The stored unit itself has the factor 1.
CREATE TABLE display_unit (
    quantity text NOT NULL,
    unit     text NOT NULL,
    factor   double precision NOT NULL CHECK (factor > 0),
    PRIMARY KEY (quantity, unit)
);
COMMENT ON TABLE display_unit IS 'The units in which dashboards can show a quantity; values are stored in those with the factor 1.';
INSERT INTO display_unit VALUES
    ('pressure', 'bar', 1),
    ('pressure', 'kPa', 100),
    ('pressure', 'MPa', 0.1),
    ('pressure', 'psi', 14.503773773020923),
    ('pressure', 'mH₂O', 10.197162129779283),
    ('flow', 'm³/h', 1),
    ('flow', 'l/s', 0.2777777777777778),
    ('flow', 'm³/d', 24),
    ('flow', 'US gpm', 4.402867539302474);

-- Each platform process says once a minute that it is there. What waits in its spool is in a file beside it, which nobody
-- else can read.
CREATE TABLE platform_state (
    instance      text PRIMARY KEY,
    version       text NOT NULL,
    console_url   text NOT NULL,
    started_at    timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL,
    spool         uuid,
    spool_waiting bigint NOT NULL,
    spool_bytes   bigint NOT NULL,
    spool_limit   bigint NOT NULL,
    failing       jsonb NOT NULL
);
COMMENT ON TABLE platform_state IS 'The platform processes that wrote to this database, as each last said.';
COMMENT ON COLUMN platform_state.console_url IS 'What people type to reach the console; dashboards link there';
COMMENT ON COLUMN platform_state.spool IS 'Null where it runs without one';
COMMENT ON COLUMN platform_state.failing IS 'Rules that it cannot calculate, each with why';

CREATE VIEW platform_instance AS
SELECT s.instance, s.version, s.console_url, s.started_at, s.seen_at, s.spool IS NOT NULL AS has_spool,
       s.spool_waiting, s.spool_bytes, s.spool_limit, p.drained_at, s.failing
FROM platform_state s LEFT JOIN spool_position p ON p.spool = s.spool;
COMMENT ON VIEW platform_instance IS 'Platform processes with their spools; drained_at is when something last came out of the spool.';

-- Every uplink of a transaction below the position has been judged.
CREATE VIEW engine_backlog AS
SELECT e.consumer, e.updated_at, coalesce(n.uplinks, 0) AS uplinks, n.oldest
FROM engine_position e
CROSS JOIN LATERAL (SELECT sum(c.uplinks)::bigint AS uplinks, min(c.committed_at) AS oldest
                    FROM commit_log c WHERE c.xid >= e.xid) n;
COMMENT ON VIEW engine_backlog IS 'What the alarm engine has still to judge; oldest is when that was committed.';

-- The readings on disk. What the edition does not have is null; the count is the planner's estimate.
CREATE FUNCTION reading_storage(OUT readings bigint, OUT bytes bigint, OUT chunks bigint, OUT columnar bigint,
                                OUT columnar_before bigint, OUT columnar_after bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    columnar := 0;
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        EXECUTE 'SELECT count(*) FROM timescaledb_information.chunks'
                ' WHERE hypertable_name = ''reading'' AND hypertable_schema = current_schema()' INTO chunks;
    END IF;
    IF chunks IS NULL OR chunks = 0 THEN
        SELECT greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid), 1 INTO readings, bytes, chunks
        FROM pg_class c WHERE c.oid = 'reading'::regclass;
        RETURN;
    END IF;
    EXECUTE 'SELECT approximate_row_count(''reading''::regclass), hypertable_size(''reading''::regclass)' INTO readings, bytes;
    IF current_setting('timescaledb.license', true) = 'timescale' THEN
        EXECUTE 'SELECT coalesce(sum(number_compressed_chunks), 0), sum(before_compression_total_bytes),'
                ' sum(after_compression_total_bytes) FROM hypertable_compression_stats(''reading'')'
            INTO columnar, columnar_before, columnar_after;
    END IF;
END $$;
COMMENT ON FUNCTION reading_storage() IS 'Readings on disk: estimated rows, bytes, chunks; and of the chunks in the columnstore how many, their bytes as rows, and now.';
REVOKE EXECUTE ON FUNCTION reading_storage() FROM PUBLIC;

DO $$
BEGIN
    GRANT SELECT ON display_unit, platform_instance, engine_backlog TO headworks_reader, headworks_writer;
    GRANT SELECT, INSERT, UPDATE ON platform_state TO headworks_writer;
    GRANT EXECUTE ON FUNCTION reading_storage() TO headworks_reader, headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
