"""A recording of what gateways received: its file format, writing and reading. `simulators/README.md` describes it.

Append-only, in frames that each stand by themselves: what a kill cuts off is the last frame at the most.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import IO, Any

from devices.model import Device, Uplink
from devices.packed import pack, unpack

MAGIC = b"HWREC\x00\x01\n"
"""Eight bytes; the seventh is the version of the format."""
_HEAD = struct.Struct("!BII")
"""Kind, length and CRC-32 of a frame's content."""
_LONGEST = 64 << 20


class RecordingError(ValueError):
    """The file is no recording, or of a later version; the message says which."""


class Kind(IntEnum):
    """What a frame holds; one of a kind that is not known here is passed over."""

    ABOUT = 1
    """JSON: when it was begun, whether names are pseudonyms."""
    DEVICES = 2
    """JSON: devices as the registry had them, before the first uplink of each."""
    UPLINKS = 3
    """Uplinks, packed and deflated."""
    LOST = 4
    """JSON: how many uplinks could not be kept here, and why."""


@dataclass(slots=True)
class Contents:
    """What a recording holds beside its uplinks, as far as it has been read."""

    about: dict[str, Any] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    uplinks: int = 0
    lost: int = 0
    """Uplinks that the recorder could not keep."""
    torn: bool = False
    """The last frame was cut off by a kill: at most a second is missing."""


class Recorder:
    """Writes a recording; every frame is on the disk when its method returns."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        """Create, or go on with one that is there: what a kill cut off is cut away. `RecordingError` where the file is
        something else, `OSError` where it cannot be written."""
        end = 0
        if path.exists() and path.stat().st_size:
            end = _whole(path)
        self._file: IO[bytes] = path.open("r+b" if end else "wb")
        self._file.truncate(end)
        self._file.seek(end)
        self.bytes = end
        if not end:
            self._file.write(MAGIC)
            self.bytes = len(MAGIC)
        self._frame(Kind.ABOUT, json.dumps(about).encode())

    def uplinks(self, uplinks: Sequence[Uplink]) -> None:
        """Keep some uplinks; `OSError` where the disk is full, and then nothing of them is in the file."""
        self._frame(Kind.UPLINKS, zlib.compress(pack(uplinks), 6))

    def devices(self, devices: Iterable[Device]) -> None:
        """Keep what the registry says of some devices."""
        self._frame(Kind.DEVICES, zlib.compress(json.dumps([_as_dict(device) for device in devices]).encode()))

    def lost(self, count: int, why: str) -> None:
        """Note that some uplinks are missing here."""
        self._frame(Kind.LOST, json.dumps({"uplinks": count, "why": why}).encode())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _frame(self, kind: Kind, content: bytes) -> None:
        at = self.bytes
        try:
            self._file.write(_HEAD.pack(kind, len(content), zlib.crc32(content)) + content)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            self._file = _reopened(self._file, at)
            raise
        self.bytes = at + _HEAD.size + len(content)


def _reopened(file: IO[bytes], end: int) -> IO[bytes]:
    """The same file, ending where its last whole frame ends: a full disk leaves a part of one, also in the buffer."""
    number = os.dup(file.fileno())
    with suppress(OSError):  # its buffer cannot be written: that is what is thrown away
        file.close()
    again = os.fdopen(number, "r+b")
    again.truncate(end)
    again.seek(end)
    return again


def is_recording(path: Path) -> bool:
    """Whether a file begins as a recording does."""
    with path.open("rb") as file:
        return file.read(5) == MAGIC[:5]


def read_recording(path: Path, contents: Contents, after: int = 0) -> Iterator[list[Uplink]]:
    """The uplinks, frame by frame, without the first `after`; what else there is goes into `contents`.

    `RecordingError` where it is no recording. A frame that is cut off ends it, with `contents.torn`.
    """
    for kind, content in _frames(path, contents):
        match kind:
            case Kind.ABOUT:
                contents.about = contents.about or json.loads(content)
            case Kind.DEVICES:
                for entry in json.loads(zlib.decompress(content)):
                    contents.devices[entry["identity"]] = Device(**entry)
            case Kind.LOST:
                contents.lost += int(json.loads(content)["uplinks"])
            case Kind.UPLINKS:
                uplinks = unpack(zlib.decompress(content))
                skipped = min(len(uplinks), max(0, after - contents.uplinks))
                contents.uplinks += len(uplinks)
                if skipped < len(uplinks):
                    yield uplinks[skipped:]


def survey(path: Path) -> Contents:
    """Read a whole recording for what it holds; its uplinks are only counted."""
    contents = Contents()
    for _ in read_recording(path, contents):
        pass
    return contents


def _frames(path: Path, contents: Contents) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        begin = file.read(len(MAGIC))
        if begin[:5] != MAGIC[:5]:
            raise RecordingError(f"{path}: this is no recording of `headworks record`")
        if begin != MAGIC:
            raise RecordingError(f"{path}: a later version of Headworks wrote this recording")
        while head := file.read(_HEAD.size):
            kind, length, check = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, _LONGEST + 1, 0)
            content = file.read(length) if length <= _LONGEST else b""
            if len(content) != length or zlib.crc32(content) != check:
                contents.torn = True
                return
            yield kind, content


def _whole(path: Path) -> int:
    """Where the last whole frame ends."""
    end = len(MAGIC)
    for _, content in _frames(path, Contents()):
        end += _HEAD.size + len(content)
    return end


def _as_dict(device: Device) -> dict[str, Any]:
    names = ("identity", "profile", "tag", "site", "area", "unit", "manufacturer", "model", "serial", "gateway")
    return {name: value for name in names if (value := getattr(device, name))} | {"design": dict(device.design)}
