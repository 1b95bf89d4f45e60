"""The spool's contract: what `append` returned from is there afterwards, in order, once, and within the bound."""

import resource
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.batch import SpoolMark
from devices.errors import UnavailableError
from devices.model import Codec, Transport, Uplink
from storage.spool import Spool

MEBIBYTE = 1024 * 1024


def uplink(number: int, size: int = 10) -> Uplink:
    return Uplink(Transport.COAP, bytes(size), number, f"urn:dev:imei:{number}", 112, "192.0.2.1:5683", Codec.SENML)


class Database:
    """What the database would say about a spool."""

    def __init__(self) -> None:
        self.position = 0
        self.available = True

    def drained(self, _: str) -> int:
        if not self.available:
            raise UnavailableError("away")
        return self.position


def opened(folder: Path, database: Database | None = None, limit: int = MEBIBYTE) -> Spool:
    return Spool(folder / "spool.db", limit, (database or Database()).drained)


def test_uplinks_come_back_as_they_were_and_in_order(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    bare = Uplink(Transport.MQTT, b"", -1)
    spool.append([uplink(1), bare])
    spool.append([uplink(2)])
    found = spool.oldest(100)
    assert found is not None
    assert found.uplinks == [uplink(1), bare, uplink(2)]
    assert spool.waiting == 3
    spool.discard(found.mark)
    assert spool.waiting == spool.waiting_bytes == 0
    assert spool.oldest(100) is None
    spool.close()


def test_it_outlives_its_process(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.append([uplink(1)])
    identity = first.id
    first.close()
    second = opened(tmp_path)
    assert (second.id, second.waiting) == (identity, 1)
    found = second.oldest(1)
    assert found is not None
    assert found.uplinks == [uplink(1)]
    second.close()


def test_what_the_database_has_already_is_not_handed_out_again(tmp_path: Path) -> None:
    """A crash, or a lost connection, between the database's commit and our delete."""
    database = Database()
    spool = opened(tmp_path, database)
    for number in range(3):
        spool.append([uplink(number)])
    found = spool.oldest(2)
    assert found is not None
    assert len(found.uplinks) == 2
    database.position = found.mark.position  # committed, and nobody told us
    again = spool.oldest(2)
    assert again is not None
    assert again.uplinks == [uplink(2)]
    spool.close()


def test_without_the_database_nothing_is_handed_out_but_everything_is_taken(tmp_path: Path) -> None:
    database = Database()
    database.available = False
    spool = opened(tmp_path, database)
    spool.append([uplink(1)])
    with pytest.raises(UnavailableError):
        spool.oldest(1)
    spool.append([uplink(2)])
    database.available = True
    found = spool.oldest(10)
    assert found is not None
    assert len(found.uplinks) == 2
    spool.close()


def test_it_is_bounded_and_takes_again_when_it_was_drained(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit=10_000)
    with pytest.raises(UnavailableError, match=r"the spool is full: .* of 10000 bytes"):
        for number in range(100):
            spool.append([uplink(number, 1_000)])
    held = spool.waiting
    assert 5 <= held <= 10
    found = spool.oldest(1_000)
    assert found is not None
    assert len(found.uplinks) == held
    spool.discard(found.mark)
    spool.append([uplink(1, 1_000)])
    spool.close()


def test_a_full_disk_is_said_and_leaves_what_is_there(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([uplink(1)])
    # SQLite's own limit gives the very error that a full disk does.
    pages = spool._connection.execute("PRAGMA page_count").fetchone()[0]
    spool._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(UnavailableError, match="cannot be written: database or disk is full"):
        spool.append([uplink(2, 100_000)])
    found = spool.oldest(10)
    assert found is not None
    assert found.uplinks == [uplink(1)]
    spool.close()


def test_a_damaged_file_is_set_aside_and_not_lost(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"this is not a database, but it may hold readings" * 100)
    spool = opened(tmp_path)
    spool.append([uplink(1)])
    spool.close()
    [aside] = tmp_path.glob("spool.db.damaged-*")
    assert aside.read_bytes().startswith(b"this is not a database")


def test_a_file_of_another_version_is_left_alone(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(UnavailableError, match="another version"):
        opened(tmp_path)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="cannot be opened"):
        opened(tmp_path / "file")


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["append", "drain", "drain, answer lost", "crash"]), max_size=25))
def test_each_uplink_is_drained_exactly_once_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    database = Database()
    spool = opened(folder, database)
    promised, stored = 0, []
    for step in [*steps, *["drain"] * len(steps)]:
        if step == "append":
            spool.append([uplink(promised), uplink(promised + 1)])
            promised += 2
        elif step == "crash":
            spool.close()
            spool = opened(folder, database)
        else:
            found = spool.oldest(3)
            if found is not None:
                stored += [entry.received_at for entry in found.uplinks]
                database.position = found.mark.position
                if step == "drain":
                    spool.discard(SpoolMark(spool.id, found.mark.position))
    assert stored == list(range(promised))
    spool.close()


def test_what_the_database_has_is_forgotten_also_where_the_disk_is_full(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([uplink(1, MEBIBYTE // 2)])
    found = spool.oldest(1)
    assert found is not None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "spool.db-wal").stat().st_size, hard))
    try:
        spool.discard(found.mark)  # deleting takes room in SQLite's log
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (spool.waiting, spool.waiting_bytes) == (0, 0)
    assert spool.oldest(1) is None
    spool.append([uplink(2)])
    second = spool.oldest(1)
    assert second is not None
    assert second.uplinks == [uplink(2)]
    spool.discard(second.mark)
    spool.close()
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        assert connection.execute("SELECT count(*) FROM segment").fetchone() == (0,)
    connection.close()
