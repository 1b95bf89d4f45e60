-- The platform's own log-in: it writes readings, alarms and the registry, and owns nothing. Run by psql after the
-- migrations; may run again, which also sets a changed password. The password comes from the environment, so that it is
-- in no list of processes.
\getenv password PLATFORM_DATABASE_PASSWORD
SELECT 'CREATE ROLE headworks_platform' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'headworks_platform') \gexec
ALTER ROLE headworks_platform LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'password';
GRANT headworks_writer TO headworks_platform;
