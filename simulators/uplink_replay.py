"""Sends what `headworks record` has kept: the same bytes, or as other devices, or at another time."""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from devices.document import suggest
from devices.model import Codec, Instant, Uplink
from simulators.recording import Checkpoint, ReplayError, fingerprint, load_checkpoint
from simulators.replay import Parcel, Replayed, Stage, play
from simulators.replay_sender import Sender, Way
from simulators.rewriting import Rename, rewrite
from simulators.sparkplug_lives import Lives, is_echo, place_of
from simulators.uplink_recording import Contents, read_recording, survey

_AT_ONCE = 16
"""Uplinks that are ticked off together."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different from the recording."""

    names: tuple[tuple[str, str], ...] = ()
    """(old, new): identities, or patterns with one `*` each, whose text goes from one to the other; the first fits."""
    shift: Instant | None = None
    """Added to every sample time, after those that are relative to the receipt were written out; None leaves bytes."""

    def rename(self, identity: str) -> str:
        """The name that an identity goes by now."""
        for old, new in self.names:
            if "*" not in old:
                if identity == old:
                    return new
            elif fnmatch.fnmatchcase(identity, old):
                head, tail = old.split("*")
                return new.replace("*", identity[len(head) : len(identity) - len(tail)])
        return identity


def parse_names(lines: list[str], source: str) -> tuple[tuple[str, str], ...]:
    """Lines `old = new`; `ReplayError` naming the line that is none. What follows a `#` is a remark."""
    found = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        old, equals, new = (part.strip() for part in text.partition("="))
        if not equals or not old or not new or old.count("*") > 1 or old.count("*") != new.count("*"):
            raise ReplayError(
                f"{source}:{number}: write old = new, with one * on both sides or on none: {line.strip()!r}"
            )
        found.append((old, new))
    return tuple(found)


@dataclass(slots=True)
class Resent(Replayed):
    """How the replay of a recording went; `rows` are its uplinks."""

    unsendable: int = 0
    """Uplinks that no message can be made of here."""
    unborn: int = 0
    """Of Sparkplug, without the birth of their edge node or device before them in the recording."""
    unchanged: int = 0
    """Uplinks in whose payloads names or times could not be changed as asked; they were sent as they are."""


async def replay_recording(
    path: Path,
    way: Way,
    checkpoint: Path,
    changes: Changes,
    *,
    speed: float = 0.0,
    report: Callable[[Replayed], None] = lambda _: None,
    stop: asyncio.Event | None = None,
) -> Resent:
    """Send a recording at `speed` times its own pace (0: as fast as it is answered), on from where it was stopped.

    `RecordingError` where the file is none, `OSError` where the file or a gateway cannot be reached.
    """
    contents = await asyncio.to_thread(survey, path)
    _check(changes, contents)
    of = await asyncio.to_thread(fingerprint, path, repr(changes), way.target)
    reached = load_checkpoint(checkpoint, of)
    state = Resent(rows=reached.rows, total_rows=contents.uplinks)
    sender = Sender(way)
    lives = await asyncio.to_thread(_lives, path, reached.rows, changes) if reached.rows else Lives()
    if sender.sessions is not None:
        sender.sessions.recall(lives)
    stages = _stages(path, sender, state, reached, changes, lives)
    await play(stages, sender, state, checkpoint, of, speed=speed, report=report, stop=stop, strangers=True)
    return state


def _check(changes: Changes, contents: Contents) -> None:
    """A name that is not in the recording is a mistake, not a wish."""
    for old, _ in changes.names:
        if "*" not in old and contents.devices and old not in contents.devices:
            raise ReplayError(f"no device ‘{old}’ is in the recording{suggest(old, list(contents.devices))}")


def _lives(path: Path, until: int, changes: Changes) -> Lives:
    """The births in the part of a recording that was replayed before."""
    lives = Lives()
    rename: Rename | None = changes.rename if changes.names else None
    for uplink in islice(chain.from_iterable(read_recording(path, Contents())), until):
        if uplink.codec is Codec.SPARKPLUG:
            changed = _changed(uplink, rename, changes.shift, Resent())
            place = place_of(changed)
            if place is not None and not is_echo(place):
                lives.take(place, changed)
    return lives


def _stages(
    path: Path, sender: Sender, state: Resent, reached: Checkpoint, changes: Changes, lives: Lives
) -> Iterator[Stage]:
    rename: Rename | None = changes.rename if changes.names else None
    done = reached.rows
    for frame in read_recording(path, Contents(), reached.rows):
        for start in range(0, len(frame), _AT_ONCE):
            group = frame[start : start + _AT_ONCE]
            parcels = []
            for number, uplink in enumerate(group, done + 1):
                changed = _changed(uplink, rename, changes.shift, state)
                place = place_of(changed)
                if not sender.can_send(changed):
                    state.unsendable += 1
                elif place is not None and is_echo(place):
                    continue
                elif place is not None and not lives.take(place, changed):
                    state.unborn += 1
                else:
                    parcels.append(Parcel(changed, f"uplink {number} of {uplink.identity or 'an unnamed device'}"))
            done += len(group)
            yield Stage([uplink.received_at for uplink in group], parcels, Checkpoint(done, done))


def _changed(uplink: Uplink, rename: Rename | None, shift: Instant | None, state: Resent) -> Uplink:
    if rename is None and shift is None:
        return uplink
    changed, whole = rewrite(uplink, rename, shift)
    state.unchanged += not whole
    return changed
