"""OpenID Connect, what of it is pure: which ID tokens are believed, who gets which role, which settings are wrong."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from headworks.oidc import id_token
from headworks.oidc.configuration import Configuration, configuration, parse_roles
from headworks.oidc.handshake import Handshake
from headworks.oidc.id_token import LoginRefusedError, NoRoleError, UnknownKeyError
from headworks.settings import SettingsError, load_settings
from storage.tokens import Role
from tests.integration.oidc_provider import Key

ISSUER, CLIENT, NONCE = "https://login.example.org/", "headworks", "n0nce"
EC, RSA = Key("ec"), Key("rsa", "RS256")
KEYS = id_token.signing_keys({"keys": [EC.jwk, RSA.jwk]})


def body(**changed: object) -> dict[str, Any]:
    now = int(time.time())
    whole = {"iss": ISSUER, "sub": "4711", "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": NONCE} | changed
    return {name: value for name, value in whole.items() if value is not None}


def read(token: str) -> dict[str, Any]:
    return id_token.claims(token, KEYS, ISSUER, CLIENT, NONCE)


def segments(*parts: object) -> str:
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


def by_hand(header: dict[str, str], secret: bytes) -> str:
    """An HMAC that PyJWT itself would not make with such a secret."""
    text = segments(header, body())
    mac = hmac.digest(secret, text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


@pytest.mark.parametrize("key", [EC, RSA], ids=["ES256", "RS256"])
@pytest.mark.parametrize("changed", [{}, {"aud": [CLIENT]}, {"aud": [CLIENT, "other"], "azp": CLIENT}])
def test_a_good_token_is_believed(key: Key, changed: dict[str, object]) -> None:
    assert read(key.sign(body(**changed)))["sub"] == "4711"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"iss": ISSUER.rstrip("/")}, "issuer"),
        ({"aud": "another-client"}, "[Aa]udience"),
        ({"aud": [CLIENT, "other"]}, "another client"),
        ({"aud": [CLIENT, "other"], "azp": "other"}, "another client"),
        ({"azp": "other"}, "another client"),
        ({"exp": time.time() - 120}, "expired"),
        ({"iat": time.time() + 600}, "not yet valid"),
        ({"nonce": "of another log-in"}, "nonce"),
        ({"nonce": 7}, "nonce"),
        ({"sub": ""}, "whose"),
        ({"sub": "47\x0011"}, "whose"),
        ({"sub": "4" * 256}, "whose"),
        *(({name: None}, f'"{name}" claim') for name in ("iss", "sub", "aud", "exp", "iat", "nonce")),
    ],
)
def test_a_token_that_is_not_for_us_or_not_for_now_is_refused(changed: dict[str, object], why: str) -> None:
    with pytest.raises(LoginRefusedError, match=why):
        read(EC.sign(body(**changed)))


@pytest.mark.parametrize(
    "forge",
    [
        lambda: segments({"alg": "none", "kid": "ec"}, body()) + ".",
        lambda: segments({"alg": "None", "kid": "ec"}, body()) + ".",
        lambda: segments({"kid": "ec"}, body()) + ".AAAA",
        # The public key, which everybody has, as the secret of an HMAC.
        lambda: by_hand({"alg": "HS256", "kid": "rsa"}, json.dumps(RSA.jwk).encode()),
        lambda: by_hand({"alg": "HS256", "kid": "rsa"}, RSA.pem),
        lambda: jwt.encode(body(), RSA.private, "RS512", headers={"kid": "rsa"}),
        lambda: Key("ec").sign(body()),
        lambda: Key("rsa", "RS256").sign(body()),
        # A token of one key in the name of the other.
        lambda: jwt.encode(body(), EC.private, "ES256", headers={"kid": "rsa"}),
        lambda: EC.sign(body())[:-4] + "AAAA",
        lambda: "no token at all",
        lambda: "",
    ],
    ids=[
        "none",
        "None",
        "no alg",
        "HS256 of JWK",
        "HS256 of PEM",
        "RS512",
        "other EC",
        "other RSA",
        "other kid",
        "cut",
        "words",
        "empty",
    ],
)
def test_a_token_that_the_provider_did_not_sign_is_refused(forge: Callable[[], str]) -> None:
    with pytest.raises(LoginRefusedError):
        read(forge())


def test_a_key_that_is_not_known_is_told_apart_as_it_may_be_new() -> None:
    with pytest.raises(UnknownKeyError):
        read(Key("new").sign(body()))


def test_without_a_name_of_its_key_a_token_is_believed_where_only_one_fits() -> None:
    token = jwt.encode(body(), EC.private, "ES256")
    assert read(token)["sub"] == "4711"
    two = id_token.signing_keys({"keys": [EC.jwk, Key("other").jwk]})
    with pytest.raises(LoginRefusedError, match="which of the provider's keys"):
        id_token.claims(token, two, ISSUER, CLIENT, NONCE)


def test_keys_that_are_no_signing_keys_are_passed_over() -> None:
    odd: list[Any] = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "x"}, EC.jwk | {"use": "enc"}, EC.jwk | {"x": "!"}, {"kty": "RSA"},
        RSA.jwk | {"alg": "PS256"}, {}, "text", None, 7,
    ]  # fmt: skip
    assert [key.key_id for key in id_token.signing_keys({"keys": [*odd, RSA.jwk]})] == ["rsa"]
    assert id_token.signing_keys({"keys": "none"}) == []


@pytest.fixture
def ours() -> Configuration:
    roles = {"crew": Role.OPERATOR, "it": Role.ADMIN, "cn=plant,ou=groups": Role.ENGINEER}
    return Configuration(
        ISSUER, CLIENT, None, roles, "groups", "openid", "Example", "https://hw.example.org/oidc/callback"
    )


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        ("crew", Role.OPERATOR),
        (["crew", "canteen"], Role.OPERATOR),
        (["crew", "it"], Role.ADMIN),
        (["it", "cn=plant,ou=groups"], Role.ADMIN),
        (["cn=plant,ou=groups", 5, None], Role.ENGINEER),
    ],
)
def test_the_greatest_role_that_a_value_maps_to_counts(groups: object, role: Role, ours: Configuration) -> None:
    assert id_token.person({"sub": "1", "groups": groups}, ours).role is role


@pytest.mark.parametrize("groups", [None, [], "", "canteen", ["Crew", "crew "], {"crew": True}, [["it"]], True, 7])
def test_without_a_mapped_value_nobody_gets_in(groups: object, ours: Configuration) -> None:
    with pytest.raises(NoRoleError, match="'groups'"):
        id_token.person({"sub": "1", "groups": groups}, ours)


def test_a_claim_may_be_inside_another_or_have_dots_in_its_name() -> None:
    assert id_token.values_of({"realm_access": {"roles": ["crew"]}}, "realm_access.roles") == {"crew"}
    assert id_token.values_of({"https://example.org/roles": "crew"}, "https://example.org/roles") == {"crew"}
    assert id_token.values_of({"realm_access": ["crew"]}, "realm_access.roles") == set()


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"sub": "1", "preferred_username": "jane", "email": "j@x"}, "jane (login.example.org)"),
        ({"sub": "1", "email": "j@x"}, "j@x (login.example.org)"),
        ({"sub": "1", "preferred_username": " \n\x00"}, "1 (login.example.org)"),
        ({"sub": "1", "preferred_username": "admin\n"}, "admin (login.example.org)"),
    ],
)
def test_a_name_cannot_be_taken_for_a_tokens(claims: dict[str, str], name: str, ours: Configuration) -> None:
    """A token's name has no blanks."""
    bearer = id_token.person({**claims, "groups": "crew"}, ours)
    assert (bearer.name, bearer.subject, bearer.issuer, bearer.token_id) == (name, "1", ISSUER, None)


def test_roles_are_read_with_any_sign_in_a_value() -> None:
    read = parse_roles(" crew = operator;cn=plant,ou=groups=engineer ; ")
    assert read == {"crew": Role.OPERATOR, "cn=plant,ou=groups": Role.ENGINEER}


@pytest.mark.parametrize("text", ["crew", "crew=boss", "=admin", "crew=operator;crew=admin"])
def test_roles_that_cannot_be_read_are_named(text: str) -> None:
    with pytest.raises(SettingsError, match="HEADWORKS_OIDC_ROLES: '"):
        parse_roles(text)


GOOD = {"ISSUER": ISSUER, "CLIENT_ID": CLIENT, "CLIENT_SECRET": "hidden", "ROLES": "crew=operator"}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"CLIENT_ID": ""}, "HEADWORKS_OIDC_CLIENT_ID"),
        ({"ROLES": ""}, "HEADWORKS_OIDC_ROLES"),
        ({"SCOPES": "profile"}, "HEADWORKS_OIDC_SCOPES"),
        ({"ISSUER": "http://login.example.org"}, "HEADWORKS_OIDC_ISSUER"),
        ({"ISSUER": "login.example.org"}, "HEADWORKS_OIDC_ISSUER"),
        ({"CONSOLE": "http://hw.example.org"}, "HEADWORKS_CONSOLE_URL"),
    ],
)
def test_a_setting_that_is_missing_or_wrong_is_named(
    changed: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = GOOD | changed
    monkeypatch.setenv("HEADWORKS_CONSOLE_URL", put.pop("CONSOLE", "https://hw.example.org"))
    for name, value in put.items():
        monkeypatch.setenv(f"HEADWORKS_OIDC_{name}", value)
    with pytest.raises(SettingsError, match=named) as caught:
        configuration(load_settings())
    assert "hidden" not in str(caught.value)


def test_it_is_off_unless_an_issuer_is_set_and_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configuration(load_settings()) is None
    for name, value in GOOD.items():
        monkeypatch.setenv(f"HEADWORKS_OIDC_{name}", value)
    found = configuration(load_settings())
    assert found is not None
    assert (found.issuer, found.name) == (ISSUER, "login.example.org")
    assert found.callback == "http://127.0.0.1:8080/oidc/callback"
    assert "hidden" not in repr(found)


def test_what_goes_out_says_nothing_of_the_secret_or_of_the_rest() -> None:
    one, other = Handshake(), Handshake()
    assert len({one.secret, one.state, one.nonce, one.verifier, one.challenge, other.state}) == 6
    assert one.answers(one.state)
    assert not one.answers(other.state)
    assert not one.answers("é")
    assert one.secret not in repr(one)
