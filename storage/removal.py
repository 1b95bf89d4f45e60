"""Taking whole series of devices out of the database again, with all that is kept of them: for load tests.

For a device of the plant there is `registry.retire`, which keeps its history.
"""

from __future__ import annotations

from collections.abc import Iterator

from storage.database import Connection, unavailable

_AT_ONCE = 5_000

_TABLES = """
SELECT c.table_name FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
WHERE c.table_schema = current_schema() AND c.column_name = 'device_id' AND t.table_type = 'BASE TABLE'
  AND c.table_name <> 'device'
ORDER BY c.table_name = 'alarm', c.table_name
"""
"""What holds something of a device, `alarm` last: its events refer to it."""


def series(connection: Connection, prefix: str) -> dict[str, int]:
    """How many devices there are by what their identities begin with: `prefix` up to the next `-`."""
    with unavailable():
        rows = connection.execute(
            "SELECT split_part(substr(identity, length(%s) + 1), '-', 1), count(*) FROM device"
            " WHERE starts_with(identity, %s) GROUP BY 1 ORDER BY 1",
            (prefix, prefix),
        ).fetchall()
    return {str(name): int(str(count)) for name, count in rows}


def remove(connection: Connection, prefix: str) -> Iterator[int]:
    """Delete the devices whose identities begin with `prefix`, and everything of them; yields how many at a time.

    Each step is a transaction of its own: what was stopped in between goes on when it is called again.
    """
    if not prefix:
        raise ValueError("a prefix is needed: without one it would be every device")
    with unavailable():
        tables = [str(name) for (name,) in connection.execute(_TABLES)]
        while True:
            with connection.transaction():
                rows = connection.execute(
                    "SELECT device_id, identity FROM device WHERE starts_with(identity, %s) LIMIT %s",
                    (prefix, _AT_ONCE),
                ).fetchall()
                if not rows:
                    return
                numbers, identities = [number for number, _ in rows], [str(identity) for _, identity in rows]
                connection.execute(
                    "DELETE FROM alarm_event WHERE alarm_id IN (SELECT alarm_id FROM alarm WHERE device_id = ANY(%s))",
                    (numbers,),
                )
                for table in tables:
                    query = f"DELETE FROM {table} WHERE device_id = ANY(%s)"  # noqa: S608 - a name from the catalogue
                    connection.execute(query.encode(), (numbers,))
                connection.execute("DELETE FROM quarantine WHERE identity = ANY(%s)", (identities,))
                connection.execute("DELETE FROM device WHERE device_id = ANY(%s)", (numbers,))
            yield len(rows)
