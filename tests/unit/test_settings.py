"""Settings: environment over file, clear errors, and no secret ever shown."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
import structlog
from paho.mqtt.enums import MQTTProtocolVersion

from headworks import logs
from headworks.settings import LogFormat, SettingsError, load_settings
from ingest.mqtt import Broker
from storage.database import describe


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADWORKS_SETTINGS")


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "headworks.toml").write_text("coap_port = 5700\nhttp_port = 8081\n")
    monkeypatch.setenv("HEADWORKS_COAP_PORT", "5800")
    settings = load_settings()
    assert (settings.coap_port, settings.http_port) == (5800, 8081)


def test_everything_binds_to_loopback_unless_told_otherwise() -> None:
    settings = load_settings()
    assert {settings.coap_host, settings.http_host} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("HEADWORKS_COAP_PORT", "70000", "HEADWORKS_COAP_PORT: Input should be less than or equal to 65535"),
        ("HEADWORKS_DATABASE_URL", "mysql://u:hidden@h/d", "HEADWORKS_DATABASE_URL: a database address looks like"),
        ("HEADWORKS_MQTT_URL", "http://u:hidden@h", "HEADWORKS_MQTT_URL: an MQTT address looks like"),
        ("HEADWORKS_LOG_LEVEL", "loud", "HEADWORKS_LOG_LEVEL: String should match pattern"),
    ],
)
def test_a_wrong_setting_is_named_and_its_secret_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert expected in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_an_unknown_name_in_the_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "headworks.toml").write_text("coap_prot = 5700\n")
    with pytest.raises(SettingsError, match="COAP_PROT"):
        load_settings()


def test_addresses_print_without_their_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", "postgresql://u:hidden@h/d")
    monkeypatch.setenv("HEADWORKS_MQTT_URL", "mqtt://u:hidden@h")
    settings = load_settings()
    assert "hidden" not in repr(settings)
    assert settings.mqtt_url is not None
    assert "hidden" not in repr(Broker.parse(settings.mqtt_url.get_secret_value()))
    assert "hidden" not in describe("postgresql://u:hidden@h/d")


def test_a_broker_address_is_taken_apart() -> None:
    assert Broker.parse("mqtts://us%3Aer:p%40ss@broker.example") == Broker(
        "broker.example", 8883, True, "us:er", "p@ss"
    )
    assert Broker.parse("mqtt://127.0.0.1:1884") == Broker("127.0.0.1", 1884)
    assert Broker.parse("mqtts://broker.example?version=3.1.1&ca=/etc/site.pem") == Broker(
        "broker.example", 8883, tls=True, version=MQTTProtocolVersion.MQTTv311, ca="/etc/site.pem"
    )
    for wrong in ("mqtt://x?version=4", "mqtt://x?ca=/etc/site.pem", "mqtt://x?qos=1"):
        with pytest.raises(ValueError, match="what follows"):
            Broker.parse(wrong)
    with pytest.raises(ValueError, match="looks like"):
        Broker.parse("mqtt:///nothing")


@pytest.mark.parametrize("style", [LogFormat.JSON, LogFormat.CONSOLE])
def test_a_password_never_reaches_a_log_line(monkeypatch: pytest.MonkeyPatch, style: LogFormat) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root = logging.getLogger()
    before, handlers, level = structlog.get_config(), root.handlers[:], root.level
    try:
        logs.configure("debug", style)
        log = structlog.get_logger()
        log.info("connecting", url="postgresql://me:hidden@db/x", broker="mqtt://me:hid%3Aden@b:1883")
        log.info("a sentence with mqtt://me:hidden@b in it")
    finally:
        structlog.configure(**before)
        root.handlers[:] = handlers
        root.setLevel(level)
    assert "me:***@db" in stream.getvalue()
    assert "hid" not in stream.getvalue().replace("hidden_by", "")
