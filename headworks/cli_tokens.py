"""`headworks tokens …`: who may use the API and the console; and the admin's token that the first start makes."""

from __future__ import annotations

import getpass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from devices.duration import parse_duration
from devices.model import moment
from headworks import clock
from headworks.running import database_url
from headworks.settings import load_settings
from storage import tokens
from storage.database import Connection, connect
from storage.tokens import Role, TokenError

app = typer.Typer(help="Who may use the API and the console: add, list, revoke tokens.", no_args_is_help=True)
out = Console(highlight=False)

FIRST = "admin"
_FIRST_FILE = "first-admin-token"

Name = Annotated[str, typer.Argument(help="Who it is for; stands in the journal and the audit trail")]


def _connect() -> Connection:
    return connect(database_url(load_settings()), application="headworks tokens")


def _fail(message: str) -> typer.Exit:
    typer.echo(f"headworks: {message}", err=True)
    return typer.Exit(1)


@app.command()
def add(
    name: Name,
    role: Annotated[
        Role, typer.Option(help="What they may do; each role may do what those before it may")
    ] = Role.VIEWER,
    length: Annotated[
        str | None, typer.Option("--for", help="How long it is valid, e.g. 90d; for ever if not given")
    ] = None,
) -> None:
    """Make a token and print it: it is shown this once and kept nowhere."""
    if not name.strip() or any(ord(letter) <= 32 for letter in name) or len(name) > 80:
        raise _fail("a name has 1 to 80 characters and no blanks, as it stands in the journal")
    expires = None
    if length is not None:
        try:
            expires = moment(clock.now()) + timedelta(microseconds=parse_duration(length))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    with _connect() as connection:
        try:
            with connection.transaction():
                token = tokens.make(connection, name, role, getpass.getuser(), expires)
                _note(connection, "token.add", name, {"role": role.value, "length": length})
        except TokenError as error:
            raise _fail(str(error)) from None
    typer.echo(token)


@app.command("list")
def list_(
    revoked: Annotated[bool, typer.Option("--revoked", help="Also those that are void")] = False,  # noqa: FBT002
) -> None:
    """Who has a token, with which role, and when it was last used."""
    with _connect() as connection:
        found = tokens.listed(connection, revoked=revoked)
    table = Table("name", "role", "made (UTC)", "by", "until (UTC)", "last used (UTC)", box=None, pad_edge=False)
    for one in found:
        ends = one.revoked_at or one.expires_at
        table.add_row(
            Text(one.name), one.role.value, f"{one.made_at:%Y-%m-%d %H:%M}", Text(one.made_by),
            "for ever" if ends is None else f"{ends:%Y-%m-%d %H:%M}{' (revoked)' if one.revoked_at else ''}",
            "never" if one.last_used_at is None else f"{one.last_used_at:%Y-%m-%d %H:%M}",
        )  # fmt: skip
    out.print(table if found else "Nobody has a token; `headworks tokens add NAME --role admin` makes one.")


@app.command()
def revoke(name: Name) -> None:
    """Make a token void at once and end its sessions of the console, or those that somebody has by OpenID Connect."""
    with _connect() as connection, connection.transaction():
        if not tokens.revoke(connection, name, getpass.getuser()):
            raise _fail(
                f"nobody named {name!r} has a token or a session; `headworks tokens list` shows who has a token"
            )
        _note(connection, "token.revoke", name, {})
    typer.echo(f"{name}: revoked")


def first_token(database: str) -> str | None:
    """The admin's token, where there was never any token before; None where there was one."""
    with connect(database, application="headworks tokens") as connection:
        if tokens.are_there_any(connection):
            return None
        try:
            with connection.transaction():
                token = tokens.make(connection, FIRST, Role.ADMIN, "first start")
                _note(connection, "token.add", FIRST, {"role": Role.ADMIN.value}, actor="first start")
        except TokenError:  # another process of this platform was faster
            return None
    return token


def put_first_token(folder: Path, token: str) -> Path:
    """Keep it in a file that only its owner can read: where nobody sits at a terminal it would end in a log."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _FIRST_FILE
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(token + "\n", "utf-8")
    return path


def _note(connection: Connection, action: str, target: str, detail: dict[str, object], actor: str = "") -> None:
    tokens.note(
        connection,
        actor=actor or getpass.getuser(),
        role=Role.ADMIN.value,
        source="command line",
        action=action,
        target=target,
        detail=detail,
        outcome="done",
    )
