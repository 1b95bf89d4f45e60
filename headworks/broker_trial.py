"""Tries whether a broker keeps what it has taken for a subscriber that is away, as the platform relies on.

A client with a session of its own subscribes and goes away, some messages are published, and it comes back to count
them. The topic is outside of all that devices use, and the session is ended at the end.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ingest.mqtt import Broker

MESSAGES = 1_200
"""More than mosquitto queues for a session by default (1,000)."""
PATIENCE = 5.0


class BrokerError(RuntimeError):
    """The broker cannot be reached, or refuses."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came back. `refused` says why nothing could be tried."""

    sent: int = 0
    kept: int = 0
    refused: str = ""


def reach(broker: Broker) -> str:
    """The broker's answer to a connection; `BrokerError` where there is none, or it is a refusal."""
    with _connected(broker, f"headworks-doctor-{secrets.token_hex(4)}", clean=True) as (_, answer):
        return str(answer)


def try_out(broker: Broker, messages: int = MESSAGES) -> Trial:
    """Subscribe, go away, publish, come back, count. `BrokerError` as `reach`."""
    name = f"headworks-doctor-{secrets.token_hex(4)}"
    topic = f"{name}/trial"
    with _connected(broker, name, clean=False) as (client, _):
        granted = _await_subscription(client, topic)
    if granted is None or granted.is_failure:
        return Trial(refused=f"it does not let this user subscribe to {topic}: {granted or 'no answer'}")
    try:
        with _connected(broker, f"{name}-sender", clean=True) as (client, _):
            refused = _publish(client, topic, messages)
        if refused:
            return Trial(refused=f"it does not let this user publish to {topic}: {refused}")
    finally:
        kept = _collect(broker, name, messages)
    return Trial(messages, kept)


@contextmanager
def _connected(
    broker: Broker, name: str, *, clean: bool, expiry: int = 300, on_message: mqtt.CallbackOnMessage | None = None
) -> Iterator[tuple[mqtt.Client, ReasonCode]]:
    client = broker.client(name, clean=clean)
    answered = threading.Event()
    answers: list[ReasonCode] = []

    def on_connect(
        _: mqtt.Client, __: object, ___: mqtt.ConnectFlags, reason: ReasonCode, ____: Properties | None
    ) -> None:
        answers.append(reason)
        answered.set()

    client.on_connect = on_connect
    client.on_message = on_message  # before it connects: a session that is resumed begins at once
    client.max_inflight_messages_set(100)
    options = broker.connect_options(clean=clean, session_expiry=expiry)
    try:
        client.connect(broker.host, broker.port, keepalive=10, **options)
    except OSError as error:
        raise BrokerError(str(error.strerror or error)) from error
    client.loop_start()
    try:
        if not answered.wait(PATIENCE):
            raise BrokerError("it does not answer")
        if answers[0].is_failure:
            raise BrokerError(str(answers[0]))
        yield client, answers[0]
    finally:
        client.disconnect()
        client.loop_stop()


def _await_subscription(client: mqtt.Client, topic: str) -> ReasonCode | None:
    done = threading.Event()
    reasons: list[ReasonCode] = []

    def on_subscribe(_: mqtt.Client, __: object, ___: int, codes: list[ReasonCode], ____: Properties | None) -> None:
        reasons.extend(codes)
        done.set()

    client.on_subscribe = on_subscribe
    client.subscribe(topic, qos=1)
    done.wait(PATIENCE)
    return reasons[0] if reasons else None


def _publish(client: mqtt.Client, topic: str, messages: int) -> str:
    """Publish, each acknowledged; why not, if it is refused."""
    refused: list[ReasonCode] = []

    def on_publish(_: mqtt.Client, __: object, ___: int, reason: ReasonCode, ____: Properties | None) -> None:
        if reason.is_failure:
            refused.append(reason)

    client.on_publish = on_publish
    for number in range(messages):
        info = client.publish(topic, str(number), qos=1)
        if info.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS and info.rc is not MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            raise BrokerError(mqtt.error_string(info.rc))
    info.wait_for_publish(PATIENCE)
    return str(refused[0]) if refused else ""


def _collect(broker: Broker, name: str, messages: int) -> int:
    """Come back, count what is there, and end the session."""
    kept: set[bytes] = set()
    news = threading.Event()

    def on_message(_: mqtt.Client, __: object, message: mqtt.MQTTMessage) -> None:
        kept.add(bytes(message.payload))
        news.set()

    with _connected(broker, name, clean=False, expiry=0, on_message=on_message):
        while len(kept) < messages and news.wait(1.0):
            news.clear()
    if broker.version is MQTTProtocolVersion.MQTTv311:  # its sessions end only so
        with _connected(broker, name, clean=True):
            pass
    return len(kept)
