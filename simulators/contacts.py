"""When a unit is in contact with its network: what coverage, sleep and radio faults make of the uplinks that it writes.

Pure. Losses on the way are not made here: they are drawn for each transmission (`nbiot.fate`) and repaired by the real
stacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from devices.model import Instant
from simulators import nbiot
from simulators.device_faults import DeviceFault, active, off_spans
from simulators.firmware import Written
from simulators.nbiot import Radio


@dataclass(frozen=True, slots=True)
class Contact:
    """A moment at which a unit can send what it keeps."""

    at: Instant
    level: int
    repeat: bool = False
    """What it sends first it sends once more, although that was answered."""
    newest: bool = False
    """It sends the newest first: the one before was held back."""
    new_port: bool = False
    """The carrier's NAT gives it another port."""
    tries: int = 0
    """How often what it sends was sent in vain before, each time with all retransmissions."""

    @property
    def first_attempt(self) -> int:
        """The number of its first transmission for `nbiot.fate`."""
        return self.tries % 200 * (nbiot.MAX_RETRANSMIT + 1)


Step = Written | Contact
"""A unit writes an uplink into its memory at its `due`, or has a contact."""


def plan(tag: str, seed: int, radio: Radio, written: Iterable[Written], faults: Sequence[DeviceFault]) -> list[Step]:
    """What a unit does in a run, in the order of time. Same arguments, same plan."""
    uplinks = list(written)
    contacts = sorted(_contacts(tag, seed, radio, uplinks, faults), key=lambda contact: contact.at)
    heard: Instant | None = None
    for number, contact in enumerate(contacts):
        forgotten = heard is not None and contact.at - heard >= nbiot.NAT_MAPPING
        moved = active(faults, "new-address", contact.at) is not None
        contacts[number] = replace(contact, new_port=forgotten or moved)
        heard = contact.at
    steps: list[Step] = [*uplinks, *contacts]
    return sorted(steps, key=when)


def when(step: Step) -> Instant:
    """The instant of a step."""
    return step.due if isinstance(step, Written) else step.at


def _contacts(
    tag: str, seed: int, radio: Radio, uplinks: Iterable[Written], faults: Sequence[DeviceFault]
) -> Iterator[Contact]:
    off = off_spans(faults)
    held = False
    found_again: set[Instant] = set()
    for one in uplinks:
        if not held and nbiot.is_reordered(seed, tag, one.due, faults):
            held = True
            continue
        wait = nbiot.delay(radio, seed, tag, one.due, one.level)
        at = one.due + wait
        outage = active(faults, "coverage-loss", at)
        if outage is not None:
            # It looks for a cell again and again, and finds one when there is one.
            if outage.until in found_again:
                continue
            found_again.add(outage.until)
            at = outage.until + wait
        if any(since <= at < until for since, until in off):
            continue
        yield Contact(at, one.level, nbiot.is_repeated(radio, seed, tag, one.due, one.level, faults), held)
        held = False
