"""What a simulation writes down for others to judge it by: its ground truth (`simulators.truth`), and the ledger of
what devices were promised.

Both are JSON lines; `simulators/README.md` gives their formats. Written by the sender, outside of the platform.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from devices.model import Instant, moment
from simulators.faults import EXPLAINS, Fault, affected
from simulators.plant import Plant
from simulators.truth import GroundTruth, Truth, Watched


def truth_of(plant: Plant, faults: Sequence[Fault], start: Instant, end: Instant) -> GroundTruth:
    """The ground truth of a run over [start, end)."""
    lines = [
        Truth(
            fault.kind.value, plant.identity(tag), fault.since, fault.until, fault.severity, EXPLAINS[fault.kind],
            f"{fault.kind.value} at {fault.target} from {moment(fault.since):%Y-%m-%dT%H:%M:%SZ}",
        )
        for fault in faults
        for tag in affected(plant.works, fault)
    ]  # fmt: skip
    devices = tuple(asset.device.identity for asset in plant.assets)
    return GroundTruth(tuple(lines), Watched(start, end, devices))


class Ledger:
    """The acknowledgements that devices got, line by line as they come; flushed, so that a killed run keeps them."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def write(
        self,
        device: str,
        transport: str,
        sequence: int,
        code: str,
        readings: Mapping[str, Sequence[Instant]],
        *,
        acknowledged: bool,
        sent: bool = True,
        undated: int = 0,
    ) -> None:
        """Write down how one uplink ended; `readings` are its sample times by metric, `undated` how many more it has
        whose times are from before 2010. One that was never sent was dropped by the device itself."""
        line = {
            "device": device,
            "transport": transport,
            "sequence": sequence,
            "sent": sent,
            "acknowledged": acknowledged,
            "code": code,
            "readings": readings,
        }
        if undated:
            line["undated"] = undated
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_ledger(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ledger; a last line that was cut short by a kill is left out."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def acknowledged_keys(path: Path) -> Iterator[tuple[str, str, Instant]]:
    """(device, metric, sample time) of every reading that was acknowledged."""
    for entry in read_ledger(path):
        if entry["acknowledged"]:
            for metric, times in entry["readings"].items():
                for at in times:
                    yield entry["device"], metric, at
