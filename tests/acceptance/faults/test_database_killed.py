"""PostgreSQL ends: kill -9 of the postmaster, of a backend, and an orderly stop that lasts."""

from __future__ import annotations

import os
import random
import signal
import time

import psycopg

from tests.acceptance.faults.conftest import Report
from tests.acceptance.faults.harness import Rig, kill
from tests.acceptance.faults.rounds import repeated
from tests.integration.test_gateways import eventually


@repeated(1, 20)
def test_the_postmaster_is_killed(run: Rig, report: Report, rounds: int) -> None:
    platform = run.platform()
    senders = run.send([platform.coap], [run.broker.url])
    before = senders.speed()
    rng = random.Random(time.time_ns())
    for _ in range(rounds):
        senders.await_more(rng.randrange(1, 80))
        kill(run.server)
        senders.await_more(40)  # from the spool
        run.server.start()
        run.await_health(platform)
    report("PostgreSQL killed", run.recovered(senders, before), run.judge(), kills=rounds)


@repeated(0, 30)
def test_a_backend_is_killed(run: Rig, report: Report, rounds: int) -> None:
    platform = run.platform()
    senders = run.send([platform.coap], [run.broker.url])
    before = senders.speed()
    rng = random.Random(time.time_ns())
    for _ in range(rounds):
        senders.await_more(rng.randrange(1, 80))
        os.kill(_writers_backend(run.database_url), signal.SIGKILL)
        # All others end too, and PostgreSQL recovers by itself.
        run.await_health(platform)
    report("a backend killed", run.recovered(senders, before), run.judge(), kills=rounds)


@repeated(0, 180)
def test_it_is_stopped_for_some_time(run: Rig, report: Report, rounds: int) -> None:
    platform = run.platform()
    senders = run.send([platform.coap], [run.broker.url])
    before = senders.speed()
    senders.pause = 0.3  # the engine looks back for 14 days of sample time, and a minute has some hours of it here
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


def _writers_backend(url: str) -> int:
    found: list[int] = []

    def look() -> bool:
        with psycopg.connect(url, autocommit=True) as admin:
            found[:] = [
                int(pid)
                for (pid,) in admin.execute(
                    "SELECT pid FROM pg_stat_activity WHERE application_name = 'headworks writer'"
                    " AND datname = current_database()"
                )
            ]
        return bool(found)

    eventually(look, "the platform is connected")
    return found[0]
