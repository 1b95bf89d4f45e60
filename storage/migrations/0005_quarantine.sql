-- The quarantine is bounded, can be decoded again, and can be watched without its payloads.

ALTER TABLE quarantine ADD COLUMN codec text;
ALTER TABLE quarantine ADD COLUMN claimed boolean NOT NULL DEFAULT false;
ALTER TABLE quarantine ADD COLUMN scope text NOT NULL DEFAULT 'source:unknown';
COMMENT ON COLUMN quarantine.codec IS 'What the address (an MQTT topic) said that the payload is; null leaves that to the content format and the profile';
COMMENT ON COLUMN quarantine.claimed IS 'The transport established no identity: the one given here is what the payload claims';
COMMENT ON COLUMN quarantine.scope IS 'Whose share it counts against: device:<identity> of a registered device, source:<…> of anybody else';
UPDATE quarantine q SET scope = CASE
    WHEN EXISTS (SELECT FROM device d WHERE d.identity = q.identity) THEN 'device:' || q.identity
    ELSE 'source:' || q.transport END;
CREATE INDEX quarantine_received ON quarantine (received_at);

-- How full each share is. Kept by triggers, so that whatever inserts or deletes is counted, and the question whether a
-- record still fits costs one look-up. Only a share that holds something has a row.
CREATE TABLE quarantine_level (
    scope text PRIMARY KEY,
    rows  bigint NOT NULL,
    bytes bigint NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE quarantine_level IS 'Records and payload bytes in quarantine by scope; the scope strangers is all of source:… together.';
INSERT INTO quarantine_level
SELECT scope, count(*), sum(octet_length(payload)) FROM quarantine GROUP BY 1
UNION ALL
SELECT 'strangers', count(*), sum(octet_length(payload)) FROM quarantine WHERE scope LIKE 'source:%' HAVING count(*) > 0;

CREATE TABLE quarantine_dropped (
    scope            text NOT NULL,
    reason           text NOT NULL,
    dropped          bigint NOT NULL,
    bytes            bigint NOT NULL,
    first_dropped_at timestamptz NOT NULL,
    last_dropped_at  timestamptz NOT NULL,
    PRIMARY KEY (scope, reason)
);
COMMENT ON TABLE quarantine_dropped IS 'What came when its share of the quarantine was full: counted, not kept. Times are those of receipt. All strangers of a transport share one row, so that this table is bounded too.';

CREATE FUNCTION quarantine_level_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    change record;
    direction integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
BEGIN
    -- In one order everywhere, so that two writers wait for each other and never in a circle.
    FOR change IN
        SELECT scope, count(*) AS rows, sum(octet_length(payload)) AS bytes FROM changed GROUP BY 1
        UNION ALL
        SELECT 'strangers', count(*), sum(octet_length(payload)) FROM changed WHERE scope LIKE 'source:%'
        HAVING count(*) > 0
        ORDER BY 1
    LOOP
        INSERT INTO quarantine_level AS l VALUES (change.scope, direction * change.rows, direction * change.bytes)
        ON CONFLICT (scope) DO UPDATE SET rows = l.rows + excluded.rows, bytes = l.bytes + excluded.bytes;
        IF direction < 0 THEN
            DELETE FROM quarantine_level WHERE scope = change.scope AND rows <= 0;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER quarantine_inserted AFTER INSERT ON quarantine REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION quarantine_level_change();
CREATE TRIGGER quarantine_deleted AFTER DELETE ON quarantine REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION quarantine_level_change();

CREATE FUNCTION quarantine_level_reset() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM quarantine_level;
    RETURN NULL;
END $$;
CREATE TRIGGER quarantine_truncated AFTER TRUNCATE ON quarantine
    FOR EACH STATEMENT EXECUTE FUNCTION quarantine_level_reset();

CREATE VIEW quarantine_hourly AS
SELECT time_bucket(interval '1 hour', received_at) AS bucket, reason, identity, count(*) AS records
FROM quarantine GROUP BY 1, 2, 3;
COMMENT ON VIEW quarantine_hourly IS 'What came into quarantine, without payloads; what was only counted is in quarantine_dropped.';

DO $$
BEGIN
    GRANT SELECT ON quarantine_hourly, quarantine_dropped TO headworks_reader, headworks_writer;
    REVOKE SELECT ON quarantine FROM headworks_reader;
    GRANT SELECT, INSERT, UPDATE, DELETE ON quarantine, quarantine_level, quarantine_dropped TO headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
