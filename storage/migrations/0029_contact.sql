-- Who is heard of: the state of each device's contact as last judged, and outages of whole paths.

CREATE TABLE contact (
    device_id integer PRIMARY KEY REFERENCES device,
    state     text NOT NULL CHECK (state IN (
        'heard', 'asleep', 'late', 'cut_off', 'flat_battery', 'out_of_coverage', 'silent')),
    since     timestamptz NOT NULL
);
COMMENT ON COLUMN contact.since IS 'When it was first judged to be so';

CREATE TABLE contact_tick (
    only_one  boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    began_at  timestamptz NOT NULL,
    ticked_at timestamptz NOT NULL
);
COMMENT ON TABLE contact_tick IS 'When contact was last judged, and since when without a gap: while the platform is away nobody can be heard.';

CREATE TABLE outage (
    outage_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    path      text NOT NULL,
    since     timestamptz NOT NULL,
    raised_at timestamptz NOT NULL,
    devices   integer NOT NULL,
    ended_at  timestamptz,
    UNIQUE (path, since)
);
COMMENT ON TABLE outage IS 'A gateway or a transport on which nobody was heard after since. ended_at before raised_at: it turned out not to have been one.';
CREATE UNIQUE INDEX outage_ongoing ON outage (path) WHERE ended_at IS NULL;

CREATE VIEW device_contact AS
SELECT d.device_id, d.identity, d.tag, d.site, d.area, coalesce(c.state, 'never_heard') AS state, c.since,
       (SELECT ticked_at FROM contact_tick) AS judged_at
FROM device d LEFT JOIN contact c USING (device_id) WHERE d.status = 'active';
COMMENT ON VIEW device_contact IS 'What is known of each active device''s contact.';

DO $$
BEGIN
    GRANT SELECT ON contact, contact_tick, outage, device_contact TO headworks_reader, headworks_writer;
    GRANT INSERT, UPDATE ON contact, contact_tick, outage TO headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
