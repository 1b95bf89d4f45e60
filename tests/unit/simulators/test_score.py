"""Alarms judged by ground truth: what counts as found, as false and as soon, and that nothing can be gamed by order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.alarm import Alarm, Priority
from devices.model import DAY, HOUR, MINUTE, instant
from simulators.score import GRACE, Rate, assign, events_of, score
from simulators.score_page import page
from simulators.truth import GroundTruth, Truth, TruthError, Watched, read_truth, write_truth

START = instant(datetime(2026, 3, 1, tzinfo=UTC))
DEVICES = ("a", "b", "c")
WATCHED = Watched(START, START + 10 * DAY, DEVICES)


def fault(
    device: str, begins: int, ends: int, *, severity: float = 1.0, explains: tuple[str, ...] = ("r",), event: str = ""
) -> Truth:
    """Hours from the start."""
    return Truth("fault", device, START + begins * HOUR, START + ends * HOUR, severity, explains, event)


def alarm(device: str, hour: float, rule: str = "r", lasts: float | None = 1.0) -> Alarm:
    at = START + round(hour * HOUR)
    return Alarm(rule, device, Priority.LOW, "", at, at, None if lasts is None else at + round(lasts * HOUR))


faults = st.builds(
    lambda device, begins, lasts, rules, severity, event: fault(
        device, begins, begins + lasts, explains=tuple(rules), severity=severity, event=event
    ),
    st.sampled_from(DEVICES),
    st.integers(0, 200),
    st.integers(1, 30),
    st.sets(st.sampled_from("rst")),
    st.sampled_from([0.2, 0.5, 1.0]),
    st.sampled_from(["", "", "one", "two"]),
)
truths = st.lists(faults, max_size=6).map(lambda lines: GroundTruth(tuple(lines), WATCHED))
journals = st.lists(
    st.builds(alarm, st.sampled_from(DEVICES), st.integers(0, 239), st.sampled_from("rst")), max_size=8
)  # fmt: skip


def test_an_alarm_finds_the_fault_that_it_is_raised_in_and_tells_how_late() -> None:
    result = score(GroundTruth((fault("a", 5, 8),), WATCHED), [alarm("a", 6.5)])
    assert (result.total.recall.value, result.total.precision.value) == (1.0, 1.0)
    assert result.total.delay_median == result.total.delay_p95 == 90 * MINUTE
    assert result.false == ()
    assert result.faults["fault"].alarms_per_event == 1.0


@pytest.mark.parametrize(
    "missing",
    [alarm("b", 6), alarm("a", 4.9, lasts=3), alarm("a", 8.6), alarm("a", 6, rule="other")],
    ids=["another device", "on before it began", "after the grace", "a rule that it does not explain"],
)
def test_what_is_elsewhere_earlier_later_or_of_another_rule_is_false(missing: Alarm) -> None:
    result = score(GroundTruth((fault("a", 5, 8),), WATCHED), [missing])
    assert (result.total.recall.value, result.total.precision.value) == (0.0, 0.0)
    assert result.false == (missing,)
    # Three devices for ten days are a month, nearly.
    assert result.total.false_per_device_month == pytest.approx(30.4369 / 30, rel=1e-3)


def test_a_fault_that_explains_nothing_by_name_explains_every_rule() -> None:
    truth = GroundTruth((fault("a", 5, 8, explains=()),), WATCHED)
    assert score(truth, [alarm("a", 6, rule="anything")]).total.recall.value == 1.0


def test_an_event_on_several_devices_is_found_once_and_its_other_alarms_are_not_false() -> None:
    truth = GroundTruth((fault("a", 5, 8, event="burst"), fault("b", 5, 8, event="burst")), WATCHED)
    result = score(truth, [alarm("a", 6), alarm("b", 5.5)])
    assert result.total.recall == Rate(1, 1)
    assert result.total.precision == Rate(2, 2)
    assert result.total.alarms_per_event == 2.0
    assert result.total.delay_median == 30 * MINUTE


def test_one_alarm_finds_one_of_two_faults_at_the_same_time() -> None:
    truth = GroundTruth((fault("a", 5, 8), fault("a", 5, 9)), WATCHED)
    assert score(truth, [alarm("a", 6)]).total.recall == Rate(1, 2)
    assert score(truth, [alarm("a", 6), alarm("a", 8.8)]).total.recall == Rate(2, 2)


def test_mild_faults_need_not_be_found_but_explain_their_alarms() -> None:
    truth = GroundTruth((fault("a", 5, 8, severity=0.2), fault("b", 5, 8)), WATCHED)
    result = score(truth, [alarm("a", 6)])
    assert result.total.recall == Rate(0, 1)
    assert result.mild == Rate(1, 1)
    assert result.total.precision == Rate(1, 1)


def test_knowing_nothing_does_not_pay() -> None:
    truth = GroundTruth(tuple(fault(device, 20 + 60 * n, 23 + 60 * n) for n in range(3) for device in "ab"), WATCHED)
    perfect = [alarm(part.device, (part.begins - START) / HOUR + 1) for part in truth.faults]
    found = score(truth, perfect)
    assert found.total.recall.value == found.total.precision.value == 1.0
    lines = found.baselines
    assert (lines["always on"].recall, lines["always off"].recall) == (0.0, 0.0)
    assert lines["always off"].precision is None
    assert lines["every hour"].recall == 1.0
    assert (lines["every hour"].precision or 0) < 0.05
    assert (lines["random"].recall or 0) < 0.2
    assert lines["random"] == score(truth, perfect).baselines["random"]


def test_time_is_shared_out_between_faulty_and_healthy() -> None:
    truth = GroundTruth((fault("a", 10, 20),), Watched(START, START + 40 * HOUR, ("a",)))
    result = score(truth, [alarm("a", 15, lasts=10)])
    assert result.faulty_time_alarmed == pytest.approx(0.5)
    assert result.healthy_time_alarmed == pytest.approx(5 / 30)


def test_what_nobody_watched_is_left_out() -> None:
    truth = GroundTruth((fault("a", 5, 8),), WATCHED)
    result = score(truth, [alarm("stranger", 6), alarm("a", -3), alarm("a", 6)])
    assert (result.left_out, result.total.precision) == (2, Rate(1, 1))


def test_a_share_of_few_has_a_wide_interval() -> None:
    assert Rate(0, 0).interval == (0.0, 1.0)
    assert Rate(9, 10).interval == pytest.approx((0.5958, 0.9821), abs=1e-3)  # Wilson's, by hand
    assert Rate(90, 100).interval[0] > Rate(9, 10).interval[0]


@given(truths, journals, st.randoms())
def test_the_order_of_alarms_and_lines_changes_nothing(truth: GroundTruth, alarms: list[Alarm], rng: object) -> None:
    if not truth.faults:
        return
    shuffled = list(alarms)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = score(truth, alarms), score(truth, shuffled)
    assert (one.total, one.rules, one.false, one.baselines) == (other.total, other.rules, other.false, other.baselines)


@given(truths, journals, st.integers(-1000, 1000))
def test_moving_everything_in_time_changes_nothing(truth: GroundTruth, alarms: list[Alarm], days: int) -> None:
    by = days * DAY
    assert truth.watched is not None
    moved = GroundTruth(
        tuple(replace(part, begins=part.begins + by, ends=part.ends + by) for part in truth.faults),
        Watched(truth.watched.begins + by, truth.watched.ends + by, DEVICES),
    )
    later = [replace(one, since=one.since + by, raised_at=one.raised_at + by, cleared_at=None) for one in alarms]
    assert score(truth, alarms).total == score(moved, later).total


@given(truths, journals)
def test_every_alarm_is_right_or_false_and_every_event_found_or_missed(
    truth: GroundTruth, alarms: list[Alarm]
) -> None:  # fmt: skip
    result = score(truth, alarms)
    assert result.total.precision.hits + len(result.false) == len(alarms) - result.left_out
    assert result.total.recall.of + result.mild.of == len(result.events)
    assert sum(one.alarms for one in result.rules.values()) == result.total.precision.of
    assert sum(one.recall.of for one in result.faults.values()) == result.total.recall.of
    finders = [id(one.first) for one in result.events if one.first is not None]
    assert len(finders) == len(set(finders)), "one alarm finds one event"
    assert all(one.delay is None or one.delay >= 0 for one in result.events)


@given(truths, journals, st.builds(alarm, st.sampled_from(DEVICES), st.integers(0, 239)))
def test_one_more_alarm_never_finds_fewer_faults(truth: GroundTruth, alarms: list[Alarm], more: Alarm) -> None:
    def found(journal: list[Alarm]) -> int:
        return sum(one.first is not None for one in score(truth, journal).events)

    assert found([*alarms, more]) >= found(alarms)


@given(st.lists(faults, max_size=4), st.lists(st.builds(alarm, st.just("a"), st.integers(0, 40)), max_size=4))
def test_as_many_events_are_found_as_any_assignment_could(parts: list[Truth], alarms: list[Alarm]) -> None:
    events = events_of(GroundTruth(tuple(parts)))
    finder, due = assign(events, alarms, GRACE)
    slots: list[int | None] = [*range(len(events)), *([None] * len(alarms))]
    best = max(
        (sum(event in due[at] for at, event in enumerate(chosen)) for chosen in permutations(slots, len(alarms))),
        default=0,
    )
    assert len(finder) == best
    assert all(event in due[at] for event, at in finder.items())


def test_ground_truth_is_written_and_read_back(tmp_path: Path) -> None:
    truth = GroundTruth((fault("a", 5, 8, event="e"), fault("b", 5, 8, severity=0.25)), WATCHED)
    write_truth(tmp_path / "t", truth)
    assert read_truth(tmp_path / "t") == truth


def test_a_line_that_is_no_truth_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t"
    good = '{"fault":"f","device":"d","from":"2026-01-01T00:00:00Z","until":"2026-01-02T00:00:00Z"}\n'
    path.write_text(
        good
        + good.replace('"severity', "")[:40]
        + "\n"
        + good.replace("2026-01-02", "2025-01-02")
        + good.replace("00Z", "00")
        + good.replace("}", ',"severity":3}'),
        "utf-8",
    )
    with pytest.raises(TruthError) as caught:
        read_truth(path)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[1] for line in lines] == ["2", "3", "4", "5"]
    assert "‘until’ must be later than ‘from’" in lines[1]
    assert "$.severity" in lines[3]


def test_without_a_line_that_says_who_was_watched_the_faulty_devices_were() -> None:
    assert GroundTruth((fault("a", 5, 8), fault("b", 2, 3))).scope() == Watched(
        START + 2 * HOUR, START + 8 * HOUR, ("a", "b")
    )
    with pytest.raises(TruthError, match="who was watched"):
        GroundTruth(()).scope()


def test_the_page_stands_alone_and_its_pictures_are_well_formed() -> None:
    truth = GroundTruth((fault("a", 5, 8), fault("b", 5, 8)), WATCHED)
    text = page(score(truth, [alarm("a", 6), alarm("c", 7, rule="<b>")]), "A & B", {"a": "P-1 <x>"})
    assert "src=" not in text
    assert "href=" not in text
    assert "<b>," not in text
    for part in text.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + part.split("</svg>")[0] + "</svg>")
    assert "50.0 % (1 of 2)" in text
    assert "P-1 &lt;x&gt;" in text
