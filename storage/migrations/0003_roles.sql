-- Least privilege. Group roles without a login: who owns the server grants them to its log-ins.
-- Managed servers may not let us create roles; then the owner's own grants stand, and `headworks doctor` says so.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['headworks_writer', 'headworks_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        END IF;
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO headworks_writer, headworks_reader', current_schema());
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO headworks_writer, headworks_reader', current_schema());
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT ON TABLES TO headworks_writer, headworks_reader', current_schema());
    GRANT INSERT ON reading, uplink, quarantine, alarm_event TO headworks_writer;
    GRANT INSERT, UPDATE ON latest, alarm, engine_position TO headworks_writer;
    REVOKE SELECT ON quarantine FROM headworks_reader;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'roles not created: %', SQLERRM;
END $$;
