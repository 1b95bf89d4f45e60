-- What the other migrations build on, on PostgreSQL without the extension.
CREATE FUNCTION headworks_hypertable(target regclass, time_column name, chunk interval) RETURNS void
LANGUAGE sql AS $$ SELECT $$;

-- TimescaleDB's origin is Monday 2000-01-03; with it both give the same buckets.
CREATE FUNCTION time_bucket(width interval, at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN date_bin(width, at, timestamptz '2000-01-03 00:00+00');
