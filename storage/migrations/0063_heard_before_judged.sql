-- Contact is judged once a minute. Who has spoken for the first time since is heard, and not never heard.

CREATE VIEW contact_state AS
SELECT d.device_id,
       CASE WHEN c.state IS NOT NULL THEN c.state
            -- Whoever has no newest value has no uplink either, and is not looked for in every day of the log. An
            -- import is nobody's word.
            WHEN p.device_id IS NOT NULL
                 AND (SELECT u.received_at FROM uplink u WHERE u.device_id = d.device_id AND u.transport <> 'import'
                      ORDER BY u.received_at DESC LIMIT 1) IS NOT NULL
            THEN 'heard'
            ELSE 'never_heard' END AS state,
       c.since
FROM device d LEFT JOIN contact c USING (device_id) LEFT JOIN latest_pack p USING (device_id);
COMMENT ON VIEW contact_state IS 'What is known of each device''s contact, retired ones too: what was last judged; before that heard, or never_heard where no uplink has stored anything.';
COMMENT ON COLUMN contact_state.since IS 'When it was first judged to be so; NULL before the first judgement';

CREATE OR REPLACE VIEW device_contact AS
SELECT d.device_id, d.identity, d.tag, d.site, d.area, c.state, c.since,
       (SELECT ticked_at FROM contact_tick) AS judged_at
FROM device d JOIN contact_state c USING (device_id) WHERE d.status = 'active';

DO $$
BEGIN
    GRANT SELECT ON contact_state TO headworks_reader, headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
