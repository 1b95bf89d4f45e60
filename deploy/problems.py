"""What can go wrong while services are fetched, and running the programs that can go wrong."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


class ProvisionError(RuntimeError):
    """The services could not be fetched; the message says what to do."""


class NotHereError(Exception):
    """This way of provisioning does not work on this machine, or not now; the message completes "as …"."""


def run(command: Sequence[str | Path]) -> str:
    """What a program prints; `ProvisionError` with its last words where it fails."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=plain_environment()
    )
    if done.returncode:
        raise ProvisionError(f"{Path(command[0]).name} failed: {reason(done.stderr)}")
    return done.stdout


def plain_environment() -> dict[str, str]:
    """Ours, with messages in English, as we read some of them."""
    return os.environ | {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def reason(said: str) -> str:
    """The line of a program's error output that tells most: its first error (what follows mostly sums up).

    >>> reason("W: slow\\nE: no space left\\nE: some failed")
    'no space left'
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E: ")]
    return (errors or lines or ["no reason given"])[0].removeprefix("E: ")
