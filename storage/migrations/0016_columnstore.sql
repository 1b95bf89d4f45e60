-- The columnstore, where the server has it (TimescaleDB under the Timescale licence); nothing elsewhere.

-- Maintenance calls this each hour, so that a server which changes its licence later gets it too. The settings are measured,
-- on ten days of simulated pumps and valves (3.5 million readings, PostgreSQL 15, TimescaleDB 2.19.3), in bytes a reading: rows
-- 96.0; by (device_id, metric_id) 5.4, by device_id 5.3, by metric_id 5.3. The first reads a device's trend without touching
-- the others, which is what dashboards and catch-up do. What is more than a week late goes into the columnstore directly.
CREATE FUNCTION headworks_columnstore() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    enabled boolean;
BEGIN
    IF current_setting('timescaledb.license', true) IS DISTINCT FROM 'timescale'
        OR NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        RETURN false;
    END IF;
    EXECUTE 'SELECT compression_enabled FROM timescaledb_information.hypertables'
            ' WHERE hypertable_name = ''reading'' AND hypertable_schema = current_schema()' INTO enabled;
    IF enabled IS NOT false THEN
        RETURN false;
    END IF;
    ALTER TABLE reading SET (timescaledb.compress, timescaledb.compress_segmentby = 'device_id, metric_id',
                             timescaledb.compress_orderby = 'measured_at');
    PERFORM add_compression_policy('reading', compress_after => interval '7 days');
    RETURN true;
END $$;
COMMENT ON FUNCTION headworks_columnstore() IS 'True where it has just turned the columnstore on';
REVOKE EXECUTE ON FUNCTION headworks_columnstore() FROM PUBLIC;
SELECT headworks_columnstore();

DO $$
BEGIN
    GRANT EXECUTE ON FUNCTION headworks_columnstore() TO headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
