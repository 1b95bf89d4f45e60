"""The HTTP door: `/healthz` for supervisors and load balancers, `/metrics` for Prometheus, the API and the console.

It has a thread and an event loop of its own: whatever people ask for, the gateways' loop does not wait for it.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import anyio.to_thread
import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from headworks.api.app import VERSION, api
from headworks.api.context import Context
from headworks.api.guards import Guards
from headworks.console import pages
from headworks.oidc.pages import routes as oidc_routes
from headworks.oidc.provider import Provider

log = structlog.get_logger()

CONCURRENT = 256
"""Open connections; whoever comes above that is told to come back later (503)."""
THREADS = 8
"""Requests that are worked on at once."""

Health = Callable[[], dict[str, str]]
"""The state of each part: `ok`, or what is wrong with it in a few words."""


def application(health: Health, context: Context | None = None) -> ASGIApp:
    """The ASGI application; with a context it has the API and the console too."""

    def healthz(_: Request) -> JSONResponse:
        parts = health()
        well = all(state == "ok" for state in parts.values())
        return JSONResponse({"status": "ok" if well else "degraded", "parts": parts}, 200 if well else 503)

    def metrics(_: Request) -> Response:
        return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    routes: list[BaseRoute] = [Route("/healthz", healthz), Route("/metrics", metrics)]
    if context is not None:
        if context.ports.oidc is not None:
            routes += oidc_routes(context, Provider(context.ports.oidc))
        routes += [Mount(f"/api/v{VERSION}", api(context)), Mount("/", pages())]
    return Guards(Starlette(routes=routes), secure=context is not None and context.ports.secure)


class HttpDoor:
    """Serves the application on one address from a thread of its own. `certificate` and `key` are PEM files: TLS."""

    def __init__(
        self,
        host: str,
        port: int,
        health: Health,
        context: Context | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        self._address = (host, port)
        self._context = context
        self._server = _Server(
            uvicorn.Config(
                application(health, context),
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=2,
                limit_concurrency=CONCURRENT,
                server_header=False,
                proxy_headers=False,
                ssl_certfile=certificate,
                ssl_keyfile=key,
            )
        )
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    def open(self) -> int:
        """Bind, and return the port; `OSError` where the address is taken."""
        # Bound here and not by uvicorn, which ends the whole process where the address is taken.
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        door = socket.socket(family, socket.SOCK_STREAM)
        try:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(self._address)
            door.listen(128)
        except OSError:
            door.close()
            raise
        self._socket = door
        return int(door.getsockname()[1])

    def start(self) -> None:
        """Serve until `close`."""
        assert self._socket is not None, "open() first"
        self._thread.start()

    def close(self, timeout: float) -> None:
        """End open streams, answer what is being asked, and stop."""
        if self._context is not None:
            self._context.close()
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout)
        elif self._socket is not None:
            self._socket.close()

    def _serve(self) -> None:
        async def main() -> None:
            assert self._socket is not None
            anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
            await self._server.serve(sockets=[self._socket])

        try:
            asyncio.run(main())
        except Exception:
            log.exception("http.failed", hint="the gateways go on; restart to have the API and the console back")


class _Server(uvicorn.Server):
    """Uvicorn inside our own process: signals are the platform's to handle."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals alone."""
        yield
