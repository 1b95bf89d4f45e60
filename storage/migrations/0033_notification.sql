-- What is held back, grouped, escalated and told again of alarms, by route; written with the messages it leads to.

CREATE TABLE notification_case (
    route    text NOT NULL,
    rule     text NOT NULL,
    device   text NOT NULL,
    key      text NOT NULL,
    told     jsonb NOT NULL,
    group_key text NOT NULL,
    held     text NOT NULL CHECK (held IN ('', 'group', 'quiet', 'explained')),
    by_rule  text,
    by_device text,
    due_at   timestamptz,
    is_over  boolean NOT NULL,
    channels text[] NOT NULL,
    told_at  timestamptz,
    step     integer NOT NULL,
    repeats  integer NOT NULL,
    summary  text NOT NULL,
    PRIMARY KEY (route, rule, device)
);
COMMENT ON TABLE notification_case IS 'One alarm on one route of the routing file, from its announcement to that of its end.';
COMMENT ON COLUMN notification_case.device IS 'A device''s identity; of what is no device (a path, a channel) its name';
COMMENT ON COLUMN notification_case.held IS 'Why nobody was told yet: until its group''s window or the quiet hours end, or while another alarm explains it';
COMMENT ON COLUMN notification_case.summary IS 'The key of the summary in which it was told; empty where it was told by itself';
CREATE INDEX notification_case_subject ON notification_case (rule, device);
CREATE INDEX notification_case_due ON notification_case (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX notification_case_explained ON notification_case (by_rule, by_device) WHERE held = 'explained';
CREATE INDEX notification_case_summary ON notification_case (summary) WHERE summary <> '';

CREATE TABLE notification_window (
    route     text NOT NULL,
    group_key text NOT NULL,
    opened_at timestamptz NOT NULL,
    sent      integer NOT NULL,
    PRIMARY KEY (route, group_key)
);
COMMENT ON TABLE notification_window IS 'How many messages a group of alarms has led to since its window opened.';

CREATE TABLE notification_explaining (
    rule   text NOT NULL,
    device text NOT NULL,
    told   jsonb NOT NULL,
    PRIMARY KEY (rule, device)
);
COMMENT ON TABLE notification_explaining IS 'Alarms that are on and for which others are held back.';

CREATE TABLE notification_failure (
    channel   text PRIMARY KEY,
    raised_at timestamptz NOT NULL
);
COMMENT ON TABLE notification_failure IS 'Channels of whose dead letters people were told.';

DO $$
BEGIN
    GRANT SELECT, INSERT, UPDATE, DELETE ON notification_case, notification_window, notification_explaining,
        notification_failure TO headworks_writer;
    -- New tables are readable by default; who is told what is nothing for dashboards.
    REVOKE SELECT ON notification_case, notification_window, notification_explaining, notification_failure
        FROM headworks_reader;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
