"""What is set for OpenID Connect (`HEADWORKS_OIDC_…`), checked once at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

from headworks.settings import Settings, SettingsError
from storage.tokens import Role

CALLBACK = "/oidc/callback"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Configuration:
    """The provider, who we are there, and who may come in."""

    issuer: str
    """As the provider writes itself, to the letter: it stands in each ID token."""
    client_id: str
    client_secret: SecretStr | None
    """None is a public client, which PKCE alone protects."""
    roles: Mapping[str, Role]
    """Values of the claim to roles; whoever has none of them does not get in."""
    claim: str
    scopes: str
    name: str
    """What the log-in page calls the provider."""
    callback: str
    """The address that the provider sends people back to, as it is registered there."""

    @property
    def host(self) -> str:
        """The issuer's host: stands behind people's names."""
        return urlsplit(self.issuer).netloc


def configuration(settings: Settings) -> Configuration | None:
    """What is set; None where no issuer is, and `SettingsError` where something is missing or wrong."""
    if settings.oidc_issuer is None:
        return None
    if not settings.oidc_client_id:
        raise SettingsError("HEADWORKS_OIDC_CLIENT_ID: the provider knows us by it; register a client there")
    scopes = settings.oidc_scopes.split()
    if "openid" not in scopes:
        raise SettingsError("HEADWORKS_OIDC_SCOPES: `openid` has to be among them")
    roles = parse_roles(settings.oidc_roles)
    if not roles:
        raise SettingsError(
            "HEADWORKS_OIDC_ROLES: nobody could log in; say who may do what, as crew=operator; plant-it=admin"
        )
    found = Configuration(
        settings.oidc_issuer,
        settings.oidc_client_id,
        settings.oidc_client_secret,
        roles,
        settings.oidc_claim,
        " ".join(scopes),
        settings.oidc_name or urlsplit(settings.oidc_issuer).netloc,
        settings.console_address + CALLBACK,
    )
    for name, address in (("HEADWORKS_OIDC_ISSUER", found.issuer), ("HEADWORKS_CONSOLE_URL", found.callback)):
        if not is_protected(address):
            raise SettingsError(f"{name}: log-in by OpenID Connect needs https, except on loopback")
    return found


def is_protected(address: str) -> bool:
    """Whether nobody on the way can read along: HTTPS, or this machine's own loopback."""
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:  # an address that is none
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)


def parse_roles(text: str) -> dict[str, Role]:
    """`value=role` pairs, separated by semicolons. A value may hold any other sign, so that an LDAP name fits, as in
    `cn=crew,ou=plant=operator`. `SettingsError` where a pair is not one."""
    roles: dict[str, Role] = {}
    for pair in filter(None, map(str.strip, text.split(";"))):
        value, _, role = (part.strip() for part in pair.rpartition("="))
        if not value or role not in list(Role):
            raise SettingsError(f"HEADWORKS_OIDC_ROLES: {pair!r} is not value=role with a role of {', '.join(Role)}")
        if value in roles:
            raise SettingsError(f"HEADWORKS_OIDC_ROLES: {value!r} stands there twice")
        roles[value] = Role(role)
    return roles
