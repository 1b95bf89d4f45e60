"""What the doctor says of a broker, by trying it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.provision import Installation
from headworks.broker_trial import BrokerError, Trial, reach, try_out
from headworks.doctor import examine
from headworks.settings import Settings
from ingest.mqtt import Broker
from tests.integration.test_broker_files import is_open
from tests.integration.test_gateways import eventually
from tests.ports import free_port


@pytest.fixture
def forgetful(installation: Installation, tmp_path: Path) -> Iterator[str]:
    """A mosquitto as it comes: a thousand messages for a session that is away, and no more."""
    if installation.mosquitto is None:
        pytest.skip("mosquitto comes with Debian's packages, and apt is not there")
    port = free_port(socket.SOCK_STREAM)
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 1000\n")
    with subprocess.Popen([installation.mosquitto, "-c", config], stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: is_open(port), "mosquitto listens")
            yield f"mqtt://127.0.0.1:{port}"
        finally:
            process.terminate()


def test_a_broker_as_ours_keeps_everything(broker_url: str) -> None:
    assert try_out(Broker.parse(broker_url)) == Trial(1200, 1200)
    assert try_out(Broker.parse(broker_url), 50) == Trial(50, 50), "nothing is left of the time before"


def test_a_broker_as_it_comes_is_found_out(forgetful: str) -> None:
    trial = try_out(Broker.parse(forgetful))
    assert trial.sent == 1200
    assert trial.kept < 1200
    settings = Settings(
        mqtt_url=SecretStr(forgetful), coap_port=free_port(socket.SOCK_DGRAM), http_port=free_port(socket.SOCK_STREAM)
    )
    found = {finding.what: finding for finding in examine(settings)}
    assert "lost" in found["keeping"].state
    assert "max_queued_messages 0" in found["keeping"].advice


def test_a_broker_that_is_not_there_is_told(broker_url: str) -> None:
    with pytest.raises(BrokerError, match="refused"):
        reach(Broker("127.0.0.1", free_port(socket.SOCK_STREAM)))
