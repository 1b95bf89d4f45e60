"""An embedded MQTT broker: mosquitto, or a Python broker where that could not be fetched. Loopback only."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.provision import Installation
from headworks.embedded.process import EmbeddedServiceError, Folder, Server, service_account

_PATIENCE = 30.0
# mosquitto's defaults drop QoS 1 messages above 1,000 queued ones for a client that is away, and say nothing.
_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 30
max_queued_messages 0
max_inflight_messages 2000
max_packet_size 1048576
set_tcp_nodelay true
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages false
"""
_PYTHON = """\
listeners: {{default: {{type: tcp, bind: "127.0.0.1:{port}"}}}}
plugins: {{amqtt.plugins.authentication.AnonymousAuthPlugin: {{allow_anonymous: true}}}}
"""


class EmbeddedBroker:
    """A broker on a free loopback port; sessions and queued messages survive restarts with mosquitto."""

    def __init__(self, installation: Installation, path: Path, port: int = 0) -> None:
        self._installation = installation
        self._account = service_account()
        self._path = path.absolute()
        self._folder = Folder(self._path, self._account)
        self._wanted = port
        self._port = 0
        self._server = Server(
            "the MQTT broker", self._path / "broker.log", self._account, gentle=signal.SIGTERM, forceful=signal.SIGQUIT
        )

    @property
    def url(self) -> str:
        """The broker's address, once it was started."""
        return f"mqtt://127.0.0.1:{self._port}"

    @property
    def version(self) -> str:
        """Name and version, for people."""
        program = self._installation.mosquitto
        if program is None:
            return "amqtt (a Python broker)"
        said = subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stdout
        found = re.search(r"mosquitto version (\S+)", said)
        return f"mosquitto {found.group(1)}" if found else "mosquitto"

    def start(self) -> None:
        """Start and return when it takes connections. `EmbeddedServiceError` with the log's end otherwise."""
        self._folder.hold()
        try:
            self._port = self._choose_port()
            (self._path / "port").write_text(str(self._port), "utf-8")
            config = self._path / "broker.conf"
            program = self._installation.mosquitto
            template = _PYTHON if program is None else _MOSQUITTO
            config.write_text(template.format(port=self._port, folder=self._path), "utf-8")
            self._folder.own(config)
            if program is not None:
                self._server.start([program, "-c", config])
            else:
                packages = str(self._installation.amqtt)
                code = "import sys; sys.argv[0] = 'amqtt'; from amqtt.scripts.broker_script import main; main()"
                self._server.start([sys.executable, "-c", code, "-c", config], {"PYTHONPATH": packages})
            self._server.await_ready(self._answers, _PATIENCE)
        except BaseException:
            self._server.stop()
            self._folder.release()
            raise

    def stop(self) -> None:
        """Stop in order: queued messages are written to disk."""
        self._server.stop()
        self._folder.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop()

    def _choose_port(self) -> int:
        """The port of the last run, else the wanted one, else any that is free: devices keep their address if they can."""
        try:
            last = int((self._path / "port").read_text("utf-8"))
        except (OSError, ValueError):
            last = 0
        for port in (last, self._wanted, 0):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return int(probe.getsockname()[1])
        raise EmbeddedServiceError("there is no free port on the loopback interface")

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=2).close()
        except OSError:
            return False
        return True
