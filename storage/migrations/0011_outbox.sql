-- The outbox: an announcement is written in the transaction of its alarm event and delivered at least once; its key lets
-- receivers drop repeats.
CREATE TABLE announcement (
    announcement_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel     text NOT NULL,
    key         text NOT NULL,
    subject     text NOT NULL,
    event       text NOT NULL,
    priority    text NOT NULL CHECK (priority IN ('low', 'medium', 'high')),
    told        jsonb NOT NULL,
    state       text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'dead')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    due_at      timestamptz NOT NULL DEFAULT now(),
    attempts    integer NOT NULL DEFAULT 0,
    last_error  text,
    finished_at timestamptz,
    UNIQUE (channel, key)
);
COMMENT ON COLUMN announcement.subject IS 'Rule and device: of one subject the earlier announcement goes first, so that nobody hears of an end before its beginning';
COMMENT ON COLUMN announcement.due_at IS 'Not to be tried before; moved ahead while somebody tries it, so that a process that dies with it gives it back';
CREATE INDEX announcement_waiting ON announcement (channel, subject, announcement_id) WHERE state = 'waiting';
CREATE INDEX announcement_dead ON announcement (announcement_id) WHERE state = 'dead';
CREATE INDEX announcement_finished ON announcement (finished_at) WHERE state = 'delivered';

DO $$
BEGIN
    GRANT SELECT, INSERT, UPDATE, DELETE ON announcement TO headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
