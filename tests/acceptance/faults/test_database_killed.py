"""PostgreSQL ends: kill -9 of the postmaster, of a backend, and an orderly stop that lasts."""

from __future__ import annotations

import os
import random
import signal
import time

import psycopg

from tests.acceptance.faults.conftest import Report
from tests.acceptance.faults.harness import Rig
from tests.acceptance.faults.rounds import repeated


@repeated(1, 20)
def test_the_postmaster_is_killed(run: Rig, report: Report, rounds: int) -> None:
    platform = run.platform()
    senders = run.send([platform.coap], [run.broker.url])
    before = senders.speed()
    rng = random.Random(time.time_ns())
    for _ in range(rounds):
        senders.await_more(rng.randrange(1, 80))
        assert run.server.pid is not None
        os.kill(run.server.pid, signal.SIGKILL)
        senders.await_more(40)  # from the spool
        run.server.start()
        run.await_health(platform)
    report("PostgreSQL killed", run.recovered(senders, before), run.judge(), kills=rounds)


@repeated(1, 30)
def test_a_backend_is_killed(run: Rig, report: Report, rounds: int) -> None:
    platform = run.platform()
    senders = run.send([platform.coap], [run.broker.url])
    before = senders.speed()
    rng = random.Random(time.time_ns())
    for _ in range(rounds):
        senders.await_more(rng.randrange(1, 80))
        with psycopg.connect(run.database_url, autocommit=True) as admin:
            row = admin.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'headworks writer'"
                " AND datname = current_database()"
            ).fetchone()
        assert row is not None
        os.kill(int(row[0]), signal.SIGKILL)  # all others end too, and PostgreSQL recovers by itself
        run.await_health(platform)
    report("a backend killed", run.recovered(senders, before), run.judge(), kills=rounds)


@repeated(1, 180)
def test_it_is_stopped_for_some_time(run: Rig, report: Report, rounds: int) -> None:
    platform = run.platform()
    senders = run.send([platform.coap], [run.broker.url])
    before = senders.speed()
    run.server.stop()
    begin = time.monotonic()
    senders.await_more(200)
    while time.monotonic() - begin < rounds:
        senders.await_more(10)
    assert "wait in the spool" in platform.parts()["database"]
    assert senders.tally.refused == 0
    run.server.start()
    run.await_health(platform)
    report("PostgreSQL stopped", run.recovered(senders, before), run.judge(), seconds=rounds)
