-- Up to where each gateway's spool is in this database: written with the drained readings, so that a crash between the
-- commit and the spool's own delete repeats nothing.
CREATE TABLE spool_position (
    spool      uuid PRIMARY KEY,
    position   bigint NOT NULL,
    drained_at timestamptz NOT NULL DEFAULT now()
);
DO $$
BEGIN
    GRANT SELECT, INSERT, UPDATE ON spool_position TO headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
