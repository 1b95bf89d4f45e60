"""Judges at a moment who is heard of: what `storage.contact` knows, put to `alerts.contact`, and kept."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from alerts.contact import GAP, LOOK_BACK, RULES, Contact, Outage, changes, outages, state
from devices.alarm import Alarm, AlarmChange, Announcement, Priority
from devices.model import Instant, moment
from devices.profile import Profile
from storage import contact as store
from storage import journal
from storage.database import Connection


def judge(
    connection: Connection, profiles: Mapping[str, Profile], channels: Sequence[str], now: Instant
) -> list[AlarmChange]:
    """Keep the states and outages as they are at `now`, and return what the journal lacks."""
    began = store.tick(connection, now, GAP)
    found = [one for one in store.heard(connection, now, LOOK_BACK) if one.profile in profiles]
    contacts = [_contact(one, profiles[one.profile]) for one in found]
    ongoing = [Outage(*row) for row in store.ongoing(connection)]
    present = outages(contacts, ongoing, now, began)
    for outage in present:
        if outage not in ongoing:
            told = _announcement(outage)
            store.keep_outage(
                connection,
                outage.path,
                outage.since,
                outage.raised_at,
                outage.devices,
                outage.ended_at,
                [told],
                channels,
            )
    out = {outage.path for outage in present if outage.ended_at is None}
    ends = store.last_ends(connection)
    active: dict[str, list[Alarm]] = defaultdict(list)
    for alarm in journal.active(connection, sorted(RULES)):
        active[alarm.device].append(alarm)
    lacking: list[AlarmChange] = []
    states: dict[str, str] = {}
    for one, contact in zip(found, contacts, strict=True):
        fresh_from = max(began, ends.get(contact.path, began))
        is_out = contact.path in out
        now_is = state(contact, now, fresh_from, out=is_out).value
        if now_is != one.state:
            states[one.device] = now_is
        lacking += changes(contact, active[contact.device], now, fresh_from, out=is_out)
    if states:
        store.keep_states(connection, states, now)
    return lacking


def _contact(one: store.Heard, profile: Profile) -> Contact:
    return Contact(
        one.device,
        one.path,
        one.heard_at,
        profile.reporting.interval,
        profile.sleep.t3412 if profile.sleep else None,
        one.words.get("battery"),
        bool(one.words.get("battery_low")),
        one.words.get("rsrp"),
        one.words.get("coverage_level"),
    )


def _announcement(outage: Outage) -> Announcement:
    event = "raised" if outage.ended_at is None else "returned" if outage.ended_at >= outage.raised_at else "withdrawn"
    key = hashlib.sha256(f"path-outage\n{outage.path}\n{outage.since}\n{event}".encode()).hexdigest()[:32]
    told: dict[str, object] = {
        "event": event,
        "rule": "path-outage",
        "title": "Nobody is heard by this path",
        "message": f"None of {outage.devices} devices is heard by {outage.path}: gateway, broker or network is down",
        "priority": Priority.HIGH.value,
        "device": {"identity": outage.path, "tag": "", "site": "", "area": "", "unit": ""},
        "since": moment(outage.since).isoformat().replace("+00:00", "Z"),
        "raised_at": moment(outage.raised_at).isoformat().replace("+00:00", "Z"),
        "cleared_at": None if outage.ended_at is None else moment(outage.ended_at).isoformat().replace("+00:00", "Z"),
    }
    return Announcement(key, event, "path-outage", outage.path, Priority.HIGH, told)
