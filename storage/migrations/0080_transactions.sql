-- Each cluster of PostgreSQL numbers its transactions anew, and what a dump brings along has the numbers of the cluster that
-- it is from. What is stored is therefore numbered by this function. It changes nothing until `storage/transactions.py`
-- finds a database that comes from elsewhere, and has it go on above what is stored.
CREATE FUNCTION transaction_number(assigned xid8) RETURNS xid8 LANGUAGE sql STABLE PARALLEL SAFE RETURN assigned;
COMMENT ON FUNCTION transaction_number(xid8) IS 'The number that is stored of a transaction, by the one that this cluster gives it; greater for what is later, also after a dump was restored.';

ALTER TABLE uplink ALTER COLUMN xid SET DEFAULT transaction_number(pg_current_xact_id());
ALTER TABLE commit_log ALTER COLUMN xid SET DEFAULT transaction_number(pg_current_xact_id());
COMMENT ON COLUMN uplink.xid IS 'The writing transaction by transaction_number(): whoever follows the log reads up to that of pg_snapshot_xmin, so that no late commit is skipped.';
