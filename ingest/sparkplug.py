"""The Sparkplug B 3.0 host application: a session of its own at the site's broker, with its state as its will.

Edge nodes send data with QoS 0 and expect a host to come with a clean session: what they send while none is on line is
lost unless they store it themselves until `spBv1.0/STATE/<host>` says that one is there. The meaning is in
`ingest.sparkplug_session`; here are the sockets, the threads and the acknowledgements.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from devices.model import Codec, Instant, Transport, Uplink
from ingest import counters
from ingest.mqtt import RECEIVE_MAXIMUM, Broker, Submit
from ingest.outcome import Outcome, Verdict
from ingest.sparkplug_session import EdgeNode, Session, Step, rebirth_request
from ingest.topics import SPARKPLUG

log = structlog.get_logger()

_TICK_SECONDS = 1.0
_FAREWELL_SECONDS = 2.0
"""How long edge nodes have to hear that this host goes, and what they have sent before that to arrive."""
_ANSWER_SECONDS = 5.0
"""How long the broker has for an answer."""


class _Receipt(NamedTuple):
    """What is needed to acknowledge a message: a packet identifier means something on its own connection only."""

    generation: int
    mid: int
    qos: int


class SparkplugHost:
    """One host application. Messages are handled in paho's network thread, time in one of its own."""

    def __init__(self, broker: Broker, host: str, submit: Submit, clock: Callable[[], Instant]) -> None:
        self._broker = broker
        self._state_topic = f"spBv1.0/STATE/{host}"
        self._submit = submit
        self._clock = clock
        self._session = Session()
        self._lock = threading.Lock()  # the session, and what follows from it in its order; whether we are leaving
        self._acks = threading.Lock()
        self._generation = 0
        self._since = 0
        self._subscribed = False
        self._leaving = threading.Event()
        self._deserted = threading.Event()  # as far as we know, no edge node is on line that could send
        self._unsubscribed = threading.Event()
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="sparkplug", daemon=True)
        self._client = broker.client(f"headworks-host-{host}", clean=True, manual_ack=True)
        self._client.on_pre_connect = self._on_pre_connect
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_unsubscribe = lambda *_: self._unsubscribed.set()
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(min_delay=random.randint(1, 3), max_delay=random.randint(20, 40))  # noqa: S311 - jitter

    def start(self) -> None:
        """Connect in the background and keep trying; returns at once."""
        options = self._broker.connect_options(clean=True, receive_maximum=RECEIVE_MAXIMUM)
        self._client.connect_async(self._broker.host, self._broker.port, keepalive=30, **options)
        self._client.loop_start()
        self._ticker.start()

    def stop_taking(self) -> None:
        """Say that this host is off line, take what is sent until everybody has heard that, and hand over what still
        waits: to be called before the pipeline ends.

        Edge nodes send with QoS 0, so what nobody takes is lost: first they have to know, then the broker is asked for
        no more, and only after its answer, which comes behind all that it had for us, is nothing taken any longer. A
        node that waits for this host says its death when it hears that the host goes, and sends nothing after that. Of
        one that does not nobody can know, so it has a while.
        """
        with self._lock:  # from now on nothing says that it is on line
            self._leaving.set()
        if self._client.is_connected():
            with suppress(RuntimeError):  # the connection was lost just now: then the broker says our will
                self._say(online=False).wait_for_publish(_ANSWER_SECONDS)
            with self._lock:
                self._look_around()
            self._deserted.wait(_FAREWELL_SECONDS)
            self._client.unsubscribe(list(SPARKPLUG))
            self._unsubscribed.wait(_ANSWER_SECONDS)
        self._subscribed = False
        self._ended.set()
        self._ticker.join()
        with self._lock:
            self._carry_out(self._session.close())

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def connected(self) -> bool:
        """Whether the broker has us as a host now."""
        return self._subscribed and self._client.is_connected()

    def _state(self, *, online: bool) -> str:
        return json.dumps({"online": online, "timestamp": self._since})

    def _say(self, *, online: bool) -> mqtt.MQTTMessageInfo:
        return self._client.publish(self._state_topic, self._state(online=online), qos=1, retain=True)

    def _on_pre_connect(self, client: mqtt.Client, _: object) -> None:
        """The will and the birth of one connection carry the same time, so that a late will is told apart."""
        self._since = self._clock() // 1000
        client.will_set(self._state_topic, self._state(online=False), qos=1, retain=True)

    def _on_connect(
        self, client: mqtt.Client, _: object, __: mqtt.ConnectFlags, reason: ReasonCode, ___: Properties | None
    ) -> None:
        if reason.is_failure:
            log.warning("sparkplug.refused", broker=f"{self._broker.host}:{self._broker.port}", reason=str(reason))
            return
        with self._acks:
            self._generation += 1
        if self._leaving.is_set():  # the broker was away meanwhile, and may still know us as on line
            client.subscribe(self._state_topic, 1)
            self._say(online=False)
            return
        client.subscribe([(one, 1) for one in (*SPARKPLUG, self._state_topic)])

    def _on_subscribe(
        self, _: mqtt.Client, __: object, ___: int, reasons: list[ReasonCode], ____: Properties | None
    ) -> None:
        filters = (*SPARKPLUG, self._state_topic)
        refused = [(one, str(reason)) for one, reason in zip(filters, reasons, strict=False) if reason.is_failure]
        for one, why in refused:
            log.warning("sparkplug.subscription_refused", filter=one, reason=why, hint="check the broker's ACL")
        if refused:
            return
        with self._lock:
            if self._leaving.is_set():
                return
            # Only now: who sees it may send at once.
            self._say(online=True)
        self._subscribed = True
        log.info("sparkplug.online", broker=f"{self._broker.host}:{self._broker.port}", topic=self._state_topic)

    def _on_disconnect(
        self, _: mqtt.Client, __: object, ___: mqtt.DisconnectFlags, reason: ReasonCode, ____: Properties | None
    ) -> None:
        with self._acks:
            self._generation += 1
        self._subscribed = False
        if self._leaving.is_set():  # nothing more will come
            self._deserted.set()
            self._unsubscribed.set()
        log.warning("sparkplug.disconnected", reason=str(reason))

    def _on_message(self, client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        receipt = _Receipt(self._generation, message.mid, message.qos)
        if message.topic == self._state_topic:
            self._acknowledge(receipt)
            self._defend_state(message)
            return
        with self._lock:
            if self._ended.is_set():
                return
            step = self._session.receive(message.topic, bytes(message.payload), self._clock(), receipt)
            if step is None:
                counters.MQTT_FOREIGN.inc()
                self._acknowledge(receipt)
            else:
                self._carry_out(step)
                self._look_around()

    def _look_around(self) -> None:
        if self._leaving.is_set() and not self._session.online and not self._session.waiting:
            self._deserted.set()

    def _defend_state(self, message: mqtt.MQTTMessage) -> None:
        """The will of an earlier connection may come after this one's birth, and edge nodes would believe it. So may a
        birth that was not acknowledged there come after we have said that we go; a later one is another process's."""
        try:
            state = json.loads(message.payload)
            online, ours = state["online"], state["timestamp"] <= self._since
        except (ValueError, TypeError, KeyError):
            online, ours = None, False
        with self._lock:
            if self._leaving.is_set():
                if online is True and ours:
                    self._say(online=False)
            elif online is not True and self._subscribed:
                self._say(online=True)

    def _tick(self) -> None:
        while not self._ended.wait(_TICK_SECONDS):
            with self._lock:
                self._carry_out(self._session.tick(self._clock()))
            counters.SPARKPLUG_ONLINE.set(self._session.online)
            counters.SPARKPLUG_WAITING.set(self._session.waiting)

    def _carry_out(self, step: Step) -> None:
        if step.ignored:
            counters.SPARKPLUG_IGNORED.inc(step.ignored)
        for forward in step.forwards:
            uplink = Uplink(
                Transport.MQTT,
                forward.payload,
                forward.received_at,
                forward.identity,
                source=forward.topic,
                codec=Codec.SPARKPLUG,
            )
            self._submit(uplink, self._done(forward.token))
        for edge in step.rebirths:
            if not self._leaving.is_set():  # it would be answered to nobody
                self._ask_for_birth(edge)

    def _ask_for_birth(self, edge: EdgeNode) -> None:
        counters.SPARKPLUG_REBIRTHS.inc()
        log.info("sparkplug.rebirth_requested", group=edge.group, node=edge.node)
        self._client.publish(f"spBv1.0/{edge.group}/NCMD/{edge.node}", rebirth_request(self._clock()), qos=0)

    def _done(self, token: object) -> Callable[[Outcome], None]:
        def done(outcome: Outcome) -> None:
            if isinstance(token, _Receipt) and outcome.verdict is not Verdict.UNAVAILABLE:
                self._acknowledge(token)

        return done

    def _acknowledge(self, receipt: _Receipt) -> None:
        if receipt.qos == 0:
            return
        with self._acks:
            if receipt.generation == self._generation:
                self._client.ack(receipt.mid, receipt.qos)
            else:
                counters.STALE_ACKS.inc()
