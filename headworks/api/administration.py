"""`/session`, `/tokens`, `/audit` and `/events`: logging in, who may do what, what was done, and listening."""

from __future__ import annotations

from datetime import timedelta
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from devices.duration import parse_duration
from devices.errors import UnavailableError
from devices.model import moment
from headworks.api import cursor
from headworks.api.access import (
    Admin,
    Principal,
    RefusedError,
    Viewer,
    begin_session,
    csrf_token,
    identify,
    note,
    set_session_cookie,
    source,
    write,
)
from headworks.api.context import Context, Ctx
from headworks.api.problems import Problem
from headworks.api.schemas import administration as schemas
from headworks.api.schemas.fields import Name
from storage import tokens
from storage.database import Connection
from storage.tokens import Bearer, Role, TokenError

router = APIRouter(tags=["access"])

_NOBODY = Bearer(0, "?", Role.VIEWER)


@router.post("/session")
def log_in(ctx: Ctx, request: Request, response: Response, body: schemas.Login) -> schemas.Session:
    """Begin a session of the console with a token: sets the session cookie."""
    try:
        who = identify(ctx, request, body.token)
    except Problem as problem:
        if problem.status == 401:
            nobody = Principal(_NOBODY, source(request))
            note(ctx, nobody, "session.begin", "", {"why": "the token is not valid"}, "denied")
        raise
    cookie = begin_session(ctx, who)
    set_session_cookie(ctx, response, cookie)
    return _session(ctx, who, cookie)


@router.get("/session")
def show_session(ctx: Ctx, who: Viewer) -> schemas.Session:
    """Who you are and what you may do."""
    return _session(ctx, who, who.cookie)


@router.get("/session/ways")
def ways_to_log_in(ctx: Ctx) -> schemas.LoginWays:
    """How one can log in to the console beside a token, for whoever has not yet."""
    return schemas.LoginWays(oidc=None if ctx.ports.oidc is None else ctx.ports.oidc.name)


@router.delete("/session", status_code=204)
def log_out(ctx: Ctx, who: Viewer, response: Response) -> None:
    """End the session of the console."""
    if who.cookie is not None:
        cookie = who.cookie
        write(ctx, who, "session.end", who.name, {}, lambda connection: tokens.close_session(connection, cookie))
        response.delete_cookie(ctx.cookie, path="/", secure=ctx.ports.secure, httponly=True, samesite="strict")


@router.get("/tokens")
def list_tokens(
    ctx: Ctx, _: Admin, *, revoked: Annotated[bool, Query(description="Also those that are void")] = False
) -> schemas.Tokens:
    """Who has a token, with which role, and when it was last used."""
    found = ctx.pool.run(lambda connection: tokens.listed(connection, revoked=revoked))
    return schemas.Tokens(items=[schemas.TokenEntry.model_validate(one, from_attributes=True) for one in found])


@router.post("/tokens", status_code=201)
def add_token(ctx: Ctx, who: Admin, body: schemas.NewToken) -> schemas.MadeToken:
    """Make a token; the answer is the only time that it is shown."""
    role = Role(body.role)
    expires = None
    if body.length is not None:
        expires = moment(ctx.ports.now()) + timedelta(microseconds=parse_duration(body.length))

    def work(connection: Connection) -> str:
        try:
            return tokens.make(connection, body.name, role, who.name, expires)
        except TokenError as error:
            raise RefusedError(str(error)) from None

    made = write(ctx, who, "token.add", body.name, {"role": role.value, "length": body.length}, work)
    return schemas.MadeToken(name=body.name, role=role, token=made)


@router.delete("/tokens/{name}", status_code=204)
def revoke_token(ctx: Ctx, who: Admin, name: Annotated[Name, Path()]) -> None:
    """Make a token void at once, with its sessions, or end those that somebody of that name has by OpenID Connect."""

    def work(connection: Connection) -> bool:
        done = tokens.revoke(connection, name, who.name)
        if not done:
            raise Problem(404, "nobody of this name has a token or a session")
        return done

    write(ctx, who, "token.revoke", name, {}, work)


@router.get("/audit")
def audit(
    ctx: Ctx,
    _: Admin,
    *,
    actor: Name | None = None,
    action: Name | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    after: Annotated[cursor.CursorText | None, Query(alias="cursor")] = None,
) -> schemas.AuditPage:
    """Every write that was asked for: done, refused or denied; the newest first."""
    behind = cursor.decode(after, [int])
    found = ctx.pool.run(
        lambda connection: tokens.trail(
            connection, actor=actor, action=action, before=None if behind is None else int(behind[0]), limit=limit + 1
        )
    )
    lines = found[:limit]
    return schemas.AuditPage(
        items=[schemas.AuditLine.model_validate(line, from_attributes=True) for line in lines],
        next=cursor.encode((lines[-1].number,) if len(found) > limit else None),
    )


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Until the client goes."}},
)
async def events(
    ctx: Ctx,
    who: Viewer,
    request: Request,
    *,
    device: Annotated[Name | None, Query(description="Also tell of new readings of this one")] = None,
) -> StreamingResponse:
    """Live updates (server-sent events): `alarms` names those that have changed, `reload` says to look at everything
    again, `readings` that a device has new ones. After a break, look at everything again."""
    if ctx.hub.full:
        raise Problem(503, "too many listen already", headers={"Retry-After": "30"})
    shown = request.headers.get("Authorization", "").partition(" ")[2] or None

    def allowed() -> bool:
        try:
            return identify(ctx, request, shown).bearer.key == who.bearer.key
        except Problem:
            return False
        except UnavailableError:
            return True  # ask again later: that the database is away is no reason to log anybody out

    return StreamingResponse(
        ctx.hub.stream(device, allowed),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _session(ctx: Context, who: Principal, cookie: str | None) -> schemas.Session:
    return schemas.Session(
        name=who.name,
        role=who.role,
        csrf=None if cookie is None else csrf_token(cookie),
        time_zone=ctx.ports.time_zone,
        grafana_url=ctx.ports.grafana_url,
        version=version("headworks"),
    )
