"""The provider as we talk to it: discovery, keys, the exchange of a code. Everything has a time limit.

What it publishes is kept for an hour. An ID token with a key that we do not know has the keys fetched once more, at
most once a minute; a provider that did not answer is left alone for a few seconds, and whoever asks meanwhile is told.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx
import jwt

from headworks.oidc import id_token
from headworks.oidc.configuration import Configuration, is_protected
from headworks.oidc.handshake import Handshake
from headworks.oidc.id_token import LoginRefusedError, UnknownKeyError

PATIENCE_SECONDS = 5.0
"""How long one answer of the provider may take."""
KEPT_SECONDS = 3600.0
"""How long what the provider publishes is kept."""
REFETCH_SECONDS = 60.0
"""How often at the most keys are fetched because one is unknown."""
PAUSE_SECONDS = 5.0
"""How long a provider that did not answer is not asked again."""


class ProviderError(Exception):
    """The provider does not answer, or not as OpenID Connect has it; the message has nothing secret."""


class Provider:
    """One for the application, used by its event loop only."""

    def __init__(self, configuration: Configuration, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.configuration = configuration
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._published: dict[str, Any] = {}
        self._keys: list[jwt.PyJWK] = []
        self._until = float("-inf")
        self._refetch_from = float("-inf")
        self._pause_until = float("-inf")
        self._why = ""

    async def address(self, handshake: Handshake) -> str:
        """Where the browser is sent to log in; `ProviderError` where the provider does not answer."""
        await self._discover()
        query = {
            "response_type": "code",
            "client_id": self.configuration.client_id,
            "redirect_uri": self.configuration.callback,
            "scope": self.configuration.scopes,
            "state": handshake.state,
            "nonce": handshake.nonce,
            "code_challenge": handshake.challenge,
            "code_challenge_method": "S256",
        }
        return _with(self._endpoint("authorization_endpoint"), query)

    async def end_address(self) -> str | None:
        """Where people end their session at the provider itself (RP-Initiated Logout); None where it has no such place.

        It is told who asks and nothing else: the provider then asks the person.
        """
        await self._discover()
        if "end_session_endpoint" not in self._published:
            return None
        return _with(self._endpoint("end_session_endpoint"), {"client_id": self.configuration.client_id})

    async def claims(self, code: str, handshake: Handshake) -> dict[str, Any]:
        """What the provider says of whoever the code stands for. `LoginRefusedError` where that is not to be believed,
        `ProviderError` where there is no answer."""
        await self._discover()
        answer = await self._exchange(code, handshake.verifier)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise ProviderError("the token endpoint gave no ID token")
        tried = self._keys
        try:
            found = self._check(token, handshake)
        except UnknownKeyError:
            if not await self._fetch_keys_again(tried):
                raise
            found = self._check(token, handshake)
        if not id_token.values_of(found, self.configuration.claim) and "userinfo_endpoint" in self._published:
            found = {**await self._userinfo(str(answer.get("access_token")), found["sub"]), **found}
        return found

    def _check(self, token: str, handshake: Handshake) -> dict[str, Any]:
        ours = self.configuration
        return id_token.claims(token, self._keys, ours.issuer, ours.client_id, handshake.nonce)

    async def _discover(self) -> None:
        async with self._lock:
            now = self._monotonic()
            if now < self._until:
                return
            if now < self._pause_until:
                raise ProviderError(self._why)
            issuer = self.configuration.issuer
            try:
                found = await _ask("GET", issuer.rstrip("/") + "/.well-known/openid-configuration")
                if found.get("issuer") != issuer:
                    raise ProviderError(
                        f"it calls itself {found.get('issuer')!r}; HEADWORKS_OIDC_ISSUER says {issuer!r}"
                    )
                self._published = found
                self._keys = id_token.signing_keys(await _ask("GET", self._endpoint("jwks_uri")))
            except ProviderError as error:
                self._why = str(error)
                self._pause_until = self._monotonic() + PAUSE_SECONDS
                raise
            self._until = self._monotonic() + KEPT_SECONDS

    async def _fetch_keys_again(self, tried: list[jwt.PyJWK]) -> bool:
        """Whether there are others now than those that were tried."""
        async with self._lock:
            if self._keys is not tried:  # another log-in was faster
                return True
            now = self._monotonic()
            if now < self._refetch_from:
                return False
            self._refetch_from = now + REFETCH_SECONDS
            self._keys = id_token.signing_keys(await _ask("GET", self._endpoint("jwks_uri")))
            return True

    async def _exchange(self, code: str, verifier: str) -> dict[str, Any]:
        ours = self.configuration
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": ours.callback,
            "code_verifier": verifier,
            "client_id": ours.client_id,
        }
        login = None
        if ours.client_secret is not None:
            secret = ours.client_secret.get_secret_value()
            if "client_secret_basic" in self._published.get(
                "token_endpoint_auth_methods_supported", ["client_secret_basic"]
            ):
                login = (quote_plus(ours.client_id), quote_plus(secret))  # RFC 6749, 2.3.1
            else:
                form["client_secret"] = secret
        return await _ask("POST", self._endpoint("token_endpoint"), form=form, login=login)

    async def _userinfo(self, access_token: str, subject: str) -> dict[str, Any]:
        """What the ID token left out. It counts only if it is of the same person (OpenID Connect Core, 5.3.2)."""
        found = await _ask("GET", self._endpoint("userinfo_endpoint"), bearer=access_token)
        if found.get("sub") != subject:
            raise LoginRefusedError("the provider's userinfo is of somebody else")
        return found

    def _endpoint(self, name: str) -> str:
        address = self._published.get(name)
        if not isinstance(address, str) or not is_protected(address):
            raise ProviderError(f"its discovery document has no {name} with https")
        return address


def _with(address: str, query: dict[str, str]) -> str:
    return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"


@cache
def _authorities() -> ssl.SSLContext:
    """Whose certificates count; reading them takes longer than a request on loopback."""
    return httpx.create_ssl_context()


async def _ask(
    method: str,
    address: str,
    *,
    form: dict[str, str] | None = None,
    login: tuple[str, str] | None = None,
    bearer: str | None = None,
) -> dict[str, Any]:
    """One request, and the JSON object that it is answered with."""
    headers = {"Accept": "application/json"} | ({} if bearer is None else {"Authorization": f"Bearer {bearer}"})
    try:
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            httpx.AsyncClient(timeout=PATIENCE_SECONDS, verify=_authorities()) as client,
        ):
            answer = await client.request(
                method, address, data=form, headers=headers, auth=login or httpx.USE_CLIENT_DEFAULT
            )
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise ProviderError(f"{address} does not answer: {type(error).__name__} {error}".rstrip()) from None
    try:
        found = answer.json()
    except ValueError:
        found = None
    if form is not None and answer.status_code == 400 and isinstance(found, dict):
        raise LoginRefusedError(f"the provider does not take the code: {str(found.get('error'))[:60]!r}")
    if answer.status_code != 200 or not isinstance(found, dict):
        reason = f", {str(found['error'])[:60]!r}" if isinstance(found, dict) and "error" in found else ""
        raise ProviderError(f"{address} answers with {answer.status_code}{reason} and not with what was asked for")
    return found
