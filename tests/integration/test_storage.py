"""The commit path on a real database: what is committed is there once, and nothing costs its neighbours."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.alarm import Alarm, AlarmChange, ChangeKind, Priority
from devices.batch import Batch, Committed, QuarantineRecord, UplinkRecord
from devices.errors import UnavailableError
from devices.model import DAY, MINUTE, SECOND, Quality, Reading, Reason, Transport, Uplink
from devices.profile import shipped_profiles
from storage import history, journal
from storage.audit import compare, counts
from storage.database import Edition, connect, describe, server
from storage.migrate import MigrationError, migrate, migrations, plan
from storage.registry import all_devices, find, latest, register, retire, sync_metrics
from storage.writer import Writer
from tests.conftest import PUMP, VALVE

T0 = 1_790_000_000 * SECOND


def record(readings: list[Reading], *, sequence: int | None = 1, payload: bytes = b"[]") -> UplinkRecord:
    return UplinkRecord(Uplink(Transport.MQTT, payload, T0), readings[0].device, readings, sequence)


def reading(metric: str = "pressure", at: int = T0, value: float = 4.2, device: str = PUMP.identity) -> Reading:
    return Reading(device, metric, at, value)


@pytest.fixture
def writer(registered: str) -> Iterator[Writer]:
    open_writer = Writer(registered)
    yield open_writer
    open_writer.close()


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def test_a_batch_is_stored_with_its_log_and_latest_values(registered: str, writer: Writer) -> None:
    done = writer.commit(
        Batch([record([reading(), reading("flow", value=12.5)]), record([reading(device=VALVE.identity)])])
    )
    assert (done.stored, done.duplicates, done.refused) == (3, 0, ())
    with connect(registered) as connection:
        assert history.past(connection, {PUMP.identity: None}).readings == [reading("flow", value=12.5), reading()]
        assert history.past(connection, {PUMP.identity: None}, {"flow"}).readings == [reading("flow", value=12.5)]
        pump = find(connection, [PUMP.identity])[PUMP.identity]
        assert [
            (entry.metric, entry.value, entry.unit, entry.quality) for entry in latest(connection, pump.device_id)
        ] == [
            ("flow", 12.5, "m3/h", Quality.GOOD),
            ("pressure", 4.2, "bar", Quality.GOOD),
        ]
    assert rows(registered, "SELECT readings, duplicates, sequence FROM uplink ORDER BY readings") == [
        (1, 0, 1),
        (2, 0, 1),
    ]


def test_a_repeat_is_known_and_its_new_neighbours_are_stored(registered: str, writer: Writer) -> None:
    first = [reading(at=T0 + i * SECOND, value=i) for i in range(5)]
    more = [reading(at=T0 + i * SECOND, value=i) for i in range(3, 8)]
    writer.commit(Batch([record(first)]))
    done = writer.commit(Batch([record(more), record(first)]))
    assert (done.stored, done.duplicates) == (3, 7)
    assert rows(registered, "SELECT count(*), min(value), max(value) FROM reading") == [(8, 0.0, 7.0)]
    assert rows(registered, "SELECT readings, duplicates FROM uplink ORDER BY xid") == [(5, 0), (3, 2), (0, 5)]


@pytest.mark.parametrize("same_batch", [True, False])
def test_another_value_for_a_stored_reading_is_kept_in_quarantine(
    registered: str, writer: Writer, same_batch: bool
) -> None:
    honest, other = record([reading(value=4.2)]), record([reading(value=9.9), reading("flow")], payload=b"other")
    if same_batch:
        done = writer.commit(Batch([honest, other]))
    else:
        writer.commit(Batch([honest]))
        done = writer.commit(Batch([other]))
    assert [(entry.reason, entry.uplink.payload, entry.rows) for entry in done.refused] == [
        (Reason.CONFLICTING_VALUE, b"other", 1)
    ]
    with connect(registered) as connection:
        assert history.past(connection, {PUMP.identity: None}).readings == [reading("flow"), reading(value=4.2)]
    assert rows(registered, "SELECT reason, payload FROM quarantine") == [("conflicting_value", b"other")]


def test_what_the_database_refuses_goes_to_quarantine_alone(registered: str, writer: Writer) -> None:
    with connect(registered) as connection:
        connection.execute("ALTER TABLE reading ADD CHECK (value < 1000)")
    good = [record([reading(at=T0 + i)], sequence=i) for i in range(9)]
    impossible = record([reading(at=T0 + 100, value=1000.0)], payload=b"impossible")
    done = writer.commit(Batch([*good[:5], impossible, *good[5:]]))
    assert done.stored == 9
    assert [entry.reason for entry in done.refused] == [Reason.STORAGE_REFUSED]
    assert rows(registered, "SELECT reason, payload FROM quarantine") == [("storage_refused", b"impossible")]


def test_quarantine_keeps_any_bytes_and_any_text(registered: str, writer: Writer) -> None:
    raw = bytes(range(256))
    uplink = Uplink(Transport.COAP, raw, T0, "urn:\x00\ud800", 42, "[::1]:5683")
    writer.commit(Batch(quarantine=[QuarantineRecord(uplink, Reason.MALFORMED, "a\0b", uplink.identity)]))
    assert rows(registered, "SELECT payload, detail, content_format FROM quarantine") == [(raw, "a\\0b", 42)]


def test_latest_never_goes_back_in_time(registered: str, writer: Writer) -> None:
    writer.commit(Batch([record([reading(at=T0, value=1.0)])]))
    writer.commit(Batch([record([reading(at=T0 - MINUTE, value=2.0)])]))
    assert rows(registered, "SELECT value FROM latest") == [(1.0,)]
    writer.commit(Batch([record([reading(at=T0 + MINUTE, value=3.0), reading(at=T0 + SECOND, value=4.0)])]))
    assert rows(registered, "SELECT value FROM latest") == [(3.0,)]


def test_latest_follows_packs_of_changing_metrics(registered: str, writer: Writer) -> None:
    def newest() -> dict[str, float]:
        with connect(registered) as connection:
            pump = find(connection, [PUMP.identity])[PUMP.identity]
            return {entry.metric: entry.value for entry in latest(connection, pump.device_id)}

    def say(at: int, **values: float) -> None:
        writer.commit(Batch([record([reading(name, T0 + at * SECOND, value) for name, value in values.items()])]))

    say(0, pressure=1.0, flow=2.0)
    say(10, pressure=3.0, flow=4.0)
    assert newest() == {"pressure": 3.0, "flow": 4.0}
    say(20, power=5.0)  # a metric that was not there
    say(30, flow=6.0, pressure=7.0)
    assert newest() == {"pressure": 7.0, "flow": 6.0, "power": 5.0}
    say(25, flow=8.0, power=9.0)  # late for one of them
    assert newest() == {"pressure": 7.0, "flow": 6.0, "power": 9.0}


def test_two_gateways_that_write_the_same_at_once_store_it_once(registered: str) -> None:
    """Repeats by a new address reach another gateway; batches overlap in any order, on new and on known devices."""
    packs = [
        record([reading(metric, T0 + at * SECOND, float(at), device) for metric in ("pressure", "flow")], sequence=at)
        for at in range(60)
        for device in (PUMP.identity, VALVE.identity)
    ]
    done: list[Committed] = []

    def run(seed: int) -> None:
        own = Writer(registered)
        order = random.Random(seed).sample(packs, len(packs))
        done.extend(own.commit(Batch(order[start : start + 8])) for start in range(0, len(order), 8))
        own.close()

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(entry.stored for entry in done) == 240
    assert sum(entry.duplicates for entry in done) == 480
    assert [entry.refused for entry in done if entry.refused] == []
    assert rows(registered, "SELECT count(*), count(DISTINCT (device_id, metric_id, measured_at)) FROM reading") == [
        (240, 240)
    ]
    assert rows(registered, "SELECT DISTINCT value FROM latest") == [(59.0,)]


def test_a_device_deleted_meanwhile_is_quarantined_and_its_neighbours_stored(registered: str, writer: Writer) -> None:
    done = writer.commit(Batch([record([reading(device="urn:gone")]), record([reading()])]))
    assert done.stored == 1
    assert [entry.reason for entry in done.refused] == [Reason.UNKNOWN_DEVICE]


def test_a_database_that_is_away_is_unavailable_and_comes_back(registered: str, writer: Writer) -> None:
    writer.commit(Batch([record([reading()])]))
    with psycopg.connect(registered, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'headworks writer' AND datname = current_database()"
        )
    with pytest.raises(UnavailableError):
        writer.commit(Batch([record([reading(at=T0 + 1)])]))
    assert writer.commit(Batch([record([reading(at=T0 + 1)])])).stored == 1


def test_a_missing_table_refuses_and_says_what_to_try(registered: str, writer: Writer) -> None:
    with psycopg.connect(registered, autocommit=True) as other:
        other.execute("ALTER TABLE reading RENAME TO hidden")
    with pytest.raises(UnavailableError, match="doctor"):
        writer.commit(Batch([record([reading()])]))


def test_an_address_that_cannot_be_reached_never_shows_its_password() -> None:
    with pytest.raises(UnavailableError) as caught:
        connect("postgresql://user:secret@127.0.0.1:1/nothing", timeout=1)
    assert "secret" not in str(caught.value)
    assert describe("postgresql://user:secret@db:5432/x") == "x at db:5432"


key = st.tuples(st.sampled_from(["pressure", "flow"]), st.integers(0, 6), st.integers(0, 2))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    batches=st.lists(st.lists(st.lists(key, min_size=1, max_size=5), min_size=1, max_size=4), min_size=1, max_size=4)
)
def test_whatever_arrives_how_often_each_key_is_stored_once_with_its_first_value(
    registered: str, writer: Writer, batches: list[list[list[tuple[str, int, int]]]]
) -> None:
    """The set of keys is the set sent, and each value is one that was sent first for its key."""
    with psycopg.connect(registered, autocommit=True) as other:
        other.execute("TRUNCATE reading, latest_pack, uplink, commit_log, quarantine")
    expected: dict[tuple[str, int], float] = {}
    conflicts = 0
    for batch in batches:
        uplinks = []
        for entries in batch:
            uplinks.append(record([reading(metric, T0 + at, float(value)) for metric, at, value in entries]))
            for metric, at, value in entries:
                conflicts += expected.setdefault((metric, T0 + at), float(value)) != value
        writer.commit(Batch(uplinks))
    with connect(registered) as connection:
        stored = {(r.metric, r.measured_at): r.value for r in history.past(connection, {PUMP.identity: None}).readings}
        assert stored == expected
        assert counts(connection).readings == len(expected)
        assert bool(counts(connection).quarantined.get("conflicting_value")) == bool(conflicts)
        newest = {m: max(at for metric, at in expected if metric == m) for m, _ in expected}
        pump = find(connection, [PUMP.identity])[PUMP.identity]
        assert {e.metric: e.value for e in latest(connection, pump.device_id)} == {
            metric: expected[metric, at] for metric, at in newest.items()
        }


def test_migrations_run_once_and_say_what_they_would_do(database_url: str, postgres_url: str) -> None:
    with connect(database_url) as connection:
        assert plan(connection) == []
        assert migrate(connection) == []
        found = server(connection)
        assert found.edition in set(Edition)


def test_two_migrators_at_once_take_turns(postgres_url: str) -> None:
    name = f"headworks_race_{random.randrange(10**9)}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
    url = psycopg.conninfo.make_conninfo(postgres_url, dbname=name)
    applied: list[list[str]] = []

    def run() -> None:
        with connect(url) as connection:
            applied.append(migrate(connection))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, applied)) == [0, 0, len(migrations(timescaledb=True))]
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def test_a_changed_migration_is_refused(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("UPDATE schema_migration SET checksum = 'x' WHERE name = '0001_core'")
        with pytest.raises(MigrationError, match="0001_core was changed"):
            plan(connection)


def test_a_database_from_the_future_is_refused(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("INSERT INTO schema_migration (name, checksum) VALUES ('9999_future', 'x')")
        with pytest.raises(MigrationError, match="newer Headworks"):
            plan(connection)


@pytest.fixture
def plain_url(postgres_url: str) -> Iterator[str]:
    """A database of the plain edition, on whatever server the tests run."""
    name = f"headworks_plain_{random.randrange(10**9)}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
    url = psycopg.conninfo.make_conninfo(postgres_url, dbname=name)
    with connect(url) as connection:
        migrate(connection, plain=True)
        sync_metrics(connection)
        register(connection, [PUMP, VALVE], shipped_profiles())
    yield url
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def test_the_plain_edition_stores_and_aggregates_the_same(plain_url: str, registered: str) -> None:
    values = [reading(at=T0 + i * 10 * MINUTE, value=float(i)) for i in range(40)]
    found = []
    for url in (plain_url, registered):
        writer = Writer(url)
        writer.commit(Batch([record(values[:30])]))
        done = writer.commit(Batch([record(values[20:])]))
        writer.close()
        assert (done.stored, done.duplicates) == (10, 10)
        with connect(url) as connection:
            assert history.past(connection, {PUMP.identity: None}).readings == values
        hours = rows(url, "SELECT bucket, min_value, max_value, avg_value, readings FROM reading_hourly ORDER BY 1")
        days = rows(url, "SELECT bucket, readings FROM reading_daily ORDER BY 1")
        found.append((hours, days))
    assert found[0] == found[1]
    assert len(found[0][0]) == 7


def test_a_plain_database_stays_plain_where_the_extension_appears(plain_url: str) -> None:
    with connect(plain_url) as connection:
        assert server(connection).edition is Edition.PLAIN
        assert plan(connection) == []


def test_both_editions_have_the_same_migrations_after_their_own() -> None:
    assert [m.name for m in migrations(timescaledb=True)][1:] == [m.name for m in migrations(timescaledb=False)][1:]


def test_the_registry_keeps_what_was_registered(registered: str) -> None:
    with connect(registered) as connection:
        assert [entry.device for entry in all_devices(connection)] == [VALVE, PUMP]
        assert all_devices(connection, "South") == []
        assert retire(connection, PUMP.identity)
        assert not retire(connection, "urn:nobody")
        assert find(connection, [PUMP.identity])[PUMP.identity].device.status == "retired"
        with pytest.raises(ValueError, match="no profile"):
            register(connection, [PUMP.__class__("urn:x", "nothing")], shipped_profiles())


def test_a_stored_metric_never_changes_its_unit(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("UPDATE metric SET unit = 'Pa' WHERE name = 'pressure'")
        with pytest.raises(ValueError, match="pressure"):
            sync_metrics(connection)


def alarm(raised_at: int, cleared_at: int | None = None) -> Alarm:
    return Alarm("r", PUMP.identity, Priority.HIGH, "m", raised_at, raised_at, cleared_at, 1.0)


def test_the_journal_holds_what_the_changes_say_and_keeps_their_history(registered: str) -> None:
    first, second = alarm(T0, T0 + 10), alarm(T0 + 20)
    with connect(registered) as connection:
        raised = [AlarmChange(ChangeKind.RAISED, None, alarm(T0)), AlarmChange(ChangeKind.CLEARED, alarm(T0), first)]
        journal.record(connection, [*raised, AlarmChange(ChangeKind.RAISED, None, second)], 7)
        assert journal.occurrences(connection, [PUMP.identity]) == [first, second]
        # The first takes the time that the second had: only the net effect may be seen.
        moved, gone = alarm(T0 + 20, T0 + 25), alarm(T0 + 30)
        journal.record(
            connection,
            [AlarmChange(ChangeKind.AMENDED, first, moved), AlarmChange(ChangeKind.AMENDED, second, gone)],
            9,
        )
        assert journal.occurrences(connection, [PUMP.identity]) == [moved, gone]
        journal.record(connection, [AlarmChange(ChangeKind.RETRACTED, gone, None)], 8)
        assert journal.all_occurrences(connection) == [moved]
        assert journal.position(connection) == 9
        kinds = connection.execute("SELECT kind FROM alarm_event ORDER BY alarm_event_id").fetchall()
    assert [kind for (kind,) in kinds] == ["raised", "cleared", "raised", "amended", "amended", "retracted"]


def test_raising_the_same_occurrence_again_changes_nothing(registered: str) -> None:
    change = AlarmChange(ChangeKind.RAISED, None, alarm(T0))
    with connect(registered) as connection:
        journal.record(connection, [change], 1)
        journal.record(connection, [change], 1)
        assert connection.execute("SELECT count(*) FROM alarm_event").fetchone() == (1,)


def test_the_uplink_log_says_what_is_new_since_a_position(registered: str, writer: Writer) -> None:
    with connect(registered) as connection:
        begin = history.changed(connection, 0)
        assert begin.uplinks == []
        first = writer.commit(Batch([record([reading(at=T0 + 5), reading(at=T0 + 2)])]))
        changed = history.changed(connection, begin.watermark)
        assert changed.uplinks == [(first.transaction, PUMP.identity, T0 + 2)]
        assert history.changed(connection, changed.watermark).uplinks == []
        assert history.changed(connection, begin.watermark, [first.transaction]).uplinks == []


def test_a_commit_that_overtakes_another_is_not_skipped(registered: str, writer: Writer) -> None:
    """A position past a transaction that is still running would lose its uplinks for ever."""
    begin = writer.commit(Batch([record([reading(at=T0 - 1)])])).transaction + 1  # also creates the chunk
    with psycopg.connect(registered) as slow, connect(registered) as connection:
        slow.execute("SELECT pg_current_xact_id()")
        slow.execute(
            "INSERT INTO uplink (received_at, device_id, transport, first_measured_at, last_measured_at, readings)"
            " SELECT '2026-09-21 14:13:20Z', device_id, 'coap', '2026-09-21 14:00Z', '2026-09-21 14:00Z', 1 FROM device"
            " WHERE tag = 'FV-201'"
        )
        slow.execute(
            "INSERT INTO commit_log (first_received_at, last_received_at, first_measured_at, last_measured_at,"
            " uplinks, readings, duplicates)"
            " SELECT received_at, received_at, first_measured_at, last_measured_at, 1, 1, 0 FROM uplink"
            " WHERE xid = pg_current_xact_id()"
        )
        writer.commit(Batch([record([reading()])]))
        changed = history.changed(connection, begin)
        assert [uplink.device for uplink in changed.uplinks] == [PUMP.identity]
        slow.commit()
        seen = [uplink.transaction for uplink in changed.uplinks]
        late = history.changed(connection, changed.watermark, seen)
        assert [uplink.device for uplink in late.uplinks] == [VALVE.identity]


def test_the_past_that_is_judged_again_is_bounded(registered: str, writer: Writer) -> None:
    days = [reading(at=T0 - i * 24 * 60 * MINUTE) for i in range(30)]
    writer.commit(Batch([record(days), record([reading(device=VALVE.identity)])]))
    with connect(registered) as connection:
        found = history.past(connection, {PUMP.identity: None, VALVE.identity: None}).readings
        assert sum(entry.device == PUMP.identity for entry in found) == 15
        assert sum(entry.device == VALVE.identity for entry in found) == 1
        assert len(history.readings(connection, [PUMP.identity], T0 - 30 * 24 * 60 * MINUTE)) == 30


def test_the_audit_finds_what_is_missing(registered: str, writer: Writer) -> None:
    writer.commit(Batch([record([reading(), reading("flow")])]))
    keys = [
        (PUMP.identity, "pressure", T0),
        (PUMP.identity, "pressure", T0),
        (PUMP.identity, "flow", T0 + 1),
        ("no", "x", T0),
    ]
    with connect(registered) as connection:
        found = compare(connection, keys)
    assert (found.promised, found.missing, found.twice) == (3, 2, 0)


def test_quality_survives_storage(registered: str, writer: Writer) -> None:
    bad = reading()._replace(quality=Quality.BAD)
    writer.commit(Batch([record([bad])]))
    with connect(registered) as connection:
        assert history.past(connection, {PUMP.identity: None}).readings == [bad]


def test_a_past_is_cut_off_where_a_window_would_have_held_something_before_it(registered: str, writer: Writer) -> None:
    newest = reading().measured_at
    earlier = {PUMP.identity: newest - 4 * DAY}
    for days, cut, cut_earlier in ((13, False, False), (22, False, True), (15, True, True)):
        writer.commit(Batch([record([reading(at=newest - days * DAY)])]))
        writer.commit(Batch([record([reading()])]))
        with connect(registered) as connection:
            assert (
                PUMP.identity in history.past(connection, {PUMP.identity: None, VALVE.identity: None}).cut
            ) is cut, days
            assert (PUMP.identity in history.past(connection, earlier).cut) is cut_earlier, days
