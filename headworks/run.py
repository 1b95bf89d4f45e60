"""`headworks up` and `headworks serve`: a platform kept running until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable

import structlog
from rich.console import Console

from headworks import hangup, logs
from headworks.cli_tokens import first_token, put_first_token
from headworks.running import Running, announced, find_running
from headworks.servers import servers
from headworks.service import Doors, Platform, prepare
from headworks.settings import Settings, SettingsError
from storage.database import describe

log = structlog.get_logger()
out = Console(highlight=False)


def run_up(settings: Settings) -> int:
    """Start everything here; returns the exit code once it has stopped."""
    logs.configure(settings.log_level, settings.log_format)
    folder = settings.state_dir
    folder.mkdir(parents=True, exist_ok=True)
    other = find_running(folder)
    if other is not None:
        out.print(f"A platform runs here already (process {other.pid}); stop it first, or set HEADWORKS_STATE_DIR.")
        return 1
    with servers(settings, folder, out.print) as found:
        database = prepare(found.database_url)
        token = first_token(found.database_url)
        platform = Platform(settings, found.database_url, found.mqtt_url)
        running = Running(os.getpid(), found.database_url, found.mqtt_url, _coap_url(settings))

        def ready(doors: Doors) -> None:
            out.print(f"Headworks is up: {database.edition} {database.version}, {found.broker}")
            out.print(f"  CoAP      {doors.coap}/telemetry/<identity>")
            out.print(f"  MQTT      {doors.mqtt}, topic headworks/<identity>/telemetry")
            out.print(f"  Console   {settings.console_url or doors.http}/")
            out.print(f"  HTTP      {doors.http}/api/v1, /healthz and /metrics")
            out.print(
                f"  Database  psql '{found.database_url if settings.database_url is None else '…'}'", soft_wrap=True
            )
            if token is not None and sys.stdout.isatty():
                out.print(f"The console's first token, for the admin, shown this once: {token}", soft_wrap=True)
            elif token is not None:
                out.print(
                    f"The console's first token, for the admin, is in {put_first_token(folder, token)}", soft_wrap=True
                )
            out.print("Ctrl-C stops it; its data stays in " + str(folder), soft_wrap=True)

        with announced(folder, running):
            return _run(platform, ready)


def run_serve(settings: Settings, *, until_eof: bool = False) -> int:
    """Run against servers of the user's own; returns the exit code once it has stopped."""
    logs.configure(settings.log_level, settings.log_format)
    if settings.database_url is None or settings.mqtt_url is None:
        raise SettingsError("`serve` needs HEADWORKS_DATABASE_URL and HEADWORKS_MQTT_URL; `up` brings its own")
    database_url = settings.database_url.get_secret_value()
    database = prepare(database_url)
    log.info("database.ready", database=describe(database_url), edition=database.edition, version=database.version)
    token = first_token(database_url)
    if token is not None:
        path = put_first_token(settings.state_dir, token)
        log.info(
            "tokens.first", role="admin", file=str(path), hint="log in to the console with it, then delete the file"
        )
    platform = Platform(settings, database_url, settings.mqtt_url.get_secret_value())

    def ready(doors: Doors) -> None:
        log.info("platform.ready", coap=doors.coap, mqtt=doors.mqtt, http=doors.http)

    return _run(platform, ready, until_eof=until_eof)


def tune() -> None:
    """Have the collector look for cycles less often: what was loaded by now stays for good, and what passes through is
    freed by its reference count. It saves a sixth of the time, and a quarter at the start of a large fleet.

    And have threads take turns each millisecond, not each five: whoever waits for the database needs the interpreter
    for a moment only, and waits so long for it behind one that calculates. It saves a tenth of such a start."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    sys.setswitchinterval(0.001)


def _run(platform: Platform, ready: Callable[[Doors], None], *, until_eof: bool = False) -> int:
    tune()
    on_terminal = sys.stdin is not None and sys.stdin.isatty()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)

        def hung_up() -> None:
            # The same signal says that the terminal was closed; nobody would be left to end it.
            if on_terminal and not sys.stdin.isatty():
                stop.set()
            else:
                loop.run_in_executor(None, platform.reload)

        loop.add_signal_handler(signal.SIGHUP, hung_up)
        if hangup.came():
            hung_up()
        if until_eof:
            loop.add_reader(sys.stdin.fileno(), lambda: stop.set() if not os.read(sys.stdin.fileno(), 4096) else None)
        await platform.run(stop, ready)

    try:
        asyncio.run(main())
    except OSError as error:
        log.error(  # noqa: TRY400 - a traceback would not help whoever has to free the port
            "platform.port_taken",
            why=str(error),
            hint="another program holds a port: set HEADWORKS_COAP_PORT or HEADWORKS_HTTP_PORT",
        )
        return 1
    return 0


def _coap_url(settings: Settings) -> str:
    return f"coap://{settings.coap_host}:{settings.coap_port}"
