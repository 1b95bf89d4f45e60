"""`headworks demo`: one day of a simulated plant through the real gateways, then judged by what the database holds.

The platform runs as a process of its own; the virtual devices live in this one and write down every acknowledgement
they get. The verdict compares their ledger and the ground truth with the database, not with what the platform says of
itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from devices.alarm import Alarm
from devices.errors import UnavailableError
from devices.model import DAY, MINUTE, Transport
from devices.profile import shipped_profiles
from headworks import clock
from headworks.demo_view import View
from headworks.servers import Servers, servers
from headworks.service import prepare
from headworks.settings import Settings
from simulators.plant import Plant, build
from simulators.records import acknowledged_keys, read_ledger
from simulators.run import Config, Progress, simulate
from simulators.truth import Truth, read_truth
from storage import audit, journal, registry
from storage.database import Server, connect
from storage.display import SiteDisplay, set_display

out = Console(highlight=False)

PLACES = {"Nanxi": (28.33, 120.75), "Oubei": (28.05, 120.66), "Shangtang": (28.16, 120.69)}
"""Where the places that the demo's sites are named after lie, degrees north and east, for the map."""
_PATIENCE = 60.0
"""Seconds to wait for the last readings to be stored and judged."""
_GRACE = 30 * MINUTE
"""An alarm raised this long after a fault has ended is still its own: delays and late uplinks."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the demo found; `problems` is empty where everything is as promised."""

    report: dict[str, object]
    problems: list[str]


def run_demo(settings: Settings, *, seconds: float, seed: int, output: Path) -> int:
    """Run it; returns 0 where every acknowledged reading is stored exactly once and every fault was alarmed."""
    begin = time.monotonic()
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    _sweep(settings.state_dir)
    folder = settings.state_dir / f"demo-{os.getpid()}"
    folder.mkdir(mode=0o711)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        # The settings' own servers are left alone: the demo counts everything it finds.
        own = replace_servers(settings)
        with servers(own, folder, out.print) as found:
            verdict = _play(found, folder, seconds=seconds, seed=seed, begin=begin)
    except KeyboardInterrupt:
        out.print("Stopped.")
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    output.write_text(json.dumps(verdict.report, indent=2) + "\n", "utf-8")
    out.print(f"The result is in {output}.")
    for problem in verdict.problems:
        out.print(f"NOT AS PROMISED: {problem}", markup=False)
    return 1 if verdict.problems else 0


def _sweep(state: Path) -> None:
    """Remove what demos left behind that were killed."""
    for left in state.glob("demo-*"):
        try:
            os.kill(int(left.name.removeprefix("demo-")), 0)
        except ProcessLookupError:
            shutil.rmtree(left, ignore_errors=True)
        except (ValueError, PermissionError):
            continue


def replace_servers(settings: Settings) -> Settings:
    """The same settings with servers of the demo's own."""
    return settings.model_copy(update={"database_url": None, "mqtt_url": None, "mqtt_port": 0})


def _play(found: Servers, folder: Path, *, seconds: float, seed: int, begin: float) -> Verdict:
    database = prepare(found.database_url)
    plant = build(seed)
    with connect(found.database_url) as connection:
        registry.register(connection, [asset.device for asset in plant.assets], shipped_profiles())
        for site in {asset.device.site for asset in plant.assets} & PLACES.keys():
            set_display(connection, site, SiteDisplay(*PLACES[site]))
    out.print(f"{database.edition} {database.version}, {found.broker}; {len(plant.assets)} devices, seed {seed}")
    end = clock.now() // MINUTE * MINUTE
    with _platform(found, folder) as coap_port:
        config = Config(
            start=end - DAY, end=end, coap_host="127.0.0.1", coap_port=coap_port, mqtt_url=found.mqtt_url,
            ledger=folder / "ledger.jsonl", truth=folder / "truth.jsonl", seed=seed, play_seconds=seconds,
        )  # fmt: skip
        with View(out, found.database_url, plant, config) as view:
            progress = asyncio.run(_simulate(config, view.show))
            view.finish("waiting for the last readings to be stored and judged")
            _await(lambda: _settled(found.database_url, config.ledger), "everything is stored and judged")
    truth = list(read_truth(config.truth).faults)
    return _judge(found, database, plant, config, truth, time.monotonic() - begin, progress)


async def _simulate(config: Config, report: Callable[[Progress], None]) -> Progress:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    progress = await simulate(config, time.monotonic, report, stop)
    if stop.is_set():
        raise KeyboardInterrupt
    return progress


@contextmanager
def _platform(found: Servers, folder: Path) -> Iterator[int]:
    """The platform as a process of its own; gives its CoAP port.

    It ends when its standard input is closed, so also when this process is killed.
    """
    coap, http = _free(socket.SOCK_DGRAM), _free(socket.SOCK_STREAM)
    # Shipped rules, and nobody is paged for a simulated fault: the user's own settings stay out of it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWORKS_")} | {
        "HEADWORKS_SETTINGS": os.devnull,
        "HEADWORKS_DATABASE_URL": found.database_url, "HEADWORKS_MQTT_URL": found.mqtt_url,
        "HEADWORKS_COAP_HOST": "127.0.0.1", "HEADWORKS_COAP_PORT": str(coap), "HEADWORKS_HTTP_HOST": "127.0.0.1",
        "HEADWORKS_HTTP_PORT": str(http), "HEADWORKS_STATE_DIR": str(folder), "HEADWORKS_LOG_FORMAT": "json",
    }  # fmt: skip
    log = folder / "platform.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "headworks", "serve", "--until-eof"],
            env=environment, stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    assert process.stdin is not None
    try:
        _await(lambda: _healthy(http) or process.poll() is not None, "the platform is up")
        if process.poll() is not None:
            raise UnavailableError(f"the platform did not start:\n{log.read_text('utf-8')[-2000:]}")
        yield coap
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=2).is_success
    except httpx.TransportError:
        return False


def _await(question: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not question():
        if time.monotonic() > deadline:
            out.print(f"It took longer than {_PATIENCE:.0f} s until {what}; going on with what there is.")
            return
        time.sleep(0.1)


def _settled(database_url: str, ledger: Path) -> bool:
    with connect(database_url) as connection:
        return audit.judged_up_to_date(connection) and audit.compare(connection, acknowledged_keys(ledger)).missing == 0


def _judge(
    found: Servers,
    database: Server,
    plant: Plant,
    config: Config,
    truth: list[Truth],
    seconds: float,
    progress: Progress,
) -> Verdict:
    with connect(found.database_url) as connection:
        compared = audit.compare(connection, acknowledged_keys(config.ledger))
        counts = audit.counts(connection)
        alarms = journal.all_occurrences(connection)
    transports = {transport.value: {"sent": 0, "acknowledged": 0} for transport in Transport}
    # A repeated uplink stands twice in the ledger: its readings are promised once.
    seen: set[tuple[str, int]] = set()
    for entry in read_ledger(config.ledger):
        key = (entry["device"], entry["sequence"])
        if key in seen:
            continue
        seen.add(key)
        size = sum(map(len, entry["readings"].values()))
        transports[entry["transport"]]["sent"] += size
        transports[entry["transport"]]["acknowledged"] += size * entry["acknowledged"]
    sent = sum(entry["sent"] for entry in transports.values())
    acknowledged = sum(entry["acknowledged"] for entry in transports.values())
    alarmed = [fault for fault in truth if any(_explains(fault, alarm) for alarm in alarms)]
    false = [alarm for alarm in alarms if not any(_explains(fault, alarm) for fault in truth)]
    report: dict[str, object] = {
        "database": {"edition": database.edition.value, "version": database.version},
        "broker": found.broker,
        "readings": {
            "sent": sent, "acknowledged": acknowledged, "stored": counts.readings,
            "duplicates": counts.readings - counts.distinct_readings,
        },
        "transports": transports,
        "faults": {"injected": len(truth), "alarmed": len(alarmed)},
        "alarms": {"raised": len(alarms), "false": len(false)},
        "seconds": round(seconds, 1),
    }  # fmt: skip
    problems = []
    if compared.missing:
        problems.append(f"{compared.missing} acknowledged readings are not stored")
    if compared.twice or counts.readings != counts.distinct_readings:
        problems.append("readings are stored more than once")
    if acknowledged < sent:
        problems.append(f"{sent - acknowledged} readings were never acknowledged")
    if not acknowledged or not truth:
        problems.append("nothing was played")
    problems += [
        f"the fault {fault.fault} on {fault.device} was not alarmed" for fault in truth if fault not in alarmed
    ]
    _summarise(plant, truth, alarms, report, progress, counts.quarantined)
    return Verdict(report, problems)


def _explains(fault: Truth, alarm: Alarm) -> bool:
    """Whether an alarm is due to a fault: same device, one of its rules, and begun while it lasted."""
    return (
        alarm.device == fault.device
        and alarm.rule in fault.explains
        and fault.begins <= alarm.raised_at <= fault.ends + _GRACE
    )


def _summarise(
    plant: Plant, truth: list[Truth], alarms: list[Alarm], report: dict[str, object], progress: Progress,
    quarantined: dict[str, int],
) -> None:  # fmt: skip
    """The result for people."""
    tags = {asset.device.identity: f"{asset.device.site} {asset.device.tag}" for asset in plant.assets}
    out.print()
    out.print("Faults and what became of them")
    for fault in truth:
        first = min((alarm.raised_at for alarm in alarms if _explains(fault, alarm)), default=None)
        delay = "NOT ALARMED" if first is None else f"alarmed after {(first - fault.begins) / MINUTE:.0f} min"
        rule = next((alarm.rule for alarm in alarms if _explains(fault, alarm)), "")
        out.print(
            f"  {fault.fault:18}{tags.get(fault.device, fault.device):18}{delay:22}{rule}", markup=False, soft_wrap=True
        )
    out.print()
    for name in ("readings", "transports", "faults", "alarms"):
        out.print(f"  {name:12}{json.dumps(report[name])}", markup=False, soft_wrap=True)
    out.print(
        f"  radio       {progress.uplinks} uplinks, {progress.repeated} of them repeated on purpose, "
        f"{progress.retransmitted} retransmitted",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    if quarantined:
        out.print(f"  quarantine  {quarantined}", markup=False)
    out.print(f"  seconds     {report['seconds']}", markup=False)
