"""The MQTT gateway at brokers of other kinds: MQTT 3.1.1, TLS with an authority of the site's own, a password."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from deploy.provision import Installation
from devices.credential import mosquitto_hash
from devices.model import SECOND, Device
from devices.profile import shipped_profiles
from headworks.broker_trial import Trial, try_out
from ingest.mqtt import Broker
from simulators.mqtt_client import MqttClient
from simulators.storm import Storm
from simulators.storm_payload import PROFILE, identity
from simulators.storm_run import Clocks, Targets, run_storm
from storage.database import connect
from storage.registry import register
from tests.conftest import PUMP
from tests.integration.certificates import self_signed
from tests.integration.test_broker_files import is_open
from tests.integration.test_gateways import T0, eventually, pack, query, running
from tests.ports import free_port


@pytest.fixture
def secured(installation: Installation, tmp_path: Path) -> Iterator[str]:
    """A mosquitto that speaks TLS only and wants a password; its address without a query."""
    if installation.mosquitto is None:
        pytest.skip("mosquitto comes with Debian's packages, and apt is not there")
    certificate = self_signed(tmp_path / "broker.pem")
    port = free_port(socket.SOCK_STREAM)
    passwords = tmp_path / "passwords"
    passwords.touch(0o600)
    passwords.write_text(f"plant:{mosquitto_hash('secret', b'123456789012')}\n")
    config = tmp_path / "mosquitto.conf"
    # As whoever runs the tests: it would give root's rights up, and could not read the files then.
    config.write_text(
        f"user {os.environ.get('USER', 'root')}\nlistener {port} 127.0.0.1\nallow_anonymous false\n"
        f"password_file {tmp_path}/passwords\ncertfile {certificate}\nkeyfile {certificate}\nmax_queued_messages 0\n"
    )
    process = subprocess.Popen([installation.mosquitto, "-c", config], stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: is_open(port), "mosquitto listens")
        yield f"mqtts://plant:secret@127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_what_was_sent_while_the_gateway_was_away_is_stored_and_acknowledged(
    registered: str, secured: str, tmp_path: Path, version: str
) -> None:
    url = f"{secured}?ca={tmp_path / 'broker.pem'}&version={version}"
    broker = Broker.parse(url)
    with running(registered, url):
        pass  # it has a session there now
    sender = paho.Client(CallbackAPIVersion.VERSION2)
    sender.username_pw_set(broker.username, broker.password)
    sender.tls_set(broker.ca)
    sender.connect(broker.host, broker.port)
    sender.loop_start()
    try:
        topic = f"headworks/{PUMP.identity}/telemetry"
        for number in range(30):
            sender.publish(topic, pack(4.0, start=T0 + number * SECOND), qos=1).wait_for_publish(60)
    finally:
        sender.disconnect()
        sender.loop_stop()
    with running(registered, url):
        eventually(lambda: query(registered, "SELECT count(*) FROM reading") == [(30,)], "all of it is stored")
    with running(registered, url):
        assert query(registered, "SELECT count(*), sum(duplicates) FROM uplink") == [(30, 0)], "nothing came again"


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_such_a_broker_can_be_tried_out(secured: str, tmp_path: Path, version: str) -> None:
    url = f"{secured}?ca={tmp_path / 'broker.pem'}&version={version}"
    assert try_out(Broker.parse(url), 50) == Trial(50, 50)


def test_a_storm_by_tls_is_stored(database_url: str, secured: str, tmp_path: Path) -> None:
    url = f"{secured}?ca={tmp_path / 'broker.pem'}"
    with connect(database_url) as connection:
        register(connection, [Device(identity("tls", number), PROFILE) for number in range(300)], shipped_profiles())
    with running(database_url, url):
        clocks = Clocks(time.monotonic, time.process_time, time.time() - time.monotonic())
        done = run_storm(Storm("tls", 300, 0.5), Targets(None, url), clocks)
        assert done.complete
        assert done.tallies["mqtt"].acknowledged == 300
        eventually(lambda: query(database_url, "SELECT count(*) FROM reading") == [(300 * 8,)], "all of it is stored")


def test_virtual_devices_trust_the_sites_own_authority(registered: str, secured: str, tmp_path: Path) -> None:
    url = f"{secured}?ca={tmp_path / 'broker.pem'}"

    async def report() -> bool:
        client = MqttClient(url, "virtual")
        await asyncio.to_thread(client.open)
        answer = await client.publish(PUMP.identity, pack(4.0))
        await asyncio.to_thread(client.close)
        return answer.stored

    with running(registered, url):
        assert asyncio.run(report())
