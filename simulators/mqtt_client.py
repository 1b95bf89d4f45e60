"""An MQTT device's side: QoS 1 publishes on one persistent connection, each awaited until the broker has it."""

from __future__ import annotations

import asyncio
import threading
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode


class MqttClient:
    """A connection shared by some devices; paho repeats what was not acknowledged when it has to reconnect."""

    def __init__(self, url: str, client_id: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise ValueError("an MQTT address looks like mqtt://host:1883 or mqtts://user:password@host:8883")
        self._host, self._tls = parts.hostname, parts.scheme == "mqtts"
        self._port = parts.port or (8883 if self._tls else 1883)
        # By packet identifier: who waits, or how it ended where the answer came before anybody waited. paho calls back
        # with its own locks held, so ours is never held while calling paho.
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        self._early: dict[int, bool] = {}
        self._lock = threading.Lock()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.on_publish = self._on_publish
        self._client.reconnect_delay_set(1, 10)
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        if self._tls:
            self._client.tls_set()

    def open(self) -> None:
        """Connect; `OSError` where the broker cannot be reached."""
        self._client.connect(self._host, self._port, keepalive=30, clean_start=True)
        self._client.loop_start()

    def close(self) -> None:
        """Leave the broker in order."""
        self._client.disconnect()
        self._client.loop_stop()

    async def publish(self, identity: str, payload: bytes) -> bool:
        """Publish to the device's telemetry topic; True once the broker has acknowledged it, False if it refused."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        info = self._client.publish(f"headworks/{identity}/telemetry", payload, qos=1)
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
            return False
        with self._lock:
            if info.mid in self._early:
                return self._early.pop(info.mid)
            self._waiting[info.mid] = future
        return await future

    def _on_publish(self, _: mqtt.Client, __: object, mid: int, reason: ReasonCode, ___: Properties | None) -> None:
        with self._lock:
            future = self._waiting.pop(mid, None)
            if future is None:
                self._early[mid] = not reason.is_failure
        if future is not None:
            future.get_loop().call_soon_threadsafe(_settle, future, not reason.is_failure)


def _settle(future: asyncio.Future[bool], value: bool) -> None:  # noqa: FBT001 - a callback's signature
    if not future.done():
        future.set_result(value)
