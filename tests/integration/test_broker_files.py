"""The broker's files from the registry, as mosquitto itself understands them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from typer.testing import CliRunner, Result

from deploy.provision import Installation
from headworks.cli import app
from tests.conftest import PUMP, VALVE
from tests.integration.test_gateways import eventually
from tests.integration.test_quarantine import as_url
from tests.ports import free_port

DENIED, BAD_PASSWORD = 0x87, 0x87


@pytest.fixture
def run(registered: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", as_url(registered))
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def port() -> int:
    return free_port(socket.SOCK_STREAM)


@pytest.fixture
def broker(run: Callable[..., Result], installation: Installation, tmp_path: Path, port: int) -> Iterator[int]:
    """mosquitto with the files of a registry in which nobody has a password yet; its process id."""
    if installation.mosquitto is None:
        pytest.skip("mosquitto comes with Debian's packages, and apt is not there")
    assert run("broker", "files", "--out", tmp_path).exit_code == 0
    config = tmp_path / "mosquitto.conf"
    # As whoever runs the tests: it would give root's rights up, and could not read the files then.
    config.write_text(
        f"user {os.environ.get('USER', 'root')}\nlistener {port} 127.0.0.1\nallow_anonymous false\n"
        f"password_file {tmp_path}/passwords\nacl_file {tmp_path}/acl\n"
    )
    process = subprocess.Popen([installation.mosquitto, "-c", config], stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: is_open(port), "mosquitto listens")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def outcome(port: int, user: str, password: str, topic: str) -> tuple[int, int | None]:
    """The broker's reason codes for connecting, and for publishing there."""
    connected: list[int] = []
    published: list[int] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set(user, password)
    client.on_connect = lambda _, __, ___, reason, ____: connected.append(reason.value)
    client.on_publish = lambda _, __, ___, reason, ____: published.append(reason.value)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        eventually(lambda: bool(connected), "the broker answers")
        if connected[0]:
            return connected[0], None
        client.publish(topic, b"x", qos=1)
        eventually(lambda: bool(published), "the broker answers")
        return connected[0], published[0]
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_device_writes_under_its_own_name_only(
    run: Callable[..., Result], broker: int, port: int, tmp_path: Path
) -> None:
    own, other = f"headworks/{PUMP.identity}/telemetry", f"headworks/{VALVE.identity}/telemetry"
    shown = json.loads(run("devices", "rotate", PUMP.identity, "--kind", "mqtt").stdout)
    user, password = shown["user"], shown["password"]
    assert user == PUMP.identity.removeprefix("urn:dev:imei:")
    assert run("broker", "files", "--out", tmp_path).exit_code == 0
    os.kill(broker, signal.SIGHUP)
    no_subscriber = 0x10
    eventually(lambda: outcome(port, user, password, own) == (0, no_subscriber), "it may connect and write")
    assert outcome(port, user, password, other) == (0, DENIED)
    assert outcome(port, user, password, f"$oc/devices/{PUMP.identity}/sys/properties/report") == (0, no_subscriber)
    assert outcome(port, user, password, f"v1/devices/{PUMP.identity}/telemetry") == (0, no_subscriber)
    assert outcome(port, user, password, "v1/gateway/telemetry") == (0, DENIED)
    assert outcome(port, user, "wrong", own)[0] == BAD_PASSWORD
    again = json.loads(run("devices", "rotate", PUMP.identity, "--kind", "mqtt").stdout)
    run("devices", "retire", VALVE.identity)
    assert "wrote 1 devices" in run("broker", "files", "--out", tmp_path).output
    os.kill(broker, signal.SIGHUP)
    eventually(lambda: outcome(port, user, password, own)[0] == BAD_PASSWORD, "the old password is void")
    assert outcome(port, user, again["password"], own)[0] == 0


def test_the_files_hold_no_password_and_the_platforms_user_stays(run: Callable[..., Result], tmp_path: Path) -> None:
    shown = json.loads(run("devices", "rotate", VALVE.identity, "--kind", "mqtt").stdout)
    passwords = tmp_path / "passwords"
    passwords.write_text("headworks:$7$101$c2FsdA==$aGFzaA==\ngone:$7$101$c2FsdA==$aGFzaA==\n")
    result = run("broker", "files", "--out", tmp_path)
    assert "mosquitto_passwd" not in result.output
    lines = passwords.read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == ["headworks", shown["user"]]
    assert shown["password"] not in passwords.read_text()
    assert passwords.stat().st_mode & 0o777 == 0o600
    assert run("devices", "retire", VALVE.identity).exit_code == 0
    run("broker", "files", "--out", tmp_path)
    assert [line.split(":")[0] for line in passwords.read_text().splitlines()] == ["headworks"]
