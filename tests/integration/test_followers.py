"""What comes late by another door is judged all the same: out of the quarantine, or from a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

import numpy as np
import pytest

from alerts import live
from alerts.engine import Engine
from alerts.live import LiveEngine
from alerts.ports import Ports
from alerts.rulefiles import shipped_rules
from devices.alarm import AlarmChange
from devices.batch import Batch, QuarantineRecord, UplinkRecord
from devices.codecs.senml import encode_json
from devices.model import DAY, HOUR, MINUTE, SECOND, Device, Measurement, Reading, Reason, Transport, Uplink, moment
from devices.profile import shipped_profiles
from headworks.redecode import redecode
from storage import history, journal
from storage.database import Connection, connect
from storage.exchange import Block
from storage.importing import Importer
from storage.quarantine import Selection, keep
from storage.registry import find, register
from storage.writer import Writer
from tests.conftest import PUMP

T0 = 1_790_000_000 * SECOND
RULE = next(rule for rule in shipped_rules() if rule.rule == "bearing-temperature-high")
HOT = [(T0 + i * MINUTE, 95.0) for i in range(15)]
T = TypeVar("T")


class Silent:
    """Tells nobody."""

    def compose(self, _change: AlarmChange, _device: Device) -> None:
        return None

    def told(self, _announcements: object) -> None:
        return None


@pytest.fixture
def engine(registered: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveEngine]:
    """A live engine that has judged everything there is, and to which nothing is handed over."""
    monkeypatch.setattr(live, "SCAN_SECONDS", 0.05)
    with judging(registered) as running:
        yield running


@contextmanager
def judging(url: str) -> Iterator[LiveEngine]:
    with connect(url) as own:

        def devices(identities: Sequence[str]) -> Mapping[str, Device]:
            return {name: entry.device for name, entry in find(own, identities).items()}

        ports = Ports(
            devices=devices,
            past=lambda since, metrics: history.past(own, since, metrics),
            history_since=lambda since: history.readings_since(own, since),
            journal=lambda identities: journal.occurrences(own, identities),
            position=lambda: journal.position(own),
            changed=lambda position, known: history.changed(own, position, known),
            record=lambda changes, position, _: journal.record(own, changes, position),
            lead=lambda: True,
        )
        running = LiveEngine(Engine([RULE], shipped_profiles()), ports, Silent(), time.monotonic)
        running.start()
        assert running.wait_idle(60)
        yield running
        running.close(5)


def test_what_was_left_unjudged_is_judged_however_long_ago(registered: str) -> None:
    writer = Writer(registered)

    def commit(day: int, *, hot: bool = False, late: int = 0) -> None:
        # A day has a quarter of an hour here, hot or not, and comes so many days late.
        at, value = T0 + day * DAY, 95.0 if hot else 60.0
        readings = [Reading(PUMP.identity, "bearing_temperature", at + i * MINUTE, value) for i in range(15)]
        writer.commit(
            Batch([UplinkRecord(Uplink(Transport.COAP, b"x", at + HOUR + late * DAY), PUMP.identity, readings)])
        )

    commit(0)
    with judging(registered):
        pass
    # The engine is away for ten weeks, in which there are alarms, the first of them long before its usual horizon; then
    # readings come that are late even for what was judged.
    for day in range(1, 70):
        commit(day, hot=day % 10 == 5)
    commit(-40, hot=True, late=110)
    with judging(registered), connect(registered) as connection:
        days = [(since - moment(T0)).days for _, _, since in alarms(connection) if isinstance(since, datetime)]
        assert sorted(days) == [5, 15, 25, 35, 45, 55, 65]
    writer.close()


def alarms(connection: Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT rule, identity, since FROM alarm JOIN device USING (device_id)").fetchall()


def eventually(look: Callable[[], T]) -> T:
    deadline = time.monotonic() + 60
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def test_an_alarm_follows_what_is_decoded_again(registered: str, engine: LiveEngine) -> None:
    stranger = "urn:dev:imei:867000000000033"
    payload = encode_json(stranger, [Measurement("bearing_temperature", "Cel", value, at) for at, value in HOT])
    uplink = Uplink(Transport.COAP, payload, T0 + 20 * MINUTE, stranger, 110, "[::1]:1")
    with connect(registered) as connection:
        with connection.transaction():
            keep(connection, [QuarantineRecord(uplink, Reason.UNKNOWN_DEVICE, "", stranger)])
        register(connection, [Device(stranger, PUMP.profile)], shipped_profiles())
        writer = Writer(registered)
        done = redecode(connection, writer, shipped_profiles(), Selection(), until=T0 + 60 * MINUTE)
        writer.close()
        assert (done.released, done.stored) == (1, 15)
        assert [(rule, identity) for rule, identity, _ in eventually(lambda: alarms(connection))] == [
            (RULE.rule, stranger)
        ]
    assert engine.wait_idle(60)


def test_an_alarm_follows_what_is_imported(registered: str, engine: LiveEngine) -> None:
    count = len(HOT)
    block = Block(
        [PUMP.identity],
        [("bearing_temperature", "degC")],
        np.zeros(count, np.int32),
        np.zeros(count, np.int32),
        np.array([at for at, _ in HOT]),
        np.array([value for _, value in HOT]),
        np.full(count, 192, np.int16),
    )
    with connect(registered) as connection:
        Importer(connection).write(block, T0 + 60 * MINUTE)
        assert [(rule, identity) for rule, identity, _ in eventually(lambda: alarms(connection))] == [
            (RULE.rule, PUMP.identity)
        ]
    assert engine.wait_idle(60)
