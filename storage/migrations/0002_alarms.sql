-- The alarm journal: one row an alarm occurrence, and every transition of it as an event that is never changed.

CREATE TABLE alarm (
    alarm_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule       text NOT NULL,
    device_id  integer NOT NULL REFERENCES device,
    priority   text NOT NULL CHECK (priority IN ('low', 'medium', 'high')),
    message    text NOT NULL,
    since      timestamptz NOT NULL,
    raised_at  timestamptz NOT NULL,
    cleared_at timestamptz,
    value      double precision,
    retracted  boolean NOT NULL DEFAULT false,
    acked_at   timestamptz,
    acked_by   text,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CHECK (since <= raised_at),
    CHECK (cleared_at IS NULL OR cleared_at >= raised_at)
);
COMMENT ON TABLE alarm IS 'One occurrence of one rule on one device, as the readings known today say it was. All times but recorded_at and acked_at are sample times.';
COMMENT ON COLUMN alarm.since IS 'Sample time at which the condition began to hold';
COMMENT ON COLUMN alarm.raised_at IS 'Sample time at which the on-delay was over';
COMMENT ON COLUMN alarm.retracted IS 'Late readings showed that it never was; kept for its history';
CREATE UNIQUE INDEX alarm_identity ON alarm (rule, device_id, raised_at) WHERE NOT retracted;
CREATE INDEX alarm_device ON alarm (device_id, raised_at DESC);
CREATE INDEX alarm_active ON alarm (priority, raised_at) WHERE cleared_at IS NULL AND NOT retracted;

CREATE TABLE alarm_event (
    alarm_event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alarm_id    bigint NOT NULL REFERENCES alarm,
    kind        text NOT NULL CHECK (kind IN ('raised', 'cleared', 'amended', 'retracted', 'acknowledged')),
    at          timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    actor       text NOT NULL DEFAULT 'engine',
    detail      jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE alarm_event IS 'The journal: append only. at is the sample time of the transition, recorded_at when we learned of it.';
CREATE INDEX alarm_event_alarm ON alarm_event (alarm_id, alarm_event_id);

CREATE TABLE engine_position (
    consumer text PRIMARY KEY,
    xid      xid8 NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE engine_position IS 'Every uplink written by a transaction below xid has been judged; commits together with the events it led to.';

-- The state of each alarm by the words of ISA-18.2, derived from booleans and times.
CREATE VIEW alarm_state AS
SELECT a.*,
       CASE WHEN retracted THEN 'retracted'
            WHEN cleared_at IS NULL AND acked_at IS NULL THEN 'unacknowledged'
            WHEN cleared_at IS NULL THEN 'acknowledged'
            WHEN acked_at IS NULL THEN 'returned_unacknowledged'
            ELSE 'normal' END AS state
FROM alarm a;
