"""From announcements to messages: what is told when, once, together, again, and what is not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.dispatch import Message, State, due, explanation, take
from alerts.routing import Routing, load_routing
from devices.alarm import Announcement, Priority
from devices.model import HOUR, MINUTE, SECOND, Instant, moment

T0 = 1_790_000_000 * SECOND  # 2026-09-21T14:13:20Z
HEAD = """
channels: {mail: {apprise: "json://x"}, chief: {apprise: "json://y"}}
"""
PLAIN = "routes: [{name: all, to: [mail], group: {at_once: 2, window: 1m}}]"


def routing(text: str = PLAIN) -> Routing:
    return load_routing(HEAD + text, "r.yaml", {})


def announcement(
    tag: str, event: str = "raised", *, rule: str = "hot", site: str = "North", priority: str = "low", at: Instant = T0
) -> Announcement:
    device = {"identity": tag, "tag": tag, "site": site, "area": "", "unit": ""}
    told: dict[str, Any] = {"event": event, "rule": rule, "title": rule.title(), "priority": priority, "device": device}
    told |= {"class": "process", "since": moment(at).isoformat(), "seconds_to_respond": 600}
    return Announcement(f"{rule} {tag} {event} {at}", event, rule, tag, Priority(priority), told)


@dataclass
class Desk:
    """Takes and does what is due, as the dispatcher does."""

    routing: Routing
    state: State = field(default_factory=State)
    acknowledged: set[str] = field(default_factory=set)

    def take(self, entry: Announcement, now: Instant) -> list[Message]:
        return self._did(lambda: take(self.routing, self.state, entry, now))

    def due(self, now: Instant) -> list[Message]:
        ready = [case for case in self.state.cases.values() if case.due_at is not None and case.due_at <= now]
        open_now = {(case.rule, case.device): case.device not in self.acknowledged for case in ready}
        return self._did(lambda: due(self.routing, self.state, ready, open_now, now))

    def _did(self, work: Any) -> list[Message]:
        before = len(self.state.messages)
        work()
        return self.state.messages[before:]


def told(messages: list[Message]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(one.announcement.told["event"], one.announcement.device, one.channels) for one in messages]


def test_one_alarm_is_told_at_once_and_its_end_to_who_heard_of_it() -> None:
    desk = Desk(routing())
    assert told(desk.take(announcement("P-1"), T0)) == [("raised", "P-1", ("mail",))]
    assert told(desk.take(announcement("P-1", "returned"), T0 + MINUTE)) == [("returned", "P-1", ("mail",))]
    assert desk.state.cases == {}
    assert desk.take(announcement("P-1", "returned"), T0 + MINUTE) == [], "nobody heard of its beginning"


def test_what_was_over_before_it_was_known_is_told_once_and_waits_for_nothing() -> None:
    desk = Desk(routing(PLAIN.replace("group:", "escalate: [{to: [chief]}], group:")))
    first = announcement("P-1")
    over = replace(first, told=first.told | {"notice": "over"})
    [message] = desk.take(over, T0)
    assert (message.announcement.told["notice"], message.channels) == ("over", ("mail",))
    assert desk.state.cases == {}
    assert desk.due(T0 + HOUR) == []
    [again] = desk.take(announcement("P-1", at=T0 + HOUR), T0 + HOUR)
    assert "notice" not in again.announcement.told


def test_a_return_is_not_told_where_nobody_wants_it_but_a_withdrawal_is() -> None:
    desk = Desk(routing("routes: [{name: all, to: [mail], returns: false}]"))
    desk.take(announcement("P-1"), T0)
    assert desk.take(announcement("P-1", "returned"), T0) == []
    desk.take(announcement("P-2"), T0)
    assert told(desk.take(announcement("P-2", "withdrawn"), T0)) == [("withdrawn", "P-2", ("mail",))]


def test_a_storm_is_a_few_messages_and_one_that_says_what_how_many_where_first_and_last() -> None:
    desk = Desk(routing())
    for number in range(100):
        desk.take(announcement(f"P-{number:03}", at=T0 + number * SECOND // 2), T0 + number * SECOND // 2)
    assert len(desk.state.messages) == 2
    assert desk.due(T0 + 59 * SECOND) == []
    [summary] = desk.due(T0 + MINUTE)
    what = summary.announcement.told
    assert (what["event"], what["count"], what["rules"], what["places"]) == (
        "summary",
        98,
        [("Hot", 98)],
        [("North", 98)],
    )
    assert (what["first"]["tag"], what["last"]["tag"]) == ("P-002", "P-099")
    again = desk.take(announcement("P-777"), T0 + 61 * SECOND)
    assert again == [], "the storm goes on: one message a window"
    assert told(desk.due(T0 + 2 * MINUTE)) == [("raised", "P-777", ("mail",))], "of one alarm there is no summary"


def test_the_end_of_a_storm_is_one_message_when_its_last_alarm_is_over() -> None:
    desk = Desk(routing())
    tags = [f"P-{number}" for number in range(10)]
    for tag in tags:
        desk.take(announcement(tag), T0)
    desk.take(announcement("P-9", "returned"), T0 + SECOND)
    [summary] = desk.due(T0 + MINUTE)
    assert (summary.announcement.told["count"], summary.announcement.told["over"]) == (8, 1)
    ends = [message for tag in tags[2:9] for message in desk.take(announcement(tag, "returned"), T0 + 5 * MINUTE)]
    assert told(ends) == [("summary-returned", 'all ["North"]', ("mail",))]
    assert {case.device for case in desk.state.cases.values()} == {"P-0", "P-1"}


def test_who_does_not_acknowledge_is_escalated_in_the_rules_time_to_respond() -> None:
    desk = Desk(routing("routes: [{name: all, to: [mail], escalate: [{to: [chief]}, {to: [mail, chief], after: 5m}]}]"))
    desk.take(announcement("P-1"), T0)
    desk.take(announcement("P-2"), T0)
    assert desk.due(T0 + 10 * MINUTE - 1) == []
    desk.acknowledged.add("P-2")
    [step] = desk.due(T0 + 10 * MINUTE)
    assert (step.announcement.device, step.channels, step.announcement.told["notice"]) == (
        "P-1",
        ("chief",),
        "escalation",
    )
    assert told(desk.due(T0 + 15 * MINUTE)) == [("raised", "P-1", ("mail", "chief"))]
    assert desk.due(T0 + 9 * HOUR) == []
    assert told(desk.take(announcement("P-1", "returned"), T0 + HOUR)) == [("returned", "P-1", ("mail", "chief"))]


def test_a_storm_that_nobody_acknowledges_escalates_as_one() -> None:
    desk = Desk(routing("routes: [{name: all, to: [mail], escalate: [{to: [chief]}]}]"))
    for number in range(50):
        desk.take(announcement(f"P-{number}"), T0)
    desk.due(T0 + MINUTE)
    steps = desk.due(T0 + 20 * MINUTE)
    assert [(one.announcement.told["count"], one.channels) for one in steps] == [(50, ("chief",))]


def test_it_is_told_again_until_it_is_acknowledged_and_what_was_missed_once() -> None:
    desk = Desk(routing("routes: [{name: all, to: [mail], repeat: 30m}]"))
    [first] = desk.take(announcement("P-1"), T0)
    [second] = desk.due(T0 + 30 * MINUTE)
    assert (second.channels, second.announcement.told["notice"]) == (("mail",), "repeat")
    assert second.announcement.key != first.announcement.key
    assert len(desk.due(T0 + 5 * HOUR)) == 1, "the platform was away"
    assert desk.due(T0 + 5 * HOUR) == []
    desk.acknowledged.add("P-1")
    assert desk.due(T0 + 9 * HOUR) == []


QUIET = 'routes: [{name: all, to: [mail], quiet: [{from: "14:00", to: "16:00"}], group: {at_once: 1}}]'


def test_quiet_hours_end_with_one_message_that_leaves_nothing_out() -> None:
    desk = Desk(routing(QUIET))
    end = T0 - (13 * MINUTE + 20 * SECOND) + 2 * HOUR
    for number in range(3):
        assert desk.take(announcement(f"P-{number}"), T0) == []
    desk.take(announcement("P-0", "returned"), T0 + MINUTE)
    assert told(desk.take(announcement("P-9", priority="high"), T0)) == [("raised", "P-9", ("mail",))]
    assert desk.due(end - 1) == []
    [summary] = desk.due(end)
    assert (summary.announcement.told["count"], summary.announcement.told["over"]) == (3, 1)


INHIBIT = """
routes: [{name: all, to: [mail], group: {at_once: 100}}]
inhibit: [{when: {rules: [power-lost]}, hold: {rules: [hot]}, same: [site]}]
"""


def test_what_something_else_explains_is_held_back_while_that_is_on() -> None:
    desk = Desk(routing(INHIBIT))
    desk.take(announcement("SUB", rule="power-lost"), T0)
    assert desk.take(announcement("P-1"), T0) == []
    assert desk.take(announcement("P-2"), T0) == []
    assert told(desk.take(announcement("P-3", site="South"), T0)) == [("raised", "P-3", ("mail",))]
    assert desk.take(announcement("P-1", "returned"), T0 + MINUTE) == [], "nobody heard of it"
    assert told(desk.take(announcement("SUB", "returned", rule="power-lost"), T0 + HOUR)) == [
        ("returned", "SUB", ("mail",))
    ]
    assert told(desk.due(T0 + HOUR)) == [("raised", "P-2", ("mail",))], "it is still on, and nothing explains it now"


def test_a_changed_file_takes_what_it_held_along_and_forgets_no_alarm() -> None:
    desk = Desk(routing(QUIET))
    desk.take(announcement("P-1"), T0)
    desk.routing = routing("routes: [{name: other, to: [chief]}]")
    assert told(desk.due(T0 + 3 * HOUR)) == [("raised", "P-1", ("chief",))]


def test_an_explanation_says_who_why_and_what_then() -> None:
    lines = "\n".join(explanation(routing(QUIET), announcement("P-1").told, T0, []))
    assert "route all: yes" in lines
    assert "held back in quiet hours until 2026-09-21 16:00 UTC" in lines
    assert "mail: mail" in lines


STEP = st.tuples(st.sampled_from(["raised", "returned", "due"]), st.integers(0, 7), st.integers(0, 90))


@settings(max_examples=200)
@given(st.lists(STEP, max_size=60))
def test_whatever_comes_each_alarm_is_told_once_and_no_group_floods(steps: list[tuple[str, int, int]]) -> None:
    """Each raised alarm is in exactly one first message, alone or counted; at most three messages a window open."""
    desk = Desk(routing())
    now, on, raised, first_at = T0, set[str](), 0, []
    counted = 0
    for kind, number, seconds in steps:
        now += seconds * SECOND
        tag = f"P-{number}"
        new: list[Message] = desk.due(now)
        if kind == "raised" and tag not in on:
            on.add(tag)
            held = any(case.device == tag for case in desk.state.cases.values())
            raised += not held  # raised again while its first end was not told: one alarm for the reader
            new += desk.take(announcement(tag, at=now), now)
        elif kind == "returned" and tag in on:
            on.discard(tag)
            new += desk.take(announcement(tag, "returned", at=now), now)
        for message in new:
            event = message.announcement.told["event"]
            if event in ("raised", "summary"):
                first_at.append(now)
                counted += message.announcement.told.get("count", 1)
    for message in desk.due(now + 2 * MINUTE):
        counted += message.announcement.told.get("count", 1)
    assert counted == raised
    keys = [(one.announcement.key, channel) for one in desk.state.messages for channel in one.channels]
    assert len(keys) == len(set(keys))
    assert all(sum(at <= one < at + MINUTE for one in first_at) <= 4 for at in first_at)
