"""An MQTT door of our own, for devices that were made for another platform and change their host name only.

A broker does not tell its subscribers who has published, so ThingsBoard's `v1/devices/me/telemetry` says nothing there;
and it cannot check a password that changes with the hour, as Huawei IoTDA's does. Here a device logs in with what it
has, its identity goes with each message, and its PUBACK is sent after COMMIT. Nobody can subscribe to anything: that is
the broker's business, and so is everything else that MQTT can do.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import count
from typing import Protocol

import structlog

from devices.credential import Grant, Login
from devices.errors import UnavailableError
from devices.model import Codec, Instant, Reason, Transport, Uplink
from ingest import counters
from ingest.limits import Rate
from ingest.mqtt import Submit, content_format_of
from ingest.mqtt_packets import (
    PINGRESP,
    Code,
    Connect,
    Disconnect,
    PacketError,
    Parser,
    Ping,
    Publish,
    Subscribe,
    Unsubscribe,
    connack,
    disconnect,
    puback,
    suback,
    unsuback,
)
from ingest.outcome import Outcome, Verdict
from ingest.topics import Address, address_of

log = structlog.get_logger()

MAX_PACKET = 256 * 1024
CONNECTIONS = 10_000
"""Devices at a time; each costs some 50 kB."""
IN_FLIGHT = 50
"""Messages of one device that wait for their COMMIT; after these nothing is read from it."""
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 12 * 3600.0
"""How long a device without a keep-alive may be silent."""
FRESH_SECONDS = 20.0
"""After how long it is asked again whether a device's credential is still good."""
_LOGINS = 4
"""Logins that are looked up at a time: a password is slow to check on purpose."""
_REMEMBERED = 20_000
_ANONYMOUS = count(1)
_REASONS = {
    Reason.IDENTITY_MISMATCH: Code.NOT_AUTHORIZED,
    Reason.NOT_AUTHENTICATED: Code.NOT_AUTHORIZED,
    Reason.UNKNOWN_DEVICE: Code.NOT_AUTHORIZED,
    Reason.TOO_LARGE: Code.TOO_LARGE,
}


class Logins(Protocol):
    """Who is who; each blocks, and raises `UnavailableError` while nobody can say."""

    def login(self, shown: Login) -> Grant | None:
        """The device that shows this; None if it proves nothing."""
        ...

    def still_good(self, grants: Collection[Grant]) -> set[Grant]:
        """Those whose credential has not been changed or taken away since."""
        ...


class _Session:
    """One device's connection."""

    def __init__(self, grant: Grant, level: int, writer: asyncio.StreamWriter) -> None:
        self.grant = grant
        self.identity = grant.identity
        self.level = level
        self.waiting = 0
        self.room = asyncio.Event()
        self.room.set()
        self._writer = writer

    def send(self, octets: bytes) -> None:
        if octets and not self._writer.is_closing():
            self._writer.write(octets)

    async def drain(self) -> None:
        await self._writer.drain()

    def end(self, code: Code) -> None:
        """Say why, and close; what was not acknowledged is sent again on the device's next connection."""
        self.send(disconnect(self.level, code))
        self._writer.close()


class MqttDoor:
    """Serves MQTT over TCP or TLS on one address. For one event loop; outcomes may come from any thread."""

    def __init__(
        self,
        host: str,
        port: int,
        logins: Logins,
        submit: Submit,
        clock: Callable[[], Instant],
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._bind = (host, port)
        self._source = logins
        self._submit = submit
        self._clock = clock
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections = 0
        self._sessions: dict[tuple[str, str], _Session] = {}
        self._logins = asyncio.Semaphore(_LOGINS)
        self._remembered: dict[Login, Grant] = {}
        self._checking: asyncio.Task[None] | None = None
        # Wrong passwords of one address; whole fleets share one behind a carrier's NAT.
        self._failures = Rate(2.0, 100)
        self._paces = Rate(100.0, 2_000)

    async def open(self) -> int:
        """Bind and serve; returns the port. `OSError` where the address is taken."""
        self._loop = asyncio.get_running_loop()
        patience = CONNECT_SECONDS if self._tls else None
        self._server = await asyncio.start_server(
            self._connected, *self._bind, ssl=self._tls, ssl_handshake_timeout=patience
        )
        port = int(self._server.sockets[0].getsockname()[1])
        if self._tls is None and not ipaddress.ip_address(self._server.sockets[0].getsockname()[0]).is_loopback:
            log.warning("mqtt_door.in_clear", hint="passwords can be read on the way: set HEADWORKS_MQTT_DOOR_CERT")
        self._checking = asyncio.create_task(self._check(), name="mqtt door")
        log.info("mqtt_door.listening", host=self._bind[0], port=port, tls=self._tls is not None)
        return port

    async def close(self) -> None:
        """Stop serving; to be called when the pipeline has answered everything."""
        if self._server is None or self._checking is None:
            return
        self._checking.cancel()
        self._server.close()
        await asyncio.sleep(0)  # acknowledgements that the pipeline's end has just brought
        for session in list(self._sessions.values()):
            session.end(Code.SHUTTING_DOWN)
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self._server.wait_closed()
        self._server = None

    async def _check(self) -> None:
        """End the sessions of credentials that were made anew, taken away, or whose device was retired."""
        while True:
            await asyncio.sleep(FRESH_SECONDS)
            held = {session.grant for session in self._sessions.values()}
            try:
                gone = held - await asyncio.to_thread(self._source.still_good, held) if held else set()
            except UnavailableError:
                continue  # what was good before the database went away, is good while it is away
            for session in [session for session in self._sessions.values() if session.grant in gone]:
                session.end(Code.NOT_AUTHORIZED)
            for login in [login for login, grant in self._remembered.items() if grant in gone]:
                del self._remembered[login]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= CONNECTIONS:
            counters.MQTT_DOOR_REFUSED.labels("too_many").inc()
            writer.close()
            return
        self._connections += 1
        counters.MQTT_DOOR_CONNECTIONS.inc()
        try:
            await self._serve(reader, writer)
        except (OSError, EOFError):
            pass  # the device is gone; what it was not acknowledged, it has
        except TimeoutError:
            counters.MQTT_DOOR_REFUSED.labels("silent").inc()
        finally:
            self._connections -= 1
            counters.MQTT_DOOR_CONNECTIONS.dec()
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = Parser(MAX_PACKET)
        host = str(writer.get_extra_info("peername")[0])
        session: _Session | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connect = await _next(parser, reader)
            assert isinstance(connect, Connect)  # the parser lets nothing else come first
            session = await self._let_in(connect, host, writer)
            if session is None:
                return
            key = (session.identity, connect.client_id)
            if (other := self._sessions.pop(key, None)) is not None:
                other.end(Code.SESSION_TAKEN_OVER)
            self._sessions[key] = session
            try:
                await self._listen(session, parser, reader, connect.keepalive * 1.5 or IDLE_SECONDS)
            finally:
                if self._sessions.get(key) is session:
                    del self._sessions[key]
        except PacketError as error:
            counters.MQTT_DOOR_REFUSED.labels(error.code.name.lower()).inc()
            log.debug("mqtt_door.refused", host=host, why=str(error))
            if session is not None:
                session.end(error.code)
            elif parser.level or error.code is Code.UNSUPPORTED_PROTOCOL:
                writer.write(connack(parser.level or 4, error.code))

    async def _let_in(self, connect: Connect, host: str, writer: asyncio.StreamWriter) -> _Session | None:
        """A session for who has shown who it is; the answer to its CONNECT is on its way."""
        grant, code = await self._identify(connect, host)
        if grant is None:
            counters.MQTT_DOOR_REFUSED.labels(code.name.lower()).inc()
            writer.write(connack(connect.level, code))
            return None
        assigned = "" if connect.client_id else f"headworks-{next(_ANONYMOUS)}"
        writer.write(
            connack(connect.level, Code.SUCCESS, receive_maximum=IN_FLIGHT, limit=MAX_PACKET, assigned=assigned)
        )
        return _Session(grant, connect.level, writer)

    async def _identify(self, connect: Connect, host: str) -> tuple[Grant | None, Code]:
        if not connect.username:
            return None, Code.NOT_AUTHORIZED
        login = Login(connect.client_id, connect.username, (connect.password or b"").decode("utf-8", "replace"))
        if self._failures.peek(host, self._loop.time()):
            return None, Code.CONNECTION_RATE
        try:
            async with self._logins:
                grant = await asyncio.to_thread(self._source.login, login)
        except UnavailableError:
            # Whoever was let in before goes on while the database is away: the spool takes what it says.
            grant = self._remembered.get(login)
            if grant is None:
                return None, Code.SERVER_UNAVAILABLE
        if grant is None:
            self._remembered.pop(login, None)
            self._failures.wait(host, self._loop.time())
            counters.SECURITY_EVENTS.labels("bad_login").inc()
            log.warning("mqtt_door.bad_login", host=host, user=connect.username[:80])
            return None, Code.BAD_LOGIN
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        self._remembered[login] = grant
        return grant, Code.SUCCESS

    async def _listen(self, session: _Session, parser: Parser, reader: asyncio.StreamReader, patience: float) -> None:
        while True:
            async with asyncio.timeout(patience):
                await session.drain()  # who does not read its answers is not read from
                packet = await _next(parser, reader)
            match packet:
                case Publish():
                    await self._take(session, packet)
                case Ping():
                    session.send(PINGRESP)
                case Subscribe(mid, qos):
                    session.send(suback(session.level, mid, qos))
                case Unsubscribe(mid, filters):
                    session.send(unsuback(session.level, mid, filters))
                case Disconnect():
                    return

    async def _take(self, session: _Session, message: Publish) -> None:
        address = address_for(message.topic, session.identity)
        if address is None:
            # Attributes, answers to commands: not ours to keep, and not to come again.
            counters.MQTT_FOREIGN.inc()
            if message.qos:
                session.send(puback(session.level, message.mid))
            return
        while wait := self._paces.wait(session.identity, self._loop.time()):  # noqa: ASYNC110 - nothing would set an event
            await asyncio.sleep(wait)
        await session.room.wait()
        uplink = Uplink(
            Transport.MQTT,
            message.payload,
            self._clock(),
            address.identity,
            content_format_of(message.content_type),
            source=message.topic,
            codec=address.codec,
            authenticated=session.identity,
        )
        session.waiting += 1
        if session.waiting >= IN_FLIGHT:
            session.room.clear()

        def done(outcome: Outcome) -> None:
            with suppress(RuntimeError):  # the loop has ended before the pipeline: the device sends it again
                self._loop.call_soon_threadsafe(self._settle, session, message, outcome)

        self._submit(uplink, done)

    def _settle(self, session: _Session, message: Publish, outcome: Outcome) -> None:
        session.waiting -= 1
        session.room.set()
        if outcome.verdict is Verdict.UNAVAILABLE:
            if not message.qos:
                counters.MQTT_DOOR_LOST.inc()
            session.end(Code.SERVER_BUSY)
        elif message.qos:
            code = Code.SUCCESS
            if outcome.verdict is Verdict.REJECTED:
                code = _REASONS.get(outcome.reason, Code.PAYLOAD_FORMAT) if outcome.reason else Code.PAYLOAD_FORMAT
            session.send(puback(session.level, message.mid, code))


def address_for(topic: str, identity: str) -> Address | None:
    """What a topic says when it is known who publishes; None for one that means nothing here."""
    if topic == "v1/devices/me/telemetry":
        return Address(identity, Codec.THINGSBOARD)
    address = address_of(topic)
    if address is not None and address.identity is None:
        return Address(identity, address.codec)
    return address


async def _next(parser: Parser, reader: asyncio.StreamReader) -> object:
    while (packet := parser.next()) is None:
        octets = await reader.read(65536)
        if not octets:
            raise EOFError
        parser.feed(octets)
    return packet
