"""The quarantine on a real database: bounded, decoded again exactly once, and looked at from the command line."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from devices.batch import Batch, QuarantineRecord
from devices.model import MINUTE, SECOND, Codec, Device, Reason, Transport, Uplink, instant
from devices.profile import shipped_profiles
from headworks.cli import app
from headworks.redecode import Redecoded, redecode
from ingest.translate import translate
from storage import quarantine
from storage.database import Connection, connect
from storage.quarantine import Kept, Limits, Selection, Share, keep
from storage.registry import find, register
from storage.writer import Writer
from tests.conftest import PUMP, VALVE

T0 = 1_790_000_000 * SECOND
NOW = T0 + 60 * MINUTE


@pytest.fixture
def connection(registered: str) -> Iterator[Connection]:
    with connect(registered) as opened:
        yield opened


def uplink(payload: bytes, *, identity: str | None = PUMP.identity, source: str = "topic", at: int = T0) -> Uplink:
    return Uplink(Transport.MQTT, payload, at, identity, 110, source)


def record(payload: bytes = b"{}", reason: Reason = Reason.MALFORMED, **given: object) -> QuarantineRecord:
    message = uplink(payload, **given)  # type: ignore[arg-type]
    return QuarantineRecord(message, reason, "why", message.identity)


def put(connection: Connection, records: list[QuarantineRecord], limits: Limits = quarantine.DEFAULT_LIMITS) -> Kept:
    with connection.transaction():
        return keep(connection, records, limits)


def ask(connection: Connection, query: str) -> list[tuple[object, ...]]:
    return connection.execute(query.encode()).fetchall()


def levels(connection: Connection) -> dict[object, tuple[object, object]]:
    return {
        scope: (rows, size) for scope, rows, size in ask(connection, "SELECT scope, rows, bytes FROM quarantine_level")
    }


def counted(connection: Connection) -> dict[object, tuple[object, object]]:
    """The same as `levels`, counted anew."""
    rows = ask(connection, "SELECT scope, octet_length(payload) FROM quarantine")
    found: dict[object, tuple[int, int]] = {}
    for scope, size in rows:
        for name in {scope, "strangers" if str(scope).startswith("source:") else scope}:
            held = found.get(name, (0, 0))
            found[name] = held[0] + 1, held[1] + int(str(size))
    return dict(found)


def test_an_uplink_is_kept_to_the_last_byte_and_as_it_was_addressed(connection: Connection) -> None:
    given = [
        Uplink(Transport.COAP, bytes(range(256)), T0, None, None, "[::1]:5683"),
        Uplink(Transport.MQTT, b"", T0 + 1, PUMP.identity, 112, "a\0b", Codec.SENML),
    ]
    put(connection, [QuarantineRecord(message, Reason.MALFORMED, "d", PUMP.identity) for message in given])
    second, first = quarantine.records(connection, Selection(), 10)
    assert first.uplink == given[0]
    assert first.identity == PUMP.identity  # what the payload claims is shown, and not taken for established
    assert second.uplink == Uplink(Transport.MQTT, b"", T0 + 1, PUMP.identity, 112, "a\\0b", Codec.SENML)


def test_a_device_has_its_share_and_what_is_above_it_is_counted(connection: Connection) -> None:
    limits = Limits(device=Share(3, 100))
    assert put(connection, [record(b"1234567890", at=T0 + i) for i in range(2)], limits) == Kept(2, 0)
    assert put(connection, [record(b"1234567890", at=T0 + i) for i in range(2, 6)], limits) == Kept(1, 3)
    assert put(connection, [record(identity=VALVE.identity)], limits) == Kept(1, 0)
    (lost,) = quarantine.dropped(connection)
    assert (lost.scope, lost.reason, lost.records, lost.bytes) == (f"device:{PUMP.identity}", "malformed", 3, 30)
    assert (instant(lost.first), instant(lost.last)) == (T0 + 3, T0 + 5)
    assert levels(connection) == counted(connection)
    # Room again after a purge, and the bytes count as the rows do.
    assert quarantine.purge(connection, Selection(identity=PUMP.identity)) == 3
    assert put(connection, [record(b"x" * 60), record(b"x" * 60), record(b"x" * 40)], limits) == Kept(2, 1)


def test_strangers_cannot_fill_the_disk_by_changing_their_names(connection: Connection) -> None:
    limits = Limits(source=Share(5, 1000), strangers=Share(8, 1000))
    crowd = [record(identity=f"urn:x:{i}", source=f"topic/{i}") for i in range(20)]
    assert put(connection, crowd, limits) == Kept(8, 12)
    assert put(connection, [record(identity=None)], limits) == Kept(0, 1)
    assert len(levels(connection)) == 9, "only a share that holds something has a row"
    assert [(lost.scope, lost.records) for lost in quarantine.dropped(connection)] == [("strangers:mqtt", 13)]
    one = [
        QuarantineRecord(Uplink(Transport.COAP, b"", T0, None, None, f"10.0.0.1:{port}"), Reason.MALFORMED, "")
        for port in range(9)
    ]
    quarantine.purge(connection, Selection())
    assert put(connection, one, limits) == Kept(5, 4), "another port is not another source"
    assert levels(connection) == counted(connection)


def test_two_writers_at_once_hold_the_limits_exactly(registered: str, connection: Connection) -> None:
    limits = Limits(device=Share(150, 1 << 20))
    kept: list[Kept] = []

    def fill(identities: list[str]) -> None:
        with connect(registered) as own:
            for i in range(30):
                done = put(own, [record(identity=name, at=T0 + i) for name in identities * 5], limits)
                kept.append(done)

    names = [PUMP.identity, VALVE.identity]
    threads = [threading.Thread(target=fill, args=(order,)) for order in (names, names[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 60, "neither met a deadlock"
    assert (sum(each.kept for each in kept), sum(each.dropped for each in kept)) == (300, 300)
    assert levels(connection) == counted(connection)
    assert sum(lost.records for lost in quarantine.dropped(connection)) == 300


def test_dashboards_see_counts_and_no_payloads(connection: Connection) -> None:
    put(connection, [record(at=T0 + i * MINUTE) for i in range(3)])
    assert ask(connection, "SELECT reason, identity, sum(records)::int FROM quarantine_hourly GROUP BY 1, 2") == [
        ("malformed", PUMP.identity, 3)
    ]
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL ROLE headworks_reader")
        assert ask(connection, "SELECT count(*) > 0 FROM quarantine_hourly") == [(True,)]
        with pytest.raises(Exception, match="permission denied"):
            ask(connection, "SELECT payload FROM quarantine")


# Decoding again


STRANGER = "urn:dev:imei:867000000000033"
PACK = b'[{"n":"pressure","u":"Pa","v":412000,"t":%d},{"n":"flow","u":"l/s","v":11.5,"t":%d}]' % (
    T0 // SECOND,
    T0 // SECOND,
)


@pytest.fixture
def writer(registered: str) -> Iterator[Writer]:
    opened = Writer(registered)
    yield opened
    opened.close()


def again(connection: Connection, writer: Writer, **given: bool) -> Redecoded:
    return redecode(connection, writer, shipped_profiles(), Selection(), until=NOW, **given)  # type: ignore[arg-type]


def arrive(connection: Connection, writer: Writer, uplinks: list[Uplink]) -> None:
    """What the live path does with uplinks."""

    def resolve(identities: object) -> dict[str, object]:
        return {name: entry.device for name, entry in find(connection, list(identities)).items()}  # type: ignore[call-overload]

    batch, _ = translate(uplinks, resolve, shipped_profiles())  # type: ignore[arg-type]
    writer.commit(Batch(batch.uplinks))
    put(connection, batch.quarantine)


def test_what_is_registered_later_is_stored_with_its_own_time_of_receipt(
    connection: Connection, writer: Writer
) -> None:
    arrive(connection, writer, [uplink(PACK, identity=STRANGER)])
    assert again(connection, writer) == Redecoded(kept=1)
    register(connection, [Device(STRANGER, PUMP.profile)], shipped_profiles())
    assert again(connection, writer, dry_run=True) == Redecoded(released=1, stored=2)
    assert ask(connection, "SELECT count(*) FROM reading") == [(0,)]
    assert again(connection, writer) == Redecoded(released=1, stored=2)
    assert ask(connection, "SELECT (extract(epoch FROM received_at) * 1000000)::bigint, readings FROM uplink") == [
        (T0, 2)
    ]
    assert ask(connection, "SELECT count(*) FROM quarantine") == [(0,)]
    assert again(connection, writer) == Redecoded()


def test_a_partly_bad_uplink_is_neither_stored_twice_nor_in_conflict_with_itself(
    connection: Connection, writer: Writer
) -> None:
    partly = b'[{"n":"pressure","u":"Pa","v":412000,"t":%d},{"n":"nonsense","v":1}]' % (T0 // SECOND)
    arrive(connection, writer, [uplink(partly)])
    assert again(connection, writer) == Redecoded(kept=1, known=1)
    assert ask(connection, "SELECT reason FROM quarantine") == [("unknown_metric",)]
    assert ask(connection, "SELECT readings, duplicates FROM uplink") == [(1, 0)], "nothing is logged twice"


def test_a_payload_that_names_several_devices_is_read_as_it_came(connection: Connection, writer: Writer) -> None:
    both = b'[{"bn":"%s:","n":"flow","u":"m3/h","v":1},{"bn":"%s:","n":"pressure","u":"bar","v":2}]'
    register(connection, [Device(STRANGER, PUMP.profile)], shipped_profiles())
    message = uplink(both % (STRANGER.encode(), PUMP.identity.encode()), identity=None)
    put(connection, [QuarantineRecord(message, Reason.UNKNOWN_DEVICE, "then", STRANGER)])
    assert again(connection, writer) == Redecoded(released=1, stored=2)


def test_a_contradiction_stays_and_a_stop_between_commit_and_release_is_made_good(
    connection: Connection, writer: Writer
) -> None:
    arrive(connection, writer, [uplink(PACK)])
    put(
        connection,
        [
            record(PACK, Reason.INTERNAL_ERROR, at=T0 + 1),  # committed, and stopped before its release
            record(PACK.replace(b"11.5", b"12.5"), Reason.INTERNAL_ERROR, at=T0 + 2),
        ],
    )
    assert again(connection, writer) == Redecoded(released=1, kept=1, known=3)
    assert ask(connection, "SELECT reason FROM quarantine") == [("conflicting_value",)]
    assert ask(connection, "SELECT count(*), max(value) FROM reading WHERE metric_id ="
        " (SELECT metric_id FROM metric WHERE name = 'flow')") == [(1, 41.4)]  # fmt: skip
    assert again(connection, writer) == Redecoded(kept=1, known=1)


def test_of_two_records_that_contradict_each_other_one_is_stored_and_one_stays(
    connection: Connection, writer: Writer
) -> None:
    first, second = PACK, PACK.replace(b"11.5", b"12.5")
    put(connection, [record(first, Reason.INTERNAL_ERROR), record(second, Reason.INTERNAL_ERROR, at=T0 + 1)])
    assert again(connection, writer) == Redecoded(released=1, kept=1, stored=2)
    assert ask(connection, "SELECT reason, payload FROM quarantine") == [("conflicting_value", second)]
    assert levels(connection) == counted(connection)


def test_one_record_stays_for_each_reason_that_is_left(connection: Connection, writer: Writer) -> None:
    twice = b'[{"n":"nonsense","v":1},{"n":"flow","u":"l/s","v":1},{"n":"nonsense2","v":1}]'
    put(connection, [record(twice, Reason.UNIT_MISMATCH), record(twice, Reason.NOT_A_NUMBER)])
    assert again(connection, writer) == Redecoded(released=1, kept=1, stored=1)
    assert ask(connection, "SELECT reason FROM quarantine") == [("unknown_metric",)]


def test_the_commands_tell_what_is_there_and_ask_before_they_delete(
    registered: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", as_url(registered))
    put(connection, [record(b"\x1b[2Jhello"), record(PACK, Reason.INTERNAL_ERROR)], Limits(device=Share(2, 10_000)))
    put(connection, [record()], Limits(device=Share(2, 10_000)))

    def run(*arguments: str, answer: str = "") -> tuple[int, str]:
        result = CliRunner().invoke(app, ["quarantine", *arguments], input=answer)
        return result.exit_code, result.output

    assert "counted, not kept: 1 × malformed" in run("list")[1]
    assert "internal_error" not in run("list", "--reason", "malformed")[1]
    number = str(quarantine.records(connection, Selection(reason=Reason.MALFORMED), 1)[0].number)
    shown = run("show", number)[1]
    assert "1b 5b 32 4a" in shown
    assert "\x1b" not in shown
    assert "now: malformed" in shown
    assert run("show", "999999")[0] == 1
    assert (
        "would release 1 records: 2 readings to store, 0 known before; 1 records stay"
        in run("redecode", "--dry-run")[1]
    )
    assert "released 1 records: 2 readings stored" in run("redecode")[1]
    assert run("purge", answer="n\n")[0] == 1
    assert ask(connection, "SELECT count(*) FROM quarantine") == [(1,)]
    assert "deleted 1 records" in run("purge", "--yes")[1]
    assert run("list", "--since", "yesterday")[0] == 2


def as_url(conninfo: str) -> str:
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(conninfo)
    return (
        f"postgresql://{parts.get('user', '')}@/{parts['dbname']}?host={parts.get('host', '')}"
        f"&port={parts.get('port', 5432)}"
    )
