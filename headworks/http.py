"""The HTTP door: `/healthz` for supervisors and load balancers, `/metrics` for Prometheus."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Health = Callable[[], dict[str, str]]
"""The state of each part: `ok`, or what is wrong with it in a few words."""


def application(health: Health) -> Starlette:
    """The ASGI application."""

    def healthz(_: Request) -> JSONResponse:
        parts = health()
        well = all(state == "ok" for state in parts.values())
        return JSONResponse({"status": "ok" if well else "degraded", "parts": parts}, 200 if well else 503)

    def metrics(_: Request) -> Response:
        return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return Starlette(routes=[Route("/healthz", healthz), Route("/metrics", metrics)])


class HttpDoor:
    """Serves the application on one address inside our own event loop."""

    def __init__(self, host: str, port: int, health: Health) -> None:
        self._address = (host, port)
        self._server = _Server(
            uvicorn.Config(
                application(health), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2
            )
        )
        self._socket: socket.socket | None = None

    def open(self) -> int:
        """Bind, and return the port; `OSError` where the address is taken."""
        # Bound here and not by uvicorn, which ends the whole process where the address is taken.
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        door = socket.socket(family, socket.SOCK_STREAM)
        try:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(self._address)
        except OSError:
            door.close()
            raise
        self._socket = door
        return int(door.getsockname()[1])

    async def serve(self) -> None:
        """Serve until `close`."""
        assert self._socket is not None, "open() first"
        await self._server.serve(sockets=[self._socket])

    def close(self) -> None:
        """Let `serve` end."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """Uvicorn inside our own process: signals are the platform's to handle."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals alone."""
        yield
