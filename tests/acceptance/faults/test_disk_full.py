"""The disk is full: the spool's, and the database's. A small file system in memory each, which only root may mount."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.provision import Installation
from headworks.embedded import EmbeddedPostgres
from tests.acceptance.faults.conftest import Report
from tests.acceptance.faults.harness import Rig, rig
from tests.acceptance.faults.rounds import repeated
from tests.integration.test_gateways import eventually


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A file system of this size."""
    folder.mkdir(mode=0o711)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=0711", "headworks-faults", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(disk: Path, leave: int = 0) -> Iterator[None]:
    """Somebody else's file takes all but `leave` bytes."""
    ballast = disk / "ballast"
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        try:
            while (free := os.statvfs(disk)).f_bavail * free.f_frsize > leave:
                os.write(descriptor, bytes(min(1 << 16, free.f_bavail * free.f_frsize - leave)))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        yield
    finally:
        os.close(descriptor)
        ballast.unlink()


@repeated(1, 8)
def test_of_the_spool(run: Rig, report: Report, rounds: int) -> None:
    """What does not fit is refused, what was acknowledged before is kept; the database's return makes room, although
    the disk stays full."""
    with small_disk(run.folder / "disk", 8 * 1024) as disk:
        platform = run.platform(spool=disk / "spool.db")
        senders = run.send([platform.coap], [run.broker.url])
        before = senders.speed()
        for number in range(rounds):
            with filled(disk, leave=(number % 5) * 16 * 1024):
                run.server.stop()
                refused = senders.tally.refused
                eventually(lambda: senders.tally.refused > refused + 10, "the spool refuses", 60)  # noqa: B023
                if number % 2:
                    platform.kill()
                run.server.start()
                if not number % 2:
                    run.await_health(platform)
                    senders.await_more(50)
            if number % 2:
                platform.start()
                run.await_health(platform)
        report("disk full, spool", run.recovered(senders, before), run.judge(), rounds=rounds)
        platform.stop()


@repeated(0, 6)
def test_of_the_database(installation: Installation, scratch: Path, report: Report, rounds: int) -> None:
    """PostgreSQL refuses to extend its files, or ends where it cannot write its log; the spool takes over."""
    settings = {
        "timescaledb.max_background_workers": "0", "shared_buffers": "16MB", "max_wal_size": "64MB",
        "min_wal_size": "32MB", "checkpoint_timeout": "30s",
    }  # fmt: skip
    with small_disk(scratch / "database-disk", 400 * 1024) as disk:
        server = EmbeddedPostgres(installation, disk / "postgres", settings=settings)
        server.start()
        ended = 0
        try:
            with rig(installation, server, scratch) as run:
                run.long = True
                platform = run.platform()
                senders = run.send([platform.coap], [run.broker.url])
                before = senders.speed()
                for _ in range(rounds):
                    with filled(disk):
                        eventually(lambda: "spool" in platform.parts().get("database", ""), "the disk is full", 120)
                        senders.await_more(200)
                    if server.pid is None:  # it could not write its log: whoever made room starts it again
                        ended += 1
                        server.start()
                    run.await_health(platform)
                report(
                    "disk full, database", run.recovered(senders, before), run.judge(), rounds=rounds,
                    postgresql_ended=ended,
                )  # fmt: skip
        finally:
            server.stop()
