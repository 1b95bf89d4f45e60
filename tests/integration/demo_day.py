"""The day that `make demo` plays, put into a database without sockets: the same plant, faults, payloads, translation,
commit, aggregates, rules and journal. Only the radio is left out, so an uplink is received when it is due."""

from __future__ import annotations

from functools import lru_cache
from time import perf_counter
from typing import NamedTuple

import psycopg

from alerts.contact import definitions
from alerts.engine import Engine
from alerts.rulefiles import shipped_rules
from alerts.rules import Rule
from devices.alarm import AlarmChange
from devices.batch import Batch
from devices.model import DAY, HOUR, Device, Instant, Reading, Transport, Uplink
from devices.profile import shipped_profiles
from headworks.demo import PLACES
from headworks.judging import definition
from ingest.translate import translate
from simulators.device import manner, uplinks
from simulators.observation import observe
from simulators.plant import build
from simulators.schedule import schedule
from storage import aggregates, journal, lifecycle, maintenance, registry
from storage.database import connect
from storage.display import PlatformState, SiteDisplay, platform_seen, set_display
from storage.writer import Writer

BATCH = 1_000
SILENCE = 3 * HOUR
"""For so long one valve is not heard of at the end, so that the lists of who is late have something to show."""


class Day(NamedTuple):
    """What is stored of a day: uplinks in batches, one that cannot be read, and the alarms of each device."""

    devices: dict[str, Device]
    rules: list[Rule]
    batches: list[Batch]
    garbled: Batch
    changes: list[list[AlarmChange]]


@lru_cache(maxsize=1)
def _day(end: Instant, seed: int) -> Day:
    plant, profiles, rules = build(seed), shipped_profiles(), shipped_rules()
    devices = {asset.device.identity: asset.device for asset in plant.assets}
    faults = schedule(plant.works, end - DAY, end)
    observation = observe(plant.works, faults, end - DAY, end)
    sent = []
    for asset in plant.assets:
        way, reporting = manner(asset), profiles[asset.device.profile].reporting
        sent += [
            Uplink(way.transport, uplink.payload, uplink.due, asset.device.identity, way.content_format.value)
            for uplink in uplinks(asset, reporting, seed, observation)
            if uplink.due < end - (SILENCE if asset is plant.assets[-1] else 0)
        ]
    sent.sort(key=lambda uplink: uplink.received_at)
    readings: dict[str, list[Reading]] = {identity: [] for identity in devices}
    batches = []
    for first in range(0, len(sent), BATCH):
        batch, outcomes = translate(sent[first : first + BATCH], lambda _: devices, profiles)
        assert len(outcomes) == len(batch.uplinks)
        batches.append(batch)
        for record in batch.uplinks:
            readings[record.device] += record.readings
    garbled = translate([Uplink(Transport.MQTT, b"\xff", end - HOUR, sent[0].identity)], lambda _: devices, profiles)[0]
    changes = []
    for device in devices.values():
        past = readings[device.identity]
        first_of = {reading.metric: reading for reading in past}
        changes.append(
            Engine(rules, profiles).apply(
                first_of.values(), {device.identity: device}, lambda *_, past=past: past, lambda _: ()
            )
        )
    return Day(devices, rules, batches, garbled, changes)


def play(url: str, end: Instant, seed: int = 1) -> set[str]:
    """Store and judge the day before `end`; returns the rules that called."""
    devices, rules, batches, garbled, changes = _day(end, seed)
    with connect(url) as connection:
        registry.register(connection, plant_devices := list(devices.values()), shipped_profiles())
        lifecycle.define(connection, [*map(definition, rules), *definitions()])
        for site in sorted({device.site for device in plant_devices}):
            set_display(connection, site, SiteDisplay(*PLACES[site]))
        platform_seen(connection, PlatformState("", "0", "http://127.0.0.1:8080", end - DAY), end)
    writer = Writer(url)
    try:
        for batch in batches:
            transaction = writer.commit(batch).transaction
        writer.commit(garbled)
    finally:
        writer.close()
    with connect(url) as connection:
        for of_device in changes:
            journal.record(connection, of_device, transaction)
        # Here a day is judged at once; where it arrives by and by, people are told when an alarm is raised.
        connection.execute("UPDATE alarm SET annunciated_at = raised_at")
        aggregates.mark(connection)
        maintenance.run(connection, maintenance.TASKS[0], end - HOUR, maintenance.Keep(), perf_counter)
        _contacts(connection)
    return {change.alarm.rule for of_device in changes for change in of_device}


def _contacts(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """All but one were heard; judging that is tested elsewhere."""
    connection.execute(
        "INSERT INTO contact SELECT device_id, CASE WHEN device_id = (SELECT max(device_id) FROM device) THEN 'silent'"
        " WHEN device_id % 5 = 0 THEN 'asleep' ELSE 'heard' END, now() FROM device"
    )
    connection.execute("INSERT INTO contact_tick VALUES (true, now(), now())")
    connection.execute(
        "INSERT INTO outage (path, since, raised_at, devices, ended_at) SELECT 'mqtt', now() - interval '9 hours',"
        " now() - interval '8 hours 50 minutes', count(*), now() - interval '8 hours 40 minutes' FROM device"
    )
    connection.commit()
