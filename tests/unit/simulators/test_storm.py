"""A storm against an honest CoAP peer: RFC 7252 for a whole fleet, and what it counts."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from typer.testing import CliRunner

from devices.decode import decode
from devices.model import SECOND, Transport, Uplink
from devices.profile import shipped_profiles
from headworks.cli import app
from simulators.nbiot import message_energy
from simulators.storm import Report, Shape, Storm, arrivals, battery
from simulators.storm_mqtt import receive_maximum
from simulators.storm_payload import PROFILE, coap_template, identity, mqtt_template
from simulators.storm_run import Clocks, Targets, run_storm
from simulators.storm_wheel import Wheel
from tests.unit.simulators.peer import UNAVAILABLE, UNPROCESSABLE, Manners, Peer, Request, honest, read, serving

OFFSET = 1_790_000_000.0


@contextmanager
def peer(manners: Manners) -> Iterator[Peer]:
    """A peer in an event loop of its own thread, as the storm does not wait in one."""
    loop, ready, end = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[Peer] = []

    async def main() -> None:
        async with serving(manners) as one:
            found.append(one)
            ready.set()
            await end.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    assert ready.wait(60)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(60)
        loop.close()


def run(one: Peer, storm: Storm) -> Report:
    return run_storm(storm, Targets(coap=("127.0.0.1", one.port)), Clocks(time.monotonic, time.process_time, OFFSET))


def test_every_device_reports_once_as_itself_and_is_acknowledged() -> None:
    with peer(honest) as one:
        done = run(one, Storm("t", 1_000, 0.0, ports=3, under_way=50))
    tally = done.tallies["coap"]
    assert done.complete
    assert tally.acknowledged == tally.started == 1_000
    assert {request.path[1] for request in one.requests} == {identity("t", number) for number in range(1_000)}
    assert len({request.port for request in one.requests}) == 3
    assert len({(request.port, request.mid) for request in one.requests}) == 1_000, "a message id is one exchange"
    assert len({request.token for request in one.requests}) == 1_000
    assert len(tally.latencies) == 1_000
    assert sum(tally.transmissions) == 1_000
    assert tally.retransmissions == 0


def test_what_it_sends_is_what_the_profile_takes() -> None:
    profile = shipped_profiles()[PROFILE]
    template = coap_template("t")
    rows = np.zeros((2, len(template.row)), np.uint8)
    template.fill(rows, np.array([7, 1_234_567]), np.array([OFFSET + 0.25, OFFSET]))
    for row, number, at in zip(rows, (7, 1_234_567), (OFFSET + 0.25, OFFSET), strict=True):
        request = read(row.tobytes(), 0)
        assert request.path == ("telemetry", identity("t", number))
        uplink = Uplink(Transport.COAP, request.payload, round(at * SECOND), request.path[1], request.content_format)
        (report,) = decode(uplink)
        assert report.identity == request.path[1]
        assert {entry.time for entry in report.measurements} == {round(at * SECOND)}
        assert {entry.name for entry in report.measurements} <= set(profile.metrics)
        assert len(report.measurements) == 8
    message, at_byte = mqtt_template("t")
    assert bytes(message.row[at_byte : at_byte + 2]) == b"\0\0"


def test_lost_datagrams_are_sent_again_with_the_same_message_and_back_off() -> None:
    seen: dict[bytes, list[Request]] = {}

    def deaf_at_first(one: Peer, request: Request) -> None:
        seen.setdefault(request.token, []).append(request)
        if len(seen[request.token]) == 3:
            one.take(request)

    with peer(deaf_at_first) as one:
        done = run(one, Storm("t", 20, 0.0, ack_timeout=0.1))
    tally = done.tallies["coap"]
    assert done.complete
    # An answer may be late on a busy machine, and then there is one more.
    assert tally.retransmissions >= 40
    assert sum(tally.transmissions) == tally.retransmissions + 20
    for requests in seen.values():
        assert len({(request.mid, request.payload) for request in requests}) == 1
    assert tally.latencies.min() >= 0.3, "from the first transmission on: 0.1 s, and the pause doubles"


def test_a_retransmission_may_come_from_another_port() -> None:
    seen: dict[bytes, list[int]] = {}

    def deaf_once(one: Peer, request: Request) -> None:
        seen.setdefault(request.token, []).append(request.port)
        if len(seen[request.token]) == 2:
            one.take(request)

    with peer(deaf_once) as one:
        assert run(one, Storm("t", 20, 0.0, ack_timeout=0.1, rebind=True)).complete
    assert all(first != second for first, second, *_ in seen.values())


def test_a_gateway_that_is_not_there_is_given_up_after_four_retransmissions() -> None:
    with peer(lambda *_: None) as one:
        done = run(one, Storm("t", 5, 0.0, ack_timeout=0.02))
    tally = done.tallies["coap"]
    assert (tally.given_up, tally.retransmissions, done.complete) == (5, 20, True)
    assert Counter(request.token for request in one.requests) == {number.to_bytes(4): 5 for number in range(5)}


def test_a_busy_gateway_is_left_alone_for_max_age() -> None:
    asked: dict[str, list[float]] = {}

    def busy_at_first(one: Peer, request: Request) -> None:
        asked.setdefault(request.path[1], []).append(time.monotonic())
        if len(asked[request.path[1]]) == 1:
            one.piggyback(request, UNAVAILABLE, b"\xd1\x01\x01")  # Max-Age 1
        else:
            one.take(request)

    with peer(busy_at_first) as one:
        done = run(one, Storm("t", 10, 0.0))
    tally = done.tallies["coap"]
    assert (tally.acknowledged, tally.later, tally.retransmissions) == (10, 10, 0)
    assert all(second - first >= 1.0 for first, second in asked.values())
    assert len({(request.port, request.mid) for request in one.requests}) == 20, "a new exchange, not the old one again"


def test_separate_responses_are_acknowledged_and_refusals_are_final() -> None:
    def late(one: Peer, request: Request) -> None:
        one.acknowledge(request)
        number = int.from_bytes(request.token)
        one.separate(request, 30_000 + number, 0x44 if number % 2 else UNPROCESSABLE)
        one.separate(request, 30_000 + number, 0x44 if number % 2 else UNPROCESSABLE)  # our acknowledgement was lost

    with peer(late) as one:
        done = run(one, Storm("t", 10, 0.0))
        deadline = time.monotonic() + 60
        while one.others.qsize() < 10 and time.monotonic() < deadline:
            time.sleep(0.01)
    tally = done.tallies["coap"]
    assert (tally.acknowledged, tally.refused, tally.retransmissions) == (5, {"4.22": 5}, 0)
    answers = [one.others.get_nowait() for _ in range(10)]
    assert {answer[0] for answer in answers} == {0x60}, "each is acknowledged, none reset"


def test_it_stops_when_told_and_says_what_is_left() -> None:
    with peer(honest) as one:
        done = run_storm(
            Storm("t", 1_000, 60.0),
            Targets(coap=("127.0.0.1", one.port)),
            Clocks(time.monotonic, time.process_time, OFFSET),
            stop=lambda: len(one.requests) > 2,
        )
    tally = done.tallies["coap"]
    assert not done.complete
    assert tally.acknowledged == tally.started
    assert tally.unfinished == 1_000 - tally.acknowledged


def test_most_come_in_the_first_fifth_of_an_hour_and_the_same_each_time() -> None:
    numbers = np.arange(20_000, dtype=np.int64)
    storm = Storm("t", 20_000, 900.0)
    order, at = arrivals(storm, numbers)
    assert (np.diff(at) >= 0).all()
    assert at.max() <= 900
    assert (at < 180).mean() == pytest.approx(1 - np.exp(-1), abs=0.02)
    assert (arrivals(storm, numbers)[0] == order).all()
    _, even = arrivals(Storm("t", 20_000, 900.0, Shape.EVEN), numbers)
    assert (even < 180).mean() == pytest.approx(0.2, abs=0.02)


def test_a_wheel_gives_back_what_is_due_and_nothing_early() -> None:
    wheel, due = Wheel(), np.random.default_rng(1).uniform(0, 10, 1_000)
    wheel.add(np.arange(1_000), due)
    for now in (0.0, 2.5, 7.0, 10.1):
        found = wheel.take(now)
        if found is not None:
            assert (due[found] <= now).all()
            due[found] = np.inf
        assert (due > now - 0.021).all()
    assert wheel.next == float("inf")


def test_batteries_pay_what_the_study_says() -> None:
    near, middle, far = (message_energy(84, level) for level in range(3))
    # 5 Wh less what sleep takes, one message of 84 bytes a day.
    for joules, years in ((near, 25), (middle, 18), (far, 4)):
        assert (joules + 15e-6 * 86_400) * years * 365.25 == pytest.approx(5 * 3600)
    storm = Storm("t", 1, 0.0)
    assert storm.coverage[0] > storm.coverage[2]
    assert battery([])["watt_hours"] == 0


def test_a_brokers_receive_maximum_is_found_among_its_properties() -> None:
    assert receive_maximum(b"\0") == 0xFFFF
    assert receive_maximum(b"\x0c\x22\x00\x0a\x1f\x00\x02hi\x21\x00\x14\x24\x01") == 20


def test_a_storm_on_somebody_elses_machine_is_refused() -> None:
    result = CliRunner().invoke(app, ["storm", "--series", "t", "--target", "coap://192.0.2.1"])
    assert result.exit_code == 2
    assert "not this machine" in result.output
