-- The platform can run as headworks_writer alone: it never needs to own a table. Migrations are the owner's.

-- Dropping chunks is the owner's right too; this is the one thing of it that retention needs, on two tables, for the past.
CREATE FUNCTION headworks_drop(target text, time_column text, cutoff timestamptz, at_most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    done bigint;
BEGIN
    IF (target, time_column) NOT IN (('reading', 'measured_at'), ('uplink', 'received_at')) OR cutoff > now() THEN
        RAISE EXCEPTION 'not for this: % by % before %', target, time_column, cutoff;
    END IF;
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        EXECUTE format('SELECT count(*) FROM drop_chunks(%L::regclass, older_than => %L::timestamptz)', target, cutoff)
            INTO done;
    ELSE
        EXECUTE format('DELETE FROM %I WHERE ctid = ANY(ARRAY(SELECT ctid FROM %I WHERE %I < %L LIMIT %s))',
                       target, target, time_column, cutoff, at_most);
        GET DIAGNOSTICS done = ROW_COUNT;
    END IF;
    RETURN done;
END $$;
REVOKE EXECUTE ON FUNCTION headworks_drop(text, text, timestamptz, integer) FROM PUBLIC;

DO $$
BEGIN
    GRANT EXECUTE ON FUNCTION headworks_drop(text, text, timestamptz, integer) TO headworks_writer;
    GRANT SELECT, INSERT, UPDATE ON metric, device TO headworks_writer;
    GRANT DELETE ON commit_log TO headworks_writer;
    GRANT SELECT ON schema_migration TO headworks_writer;
    -- New tables are readable by default; these are nothing for dashboards.
    REVOKE SELECT ON announcement, quarantine, spool_position FROM headworks_reader;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
