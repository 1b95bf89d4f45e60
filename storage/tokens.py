"""Tokens of the HTTP API, sessions of the console, and the audit trail. Which role may do what is in `headworks.api`.

Neither tokens nor cookies are stored: only their SHA-256, which is enough for 256 random bits.
"""

# ruff: noqa: S608 - what is put together here are constants of our own; values travel as parameters
from __future__ import annotations

import hashlib
import secrets
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from psycopg import errors
from psycopg.types.json import Jsonb

from storage.database import Connection, unavailable

PREFIX = "hw_"
"""What every token begins with, so that it is recognised where it should not be."""
SESSION_LENGTH = timedelta(hours=12)
"""How long a session lasts at the most: a shift."""
SESSION_IDLE = timedelta(minutes=30)
"""How long a session lasts without any request; an open console asks every few seconds."""


class Role(StrEnum):
    """What somebody may do; each may do what those before it may."""

    VIEWER = "viewer"
    """Look at everything but secrets, payloads, tokens and the audit trail."""
    OPERATOR = "operator"
    """Acknowledge, reset, comment, shelve."""
    ENGINEER = "engineer"
    """Suppress by design, take out of service, see payloads in quarantine."""
    ADMIN = "admin"
    """Tokens and the audit trail."""

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what needs that one."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


class TokenError(ValueError):
    """The token cannot be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose token it is; without one, who logged in by OpenID Connect: `subject` at `issuer`."""

    token_id: int | None
    name: str
    role: Role
    issuer: str | None = None
    subject: str | None = None

    @property
    def key(self) -> Hashable:
        """The same for all that one person asks."""
        return (self.issuer, self.subject) if self.token_id is None else self.token_id


@dataclass(frozen=True, slots=True)
class Token:
    """A token as a list shows it."""

    name: str
    role: Role
    made_at: datetime
    made_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the audit trail."""

    number: int
    at: datetime
    actor: str
    role: str
    source: str
    action: str
    target: str
    detail: dict[str, object]
    outcome: str


def digest(secret: str) -> bytes:
    """What of a token or a cookie is stored."""
    return hashlib.sha256(secret.encode()).digest()


def make(
    connection: Connection,
    name: str,
    role: Role,
    by: str,
    expires_at: datetime | None = None,
    secret: str | None = None,
) -> str:
    """Make a token and return it: this is the only time that it is known. `secret` is one of the caller's making.

    `TokenError` where somebody of that name has one.
    """
    token = secret or PREFIX + secrets.token_urlsafe(32)
    with unavailable():
        try:
            connection.execute(
                "INSERT INTO api_token (name, role, hash, made_by, expires_at) VALUES (%s, %s, %s, %s, %s)",
                (name, role.value, digest(token), by, expires_at),
            )
        except errors.UniqueViolation:
            raise TokenError(f"{name!r} has a token already; revoke it first, or choose another name") from None
    return token


def are_there_any(connection: Connection) -> bool:
    """Whether a token was ever made, revoked ones included."""
    with unavailable():
        row = connection.execute("SELECT EXISTS (SELECT FROM api_token)").fetchone()
    return bool(row and row[0])


def revoke(connection: Connection, name: str, by: str) -> bool:
    """Make a token void, and end its sessions, or those that somebody of that name began by OpenID Connect; False
    where there are none."""
    with unavailable(), connection.transaction():
        row = connection.execute(
            "UPDATE api_token SET revoked_at = now(), revoked_by = %s WHERE name = %s AND revoked_at IS NULL"
            " RETURNING token_id",
            (by, name),
        ).fetchone()
        if row is not None:
            connection.execute("DELETE FROM console_session WHERE token_id = %s", row)
        ended = connection.execute("DELETE FROM console_session WHERE name = %s", (name,)).rowcount
    return row is not None or ended > 0


def listed(connection: Connection, *, revoked: bool = False) -> list[Token]:
    """The tokens by name; with `revoked` also those that are void."""
    with unavailable():
        rows = connection.execute(
            "SELECT name, role, made_at, made_by, expires_at, last_used_at, revoked_at FROM api_token"
            " WHERE %s OR revoked_at IS NULL ORDER BY name, token_id",
            (revoked,),
        ).fetchall()
    return [Token(name, Role(str(role)), *rest) for name, role, *rest in rows]  # type: ignore[arg-type]  # the columns' types


_VALID = "t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())"


def bearer(connection: Connection, token: str) -> Bearer | None:
    """Whose token it is; None where it is not valid (any more)."""
    with unavailable():
        row = connection.execute(
            "SELECT t.token_id, t.name, t.role, t.last_used_at IS NULL OR t.last_used_at < now() - interval '1 minute'"
            f" FROM api_token t WHERE t.hash = %s AND {_VALID}",
            (digest(token),),
        ).fetchone()
        if row is None:
            return None
        token_id, name, role, stale = row
        if stale:
            connection.execute("UPDATE api_token SET last_used_at = now() WHERE token_id = %s", (token_id,))
    return Bearer(int(str(token_id)), str(name), Role(str(role)))


def open_session(connection: Connection, who: Bearer) -> str:
    """Log somebody in; returns the cookie. Sessions that are over are swept."""
    cookie = secrets.token_urlsafe(32)
    of_their_own = (None,) * 4 if who.issuer is None else (who.name, who.role.value, who.issuer, who.subject)
    with unavailable(), connection.transaction():
        connection.execute("DELETE FROM console_session WHERE ends_at < now() OR seen_at < now() - %s", (SESSION_IDLE,))
        connection.execute(
            "INSERT INTO console_session (hash, token_id, name, role, issuer, subject, ends_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, now() + %s)",
            (digest(cookie), who.token_id, *of_their_own, SESSION_LENGTH),
        )
    return cookie


def session(connection: Connection, cookie: str, issuer: str | None = None) -> Bearer | None:
    """Whose session it is; None where it is over, or its token is void. `issuer` is the OpenID Connect provider whose
    sessions count."""
    with unavailable():
        row = connection.execute(
            "SELECT token_id, coalesce(t.name, s.name), coalesce(t.role, s.role), s.issuer, s.subject,"
            " s.seen_at < now() - interval '1 minute'"
            " FROM console_session s LEFT JOIN api_token t USING (token_id)"
            " WHERE s.hash = %s AND s.ends_at > now() AND s.seen_at > now() - %s"
            f" AND CASE WHEN token_id IS NULL THEN s.issuer = %s ELSE {_VALID} END",
            (digest(cookie), SESSION_IDLE, issuer),
        ).fetchone()
        if row is None:
            return None
        token_id, name, role, *whose, stale = row
        if stale:
            connection.execute("UPDATE console_session SET seen_at = now() WHERE hash = %s", (digest(cookie),))
    return Bearer(token_id, str(name), Role(str(role)), *whose)  # type: ignore[arg-type]  # the columns' types


def close_session(connection: Connection, cookie: str) -> None:
    """Log somebody out."""
    with unavailable():
        connection.execute("DELETE FROM console_session WHERE hash = %s", (digest(cookie),))


def note(
    connection: Connection,
    *,
    actor: str,
    role: str,
    source: str,
    action: str,
    target: str,
    detail: Mapping[str, object],
    outcome: str,
) -> None:
    """Add a line to the audit trail, in the transaction that the caller has open."""
    with unavailable():
        connection.execute(
            "INSERT INTO audit_trail (actor, role, source, action, target, detail, outcome)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (actor, role, source, action, target, Jsonb(dict(detail)), outcome),
        )


def trail(
    connection: Connection,
    *,
    actor: str | None = None,
    action: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Line]:
    """The audit trail, newest first; `before` is the last number of the page before."""
    with unavailable():
        rows = connection.execute(
            "SELECT audit_id, at, actor, role, source, action, target, detail, outcome FROM audit_trail"
            " WHERE (%(actor)s::text IS NULL OR actor = %(actor)s)"
            " AND (%(action)s::text IS NULL OR action = %(action)s)"
            " AND (%(before)s::bigint IS NULL OR audit_id < %(before)s) ORDER BY audit_id DESC LIMIT %(limit)s",
            {"actor": actor, "action": action, "before": before, "limit": limit},
        ).fetchall()
    return [Line(*row) for row in rows]  # type: ignore[arg-type]
