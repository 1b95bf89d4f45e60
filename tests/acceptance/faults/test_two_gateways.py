"""Two platforms on one database, each with a broker and a CoAP port; devices speak to both, often at once."""

from __future__ import annotations

import psycopg

from deploy.provision import Installation
from headworks.embedded import EmbeddedBroker
from tests.acceptance.faults.conftest import Report
from tests.acceptance.faults.harness import Rig
from tests.acceptance.faults.rounds import repeated
from tests.integration.test_gateways import eventually


@repeated(1, 20)
def test_both_take_the_same_and_each_is_killed(
    run: Rig, report: Report, installation: Installation, rounds: int
) -> None:
    with EmbeddedBroker(installation, run.folder / "second-broker") as second:
        platforms = [run.platform(), run.platform(broker=second.url)]
        senders = run.send([platform.coap for platform in platforms], [run.broker.url, second.url])
        before = senders.speed()
        for number in range(rounds):
            senders.await_more(200)
            one = platforms[number % 2]
            one.kill()
            one.start()
            eventually(one.answers, "the platform is up again")
        for platform in platforms:
            run.await_health(platform)
        with psycopg.connect(run.database_url, autocommit=True) as admin:
            row = admin.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
        assert row is not None
        report("two gateways", run.recovered(senders, before), run.judge(), kills=rounds, deadlocks=row[0])
