"""What a simulation writes down for others to judge it by: ground truth, and what devices were promised.

Both are JSON lines; `simulators/README.md` gives their formats. Written by the sender, outside of the platform.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from devices.model import Instant, instant, moment
from simulators.faults import EXPLAINS, Fault, affected
from simulators.plant import Plant


@dataclass(frozen=True, slots=True)
class Truth:
    """One fault on one device, as it is written down. A burst stands there once for each device that sees it."""

    fault: str
    device: str
    begins: Instant
    ends: Instant
    severity: float
    explains: tuple[str, ...]


def truth_of(plant: Plant, faults: Sequence[Fault]) -> list[Truth]:
    """The ground truth of a run."""
    return [
        Truth(
            fault.kind.value, plant.identity(tag), fault.since, fault.until, fault.severity, EXPLAINS[fault.kind]
        )
        for fault in faults
        for tag in affected(plant.works, fault)
    ]  # fmt: skip


def write_truth(path: Path, truths: Sequence[Truth]) -> None:
    """Write the ground truth of a run."""
    lines = [
        {
            "fault": truth.fault,
            "device": truth.device,
            "from": moment(truth.begins).isoformat(),
            "until": moment(truth.ends).isoformat(),
            "severity": truth.severity,
            "explains": list(truth.explains),
        }
        for truth in truths
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def read_truth(path: Path) -> list[Truth]:
    """Read the ground truth of a run."""
    found = []
    for line in path.read_text("utf-8").splitlines():
        entry = json.loads(line)
        begins, ends = (instant(datetime.fromisoformat(entry[key])) for key in ("from", "until"))
        explains = tuple(entry["explains"])
        found.append(Truth(entry["fault"], entry["device"], begins, ends, entry["severity"], explains))
    return found


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
    ) -> None:
        """Write down how one uplink ended; `readings` are its sample times by metric."""
        line = {
            "device": device,
            "transport": transport,
            "sequence": sequence,
            "sent": True,
            "acknowledged": acknowledged,
            "code": code,
            "readings": readings,
        }
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
