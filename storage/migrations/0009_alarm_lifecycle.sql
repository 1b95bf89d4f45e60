-- What people do with alarms (ISA-18.2 / IEC 62682): acknowledge, reset what is latched, shelve, suppress by design, take
-- out of service. Evaluation and journal go on under every suppression; only the announcement stays away.

CREATE TABLE alarm_rule (
    rule            text PRIMARY KEY,
    title           text NOT NULL,
    alarm_class     text NOT NULL,
    priority        text NOT NULL CHECK (priority IN ('low', 'medium', 'high')),
    severity        smallint NOT NULL CHECK (severity BETWEEN 1 AND 1000),
    latching        boolean NOT NULL,
    time_to_respond interval NOT NULL,
    guidance        jsonb NOT NULL,
    in_use          boolean NOT NULL DEFAULT true,
    updated_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE alarm_rule IS 'The rules as the engine last loaded them, for whoever shows alarms; the files are the truth. A rule that is gone stays with in_use = false, as its alarms refer to it.';

CREATE TABLE alarm_suppression (
    suppression_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('shelved', 'suppressed', 'out_of_service')),
    rule       text,
    device_id  integer NOT NULL REFERENCES device,
    one_shot   boolean NOT NULL DEFAULT false,
    began_at   timestamptz NOT NULL,
    until_at   timestamptz,
    began_by   text NOT NULL,
    reason     text NOT NULL CHECK (reason <> ''),
    ended_at   timestamptz,
    ended_by   text,
    CHECK (until_at IS NULL OR until_at > began_at),
    CHECK (kind <> 'shelved' OR (rule IS NOT NULL AND until_at IS NOT NULL))
);
COMMENT ON COLUMN alarm_suppression.rule IS 'Null: every rule of the device';
COMMENT ON COLUMN alarm_suppression.one_shot IS 'Ends with the next return to normal, at until_at at the latest';
CREATE UNIQUE INDEX alarm_suppression_one ON alarm_suppression (device_id, kind, coalesce(rule, '')) WHERE ended_at IS NULL;

CREATE VIEW alarm_suppressed AS
SELECT * FROM alarm_suppression WHERE ended_at IS NULL AND (until_at IS NULL OR until_at > now());
COMMENT ON VIEW alarm_suppressed IS 'What is suppressed at this moment, by whom and why.';

ALTER TABLE alarm_event ALTER COLUMN alarm_id DROP NOT NULL;
ALTER TABLE alarm_event ADD COLUMN rule text, ADD COLUMN device_id integer REFERENCES device;
ALTER TABLE alarm_event ADD CHECK (alarm_id IS NOT NULL OR device_id IS NOT NULL);
ALTER TABLE alarm_event DROP CONSTRAINT alarm_event_kind_check;
ALTER TABLE alarm_event ADD CONSTRAINT alarm_event_kind_check CHECK (kind IN (
    'raised', 'cleared', 'amended', 'retracted', 'acknowledged', 'reset', 'commented',
    'shelved', 'unshelved', 'suppressed', 'unsuppressed', 'out_of_service', 'in_service'));
COMMENT ON COLUMN alarm_event.device_id IS 'With rule, where an event is about a rule on a device and not about one occurrence: shelving and the like';

DROP VIEW alarm_state;
ALTER TABLE alarm
    ADD COLUMN latching boolean NOT NULL DEFAULT false,
    ADD COLUMN severity smallint,
    ADD COLUMN alarm_class text,
    ADD COLUMN reset_at timestamptz,
    ADD COLUMN reset_by text,
    ADD COLUMN annunciated_at timestamptz,
    ADD COLUMN suppressed_by text;
COMMENT ON COLUMN alarm.annunciated_at IS 'When people were told; null for what was over, or suppressed, when we learned of it';
COMMENT ON COLUMN alarm.suppressed_by IS 'What kept it from being told: shelved, suppressed or out_of_service';
UPDATE alarm SET annunciated_at = recorded_at WHERE NOT retracted;
CREATE INDEX alarm_told ON alarm (annunciated_at) WHERE annunciated_at IS NOT NULL;
CREATE INDEX alarm_recorded ON alarm (recorded_at);
CREATE INDEX alarm_unacknowledged ON alarm (raised_at) WHERE acked_at IS NULL AND NOT retracted;

-- The state of each alarm by the words of ISA-18.2, derived from booleans and times; alerts.lifecycle.state says the same.
CREATE VIEW alarm_state AS
SELECT a.*,
       CASE WHEN retracted THEN 'retracted'
            WHEN acked_at IS NULL AND (cleared_at IS NULL OR (latching AND reset_at IS NULL)) THEN 'unacknowledged'
            WHEN cleared_at IS NULL THEN 'acknowledged'
            WHEN acked_at IS NULL THEN 'returned_unacknowledged'
            WHEN latching AND reset_at IS NULL THEN 'latched'
            ELSE 'normal' END AS state,
       (SELECT array_agg(DISTINCT s.kind) FROM alarm_suppressed s
        WHERE s.device_id = a.device_id AND (s.rule IS NULL OR s.rule = a.rule)) AS suppressions
FROM alarm a;

DO $$
BEGIN
    GRANT SELECT ON alarm_rule, alarm_suppression, alarm_suppressed, alarm_state TO headworks_reader, headworks_writer;
    GRANT INSERT, UPDATE ON alarm_rule, alarm_suppression TO headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
