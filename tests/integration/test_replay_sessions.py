"""Recordings that are more than messages: Sparkplug's sessions, long payloads, what was protected on its way."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiocoap
import pytest

from deploy.provision import Installation
from devices.codecs.sparkplug import node_identity
from devices.codecs.sparkplug_schema import Payload
from devices.model import MINUTE, SECOND, Codec, Device, Transport, Uplink
from devices.profile import shipped_profiles
from headworks.embedded import EmbeddedBroker
from ingest.sparkplug_session import rebirth_request
from simulators import replay
from simulators.replay_sender import Way
from simulators.scenario import Protocol
from simulators.uplink_recording import Contents, Recorder, read_recording, survey
from simulators.uplink_replay import Changes, Resent, replay_recording
from storage.database import connect
from storage.registry import register
from tests.conftest import PUMP
from tests.integration.test_gateways import T0, coap, eventually, pack, publish, query, running
from tests.integration.test_record import headworks, recording, second_url
from tests.integration.test_scenario_outages import listening
from tests.integration.test_scenarios import run
from tests.integration.test_sparkplug import HOST, edge_node, plant
from tests.integration.test_sparkplug import PUMP as EDGE_PUMP

__all__ = ["plant", "second_url"]  # fixtures

GROUP, NODE, DEVICE = "North", "RTU-7", "P-101"


def told(url: str, metric: str) -> list[tuple[object, ...]]:
    return query(
        url,
        "SELECT d.identity, r.measured_at, r.value FROM reading r JOIN device d USING (device_id)"
        f" JOIN metric m USING (metric_id) WHERE m.name = '{metric}' ORDER BY 1, 2",
    )


def test_an_edge_node_that_was_recorded_from_its_birth_lives_again_on_a_second_platform(
    plant: str, second_url: str, broker_url: str, installation: Installation, scratch: Path, tmp_path: Path
) -> None:
    state, file = scratch / "sparkplug", tmp_path / "a.hwrec"
    state.mkdir()
    with (
        running(plant, broker_url, sparkplug_host=HOST, state_dir=state) as doors,
        recording(doors, plant, state, file),
        edge_node(broker_url) as edge,
    ):
        edge.do("update 4.5")
        edge.do("alias 4.75")
        edge.do("rebirth")  # this library's is another life: farewell, and a birth with another number
        edge.do("update 5.5")
        eventually(lambda: 5.5 in [row[2] for row in told(plant, "pressure")], "the data of both lives are stored")
        edge.kill()
        eventually(lambda: told(plant, "connected")[-1][2] == 0.0, "and its death")
        lives = [row[2] for row in told(plant, "connected")]
        stored = query(plant, "SELECT count(*) FROM uplink")[0][0]
        eventually(lambda: survey(file).uplinks >= int(str(stored)), "all of it is recorded")
    other = scratch / "sparkplug-second"
    other.mkdir()
    with (
        EmbeddedBroker(installation, scratch / f"own-{time.monotonic_ns()}") as broker,
        running(second_url, broker.url, sparkplug_host=HOST, state_dir=other) as doors,
    ):
        said = headworks(doors, second_url, other, "replay", str(file), "--register", "--via", "mqtt")
        assert "birth" not in said
        assert "0 rejected" in said
        eventually(lambda: told(second_url, "pressure") == told(plant, "pressure"), "the readings are equal")
        assert lives[0] == 1.0
        eventually(lambda: [row[2] for row in told(second_url, "connected")] == lives, "and so are births and deaths")
        assert query(second_url, "SELECT DISTINCT reason FROM quarantine") == query(
            plant, "SELECT DISTINCT reason FROM quarantine"
        )


def test_an_edge_node_can_be_replayed_under_pseudonyms(
    plant: str, broker_url: str, scratch: Path, tmp_path: Path
) -> None:
    state, file = scratch / "masked", tmp_path / "a.hwrec"
    state.mkdir()
    with running(plant, broker_url, sparkplug_host=HOST, state_dir=state) as doors:
        with recording(doors, plant, state, file, "--pseudonymise"), edge_node(broker_url) as edge:
            edge.do("update 4.5")
            eventually(lambda: len(told(plant, "pressure")) == 2, "its birth and its data are stored")
            eventually(lambda: survey(file).uplinks >= 3, "and recorded")
        content = b"".join(
            uplink.source.encode() + str(uplink.identity).encode()
            for frame in read_recording(file, Contents())
            for uplink in frame
        )
        assert not any(name.encode() in content for name in (GROUP, NODE, DEVICE))
        said = headworks(doors, plant, state, "replay", str(file), "--register", "--via", "mqtt")
        assert "0 rejected" in said
        eventually(lambda: len(told(plant, "pressure")) == 4, "the same is stored under another name")
    by_device: dict[object, list[object]] = {}
    for device, _, value in told(plant, "pressure"):
        by_device.setdefault(device, []).append(value)
    assert list(by_device.values()) == [[4.0, 4.5], [4.0, 4.5]]


def test_what_was_recorded_without_its_birth_is_counted_and_said(
    plant: str, broker_url: str, scratch: Path, tmp_path: Path
) -> None:
    state, file = scratch / "unborn", tmp_path / "a.hwrec"
    state.mkdir()
    with running(plant, broker_url, sparkplug_host=HOST, state_dir=state) as doors:
        with edge_node(broker_url) as edge:
            eventually(lambda: len(told(plant, "pressure")) == 1, "its birth is stored before anybody records")
            with recording(doors, plant, state, file):
                edge.do("update 4.5")
                eventually(lambda: survey(file).uplinks == 1, "its data are recorded")
        said = headworks(doors, plant, state, "replay", str(file), "--via", "mqtt")
    assert "1 uplinks of Sparkplug have no birth before them" in said
    assert "1 of 1 uplinks; 0 sent, 0 rejected" in said


class FakeHost:
    """What another host makes of what it hears."""

    def __init__(self, heard: list[tuple[str, bytes]]) -> None:
        self.heard = heard

    def kinds(self) -> list[str]:
        return [topic.split("/")[2] for topic, _ in list(self.heard)]

    def payloads(self) -> list[Any]:
        return [Payload.FromString(octets) for _, octets in list(self.heard)]

    def births(self) -> list[int]:
        return [
            metric.long_value for payload in self.payloads() for metric in payload.metrics if metric.name == b"bdSeq"
        ]

    def lives(self) -> list[list[int | None]]:
        """The sequence numbers from each birth of the node on."""
        found: list[list[int | None]] = []
        for kind, payload in zip(self.kinds(), self.payloads(), strict=True):
            if kind == "NBIRTH":
                found.append([])
            if kind != "NCMD":
                found[-1].append(payload.seq if payload.HasField("seq") else None)
        return found


def sparkplug(kind: str, at: int, device: str | None = DEVICE, **values: float) -> Uplink:
    payload = Payload(timestamp=at // 1000, seq=77)
    if device is None:
        payload.metrics.add(name=b"bdSeq", datatype=8, long_value=200)
    for name, value in values.items():
        payload.metrics.add(name=name.encode(), datatype=10, double_value=value, timestamp=at // 1000)
    levels = ["spBv1.0", GROUP, kind, NODE, *([device] if device else [])]
    identity = node_identity(GROUP, NODE, device)
    return Uplink(
        Transport.MQTT, payload.SerializeToString(), at, identity, source="/".join(levels), codec=Codec.SPARKPLUG
    )


def test_a_replayed_edge_node_is_numbered_anew_answers_rebirths_and_is_born_again_when_it_goes_on(
    broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, checkpoint = tmp_path / "a.hwrec", tmp_path / "checkpoint"
    recorder = Recorder(file, {})
    recorder.uplinks([sparkplug("NBIRTH", T0, None), sparkplug("DBIRTH", T0, pressure=4.0)])
    for number in range(1, 4):
        recorder.uplinks([sparkplug("DDATA", T0 + number * MINUTE, pressure=4.0 + number / 2)])
    recorder.close()
    monkeypatch.setattr(replay, "_LAST_ANSWERS_SECONDS", 60.0)
    with listening(broker_url, f"spBv1.0/{GROUP}/+/{NODE}/#") as heard:
        host = FakeHost(heard)

        async def play(until: Callable[[], bool]) -> Resent:
            """At its own pace, which is a minute from one to the next, until something was heard."""
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()

            def watch() -> None:
                eventually(until, "it is time to stop")
                loop.call_soon_threadsafe(stop.set)

            threading.Thread(target=watch).start()
            way = Way(mqtt_url=broker_url)
            return await replay_recording(file, way, checkpoint, Changes(), speed=1.0, stop=stop)

        first = asyncio.run(play(lambda: host.kinds() == ["NBIRTH", "DBIRTH"]))
        assert not first.complete
        # What was next goes out with the stop; then it dies in order.
        eventually(lambda: host.kinds() == ["NBIRTH", "DBIRTH", "DDATA", "NDEATH"], "it has died")
        assert host.lives() == [[0, 1, 2, None]]
        assert len(set(host.births())) == 1

        asked = threading.Event()

        def born_once_more() -> bool:
            if host.kinds()[4:] == ["NBIRTH", "DBIRTH", "DDATA"] and not asked.is_set():
                asked.set()
                publish(broker_url, f"spBv1.0/{GROUP}/NCMD/{NODE}", rebirth_request(T0))
            return host.kinds().count("DBIRTH") == 3

        second = asyncio.run(play(born_once_more))
        assert second.rows == second.total_rows
        assert second.unborn == second.unsendable == 0
        lives = ["NBIRTH", "DBIRTH", "DDATA", "NBIRTH", "DBIRTH", "DDATA", "NDEATH"]
        eventually(lambda: [kind for kind in host.kinds()[4:] if kind != "NCMD"] == lives, "it goes on, and is asked")
        assert host.lives()[1:] == [[0, 1, 2], [0, 1, 2, None]], "numbers go on from each birth"
        births = host.births()
        assert len(set(births[2:])) == 1, "a rebirth is the same life"
        assert births[2] != births[0], "and to go on is another one"


def test_a_replay_that_is_killed_leaves_its_will(broker_url: str, tmp_path: Path) -> None:
    file = tmp_path / "a.hwrec"
    recorder = Recorder(file, {})
    recorder.uplinks([sparkplug("NBIRTH", T0, None), sparkplug("DBIRTH", T0, pressure=4.0)])
    recorder.uplinks([sparkplug("DDATA", T0 + 100 * SECOND, pressure=4.5)])
    recorder.close()
    with listening(broker_url, f"spBv1.0/{GROUP}/+/{NODE}/#") as heard:
        host = FakeHost(heard)
        process = subprocess.Popen(
            [sys.executable, "-m", "headworks", "replay", str(file), "--via", "mqtt", "--speed", "1"],
            env=os.environ | {"HEADWORKS_MQTT_URL": broker_url, "HEADWORKS_STATE_DIR": str(tmp_path)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            eventually(lambda: "DBIRTH" in host.kinds(), "it is born")
        finally:
            process.kill()
            process.wait(60)
        eventually(lambda: host.kinds() == ["NBIRTH", "DBIRTH", "NDEATH"], "the broker says its will")
        assert len(set(host.births())) == 1, "of this life"


def test_an_edge_node_may_be_another_one_at_another_time(
    database_url: str, broker_url: str, scratch: Path, tmp_path: Path
) -> None:
    file, state = tmp_path / "a.hwrec", scratch / "renamed"
    state.mkdir()
    recorder = Recorder(file, {})
    recorder.uplinks(
        [
            sparkplug("NBIRTH", T0, None),
            sparkplug("DBIRTH", T0, pressure=4.0),
            sparkplug("DDATA", T0 + SECOND, pressure=4.5),
        ]
    )
    recorder.close()
    there = Device(node_identity("South", NODE, DEVICE), EDGE_PUMP.profile, tag="P-1", site="South")
    with connect(database_url) as connection:
        register(connection, [there], shipped_profiles())
    with running(database_url, broker_url, sparkplug_host=HOST, state_dir=state) as doors:
        rename = "spBv1.0:North:* = spBv1.0:South:*"
        said = headworks(doors, database_url, state, "replay", str(file), "--rename", rename, "--shift", "1h")
        assert "3 of 3 uplinks; 3 sent, 0 rejected" in said
        eventually(lambda: len(told(database_url, "pressure")) == 2, "both are stored")
        at = query(database_url, "SELECT min(extract(epoch FROM measured_at))::bigint FROM reading WHERE value = 4.0")
        assert at == [(T0 // SECOND + 3600,)]


def test_a_long_payload_goes_in_blocks(registered: str, broker_url: str, scratch: Path, tmp_path: Path) -> None:
    state, file = scratch / "blocks", tmp_path / "a.hwrec"
    state.mkdir()
    other = Device("urn:dev:imei:867000000000041", PUMP.profile, tag="P-102", site="North")
    with connect(registered) as connection:
        register(connection, [other], shipped_profiles())
    with running(registered, broker_url, state_dir=state) as doors:
        with recording(doors, registered, state, file):
            payload = pack(*map(float, range(1000)))
            assert coap(doors, f"/telemetry/{PUMP.identity}", payload, 110).code == aiocoap.CHANGED
            eventually(lambda: survey(file).uplinks == 1, "it is recorded")
        rename = f"{PUMP.identity} = {other.identity}"
        said = headworks(doors, registered, state, "replay", str(file), "--rename", rename, "--via", "coap")
        assert "1 of 1 uplinks; 1 sent, 0 rejected" in said
        counted = "SELECT d.tag, u.readings FROM uplink u JOIN device d USING (device_id) ORDER BY 1"
        assert query(registered, counted) == [("P-101", 1000), ("P-102", 1000)], "as one uplink each"


PROTECTED = """
scenario: Protected
duration: 20m
speed: 0
sites: [{site: pumping-station}]
fleets:
  - {devices: [PS-P1], protocol: coap, credential: oscore}
"""


@pytest.mark.parametrize("still", [True, False])
def test_what_came_by_oscore_goes_in_clear_and_is_refused_where_the_device_has_its_key(
    database_url: str, broker_url: str, scratch: Path, tmp_path: Path, *, still: bool
) -> None:
    state, file = scratch / f"oscore-{still}", tmp_path / "a.hwrec"
    state.mkdir()
    key = tmp_path / "secret.key"
    with (
        running(database_url, broker_url, state_dir=state, key_file=key) as doors,
        recording(doors, database_url, state, file),
    ):
        _, done = run(doors, database_url, broker_url, PROTECTED, tmp_path)
        assert done.complete
        eventually(lambda: survey(file).uplinks >= done.by[Protocol.COAP].written, "it is recorded")
    if not still:
        query(database_url, "DELETE FROM credential RETURNING 1")
    with running(database_url, broker_url, state_dir=state, key_file=key) as doors:
        said = headworks(doors, database_url, state, "replay", str(file), "--via", "coap")
    count = survey(file).uplinks
    assert (f"{count} uplinks of those rejected came by OSCORE or DTLS and go in clear" in said) is still
    assert f"{count} sent, {count if still else 0} rejected" in said
