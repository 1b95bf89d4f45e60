-- What devices prove who they are with. Secrets are sealed (storage.sealing) with a key that is not in this database.

CREATE TABLE credential (
    device_id integer NOT NULL REFERENCES device,
    kind      text NOT NULL CHECK (kind IN ('oscore', 'psk', 'mqtt')),
    name      text NOT NULL,
    secret    bytea NOT NULL,
    made_at   timestamptz NOT NULL DEFAULT now(),
    sequence  bigint NOT NULL DEFAULT 0,
    replay    numeric[],
    PRIMARY KEY (device_id, kind),
    UNIQUE (kind, name)
);
COMMENT ON COLUMN credential.name IS 'What the device shows before it has proved anything: the OSCORE key identifier in hexadecimal, the PSK identity, the MQTT user';
COMMENT ON COLUMN credential.secret IS 'Sealed; for a broker, which only compares, the salted hash as well';
COMMENT ON COLUMN credential.sequence IS 'OSCORE: numbers below this were perhaps used for answers of our own, and must never be again';
COMMENT ON COLUMN credential.replay IS 'OSCORE: the replay window (first number, bits) as it was when its gateway ended in order; null while one has it, or after a crash';

ALTER TABLE quarantine ADD COLUMN authenticated text;
COMMENT ON COLUMN quarantine.authenticated IS 'The device that the transport had proved to speak; null where it had proved nothing';

DO $$
BEGIN
    GRANT SELECT, INSERT, UPDATE, DELETE ON credential TO headworks_writer;
    REVOKE SELECT ON credential FROM headworks_reader;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
