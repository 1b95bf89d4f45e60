"""The numbers of transactions, by which followers of the uplink log know what is new: they outlive the server.

PostgreSQL numbers the transactions of each cluster from its own beginning. A dump that is restored into another one
brings numbers along that lie ahead of it: sooner or later commits would find theirs taken in `commit_log`, and until
then followers would take all that is new for done long ago. So what is stored goes through `transaction_number()`,
which is set here to go on above that. Nothing stored changes: a long history takes no longer than a short one.
"""

from __future__ import annotations

from psycopg import errors

from storage.database import Connection, unavailable
from storage.migrate import MigrationError, alone

# The log's numbers are taken; a position is the number of the next. In one statement, as it is all of one snapshot: who
# has committed something in it has a number below its end. The oldest transaction still running counts from there on.
_STORED = """
SELECT s.following > transaction_number(pg_snapshot_xmax(s.now)),
 s.following::text::bigint - pg_snapshot_xmin(s.now)::text::bigint
FROM (SELECT pg_current_snapshot() AS now, greatest(
  (SELECT (max(xid)::text::bigint + 1)::text::xid8 FROM commit_log), (SELECT max(xid) FROM engine_position),
  (SELECT max(xid) FROM aggregate_state), (SELECT max(xid) FROM engine_memory_state)) AS following) s
"""
_GO_ON = """
CREATE OR REPLACE FUNCTION transaction_number(assigned xid8) RETURNS xid8 LANGUAGE sql STABLE PARALLEL SAFE
RETURN (assigned::text::bigint + {})::text::xid8
"""


def go_on(connection: Connection) -> int | None:
    """See that what is committed from now on has greater numbers than all that is stored; returns what is added to the
    server's own where that had to be changed, as after a dump was restored.

    Two processes at once take turns, and one does it. `MigrationError` where the connection's user may not: only the
    owner may.
    """
    with unavailable():
        if _missing(connection) is None:
            return None
        with alone(connection):
            missing = _missing(connection)
            if missing is None:
                return None
            try:
                connection.execute(_GO_ON.format(missing).encode())
            except errors.InsufficientPrivilege as error:
                raise MigrationError(
                    "this database was restored from a dump: run `headworks migrate` as its owner first"
                ) from error
            return missing


def _missing(connection: Connection) -> int | None:
    """What has to be added to the server's numbers where those that are stored lie ahead."""
    row = connection.execute(_STORED).fetchone()
    return int(str(row[1])) if row is not None and row[0] else None
