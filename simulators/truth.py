"""Ground truth: what was wrong, where, from when until when, and how badly; JSON lines that others are judged by.

`simulators/README.md` gives the format. Whoever labels a recording of a real machine by hand writes the same lines.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from devices.model import Instant, instant, moment


class TruthError(ValueError):
    """A line is not ground truth; the message begins with file and line."""


@dataclass(frozen=True, slots=True)
class Truth:
    """One fault on one device, as it is written down.

    A fault that several devices see (a burst) stands there once for each of them, under the same `event`.
    """

    fault: str
    device: str
    begins: Instant
    ends: Instant
    severity: float
    """Above 0, at most 1."""
    explains: tuple[str, ...]
    """The rules whose alarms it explains; every rule if empty."""
    event: str = ""
    """Lines of the same name are one fault; a line without one is a fault of its own."""


@dataclass(frozen=True, slots=True)
class Watched:
    """Who was watched, and when: without it nobody can say how many false alarms a month there were."""

    begins: Instant
    ends: Instant
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """A file of ground truth; `watched` is None where it does not say."""

    faults: tuple[Truth, ...]
    watched: Watched | None = None

    def scope(self) -> Watched:
        """What was watched, or the least that it can have been: the faulty devices while anything was wrong.

        `TruthError` where there is neither.
        """
        if self.watched is not None:
            return self.watched
        if not self.faults:
            raise TruthError("there is no fault in the ground truth, and no line that says who was watched")
        devices = tuple(sorted({truth.device for truth in self.faults}))
        return Watched(
            min(truth.begins for truth in self.faults), max(truth.ends for truth in self.faults), devices
        )  # fmt: skip


class _Watched(msgspec.Struct, forbid_unknown_fields=True):
    begins: Annotated[datetime, msgspec.Meta(tz=True)] = msgspec.field(name="from")
    until: Annotated[datetime, msgspec.Meta(tz=True)]
    devices: Annotated[list[str], msgspec.Meta(min_length=1)]


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    watched: _Watched


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    fault: Annotated[str, msgspec.Meta(min_length=1)]
    device: Annotated[str, msgspec.Meta(min_length=1)]
    begins: Annotated[datetime, msgspec.Meta(tz=True)] = msgspec.field(name="from")
    until: Annotated[datetime, msgspec.Meta(tz=True)]
    severity: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 1.0
    explains: list[str] = []
    event: str = ""


def write_truth(path: Path, truth: GroundTruth) -> None:
    """Write ground truth; the line that says who was watched comes first."""
    lines: list[dict[str, object]] = []
    if truth.watched is not None:
        watched = truth.watched
        lines.append(
            {"watched": {"from": _text(watched.begins), "until": _text(watched.ends), "devices": [*watched.devices]}}
        )
    for fault in truth.faults:
        line: dict[str, object] = {
            "fault": fault.fault,
            "device": fault.device,
            "from": _text(fault.begins),
            "until": _text(fault.ends),
            "severity": fault.severity,
            "explains": list(fault.explains),
        }
        if fault.event:
            line["event"] = fault.event
        lines.append(line)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")


def read_truth(path: Path) -> GroundTruth:
    """Read a file of ground truth. `TruthError` with every line that is not one, `OSError` where there is no file."""
    faults: list[Truth] = []
    watched: Watched | None = None
    problems: list[str] = []
    for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not text.strip():
            continue
        try:
            if text.lstrip().startswith('{"watched"'):
                header = msgspec.json.decode(text, type=_Header).watched
                _ordered(header.begins, header.until)
                watched = Watched(instant(header.begins), instant(header.until), tuple(header.devices))
            else:
                line = msgspec.json.decode(text, type=_Line)
                _ordered(line.begins, line.until)
                faults.append(
                    Truth(
                        line.fault,
                        line.device,
                        instant(line.begins),
                        instant(line.until),
                        line.severity,
                        tuple(line.explains),
                        line.event,
                    )
                )
        except ValueError as error:  # msgspec's errors are ones, too
            problems.append(f"{path}:{number}: {error}")
    if problems:
        raise TruthError("\n".join(problems[:20]))
    return GroundTruth(tuple(faults), watched)


def _ordered(begins: datetime, until: datetime) -> None:
    if not begins < until:
        raise ValueError("‘until’ must be later than ‘from’")


def _text(at: Instant) -> str:
    return moment(at).isoformat()
