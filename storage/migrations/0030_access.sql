-- Who may use the HTTP API and the console, and what was done there.

CREATE TABLE api_token (
    token_id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL CHECK (name <> ''),
    role         text NOT NULL CHECK (role IN ('viewer', 'operator', 'engineer', 'admin')),
    hash         bytea NOT NULL UNIQUE,
    made_at      timestamptz NOT NULL DEFAULT now(),
    made_by      text NOT NULL,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    revoked_by   text
);
COMMENT ON COLUMN api_token.name IS 'Who it is for; stands as the actor in the alarm journal and the audit trail. A name is free again once its token is revoked.';
COMMENT ON COLUMN api_token.hash IS 'SHA-256. The token has 256 random bits, so that no salt and no slow hash are needed; it is shown once and kept nowhere.';
CREATE UNIQUE INDEX api_token_name ON api_token (name) WHERE revoked_at IS NULL;

CREATE TABLE console_session (
    hash      bytea PRIMARY KEY,
    token_id  integer NOT NULL REFERENCES api_token,
    began_at  timestamptz NOT NULL DEFAULT now(),
    seen_at   timestamptz NOT NULL DEFAULT now(),
    ends_at   timestamptz NOT NULL
);
COMMENT ON TABLE console_session IS 'Who is logged in to the console. A session is worth what its token is worth at that moment; the cookie is kept as its SHA-256 only.';

CREATE TABLE audit_trail (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    actor    text NOT NULL,
    role     text NOT NULL,
    source   text NOT NULL,
    action   text NOT NULL,
    target   text NOT NULL,
    detail   jsonb NOT NULL DEFAULT '{}',
    outcome  text NOT NULL CHECK (outcome IN ('done', 'refused', 'denied'))
);
COMMENT ON TABLE audit_trail IS 'Every write that was asked for over HTTP or by `headworks tokens`; what was done commits together with its line. Append only: the platform may not change or delete lines.';
COMMENT ON COLUMN audit_trail.outcome IS 'done; refused: not possible (the reason is in detail); denied: the role does not allow it, or the login failed';
CREATE INDEX audit_trail_actor ON audit_trail (actor, audit_id DESC);

-- What the alarm list shows first. Alarms that are normal again are nearly all there ever were.
CREATE INDEX alarm_open ON alarm (alarm_id)
    WHERE NOT retracted AND (cleared_at IS NULL OR acked_at IS NULL OR (latching AND reset_at IS NULL));

DO $$
BEGIN
    REVOKE SELECT ON api_token, console_session, audit_trail FROM headworks_reader;
    GRANT SELECT, INSERT, UPDATE ON api_token TO headworks_writer;
    GRANT SELECT, INSERT, UPDATE, DELETE ON console_session TO headworks_writer;
    GRANT SELECT, INSERT ON audit_trail TO headworks_writer;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'no privileges granted: %', SQLERRM;
END $$;
