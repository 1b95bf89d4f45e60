"""The day that `make demo` plays, put into a database without sockets: the same plant, faults, payloads, translation,
commit, aggregates, rules and journal. Only the radio is left out, so an uplink is received when it is due."""

from __future__ import annotations

from time import perf_counter

import psycopg

from alerts.contact import definitions
from alerts.engine import Engine
from alerts.rulefiles import shipped_rules
from devices.model import DAY, HOUR, Instant, Reading, Transport, Uplink
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


def play(url: str, end: Instant, seed: int = 1) -> set[str]:
    """Store and judge the day before `end`; returns the rules that called."""
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
    with connect(url) as connection:
        registry.register(connection, plant_devices := list(devices.values()), profiles)
        lifecycle.define(connection, [*map(definition, rules), *definitions()])
        for site in sorted({device.site for device in plant_devices}):
            set_display(connection, site, SiteDisplay(*PLACES[site]))
        platform_seen(connection, PlatformState("", "0", "http://127.0.0.1:8080", end - DAY), end)
    writer = Writer(url)
    try:
        for first in range(0, len(sent), BATCH):
            batch, outcomes = translate(sent[first : first + BATCH], lambda _: devices, profiles)
            assert len(outcomes) == len(batch.uplinks)
            transaction = writer.commit(batch).transaction
            for record in batch.uplinks:
                readings[record.device] += record.readings
        garbled = Uplink(Transport.MQTT, b"\xff", end - HOUR, sent[0].identity)
        writer.commit(translate([garbled], lambda _: devices, profiles)[0])
    finally:
        writer.close()
    called = set()
    with connect(url) as connection:
        for device in plant_devices:
            past = readings[device.identity]
            first_of = {reading.metric: reading for reading in past}
            changes = Engine(rules, profiles).apply(
                first_of.values(), {device.identity: device}, lambda *_, past=past: past, lambda _: ()
            )
            journal.record(connection, changes, transaction)
            called |= {change.alarm.rule for change in changes}
        # Here a day is judged at once; where it arrives by and by, people are told when an alarm is raised.
        connection.execute("UPDATE alarm SET annunciated_at = raised_at")
        aggregates.mark(connection)
        maintenance.run(connection, maintenance.TASKS[0], end - HOUR, maintenance.Keep(), perf_counter)
        _contacts(connection)
    return called


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
