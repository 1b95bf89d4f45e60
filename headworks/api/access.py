"""Who asks, and whether they may: tokens, sessions of the console, roles, rates; and the audit trail of what they do.

A request shows a token (`Authorization: Bearer …`) or the console's session cookie. With the cookie, whatever changes
something must also show the session's CSRF token in a header, which a foreign page cannot know.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Request, Response, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from alerts.lifecycle import LifecycleError
from headworks.api.context import FAILURES_PER_SECOND, Context, Ctx
from headworks.api.problems import Problem
from storage import tokens
from storage.database import Connection
from storage.tokens import Bearer, Role

T = TypeVar("T")

CSRF_HEADER = "X-CSRF-Token"
_SAFE = ("GET", "HEAD", "OPTIONS")

_token_scheme = HTTPBearer(auto_error=False, scheme_name="token", description="A token of `headworks tokens add`")
_session_scheme = APIKeyCookie(
    name="headworks",
    auto_error=False,
    scheme_name="session",
    description="The console's session (`__Host-headworks` over HTTPS); what changes something also needs the header"
    f" `{CSRF_HEADER}` with the value that `GET /session` gives.",
)


class RefusedError(ValueError):
    """What was asked for is not possible now; the message says why."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `cookie` is the session's, None where a token was shown."""

    bearer: Bearer
    source: str
    cookie: str | None = None

    @property
    def name(self) -> str:
        """As it stands in the journal and the audit trail."""
        return self.bearer.name

    @property
    def role(self) -> Role:
        """What they may do."""
        return self.bearer.role


def csrf_token(cookie: str) -> str:
    """The CSRF token of a session: it follows from the cookie, which a page's script cannot read, and not the other
    way round."""
    digest = hashlib.sha256(b"csrf\n" + cookie.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def source(request: Request) -> str:
    """The peer's address. What a proxy says in headers is taken only where uvicorn was told to trust it."""
    return request.client.host if request.client else "?"


def principal(
    request: Request,
    ctx: Ctx,
    token: Annotated[HTTPAuthorizationCredentials | None, Security(_token_scheme)],
    _: Annotated[str | None, Security(_session_scheme)],
) -> Principal:
    """Who asks; 401 where that is not known, 429 where they ask too often."""
    found = identify(ctx, request, None if token is None else token.credentials)
    wait = ctx.wait(found.bearer.key)
    if wait:
        raise too_often(wait)
    if found.cookie is not None and request.method not in _SAFE:
        shown = request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(shown.encode(), csrf_token(found.cookie).encode()):
            raise Problem(403, f"the header {CSRF_HEADER} is missing or not this session's; load the page again")
    return found


def identify(ctx: Context, request: Request, token: str | None) -> Principal:
    """Whose token or session it is."""
    where = source(request)
    if ctx.has_failed_often(where):
        raise too_often(1 / FAILURES_PER_SECOND)
    cookie = request.cookies.get(ctx.cookie)
    if token is not None:
        shown = token
        bearer = ctx.pool.run(lambda connection: tokens.bearer(connection, shown))
        cookie = None
    elif cookie is not None:
        held = cookie
        bearer = ctx.pool.run(lambda connection: tokens.session(connection, held, ctx.issuer))
    else:
        raise Problem(401, "show a token: Authorization: Bearer …", headers={"WWW-Authenticate": "Bearer"})
    if bearer is None:
        if token is not None:  # a session that is over is nothing to be wary of
            ctx.fail(where)
        detail = "the session is over; log in again" if cookie else "the token is not valid (any more)"
        raise Problem(401, detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
    return Principal(bearer, where, cookie)


def begin_session(ctx: Context, who: Principal) -> str:
    """Log somebody in, and say so in the audit trail; returns the session's cookie."""
    return write(
        ctx, who, "session.begin", who.name, {}, lambda connection: tokens.open_session(connection, who.bearer)
    )


def set_session_cookie(ctx: Context, answer: Response, cookie: str) -> None:
    """Have the browser keep the session."""
    answer.set_cookie(
        ctx.cookie,
        cookie,
        max_age=int(tokens.SESSION_LENGTH.total_seconds()),
        path="/",
        secure=ctx.ports.secure,
        httponly=True,
        samesite="strict",
    )


def too_often(seconds: float) -> Problem:
    """The answer to whoever asks more often than they may."""
    return Problem(429, "too many requests; slow down", headers={"Retry-After": str(math.ceil(seconds))})


def need(role: Role) -> Callable[..., Principal]:
    """A dependency that lets nobody through who has a lesser role."""

    def check(request: Request, ctx: Ctx, who: Annotated[Principal, Depends(principal)]) -> Principal:
        if who.role.covers(role):
            return who
        if request.method not in _SAFE:
            note(ctx, who, f"{request.method} {request.url.path}", "", {"needs": role.value}, "denied")
        raise Problem(403, f"this needs the role {role.value}; yours is {who.role.value}")

    return check


Viewer = Annotated[Principal, Depends(need(Role.VIEWER))]
Operator = Annotated[Principal, Depends(need(Role.OPERATOR))]
Engineer = Annotated[Principal, Depends(need(Role.ENGINEER))]
Admin = Annotated[Principal, Depends(need(Role.ADMIN))]


def write(
    ctx: Context,
    who: Principal,
    action: str,
    target: str,
    detail: Mapping[str, object],
    work: Callable[[Connection], T],
) -> T:
    """Do something, in one transaction with its line of the audit trail. What is not possible (`RefusedError`,
    `LifecycleError`) is written there too, and is 409."""

    def inside(connection: Connection) -> T:
        with connection.transaction():
            result = work(connection)
            _note(connection, who, action, target, detail, "done")
        return result

    try:
        return ctx.pool.run(inside)
    except (RefusedError, LifecycleError) as error:
        note(ctx, who, action, target, {**detail, "why": str(error)}, "refused")
        raise Problem(409, str(error)) from None


def note(ctx: Context, who: Principal, action: str, target: str, detail: Mapping[str, object], outcome: str) -> None:
    """Add a line to the audit trail for what was not done."""
    ctx.pool.run(lambda connection: _note(connection, who, action, target, detail, outcome))


def _note(
    connection: Connection, who: Principal, action: str, target: str, detail: Mapping[str, object], outcome: str
) -> None:
    if who.bearer.issuer is not None:  # a name may change hands at the provider, the subject never does
        detail = {**detail, "issuer": who.bearer.issuer, "sub": who.bearer.subject}
    tokens.note(
        connection,
        actor=who.name,
        role=who.role.value,
        source=who.source,
        action=action,
        target=target,
        detail=detail,
        outcome=outcome,
    )
