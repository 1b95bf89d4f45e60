-- What the other migrations build on, on TimescaleDB (both licences).
CREATE EXTENSION IF NOT EXISTS timescaledb;

CREATE FUNCTION headworks_hypertable(target regclass, time_column name, chunk interval) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    -- The default index on time alone costs a third of the writing speed, and no query of ours leads with time only.
    PERFORM create_hypertable(target, by_range(time_column, chunk), create_default_indexes => false);
END $$;
