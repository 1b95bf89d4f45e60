"""kill -9 of the platform: at random moments, and while it drains its spool."""

from __future__ import annotations

import random
import time

from tests.acceptance.faults.conftest import Report
from tests.acceptance.faults.harness import Rig, slow_commits
from tests.acceptance.faults.rounds import repeated
from tests.integration.test_gateways import eventually


@repeated(3, 100, minutes=12)
def test_at_random_moments(run: Rig, report: Report, rounds: int) -> None:
    platform = run.platform()
    senders = run.send([platform.coap], [run.broker.url])
    before = senders.speed()
    rng = random.Random(time.time_ns())
    for _ in range(rounds):
        senders.await_more(rng.randrange(1, 60))
        platform.kill()
        platform.start()
        eventually(platform.answers, "the platform is up again")
    run.await_health(platform)
    report("platform killed", run.recovered(senders, before), run.judge(), kills=rounds)


@repeated(1, 25, minutes=12)
def test_while_it_drains_its_spool(run: Rig, report: Report, rounds: int) -> None:
    platform = run.platform()
    senders = run.send([platform.coap], [run.broker.url])
    before = senders.speed()
    rng = random.Random(time.time_ns())
    caught = 0
    for _ in range(rounds):
        run.server.stop()
        senders.await_more(150)
        waiting = platform.metric("headworks_spool_waiting")
        assert waiting > 0, "what was acknowledged now is in the spool"
        run.server.start()
        with slow_commits(run.database_url, rng.uniform(0.0, 0.3)):
            # From when it tries again, which is known to half a second: before, in and after the drain's commit.
            time.sleep(rng.uniform(0.0, 0.8))
            caught += platform.metric("headworks_spool_waiting") > 0
            platform.kill()
        platform.start()
        run.await_health(platform)
    report(
        "killed while draining the spool", run.recovered(senders, before), run.judge(), kills=rounds,
        kills_with_uplinks_in_the_spool=caught,
    )  # fmt: skip
