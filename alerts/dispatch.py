"""From announcements to messages: hold, group, inhibit, escalate, tell again, take back. Pure; time is an argument.

Who is told is in `alerts.routing`. The state is a `Case` for each alarm on each route and a `Window` for each group; it
is kept in the database (`storage.notification`) in the transaction that puts the messages into the outbox, so that a
process that dies has either told and remembered, or neither.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from alerts.routing import (
    FAILED,
    PLATFORM,
    Route,
    Routing,
    Told,
    channels_for,
    describe_escalation,
    explained_by,
    may_explain,
    quiet_until,
    routes_for,
    time_to_respond,
)
from devices.alarm import Announcement, Priority
from devices.duration import format_duration
from devices.model import MINUTE, Instant, moment

SHOWN = 5
"""How many rules, places and tags a summary names; it counts the rest."""
_RANK = (Priority.HIGH, Priority.MEDIUM, Priority.LOW)

Subject = tuple[str, str]
"""Rule and device."""
CaseKey = tuple[str, str, str]
"""Route, rule and device."""
WindowKey = tuple[str, str]
"""Route and group."""

GROUP, QUIET, EXPLAINED = "group", "quiet", "explained"
"""Why a case is held back."""


@dataclass(frozen=True, slots=True)
class Case:
    """One alarm on one route, from when it is announced until its end is."""

    route: str
    rule: str
    device: str
    key: str
    """Of the announcement that raised it."""
    told: dict[str, Any]
    group: str
    held: str = ""
    by: Subject | None = None
    """The alarm that explains it, where that holds it."""
    due_at: Instant | None = None
    """When something is to be done about it next."""
    over: bool = False
    """It ended while it was held."""
    channels: tuple[str, ...] = ()
    """Who heard of it."""
    told_at: Instant | None = None
    step: int = 0
    """How many steps of the escalation were taken."""
    repeats: int = 0
    summary: str = ""
    """The key of the summary in which it was told."""

    @property
    def name(self) -> CaseKey:
        """What identifies it."""
        return self.route, self.rule, self.device


@dataclass(frozen=True, slots=True)
class Window:
    """What a group has sent since its window opened."""

    opened_at: Instant
    sent: int


@dataclass(frozen=True, slots=True)
class Message:
    """An announcement for the outbox, with the channels that it is for."""

    announcement: Announcement
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary that was told: what it said, and how many of its alarms are not over."""

    told: dict[str, Any]
    remaining: int


@dataclass(slots=True)
class State:
    """What is known at the beginning of a step, and what is changed by it."""

    cases: dict[CaseKey, Case] = field(default_factory=dict)
    windows: dict[WindowKey, Window] = field(default_factory=dict)
    explaining: dict[Subject, dict[str, Any]] = field(default_factory=dict)
    """The alarms that are on and for which others may be held back."""
    summaries: dict[str, Summary] = field(default_factory=dict)
    changed: set[CaseKey] = field(default_factory=set)
    changed_windows: set[WindowKey] = field(default_factory=set)
    changed_explaining: set[Subject] = field(default_factory=set)
    messages: list[Message] = field(default_factory=list)

    def put(self, case: Case) -> None:
        """Keep a case."""
        self.cases[case.name] = case
        self.changed.add(case.name)

    def drop(self, case: Case) -> None:
        """Forget a case."""
        self.cases.pop(case.name, None)
        self.changed.add(case.name)


def take(routing: Routing, state: State, arrived: Announcement, now: Instant) -> None:
    """Take in one announcement. `state` holds the cases of its subject, and those that it explains."""
    subject = (arrived.rule, arrived.device)
    if arrived.event == "raised":
        over = arrived.told.get("notice") == "over"  # told all the same; nothing will follow
        if not over and may_explain(routing, arrived.told):
            state.explaining[subject] = arrived.told
            state.changed_explaining.add(subject)
        for route, why_not in routes_for(routing, arrived.told):
            if why_not is None:
                group = route.group.key(arrived.told)
                known = state.cases.get((route.name, *subject))
                case = Case(route.name, *subject, arrived.key, arrived.told, group, over=over)
                if known is not None and known.held in (GROUP, QUIET):
                    state.put(replace(known, key=arrived.key, told=arrived.told, over=over))
                else:
                    _arrive(routing, state, route, case, now)
        return
    if state.explaining.pop(subject, None) is not None:
        state.changed_explaining.add(subject)
    for case in list(state.cases.values()):
        if case.by == subject and case.held == EXPLAINED:
            state.put(replace(case, due_at=now))
        elif (case.rule, case.device) == subject:
            _end(routing, state, case, arrived)


def due(routing: Routing, state: State, cases: Iterable[Case], open_now: Mapping[Subject, bool], now: Instant) -> None:
    """Do what is due. `open_now` says of each subject whether it is on and not acknowledged."""
    held: dict[WindowKey, list[Case]] = defaultdict(list)
    again: dict[tuple[str, str, str, int], list[Case]] = defaultdict(list)
    for case in cases:
        route = routing.route(case.route)
        if case.told_at is None and route is None:  # the file has changed: by the routes that it has now
            state.drop(case)
            if not case.over or case.told.get("notice") == "over":
                take(routing, state, _first(case), now)
        elif route is None:
            state.put(replace(case, due_at=None))
        elif case.held == EXPLAINED:
            _arrive(routing, state, route, replace(case, held="", by=None), now)
        elif case.told_at is None:
            held[case.route, case.group].append(case)
        elif not open_now.get((case.rule, case.device), True):
            state.put(replace(case, due_at=None))
        else:
            notice, number = _next(route, case, now)
            again[case.route, case.group, notice, number].append(case)
    for (name, group), together in held.items():
        route = routing.route(name)
        assert route is not None
        _tell(routing, state, route, together, now)
        # The window begins anew and is full: what a storm brings next is told at its end.
        state.windows[name, group] = Window(now, route.group.at_once)
        state.changed_windows.add((name, group))
    for (name, _, notice, number), together in again.items():
        route = routing.route(name)
        assert route is not None
        _tell_again(routing, state, route, together, notice, number, now)


def _first(case: Case) -> Announcement:
    return Announcement(case.key, "raised", case.rule, case.device, Priority(case.told["priority"]), case.told)


def _arrive(routing: Routing, state: State, route: Route, case: Case, now: Instant) -> None:
    explaining = explained_by(routing, case.told, state.explaining.values())
    if explaining is not None:
        by = (str(explaining["rule"]), str(explaining["device"]["identity"]))
        state.put(replace(case, held=EXPLAINED, by=by, due_at=None))
        return
    quiet = quiet_until(routing, route, case.told, now)
    if quiet is not None:
        state.put(replace(case, held=QUIET, due_at=quiet))
        return
    key = (route.name, case.group)
    window = state.windows.get(key)
    if window is None or now >= window.opened_at + route.group.window:
        window = Window(now, 0)
    if window.sent >= route.group.at_once:
        state.put(replace(case, held=GROUP, due_at=window.opened_at + route.group.window))
        return
    state.windows[key] = replace(window, sent=window.sent + 1)
    state.changed_windows.add(key)
    _tell(routing, state, route, [case], now)


def _tell(routing: Routing, state: State, route: Route, cases: Sequence[Case], now: Instant) -> None:
    """Tell of cases the first time: each by itself, or all in one."""
    told_of: list[Case] = []
    for several in _together(route, cases):
        channels = tuple(channels_for(routing, route.to, several[0].told, now))
        if len(several) == 1:
            [case] = several
            told = case.told | ({"notice": "over"} if case.over else {})
            _send(state, replace(_first(case), told=told), channels)
            told_of.append(replace(case, channels=channels))
        else:
            summary = _summarise(route, several)
            _send(state, summary, channels)
            state.summaries[summary.key] = Summary(summary.told, sum(not case.over for case in several))
            told_of += [replace(case, channels=channels, summary=summary.key) for case in several]
    for case in told_of:
        if case.over:
            state.drop(case)
        else:
            told_case = replace(case, held="", by=None, told_at=now, due_at=None)
            state.put(replace(told_case, due_at=_due_at(route, told_case)))


def _tell_again(
    routing: Routing, state: State, route: Route, cases: Sequence[Case], notice: str, number: int, now: Instant
) -> None:
    for several in _together(route, cases):
        names = route.escalate[number].to if notice == "escalation" else None
        for case in several:
            took = tuple(channels_for(routing, names, case.told, now)) if names is not None else case.channels
            later = replace(
                case,
                channels=tuple(dict.fromkeys((*case.channels, *took))),
                step=case.step + (notice == "escalation"),
                repeats=_repeats(route, case, now) if notice == "repeat" else case.repeats,
            )
            state.put(replace(later, due_at=_due_at(route, later)))
            if len(several) == 1:
                key = _key(case.key, route.name, notice, number)
                _send(state, replace(_first(case), key=key, told=case.told | {"notice": notice}), took)
        if len(several) > 1:
            summary = _summarise(route, several, notice, number)
            channels = (
                dict.fromkeys(channel for case in several for channel in case.channels)
                if names is None
                else channels_for(routing, names, several[0].told, now)
            )
            _send(state, summary, tuple(channels))


def _end(routing: Routing, state: State, case: Case, arrived: Announcement) -> None:
    """The alarm of a case is back to normal, or never was."""
    if case.told_at is None:
        if case.held == EXPLAINED:
            state.drop(case)  # nobody heard of it, and what explained it was told
        else:
            state.put(replace(case, over=True))
        return
    state.drop(case)
    route = routing.route(case.route)
    if route is not None and not route.returns and arrived.event == "returned":
        return
    if not case.summary:
        _send(state, arrived, case.channels)
        return
    summary = state.summaries.get(case.summary)
    if summary is None:
        return
    state.summaries[case.summary] = replace(summary, remaining=summary.remaining - 1)
    if summary.remaining == 1:
        told = {name: value for name, value in summary.told.items() if name != "notice"}
        told |= {"event": "summary-returned", "over": 0, "cleared_at": arrived.told.get("cleared_at")}
        key = _key(case.summary, "returned")
        device = f"{case.route} {case.group}"
        _send(state, Announcement(key, "returned", "summary", device, Priority(told["priority"]), told), case.channels)


def _together(route: Route, cases: Sequence[Case]) -> list[list[Case]]:
    """As many messages as a group may send at once: one each, or one for all."""
    ordered = sorted(cases, key=lambda case: (str(case.told.get("since") or ""), case.key))
    return [[case] for case in ordered] if len(ordered) <= route.group.at_once else [ordered]


def _summarise(route: Route, cases: Sequence[Case], notice: str = "", number: int = 0) -> Announcement:
    """One announcement for many cases (oldest first): what, how many, where, the first and the last."""
    rules = Counter(str(case.told.get("title") or case.rule) for case in cases)
    places = Counter(
        " / ".join(filter(None, (case.told["device"]["site"], case.told["device"]["area"]))) for case in cases
    )
    priority = next(rank for rank in _RANK if any(case.told["priority"] == rank for case in cases))
    key = _key(*sorted(case.key for case in cases), route.name, notice, number)
    told: dict[str, Any] = {
        "event": "summary",
        "rule": "summary",
        "title": f"{len(cases)} alarms",
        "priority": priority.value,
        "device": _common([case.told["device"] for case in cases]),
        "count": len(cases),
        "over": sum(case.over for case in cases),
        "rules": rules.most_common(SHOWN),
        "more_rules": max(0, len(rules) - SHOWN),
        "places": places.most_common(SHOWN),
        "more_places": max(0, len(places) - SHOWN),
        "first": _one(cases[0]),
        "last": _one(cases[-1]),
        "tags": [_one(case)["tag"] for case in cases[:SHOWN]],
    }
    if notice:
        told["notice"] = notice
    return Announcement(key, "raised", "summary", f"{route.name} {cases[0].group}", priority, told)


def _common(devices: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The place that devices have in common; nothing of which they differ."""
    names = ("site", "area", "unit")
    common = {name: devices[0][name] if len({one[name] for one in devices}) == 1 else "" for name in names}
    return {"identity": "", "tag": "", **common}


def _one(case: Case) -> dict[str, Any]:
    device = case.told["device"]
    return {
        "since": case.told.get("since"),
        "tag": device["tag"] or device["identity"],
        "title": case.told.get("title") or case.rule,
    }


def _escalates_at(route: Route, case: Case) -> Instant | None:
    if case.told_at is None or case.step >= len(route.escalate):
        return None
    taken = route.escalate[: case.step + 1]
    return case.told_at + sum(one.after or time_to_respond(case.told) for one in taken)


def _repeats_at(route: Route, case: Case) -> Instant | None:
    return case.told_at + (case.repeats + 1) * route.repeat if route.repeat and case.told_at is not None else None


def _repeats(route: Route, case: Case, now: Instant) -> int:
    """How often it counts as repeated now: what a platform that was away has missed is told once."""
    assert route.repeat is not None
    assert case.told_at is not None
    return max(case.repeats + 1, (now - case.told_at) // route.repeat)


def _due_at(route: Route, case: Case) -> Instant | None:
    found = [at for at in (_escalates_at(route, case), _repeats_at(route, case)) if at is not None]
    return min(found, default=None)


def _next(route: Route, case: Case, now: Instant) -> tuple[str, int]:
    """What is due for a case that was told: a step of the escalation before a repetition."""
    escalates = _escalates_at(route, case)
    return ("escalation", case.step) if escalates is not None and escalates <= now else ("repeat", case.repeats)


def _send(state: State, announcement: Announcement, channels: tuple[str, ...]) -> None:
    if channels:
        state.messages.append(Message(announcement, channels))


def _key(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]


def explanation(routing: Routing, told: Told, now: Instant, on: Iterable[Told]) -> list[str]:
    """Who would be told of an alarm that came at a moment, and why, in lines of plain text."""
    lines = []
    explaining = explained_by(routing, told, on)
    for route, why_not in routes_for(routing, told):
        if why_not is not None:
            lines.append(f"route {route.name}: no, {why_not}")
            continue
        lines.append(f"route {route.name}: yes")
        if explaining is not None:
            what = f"{explaining['rule']} on {explaining['device']['tag'] or explaining['device']['identity']}"
            lines.append(f"  held back while {what} is on, which explains it")
        quiet = quiet_until(routing, route, told, now)
        if quiet is not None:
            lines.append(f"  held back in quiet hours until {moment(quiet):%Y-%m-%d %H:%M} UTC")
        lines += [f"  {name}: {why}" for name, why in channels_for(routing, route.to, told, now).items()]
        lines += [f"  then {step}" for step in describe_escalation(route, told)]
        if route.repeat:
            lines.append(f"  again every {format_duration(route.repeat)} until it is acknowledged")
        by, window = ", ".join(route.group.by), format_duration(route.group.window)
        lines.append(f"  more than {route.group.at_once} in {window} of the same {by} are told together")
    return lines


def channel_failure(channel: str, dead: int, at: str, event: str, raised_at: str) -> Announcement:
    """What people are told of a channel with dead letters: an alarm of the platform's own."""
    told: dict[str, Any] = {
        "event": event,
        "rule": FAILED,
        "title": "Notifications cannot be delivered",
        "message": f"{dead} notifications could not be delivered by {channel}: see `headworks notify dead`",
        "class": PLATFORM,
        "priority": Priority.HIGH.value,
        "device": {"identity": channel, "tag": channel, "site": "", "area": "", "unit": ""},
        "since": raised_at,
        "raised_at": raised_at,
        "cleared_at": at if event == "returned" else None,
        "announced_at": at,
        "seconds_to_respond": 30 * MINUTE // 1_000_000,
        "guidance": {
            "cause": "The receiver refused the messages, or was not reached for hours; perhaps a password has expired",
            "consequence": "People do not hear of alarms by this channel",
            "corrective_action": "Mend the channel (`headworks notify test`), then `headworks notify retry`",
            "time_to_respond": "30m",
        },
    }
    return Announcement(_key(FAILED, channel, raised_at, event), event, FAILED, channel, Priority.HIGH, told)
