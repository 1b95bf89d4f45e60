"""What the engine keeps over a restart. A cache: whoever writes here leads (`storage.journal.lead`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from devices.batch import Kept
from storage.database import Connection, unavailable


def complete_until(connection: Connection) -> int | None:
    """The position up to which what is kept is complete; None if there is none."""
    with unavailable():
        row = connection.execute("SELECT xid::text FROM engine_memory_state").fetchone()
    return None if row is None else int(str(row[0]))


def of_devices(connection: Connection, identities: Sequence[str]) -> list[Kept]:
    """What is kept of devices themselves."""
    with unavailable():
        rows: list[tuple[Any, ...]] = connection.execute(
            "SELECT identity, '', memory FROM engine_memory JOIN device USING (device_id)"
            " WHERE identity = ANY(%s) AND rule = ''",
            (list(identities),),
            binary=True,
        ).fetchall()
    return [Kept(*row) for row in rows]


def of_site(connection: Connection, site: str) -> list[Kept]:
    """What is kept of the groups of a site."""
    with unavailable():
        rows: list[tuple[Any, ...]] = connection.execute(
            "SELECT identity, rule, memory FROM engine_memory JOIN device USING (device_id)"
            " WHERE site = %s AND rule <> ''",
            (site,),
            binary=True,
        ).fetchall()
    return [Kept(*row) for row in rows]


def keep(connection: Connection, kept: Sequence[Kept]) -> None:
    """Keep these instead of what was kept before."""
    there = [one for one in kept if one.memory is not None]
    void = [one for one in kept if one.memory is None]
    with unavailable(), connection.transaction():
        if there:
            connection.execute(
                "INSERT INTO engine_memory (device_id, rule, memory)"
                " SELECT device_id, k.rule, k.memory"
                " FROM unnest(%s::text[], %s::text[], %s::bytea[]) AS k(identity, rule, memory)"
                " JOIN device USING (identity) ON CONFLICT (device_id, rule)"
                " DO UPDATE SET memory = excluded.memory, kept_at = excluded.kept_at",
                ([one.device for one in there], [one.rule for one in there], [one.memory for one in there]),
            )
        if void:
            connection.execute(
                "DELETE FROM engine_memory m USING device d, unnest(%s::text[], %s::text[]) AS k(identity, rule)"
                " WHERE d.identity = k.identity AND m.device_id = d.device_id AND m.rule = k.rule",
                ([one.device for one in void], [one.rule for one in void]),
            )


def limit(connection: Connection, rules: Collection[str]) -> None:
    """Keep of groups no other rules than these."""
    with unavailable():
        connection.execute("DELETE FROM engine_memory WHERE rule <> '' AND rule <> ALL(%s)", (list(rules),))


def complete(connection: Connection, position: int) -> None:
    """What is kept now is complete up to this position."""
    with unavailable():
        connection.execute(
            "INSERT INTO engine_memory_state (xid) VALUES (%s::text::xid8) ON CONFLICT (one)"
            " DO UPDATE SET xid = excluded.xid, completed_at = now()",
            (position,),
        )


def discard(connection: Connection) -> None:
    """Everything that is kept is void."""
    with unavailable(), connection.transaction():
        connection.execute("DELETE FROM engine_memory_state")
        connection.execute("DELETE FROM engine_memory")
