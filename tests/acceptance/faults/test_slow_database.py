"""Every commit takes two seconds: devices are acknowledged within one all the same, and nobody catches up by losing."""

from __future__ import annotations

from tests.acceptance.faults.conftest import Report
from tests.acceptance.faults.harness import Rig, slow_commits
from tests.acceptance.faults.rounds import repeated


@repeated(150, 4000)
def test_every_commit_takes_two_seconds(run: Rig, report: Report, rounds: int) -> None:
    platform = run.platform()
    senders = run.send([platform.coap], [run.broker.url])
    before = senders.speed()
    with slow_commits(run.database_url, 2.0):
        senders.await_more(rounds, 300)
        assert platform.metric("headworks_spooled_total") > 0
        assert senders.tally.refused == 0
    run.await_health(platform)
    report("slow database", run.recovered(senders, before), run.judge(), uplinks_while_slow=rounds)
