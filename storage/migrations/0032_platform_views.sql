-- What dashboards show of the platform itself: sizes, and the outbox without what is told to whom.

-- Who asks for the delays of the last hours must not read all commits: they come in this order.
CREATE INDEX commit_log_committed ON commit_log USING brin (committed_at) WITH (pages_per_range = 32, autosummarize = on);

CREATE VIEW announcement_state AS
SELECT channel, state, count(*) AS announcements, min(created_at) AS oldest, max(attempts) AS most_attempts
FROM announcement GROUP BY 1, 2;
COMMENT ON VIEW announcement_state IS 'How many announcements of each channel wait, were delivered, or are dead letters.';

-- A hypertable's chunks, and a partitioned table's parts, are its children.
CREATE VIEW storage_size AS
SELECT c.relname::text AS name, 1 + count(i.inhrelid) AS parts,
       pg_total_relation_size(c.oid) + coalesce(sum(pg_total_relation_size(i.inhrelid)), 0)::bigint AS bytes
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhparent = c.oid
WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'reading'::regclass) AND c.relkind IN ('r', 'p')
GROUP BY c.oid, c.relname;
COMMENT ON VIEW storage_size IS 'Bytes of each table with its indexes and parts. What TimescaleDB has compressed is counted by pg_database_size() only.';

DO $$
BEGIN
    GRANT SELECT ON announcement_state, storage_size TO headworks_reader, headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
