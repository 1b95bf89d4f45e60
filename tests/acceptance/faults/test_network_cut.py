"""The network is cut between each pair: it stalls, resets, refuses, drops half-way, delays."""

from __future__ import annotations

import random
import time

from tests.acceptance.faults.conftest import Report
from tests.acceptance.faults.harness import Rig, port_of
from tests.acceptance.faults.proxy import Radio, TcpProxy, UdpProxy
from tests.acceptance.faults.rounds import repeated
from tests.acceptance.faults.senders import Senders


def _trouble(proxy: TcpProxy, senders: Senders, seconds: float) -> None:
    """Every way in which a connection fails, with traffic on it before each."""
    for _ in range(3):
        senders.await_more(7)
        proxy.halve()
    senders.await_more(15)
    proxy.reset()
    senders.await_more(15)
    proxy.stall()
    time.sleep(seconds)
    proxy.reset(refuse=True)  # out of a stall: nobody knows what arrived
    time.sleep(seconds)
    proxy.resume()
    proxy.delay = 0.05
    senders.await_more(15)
    proxy.resume()


@repeated(1, 12)
def test_between_platform_and_database(run: Rig, report: Report, rounds: int) -> None:
    with TcpProxy(run.socket) as proxy:
        platform = run.platform(database=run.through(proxy.port))
        senders = run.send([platform.coap], [run.broker.url])
        before = senders.speed()
        for number in range(rounds):
            _trouble(proxy, senders, 0.7 + number % 4)
            run.await_health(platform)
        report(
            "network cut, platform and database", run.recovered(senders, before), run.judge(), rounds=rounds,
            connections_cut=proxy.cuts,
        )  # fmt: skip


@repeated(0, 8)
def test_between_platform_and_broker(run: Rig, report: Report, rounds: int) -> None:
    with TcpProxy(("127.0.0.1", port_of(run.broker))) as proxy:
        platform = run.platform(broker=f"mqtt://127.0.0.1:{proxy.port}")
        senders = run.send([platform.coap], [run.broker.url])
        before = senders.speed()
        for number in range(rounds):
            _trouble(proxy, senders, 0.5 + number % 4)
            run.await_health(platform)
        report(
            "network cut, platform and broker", run.recovered(senders, before), run.judge(), rounds=rounds,
            connections_cut=proxy.cuts,
        )  # fmt: skip


@repeated(0, 8)
def test_between_devices_and_broker(run: Rig, report: Report, rounds: int) -> None:
    with TcpProxy(("127.0.0.1", port_of(run.broker))) as proxy:
        platform = run.platform()
        senders = run.send([platform.coap], [f"mqtt://127.0.0.1:{proxy.port}"])
        before = senders.speed()
        for _ in range(rounds):
            _trouble(proxy, senders, 0.5)
        run.await_health(platform)
        report(
            "network cut, devices and broker", run.recovered(senders, before), run.judge(), rounds=rounds,
            connections_cut=proxy.cuts,
        )  # fmt: skip


@repeated(0, 20)
def test_between_devices_and_gateway(run: Rig, report: Report, rounds: int) -> None:
    platform = run.platform()
    rng = random.Random(time.time_ns())
    with UdpProxy(("127.0.0.1", platform.coap)) as proxy:
        senders = run.send([proxy.port], [run.broker.url])
        before = senders.speed()
        for _ in range(rounds):
            proxy.radio = Radio(
                lost=rng.uniform(0.1, 0.4), repeated=rng.uniform(0, 0.3), late=rng.uniform(0, 0.3), rebound=0.1
            )
            senders.await_more(150)
            proxy.radio = Radio(lost=1.0)
            time.sleep(0.5)
            proxy.radio = Radio()
        report(
            "network cut, devices and CoAP gateway", run.recovered(senders, before), run.judge(), rounds=rounds,
            datagrams_lost=proxy.dropped, datagrams_passed=proxy.passed,
        )  # fmt: skip
