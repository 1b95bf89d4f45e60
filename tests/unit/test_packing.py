"""Binary formats of PostgreSQL, byte by byte where a mistake would be stored in silence."""

import struct

import numpy as np
import pytest

from devices.batch import UplinkRecord
from devices.model import Reading, Transport, Uplink
from storage.packing import NULL, POSTGRES_EPOCH, Columns, binary_array, columns, copy_rows, distinct, newest

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def field(data: bytes | None) -> bytes:
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


def test_a_copy_stream_has_every_field_at_its_own_length() -> None:
    stream = copy_rows(
        [
            ("timestamptz", np.array([POSTGRES_EPOCH + 1, NULL], np.int64)),
            ("text", np.array([b"mqtt", b"import"], np.bytes_)),
            ("int8", np.array([NULL, -7], np.int64)),
            ("int2", np.array([1, 2], np.int16)),
            ("float8", np.array([0.5, -0.0])),
        ]
    )
    first = [struct.pack(">q", 1), b"mqtt", None, struct.pack(">h", 1), struct.pack(">d", 0.5)]
    second = [None, b"import", struct.pack(">q", -7), struct.pack(">h", 2), struct.pack(">d", -0.0)]
    rows = b"".join(struct.pack(">h", 5) + b"".join(map(field, row)) for row in (first, second))
    assert stream == HEADER + rows + b"\xff\xff"


@pytest.mark.parametrize(("values", "dimensions"), [([3, 4], 1), ([], 0)])
def test_an_array_says_its_type_and_its_size(values: list[int], dimensions: int) -> None:
    array = binary_array("int4", np.array(values, np.int32))
    assert array.oid == 1007
    assert struct.unpack_from(">iii", array.data) == (dimensions, 0, 23)
    assert array.data[12:] == b"".join(
        ([struct.pack(">ii", len(values), 1)] if values else []) + [struct.pack(">ii", 4, value) for value in values]
    )


def batch(*rows: tuple[int, int, int, float]) -> Columns:
    device, metric, at, value = zip(*rows, strict=True)
    return Columns(
        np.array(device, np.int32),
        np.array(metric, np.int16),
        np.array(at, np.int64),
        np.array(value),
        np.zeros(len(rows), np.int16),
        np.arange(len(rows), dtype=np.int32),
    )


def test_what_comes_twice_in_a_batch_is_set_aside_and_the_first_stays() -> None:
    found = distinct(batch((2, 1, 5, 1.0), (1, 1, 5, 2.0), (2, 1, 5, 1.0), (2, 1, 5, 3.0), (1, 1, 4, 2.0)))
    assert found.rows.uplink.tolist() == [4, 1, 0]
    assert found.repeats.uplink.tolist() == [2]
    assert found.conflicts.uplink.tolist() == [3]
    assert newest(found.rows).uplink.tolist() == [1, 0]


def test_an_unknown_name_is_an_error() -> None:

    record = UplinkRecord(Uplink(Transport.COAP, b"", 0), "urn:x", [Reading("urn:x", "pressure", 0, 1.0)])
    with pytest.raises(KeyError):
        columns([record], {}, {"pressure": 1})
