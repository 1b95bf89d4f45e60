-- What the engine knows of devices, kept over a restart: a cache, which readings and journal can always replace.

CREATE TABLE engine_memory (
    device_id int NOT NULL REFERENCES device ON DELETE CASCADE,
    rule      text NOT NULL DEFAULT '',
    memory    bytea NOT NULL,
    kept_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (device_id, rule)
);
-- They are compressed already.
ALTER TABLE engine_memory ALTER COLUMN memory SET STORAGE EXTERNAL;
COMMENT ON TABLE engine_memory IS 'What the alarm engine knows of a device, or of a rule on a group that is about it, in its own format; for which code, rules and entry of the registry it is, its first 16 bytes say. Void without a row in engine_memory_state.';
COMMENT ON COLUMN engine_memory.rule IS 'Empty for what is known of the device itself';

CREATE TABLE engine_memory_state (
    one          bool PRIMARY KEY DEFAULT true CHECK (one),
    xid          xid8 NOT NULL,
    completed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE engine_memory_state IS 'Every uplink of a device written by a transaction below xid is in what engine_memory has of that device.';

DO $$
BEGIN
    GRANT SELECT, INSERT, UPDATE, DELETE ON engine_memory, engine_memory_state TO headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
