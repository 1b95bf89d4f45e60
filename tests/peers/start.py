"""Start a peer as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.peers.__main__ import HERE, TARGET


@contextmanager
def peer(packages: str | Path, program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program of this folder with the packages of one peer (its name, or a folder); skips where they are missing."""
    folder = TARGET / packages
    if not folder.is_dir():
        pytest.skip(f"the peer {packages} is not installed: make peers")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(HERE / program), *arguments],
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()
