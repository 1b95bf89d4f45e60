"""The broker ends: in order, and by kill -9."""

from __future__ import annotations

import time

from tests.acceptance.faults.conftest import Report
from tests.acceptance.faults.harness import Rig, kill
from tests.acceptance.faults.rounds import repeated

AUTOSAVE = 30
"""Seconds after which mosquitto writes what it holds (`autosave_interval` of the embedded one, and in deploy/)."""


@repeated(2, 15)
def test_in_order(run: Rig, report: Report, rounds: int) -> None:
    platform = run.platform()
    senders = run.send([platform.coap], [run.broker.url])
    before = senders.speed()
    for _ in range(rounds):
        senders.await_more(50)
        run.broker.stop()
        senders.await_more(20)  # by CoAP
        run.broker.start()
        run.await_health(platform)
    report("broker restarted", run.recovered(senders, before), run.judge(), restarts=rounds)


@repeated(0, 10)
def test_killed(run: Rig, report: Report, rounds: int) -> None:
    """What devices gave to a broker that had no time to write it is lost with it: the known limit of MQTT brokers. It
    is no more than that, and what came by CoAP is all there."""
    platform = run.platform()
    senders = run.send([platform.coap], [run.broker.url])
    before = senders.speed()
    excused: set[tuple[str, int]] = set()
    for number in range(rounds):
        senders.await_more(50)
        if number % 2:  # with the platform away, everything is with the broker alone
            platform.kill()
            time.sleep(1)
        killed = time.monotonic()
        kill(run.broker)
        excused |= {
            (device, pack)
            for (device, pack), at in list(senders.tally.acknowledged.items())
            if device in senders.tally.by_broker and killed - AUTOSAVE - 5 < at < killed + 1
        }
        run.broker.start()
        if not platform.running:
            platform.start()
        run.await_health(platform)
    report("broker killed", run.recovered(senders, before), run.judge(excused=excused), kills=rounds)
