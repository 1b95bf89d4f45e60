"""`/session`, `/tokens` and `/audit`: logging in, who may do what, what was done."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from headworks.api.schemas.fields import NO_CONTROL, Body, Length
from storage.tokens import Role


class Login(Body):
    """A token, to begin a session with."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_CONTROL)]


class LoginWays(BaseModel):
    """How one can log in beside a token: `oidc` is the OpenID Connect provider's name, for `/oidc/begin`."""

    oidc: str | None


class Session(BaseModel):
    """Who you are. `csrf` goes into the header X-CSRF-Token of whatever changes something; null with a token."""

    name: str
    role: Role
    csrf: str | None
    time_zone: str
    grafana_url: str | None
    version: str


class NewToken(Body):
    """Who is to have a token, and what they may do."""

    name: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x20\x7f]{1,80}$")]
    role: Literal["viewer", "operator", "engineer", "admin"]
    length: Length | None = Field(default=None, description="How long it is valid; for ever if not given")


class MadeToken(BaseModel):
    """`token` is shown this once and kept nowhere."""

    name: str
    role: Role
    token: str


class TokenEntry(BaseModel):
    """A token without its secret."""

    name: str
    role: Role
    made_at: datetime
    made_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class Tokens(BaseModel):
    """Tokens by name."""

    items: list[TokenEntry]


class AuditLine(BaseModel):
    """One write that was asked for."""

    number: int
    at: datetime
    actor: str
    role: str
    source: str
    action: str
    target: str
    detail: dict[str, object]
    outcome: Literal["done", "refused", "denied"]


class AuditPage(BaseModel):
    """A page of the audit trail."""

    items: list[AuditLine]
    next: str | None
