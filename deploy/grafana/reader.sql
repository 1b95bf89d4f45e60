-- Grafana's own log-in: it may read what dashboards show and nothing else. Run by psql after the migrations; may run again,
-- which also sets a changed password. The password comes from the environment, so that it is in no list of processes.
\getenv password GRAFANA_DATABASE_PASSWORD
SELECT 'CREATE ROLE grafana' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'grafana') \gexec
ALTER ROLE grafana LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT 20 PASSWORD :'password';
GRANT headworks_reader TO grafana;
-- A panel that takes longer has lost its reader; and a dashboard must not be able to slow the writing path down for long.
ALTER ROLE grafana SET statement_timeout = '30s';
ALTER ROLE grafana SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE grafana SET default_transaction_read_only = on;
