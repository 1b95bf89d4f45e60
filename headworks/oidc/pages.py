"""The addresses that browsers visit: `/oidc/begin` leads to the provider, `/oidc/callback` is where it leads back, and
`/oidc/end` leads to where one signs out there.

All answer with a redirection. The callback comes from another site, so that the browser brings along only the Lax
cookie of the log-in under way, which lives for minutes and is good for nothing else. The session's own cookie is
Strict: it is set here, and first shown by the console's script when it asks the API from our own page; that page is a
static file, needs no cookie, and its address has no code in it. Where somebody does not get in, the log-in page says
why.
"""

from __future__ import annotations

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from devices.errors import UnavailableError
from headworks.api import access
from headworks.api.access import Principal
from headworks.api.context import Context
from headworks.oidc import id_token
from headworks.oidc.configuration import CALLBACK
from headworks.oidc.handshake import Handshake
from headworks.oidc.id_token import LoginRefusedError, NoRoleError
from headworks.oidc.provider import Provider, ProviderError
from storage.tokens import Bearer, Role

log = structlog.get_logger()

PATIENCE_SECONDS = 600
"""How long somebody may take at the provider."""


def routes(ctx: Context, provider: Provider) -> list[Route]:
    """The addresses."""
    pages = _Pages(ctx, provider)
    return [Route("/oidc/begin", pages.begin), Route(CALLBACK, pages.callback), Route("/oidc/end", pages.end)]


class _Pages:
    def __init__(self, ctx: Context, provider: Provider) -> None:
        self._ctx = ctx
        self._provider = provider
        self._cookie = f"{ctx.cookie}-oidc"

    async def begin(self, _: Request) -> Response:
        """To the provider."""
        handshake = Handshake()
        try:
            address = await self._provider.address(handshake)
        except ProviderError as error:
            return _down(error)
        answer = RedirectResponse(address, 303)
        answer.set_cookie(
            self._cookie,
            handshake.secret,
            max_age=PATIENCE_SECONDS,
            path="/",
            secure=self._ctx.ports.secure,
            httponly=True,
            samesite="lax",
        )
        return answer

    async def callback(self, request: Request) -> Response:
        """Back from the provider, with a code or an error."""
        try:
            answer = await self._logged_in(request)
        except ProviderError as error:
            answer = _down(error)
        except UnavailableError as error:
            log.warning("oidc.no_database", why=str(error))
            answer = _login_page("database")
        answer.delete_cookie(self._cookie, path="/", secure=self._ctx.ports.secure, httponly=True, samesite="lax")
        return answer

    async def end(self, _: Request) -> Response:
        """To the provider's own log-out; the session here is ended by the API."""
        try:
            address = await self._provider.end_address()
        except ProviderError as error:
            return _down(error)
        return _login_page("no_end") if address is None else RedirectResponse(address, 303)

    async def _logged_in(self, request: Request) -> Response:
        where = access.source(request)
        query = request.query_params
        handshake = Handshake(request.cookies.get(self._cookie, ""))
        if not handshake.secret or not handshake.answers(query.get("state", "")):
            # Any page of the world can have a browser ask for this. So it costs next to nothing and counts for nothing.
            log.info("oidc.expired", source=where)
            return _login_page("expired")
        if self._ctx.has_failed_often(_count(where)):
            return _login_page("often")
        issuer = self._provider.configuration.issuer
        try:
            if query.get("iss", issuer) != issuer:  # RFC 9207
                raise LoginRefusedError("the answer is another provider's")
            if "code" not in query:
                raise LoginRefusedError(f"the provider says {query.get('error', 'nothing')[:60]!r}")
            found = await self._provider.claims(query["code"], handshake)
            bearer = id_token.person(found, self._provider.configuration)
        except NoRoleError as error:
            await self._refuse(where, str(error), error.bearer)
            return _login_page("no_role")
        except LoginRefusedError as error:
            await self._refuse(where, str(error))
            return _login_page("refused")
        cookie = await run_in_threadpool(access.begin_session, self._ctx, Principal(bearer, where))
        answer = RedirectResponse("../", 303)
        access.set_session_cookie(self._ctx, answer, cookie)
        return answer

    async def _refuse(self, where: str, why: str, bearer: Bearer | None = None) -> None:
        self._ctx.fail(_count(where))
        log.warning("oidc.refused", why=why, source=where)
        who = Principal(bearer or Bearer(None, "?", Role.VIEWER, self._provider.configuration.issuer), where)
        await run_in_threadpool(access.note, self._ctx, who, "session.begin", "", {"why": why}, "denied")


def _count(where: str) -> str:
    """What failures are counted by: apart from wrong tokens, so that those who have a token or a session go on."""
    return f"oidc {where}"


def _down(error: ProviderError) -> Response:
    log.warning("oidc.unavailable", why=str(error), hint="tokens go on working")
    return _login_page("unavailable")


def _login_page(reason: str) -> Response:
    """The console's log-in page, which has words for the reason."""
    return RedirectResponse(f"../?login={reason}", 303)
