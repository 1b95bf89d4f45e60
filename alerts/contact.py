"""Who is heard of, and what it means that somebody is not: asleep, late, cut off, silent, and why.

This is the one judgement about arrival: `heard_at` is when an uplink was received, not when it was sampled. It is a
function of the uplinks and of the moments (`now`) at which it is asked; times of alarms come from the uplinks alone.
Where nobody on a path (a gateway, a transport) is heard any more, that is one outage, and no device is blamed for it.
Pure; who asks and how often is in `alerts.live`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from devices.alarm import Alarm, AlarmChange, AlarmDefinition, ChangeKind, Priority
from devices.duration import format_duration
from devices.model import DAY, MINUTE, Instant

LATE_INTERVALS = 2
"""Reporting intervals without a word after which a device is late: one report was lost, the next is due."""
SILENT_INTERVALS = 4
"""Reporting intervals without a word after which somebody should look."""
OUTAGE_DEVICES = 3
"""So many devices late since anybody on their path was heard are no coincidence."""
WEAK_DBM = -125.0
"""NRSRP below which a device was at the edge of coverage when it last spoke."""
DEEPEST_LEVEL = 2
"""Coverage enhancement level beyond which there is none (level 2, MCL 164 dB)."""
FLAT_PERCENT = 5.0
"""Remaining charge at which a battery may not carry another transmission."""


class ContactState(StrEnum):
    """What is known of a device's contact at a moment."""

    HEARD = "heard"
    """It reported when it should, and can be reached."""
    ASLEEP = "asleep"
    """It reported when it should, and sleeps until its next uplink (power saving mode)."""
    LATE = "late"
    """A report is missing; nothing to do yet."""
    CUT_OFF = "cut_off"
    """The path to it is down: nothing is known of the device."""
    FLAT_BATTERY = "flat_battery"
    """Silent, and its last words were of an empty battery."""
    OUT_OF_COVERAGE = "out_of_coverage"
    """Silent, and its last words came from the edge of coverage."""
    SILENT = "silent"
    """Silent, and its last words give no reason."""


@dataclass(frozen=True, slots=True)
class Contact:
    """What is known of one device. `interval` (µs) is its profile's, `wakes` (µs) its T3412 if it sleeps; the last
    words are its newest values in canonical units, None where it never told."""

    device: str
    path: str
    heard_at: Instant
    interval: Instant
    wakes: Instant | None = None
    battery: float | None = None
    battery_low: bool = False
    rsrp: float | None = None
    coverage_level: float | None = None

    @property
    def patience(self) -> Instant:
        """How long (µs) it may say nothing before somebody should look. One that sleeps may have missed its uplink and
        cannot be reached before T3412 wakes it, so it has that and one interval at least."""
        sleeping = 0 if self.wakes is None else self.wakes + self.interval
        return max(SILENT_INTERVALS * self.interval, sleeping)


@dataclass(frozen=True, slots=True)
class Outage:
    """A path on which nobody was heard after `since`; known from `raised_at` on, over with the next uplink."""

    path: str
    since: Instant
    raised_at: Instant
    devices: int
    ended_at: Instant | None = None


def outages(
    contacts: Iterable[Contact], ongoing: Sequence[Outage], now: Instant, fresh_from: Instant = 0
) -> list[Outage]:
    """The outages as they stand now: those of `ongoing` that are over have their end, new ones are added.

    A path is out when `OUTAGE_DEVICES` devices that were not late when it was last heard of have become late since, and
    none was heard. Time before `fresh_from` (the platform's start) counts for nothing. `raised_at` is
    when the last one needed for that became late.
    """
    known = {outage.path: outage for outage in ongoing}
    paths: dict[str, list[Contact]] = defaultdict(list)
    for contact in contacts:
        paths[contact.path].append(contact)
    found: list[Outage] = []
    for path, members in sorted(paths.items()):
        outage = known.pop(path, None)
        if outage is not None:
            again = min((m.heard_at for m in members if m.heard_at > outage.since), default=None)
            found.append(outage if again is None else replace(outage, ended_at=again))
            continue
        heard = [(max(member.heard_at, fresh_from), member.interval) for member in members]
        last = max(at for at, _ in heard)
        due = sorted(at + LATE_INTERVALS * interval for at, interval in heard)
        due = [at for at in due if last < at <= now]
        if len(due) >= OUTAGE_DEVICES:
            found.append(Outage(path, last, due[OUTAGE_DEVICES - 1], len(members)))
    return found + list(known.values())


def state(contact: Contact, now: Instant, fresh_from: Instant, *, out: bool) -> ContactState:
    """What is known of a device now. Its time counts from `fresh_from` where that is later than its last uplink (the
    end of an outage, the platform's start); `out` while its path is out."""
    quiet = now - max(contact.heard_at, fresh_from)
    if quiet < LATE_INTERVALS * contact.interval and not (out and _overdue(contact, now)):
        return ContactState.HEARD if contact.wakes is None else ContactState.ASLEEP
    if out:
        return ContactState.CUT_OFF
    if quiet < contact.patience:
        return ContactState.LATE
    return _why(contact)


def _overdue(contact: Contact, now: Instant) -> bool:
    return now - contact.heard_at >= LATE_INTERVALS * contact.interval


def _why(contact: Contact) -> ContactState:
    """What the last words say about a device that is silent: a battery explains it better than the radio does."""
    if contact.battery_low or (contact.battery is not None and contact.battery <= FLAT_PERCENT):
        return ContactState.FLAT_BATTERY
    if contact.rsrp is not None and contact.rsrp <= WEAK_DBM:
        return ContactState.OUT_OF_COVERAGE
    if contact.coverage_level is not None and contact.coverage_level >= DEEPEST_LEVEL:
        return ContactState.OUT_OF_COVERAGE
    return ContactState.SILENT


_RULES = {
    ContactState.SILENT: "device-silent",
    ContactState.OUT_OF_COVERAGE: "device-out-of-coverage",
    ContactState.FLAT_BATTERY: "device-flat-battery",
}
RULES = frozenset(_RULES.values())
"""The names under which the journal has these alarms."""


def changes(
    contact: Contact, active: Sequence[Alarm], now: Instant, fresh_from: Instant, *, out: bool
) -> list[AlarmChange]:
    """What the journal lacks of a device; `active` are its alarms of `RULES` that are on.

    An alarm's `since` is when its time began to count, `raised_at` when its patience was over. It is cleared by the
    next uplink; one that turns out to have come before it was raised (from the spool) takes the alarm back.
    """
    found: list[AlarmChange] = []
    on = False
    for alarm in active:
        if contact.heard_at <= alarm.since:
            on = True
        elif contact.heard_at < alarm.raised_at:
            found.append(AlarmChange(ChangeKind.RETRACTED, alarm, None))
        else:
            found.append(AlarmChange(ChangeKind.CLEARED, alarm, replace(alarm, cleared_at=contact.heard_at)))
    why = state(contact, now, fresh_from, out=out)
    if not on and why in _RULES:
        since = max(contact.heard_at, fresh_from)
        raised = Alarm(
            _RULES[why], contact.device, Priority.MEDIUM, _message(contact, why), since, since + contact.patience
        )
        found.append(AlarmChange(ChangeKind.RAISED, None, raised))
    return found


def _message(contact: Contact, why: ContactState) -> str:
    words = []
    if contact.battery is not None:
        words.append(f"battery {contact.battery:.0f} %")
    if contact.battery_low:
        words.append("battery to be changed")
    if contact.rsrp is not None:
        words.append(f"signal {contact.rsrp:.0f} dBm")
    if contact.coverage_level is not None:
        words.append(f"coverage level {contact.coverage_level:.0f}")
    said = "; its last words: " + ", ".join(words) if words else ""
    what = {
        ContactState.SILENT: "Silent",
        ContactState.OUT_OF_COVERAGE: "Out of coverage",
        ContactState.FLAT_BATTERY: "Battery flat",
    }[why]
    return f"{what}: nothing heard for {format_duration(contact.patience)}, expected every " + (
        f"{format_duration(contact.interval)}{said}"
    )


_GUIDANCE: Mapping[ContactState, tuple[str, str, str, str]] = {
    ContactState.SILENT: (
        "Device silent",
        "A fault in the device, its supply or its SIM; or it was taken away.",
        "Nothing is known of the pump or valve, and its other alarms cannot call.",
        "See whether its neighbours are heard; then visit it, and look at supply and SIM first.",
    ),
    ContactState.OUT_OF_COVERAGE: (
        "Device out of coverage",
        "The radio was at its limit when it last spoke: a closed lid, water in the pit, or work on the cell.",
        "Nothing is known of the pump or valve; what it measures meanwhile may come later.",
        "Ask the operator about the cell; see to the aerial at the next visit.",
    ),
    ContactState.FLAT_BATTERY: (
        "Device's battery flat",
        "The battery was at its end when the device last spoke.",
        "Nothing is known of the pump or valve until the battery is replaced.",
        "Replace the battery.",
    ),
}


def definitions() -> list[AlarmDefinition]:
    """What people are shown of these alarms."""
    latching = False
    return [
        AlarmDefinition(_RULES[why], title, "system", Priority.MEDIUM, 500, latching, DAY, cause, consequence, action)
        for why, (title, cause, consequence, action) in _GUIDANCE.items()
    ]


GAP = 10 * MINUTE
"""Where nobody asked for so long, the platform itself was away, and everybody's time counts anew."""
LOOK_BACK = 400 * DAY
"""How long ago an uplink may be to count as heard: T3412 can be up to 413 days."""
