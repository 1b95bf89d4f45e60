"""An embedded MQTT broker on loopback: mosquitto, or where that could not be fetched, one in Python."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.provision import Installation
from headworks.embedded.process import EmbeddedServiceError, GuardedProcess, Home, service_account

_HOST = "127.0.0.1"
_WHAT = "the MQTT broker"
_PATIENCE = 30.0
_STAGES = ((signal.SIGTERM, 30.0),)
"""mosquitto writes its sessions and queued messages on SIGTERM (mosquitto(8))."""

# The limits are those of deploy/mosquitto/mosquitto.conf, which says why. Anonymous, as only this machine gets here.
_MOSQUITTO = """\
listener {port} {host}
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 30
max_queued_messages 0
max_queued_bytes 0
max_inflight_messages 2000
max_packet_size 1048576
max_keepalive 65535
persistent_client_expiration 60d
set_tcp_nodelay true
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
connection_messages false
"""
_RUNNING = b" running"
"""What mosquitto logs once its listener is open."""

_AMQTT = """\
listeners: {{default: {{type: tcp, bind: "{host}:{port}"}}}}
plugins: {{amqtt.plugins.authentication.AnonymousAuthPlugin: {{allow_anonymous: true}}}}
"""
_AMQTT_MAIN = "import sys; sys.argv[0] = 'amqtt'; from amqtt.scripts.broker_script import main; main()"

# MQTT 3.1.1, sections 3.1 and 3.2: a clean session without an identifier, keep alive 10 s; accepted.
_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00"
_ACCEPTED = b"\x20\x02\x00\x00"
_DISCONNECT = b"\xe0\x00"


class EmbeddedBroker:
    """A broker on the folder `path`; with mosquitto, sessions and what is queued for them survive restarts.

    The port is `port`, or where that is taken (or 0) the last run's, or any that is free. What mosquitto has taken is
    on disk after 30 seconds at the latest, and at an orderly stop: a broker cannot give more (see the promises).
    """

    def __init__(self, installation: Installation, path: Path, port: int = 0) -> None:
        self._installation = installation
        self._path = path.absolute()
        # The Python broker runs on our own interpreter, which another user might not reach.
        account = service_account(self._path / "data", nameless=True) if installation.mosquitto else None
        self._home = Home(self._path, account, _WHAT)
        self._wanted = port
        self._port = 0
        self._process = self._new_process()

    @property
    def url(self) -> str:
        """The broker's address, once it was started."""
        return f"mqtt://{_HOST}:{self._port}"

    @property
    def version(self) -> str:
        """Name and version, for people: "mosquitto 2.0.21"."""
        return self._installation.broker

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return self._process.pid if self._process.running else None

    def start(self) -> None:
        """Start and return when clients can connect. `EmbeddedServiceError` with the log's end otherwise."""
        if self._process.running:
            raise EmbeddedServiceError(f"{_WHAT} was started already, as process {self._process.pid}")
        self._process.stop()
        self._home.prepare()
        if self._installation.mosquitto is not None:
            self._home.check_way(self._installation.mosquitto, "HEADWORKS_CACHE_DIR", "/var/cache/headworks")
        try:
            for port in self._candidates():
                self._process = self._new_process()
                self._home.hold()
                if self._try(port):
                    break
            else:
                raise EmbeddedServiceError(f"{_WHAT} found no free port on {_HOST}. {self._process.last_words()}")
        except BaseException:
            self.stop()
            raise
        (self._path / "port").write_text(str(self._port), "ascii")

    def stop(self) -> None:
        """Stop in order: sessions and queued messages are written to disk."""
        self._process.stop()
        self._home.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop()

    def _new_process(self) -> GuardedProcess:
        return GuardedProcess(_WHAT, self._home, self._path / "broker.log", stages=_STAGES, orphan=signal.SIGTERM)

    def _candidates(self) -> Iterator[int]:
        """Ports worth a try, in order of preference; each was free a moment ago."""
        try:
            last = int((self._path / "port").read_text("ascii"))
        except (OSError, ValueError):
            last = 0
        for port in dict.fromkeys((self._wanted, last)):
            if port and _bindable(port) is not None:
                yield port
        for _ in range(3):
            free = _bindable(0)
            if free is not None:
                yield free

    def _try(self, port: int) -> bool:
        """Start on a port; False where another program was quicker there."""
        self._port = port
        data = self._path / "data"
        self._home.own(data)
        template = _AMQTT if self._installation.mosquitto is None else _MOSQUITTO
        config = self._home.write("broker.conf", template.format(host=_HOST, port=port, folder=data))
        if self._installation.mosquitto is not None:
            self._process.start([self._installation.mosquitto, "-c", config])
        else:
            packages = {"PYTHONPATH": str(self._installation.amqtt)}
            self._process.start([sys.executable, "-c", _AMQTT_MAIN, "-c", config], packages)
        try:
            self._process.await_ready(self._ready, _PATIENCE)
        except EmbeddedServiceError:
            if b"ddress already in use" in self._process.written():
                return False
            raise
        return True

    def _ready(self) -> bool:
        # Another program may have been quicker on this port, even a broker: ours has to say that it runs, too.
        if self._installation.mosquitto is not None and _RUNNING not in self._process.written():
            return False
        try:
            with socket.create_connection((_HOST, self._port), timeout=2) as client:
                client.sendall(_CONNECT)
                answer = client.recv(len(_ACCEPTED))
                client.sendall(_DISCONNECT)
        except OSError:
            return False
        return answer == _ACCEPTED


def _bindable(port: int) -> int | None:
    """The port, or a free one for 0; None where it is taken. As servers do, past connections do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return None
        return int(probe.getsockname()[1])
