"""Fetch the embedded services once: a real TimescaleDB, mosquitto and libcoap's client, into a cache of the user's own.

`python -m deploy.provision` or `provision(report)`. Two ways lead there: the distribution's packages through a private
apt (`deploy.private_apt`), and where that does not go, two Python wheels (`deploy.fallback`). Here is what both share:
the cache, the lock against a second run, the stamp of what is complete. Starting them is `headworks.embedded`'s.

Standard library only, as this runs before anything else does. The machine itself is left as it is: no package is
installed on it, no maintainer script runs, no service is created.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy import fallback, private_apt
from deploy.problems import NotHereError, ProvisionError

__all__ = ["Installation", "ProvisionError", "cache_directory", "installed", "main", "provision"]

Report = Callable[[str], None]

_STAMP = "installation.json"
_ROUTES = ("apt", "wheel")
_TEXTS = ("edition", "database", "broker")


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the programs are. Absolute paths; None for what this way of provisioning does not have."""

    postgres_bin: Path
    """The folder of `postgres`, `initdb` and, except from the wheel, `psql` and the other clients."""
    edition: str
    """`timescaledb-apache` or `postgresql`: what the server offers, as `storage.database.Edition` names it."""
    database: str
    """For people: "PostgreSQL 17.11, TimescaleDB 2.19.3"."""
    broker: str
    """For people: "mosquitto 2.0.21"."""
    mosquitto: Path | None = None
    mosquitto_pub: Path | None = None
    mosquitto_sub: Path | None = None
    coap_client: Path | None = None
    """libcoap's client with DTLS."""
    nameless_bin: Path | None = None
    """The folder of an `initdb` that also works for a user id without an account: NSS_WRAPPER_PASSWD gives it one."""
    amqtt: Path | None = None
    """The folder to put on the import path to have the Python broker `amqtt`; only where there is no mosquitto."""


def provision(report: Report, cache: Path | None = None) -> Installation:
    """The services, fetched if they are not there yet: about half a minute and 60 MB once, then milliseconds.

    `report` gets lines for people, none where there is nothing to do. HEADWORKS_PROVISION=apt or =wheel chooses the
    way; without it the wheels are for where apt does not work. `ProvisionError` says what to do. Interrupt it as you
    like: what is incomplete is not used, and what was downloaded is not downloaded again.
    """
    found = installed(cache)
    if found is not None:
        return found
    folder = cache or cache_directory()
    try:
        _create(folder)
        with _alone(folder, report):
            # Whoever held the lock before us may have done it all.
            found = installed(cache)
            if found is None:
                found = _fetch(folder, report)
                report(f"Ready: {found.database}; {found.broker}")
            return found
    except OSError as error:
        raise ProvisionError(
            f"cannot fetch the services into {folder}: {error.strerror or error}"
            + (f" ({error.filename})" if error.filename else "")
            + "; make room or give access there, or name another folder in HEADWORKS_CACHE_DIR"
        ) from error


def installed(cache: Path | None = None) -> Installation | None:
    """What `provision` fetched before, or None; fetches nothing and writes nothing."""
    folder = cache or cache_directory()
    for route in _routes():
        found = _read(_target(folder, route))
        if found is not None:
            return found
    return None


def cache_directory() -> Path:
    """HEADWORKS_CACHE_DIR, else the user's cache; made absolute.

    Root's own cache is not below /root: PostgreSQL refuses to run as root, and the user that it runs as instead has to
    reach its program.
    """
    given = os.environ.get("HEADWORKS_CACHE_DIR")
    if given:
        return Path(given).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/headworks")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base).absolute() / "headworks"


def main() -> int:
    """`python -m deploy.provision [--link DIR]`: silent where everything is there."""
    parser = argparse.ArgumentParser(description="Fetch the embedded services into the user's cache.")
    parser.add_argument("--link", type=Path, help="also link the fetched command-line clients into this folder")
    arguments = parser.parse_args()
    try:
        found = provision(lambda line: print(line, flush=True))
        if arguments.link is not None:
            link_clients(found, arguments.link)
    except ProvisionError as error:
        print(f"headworks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the next run goes on from here.", file=sys.stderr)
        return 130
    return 0


def link_clients(found: Installation, folder: Path) -> None:
    """Make `coap-client`, `mosquitto_pub`, `mosquitto_sub` and `psql` reachable by their names in a folder."""
    psql = found.postgres_bin / "psql"
    clients = {
        "coap-client": found.coap_client,
        "mosquitto_pub": found.mosquitto_pub,
        "mosquitto_sub": found.mosquitto_sub,
        "psql": psql if psql.exists() else None,
    }
    for name, program in clients.items():
        link = folder / name
        if program is None or (link.is_symlink() and link.readlink() == program):
            continue
        link.unlink(missing_ok=True)
        link.symlink_to(program)


def _routes() -> tuple[str, ...]:
    chosen = os.environ.get("HEADWORKS_PROVISION")
    if not chosen:
        return _ROUTES
    if chosen not in _ROUTES:
        raise ProvisionError(f"HEADWORKS_PROVISION is {chosen!r}: it can be apt, wheel, or not set at all")
    return (chosen,)


def _target(cache: Path, route: str) -> Path:
    return cache / (private_apt.NAME if route == "apt" else fallback.NAME)


def _fetch(cache: Path, report: Report) -> Installation:
    routes = _routes()
    why = "HEADWORKS_PROVISION is wheel"
    if "apt" in routes:
        target = _target(cache, "apt")
        try:
            with _staging(target) as staging:
                _write(staging, target, private_apt.fetch(cache / "apt", staging, target, report))
            _remove(cache / "apt")
            return _checked(target)
        except NotHereError as error:
            if "wheel" not in routes:
                raise ProvisionError(str(error)) from error
            why = str(error)
    target = _target(cache, "wheel")
    with _staging(target) as staging:
        _write(staging, target, fallback.fetch(staging, target, report))
    report(
        "Missing from now on: the TimescaleDB extension (large histories are slower and larger), mosquitto (the Python "
        f"broker is ten times slower and forgets queued messages on a restart), coap-client; as {why}. "
        "To try again: HEADWORKS_PROVISION=apt"
    )
    return _checked(target)


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A folder to build in, which becomes `target` in one step at the end, so that a `target` is always complete."""
    staging = target.with_name(f"{target.name}.part")
    _remove(staging)
    _create(staging)
    try:
        yield staging
    except BaseException:
        _remove(staging)
        raise
    # Only an incomplete or moved one is in the way here.
    _remove(target)
    staging.rename(target)


def _create(folder: Path) -> None:
    """A folder that the user whom root's servers run as can enter too, whatever our umask is; the parents' as well."""
    for part in (*reversed(folder.parents), folder):
        if not part.exists():
            part.mkdir(exist_ok=True)
            part.chmod(0o755)


def _remove(tree: Path) -> None:
    import shutil  # the second run, which removes nothing, starts faster without

    if tree.exists():
        shutil.rmtree(tree)


@contextmanager
def _alone(cache: Path, report: Report) -> Iterator[None]:
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("Another process is fetching the services; waiting for it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(staging: Path, target: Path, parts: dict[str, str]) -> None:
    """The stamp names its own place: patched programs work nowhere else."""
    (staging / _STAMP).write_text(json.dumps({"place": str(target), **parts}, indent=1), "utf-8")


def _read(target: Path) -> Installation | None:
    try:
        parts = dict(json.loads((target / _STAMP).read_text("utf-8")))
        if parts.pop("place", None) != str(target) or parts.pop("python", fallback.PYTHON) != fallback.PYTHON:
            return None
        found = Installation(**{name: part if name in _TEXTS else target / part for name, part in parts.items()})
    except (OSError, ValueError, TypeError):
        return None
    return found if (found.postgres_bin / "postgres").exists() else None


def _checked(target: Path) -> Installation:
    found = _read(target)
    if found is None:
        raise ProvisionError(f"the services in {target} are not complete; remove that folder and try again")
    return found


if __name__ == "__main__":
    sys.exit(main())
