"""Whether an ID token is true and meant for us (OpenID Connect Core, 3.1.3.7), and who it speaks of. No I/O.

Signatures are PyJWT's; which algorithms and keys count is said here, never in the token.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from headworks.oidc.configuration import Configuration
from storage.tokens import Bearer, Role

ALGORITHMS = ("RS256", "ES256")
"""Asymmetric ones that every provider has. Not `none`, and nothing that a public key could be the secret of."""
LEEWAY_SECONDS = 60.0
"""How much the provider's clock may differ from ours."""
_LONGEST_NAME = 80
_LONGEST_SUBJECT = 255  # OpenID Connect Core, 2


class LoginRefusedError(ValueError):
    """Somebody does not get in; the message says why, without anything secret."""


class UnknownKeyError(LoginRefusedError):
    """The token names a key that is not among those at hand: perhaps the provider has changed them."""


class NoRoleError(LoginRefusedError):
    """The provider knows them, and nothing that it says of them maps to a role here."""

    def __init__(self, message: str, bearer: Bearer) -> None:
        super().__init__(message)
        self.bearer = bearer


def signing_keys(document: Mapping[str, Any]) -> list[jwt.PyJWK]:
    """The keys of a JWKS document (RFC 7517) that ID tokens may be signed with; others are passed over."""
    found = []
    entries = document.get("keys")
    for entry in entries if isinstance(entries, list) else []:
        try:
            key = jwt.PyJWK(entry)
        except (jwt.PyJWTError, AttributeError, KeyError, TypeError):
            continue
        if key.key_type in ("RSA", "EC") and key.algorithm_name in ALGORITHMS and key.public_key_use in (None, "sig"):
            found.append(key)
    return found


def claims(token: str, keys: Sequence[jwt.PyJWK], issuer: str, client_id: str, nonce: str) -> dict[str, Any]:
    """What a token says that is true and meant for us; `LoginRefusedError` where it is not."""
    try:
        found: dict[str, Any] = jwt.decode(
            token,
            _key(token, keys),
            algorithms=list(ALGORITHMS),
            audience=client_id,
            issuer=issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["iss", "sub", "aud", "exp", "iat", "nonce"], "enforce_minimum_key_length": True},
        )
    except jwt.PyJWTError as error:
        raise LoginRefusedError(f"the ID token is not valid: {error}") from None
    if not hmac.compare_digest(str(found["nonce"]).encode(), nonce.encode()):
        raise LoginRefusedError("the ID token was made for another log-in: its nonce differs")
    # With several audiences the token has to say that it was made for us.
    alone = isinstance(found["aud"], str) or len(found["aud"]) == 1
    if found.get("azp", client_id if alone else None) != client_id:
        raise LoginRefusedError("the ID token was made for another client (azp)")
    if not 0 < len(found["sub"]) <= _LONGEST_SUBJECT or not found["sub"].isprintable():
        raise LoginRefusedError("the ID token does not say whose it is")
    return found


def _key(token: str, keys: Sequence[jwt.PyJWK]) -> jwt.PyJWK:
    header = jwt.get_unverified_header(token)
    algorithm, name = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise LoginRefusedError(f"the ID token is signed by none of {', '.join(ALGORITHMS)}")
    fitting = [key for key in keys if key.algorithm_name == algorithm and name in (None, key.key_id)]
    if not fitting:
        raise UnknownKeyError("the ID token is signed with a key that the provider does not publish")
    if len(fitting) > 1:
        raise LoginRefusedError("the ID token does not say which of the provider's keys it is signed with")
    return fitting[0]


def person(found: Mapping[str, Any], configuration: Configuration) -> Bearer:
    """Who it is and what they may do: the greatest role that any of the claim's values maps to.

    `NoRoleError` where none does.
    """
    subject = str(found["sub"])
    shown = found.get("preferred_username") or found.get("email") or subject
    name = "".join(letter for letter in str(shown) if letter.isprintable()).strip()[:_LONGEST_NAME] or subject
    # A token's name has no blanks, so that nobody can be taken for somebody with a token.
    name = f"{name} ({configuration.host})"
    values = values_of(found, configuration.claim)
    roles = [role for value, role in configuration.roles.items() if value in values]
    if not roles:
        nobody = Bearer(None, name, Role.VIEWER, configuration.issuer, subject)
        raise NoRoleError(f"no value of the claim {configuration.claim!r} maps to a role", nobody)
    return Bearer(None, name, max(roles, key=list(Role).index), configuration.issuer, subject)


def values_of(found: Mapping[str, Any], claim: str) -> set[str]:
    """The values of a claim: a text, or a list of them. A dot leads into an object, as in Keycloak's
    `realm_access.roles`, unless a claim has just that name, as addresses do."""
    value: Any = found.get(claim)
    if value is None:
        value = found
        for step in claim.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
    return {one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)}
