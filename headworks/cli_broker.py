"""`headworks broker …`: what the broker has to know of the registry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from headworks.running import database_url
from headworks.settings import load_settings
from ingest.topics import GATEWAY_RIGHTS, own_rights
from storage.credentials import mqtt_users
from storage.database import connect

app = typer.Typer(help="The broker's users and what they may do, from the registry.", no_args_is_help=True)

GATEWAY_USER = "headworks"


@app.callback()
def _group() -> None:
    """A group, also while it has a single command."""


@app.command()
def files(
    out: Annotated[Path, typer.Option(help="Where to write them", file_okay=False)] = Path("mosquitto"),
) -> None:
    """Write mosquitto's password and ACL files of every device that has an MQTT password.

    The platform's own user stays as it is in the password file that is there. Let mosquitto read them anew with SIGHUP.
    """
    with connect(database_url(load_settings()), application="headworks broker") as connection:
        users = mqtt_users(connection)
    out.mkdir(parents=True, exist_ok=True)
    passwords = out / "passwords"
    kept = [line for line in _lines(passwords) if line.split(":")[0] == GATEWAY_USER]
    _write(passwords, [*kept, *(f"{user}:{hashed}" for user, hashed, _ in users)], 0o600)
    _write(out / "acl", acl([(user, identity) for user, _, identity in users]), 0o644)
    typer.echo(f"wrote {len(users)} devices to {passwords} and {out / 'acl'}")
    if not kept:
        typer.echo(f"add the platform's own user: mosquitto_passwd {passwords} {GATEWAY_USER}", err=True)


def acl(users: list[tuple[str, str]]) -> list[str]:
    """The lines of an ACL file: the platform reads everything, (user, identity) writes under its own name."""
    lines = [f"user {GATEWAY_USER}", *(f"topic {one}" for one in GATEWAY_RIGHTS)]
    for user, identity in users:
        lines += ["", f"user {user}", *(f"topic {one}" for one in own_rights(identity))]
    return lines


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []


def _write(path: Path, lines: list[str], mode: int) -> None:
    """In one step, so that a broker that reads meanwhile reads all of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
