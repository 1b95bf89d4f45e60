"""kill -9 of the platform: at random moments, and while it drains its spool."""

from __future__ import annotations

import random
import time

from tests.acceptance.faults.conftest import Report
from tests.acceptance.faults.harness import Rig
from tests.acceptance.faults.rounds import repeated
from tests.integration.test_gateways import eventually


@repeated(4, 100, minutes=12)
def test_at_random_moments(run: Rig, report: Report, rounds: int) -> None:
    platform = run.platform()
    senders = run.send([platform.coap], [run.broker.url])
    before = senders.speed()
    rng = random.Random(time.time_ns())
    for _ in range(rounds):
        senders.await_more(rng.randrange(1, 60))
        platform.kill()
        platform.start()
        eventually(platform.answers, "the platform is up again", 60)
    run.await_health(platform)
    after = senders.speed()
    report("platform killed", run.judge(), kills=rounds, speed_after=round(after / before, 2))
