-- Whoever logs in to the console by OpenID Connect has a session and no token: the session itself says who they are.

ALTER TABLE console_session
    ALTER COLUMN token_id DROP NOT NULL,
    ADD COLUMN name    text CHECK (name <> ''),
    ADD COLUMN role    text CHECK (role IN ('viewer', 'operator', 'engineer', 'admin')),
    ADD COLUMN issuer  text,
    ADD COLUMN subject text,
    ADD CONSTRAINT console_session_whose CHECK (
        (token_id IS NOT NULL AND num_nonnulls(name, role, issuer, subject) = 0)
        OR (token_id IS NULL AND num_nonnulls(name, role, issuer, subject) = 4)
    );
COMMENT ON TABLE console_session IS 'Who is logged in to the console, with a token or by OpenID Connect. With a token a session is worth what the token is worth at that moment; otherwise it has the role that the provider''s claims gave at log-in. The cookie is kept as its SHA-256 only.';
COMMENT ON COLUMN console_session.name IS 'Without a token: as it stands in the alarm journal and the audit trail, the provider''s host behind it';
COMMENT ON COLUMN console_session.issuer IS 'Without a token: the provider, whose sessions are void once another or none is set';
COMMENT ON COLUMN console_session.subject IS 'Without a token: who it is there (sub), which never changes';
