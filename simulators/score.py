"""How good alarms are, judged by ground truth: event by event, never sample by sample. Pure.

An event is a fault, on one device or on several. An alarm is due to an event if it was raised on one of its devices
while the fault lasted (or within a grace after it), by a rule that the fault explains. What was on before the fault
began finds nothing: an alarm that always stands would find everything otherwise. One alarm finds one event at the most;
where faults overlap, alarms are given out so that as many events as possible are found. An alarm that is due to no
event is false.

Point metrics (the share of faulty and of healthy time that is alarmed) are given as an aside, because they are easily
gamed; so are the same figures for alarms that know nothing: always on, always off, every hour, and at random.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt
from random import Random
from statistics import median

from devices.alarm import Alarm, Priority
from devices.model import DAY, HOUR, MINUTE, Instant
from simulators.truth import GroundTruth, Truth, Watched

GRACE: Instant = 30 * MINUTE
"""An alarm raised so soon after a fault has ended is still its own: on-delays, and windows that look back."""
MILD = 0.3
"""Faults up to this severity need not be found; their alarms are not false either."""
MONTH: Instant = round(365.2425 / 12 * DAY)
_DRAWS = 40
_EVERY: Instant = HOUR
_Z = 1.959964
"""Of the normal distribution, for 95 %."""


@dataclass(frozen=True, slots=True)
class Event:
    """One fault, with a line of ground truth for each device that sees it."""

    name: str
    fault: str
    severity: float
    begins: Instant
    ends: Instant
    parts: tuple[Truth, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one event."""

    event: Event
    first: Alarm | None
    """The alarm that found it."""
    alarms: int
    """All alarms that are due to it."""

    @property
    def delay(self) -> Instant | None:
        """From the fault's onset to the sample at which the alarm was raised."""
        return None if self.first is None else self.first.raised_at - self.event.begins


@dataclass(frozen=True, slots=True)
class Rate:
    """`hits` of `of`, with the 95 % interval of Wilson (1927); `value` is None where there was nothing to hit."""

    hits: int
    of: int

    @property
    def value(self) -> float | None:
        """The share, 0…1."""
        return self.hits / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound of the share that would be seen in the long run."""
        if not self.of:
            return 0.0, 1.0
        n, p = self.of, self.hits / self.of
        middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a set of alarms, or of a part of the events.

    Delays are in microseconds, None where nothing was found.
    """

    recall: Rate
    """Events of more than mild severity that were found."""
    precision: Rate
    """Alarms that are due to an event."""
    delay_median: Instant | None
    delay_p95: Instant | None
    """By nearest rank."""
    alarms_per_event: float | None
    """The median, over the events that were found."""
    false_per_device_month: float | None


@dataclass(frozen=True, slots=True)
class RuleScore:
    """The alarms of one rule."""

    alarms: int
    false: int
    false_per_device_month: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """What alarms that know nothing would get; means over draws for the random one."""

    recall: float | None
    precision: float | None
    false_per_device_month: float


@dataclass(frozen=True)
class Score:
    """The judgement of a journal."""

    watched: Watched
    total: Summary
    mild: Rate
    """Events of mild severity that were found: nobody has to."""
    faults: Mapping[str, Summary]
    rules: Mapping[str, RuleScore]
    baselines: Mapping[str, Baseline]
    events: tuple[Found, ...]
    false: tuple[Alarm, ...]
    left_out: int
    """Alarms on devices, or at times, that nobody watched."""
    faulty_time_alarmed: float | None
    healthy_time_alarmed: float | None


def events_of(truth: GroundTruth) -> list[Event]:
    """The events of a ground truth, by onset."""
    parts: dict[str, list[Truth]] = {}
    for number, line in enumerate(truth.faults):
        parts.setdefault(line.event or f"line {number + 1}", []).append(line)
    events = [
        Event(
            name,
            lines[0].fault,
            max(line.severity for line in lines),
            min(line.begins for line in lines),
            max(line.ends for line in lines),
            tuple(lines),
        )
        for name, lines in parts.items()
    ]
    return sorted(events, key=lambda event: (event.begins, event.name))


def score(
    truth: GroundTruth, alarms: Iterable[Alarm], *, grace: Instant = GRACE, mild: float = MILD, seed: int = 1
) -> Score:
    """Judge alarms. `TruthError` for a ground truth that says nothing at all."""
    watched = truth.scope()
    events = events_of(truth)
    everything = list(alarms)
    counted = sorted((alarm for alarm in everything if _is_watched(alarm, watched, grace)), key=_order)
    first, due = assign(events, counted, grace)
    found = tuple(
        Found(event, counted[first[n]] if n in first else None, sum(n in ones for ones in due))
        for n, event in enumerate(events)
    )
    false = tuple(alarm for alarm, ones in zip(counted, due, strict=True) if not ones)
    months = (watched.ends - watched.begins) * len(watched.devices) / MONTH
    faulty, healthy = _times(truth, counted, watched)
    return Score(
        watched,
        _summary(found, len(counted), len(false), months, mild),
        Rate(*_hits(one for one in found if one.event.severity <= mild)),
        {
            fault: _summary([one for one in found if one.event.fault == fault], None, None, months, mild)
            for fault in sorted({event.fault for event in events})
        },
        _rules(counted, false, months),
        _baselines(truth, events, counted, watched, grace, mild, seed),
        found,
        false,
        len(everything) - len(counted),
        faulty,
        healthy,
    )


def assign(
    events: Sequence[Event], alarms: Sequence[Alarm], grace: Instant
) -> tuple[dict[int, int], list[frozenset[int]]]:
    """(event -> the alarm that found it, the events that each alarm is due to), by their numbers.

    A maximum matching (augmenting paths, each found breadth first), in which an event that has no competitor has its
    earliest alarm.
    """
    parts: dict[str, list[tuple[int, Truth]]] = {}
    for number, event in enumerate(events):
        for part in event.parts:
            parts.setdefault(part.device, []).append((number, part))
    due = [
        frozenset(number for number, part in parts.get(alarm.device, ()) if _is_due(alarm, part, grace))
        for alarm in alarms
    ]
    candidates: list[list[int]] = [[] for _ in events]
    for at in sorted(range(len(alarms)), key=lambda at: _order(alarms[at])):
        for number in due[at]:
            candidates[number].append(at)
    finder: dict[int, int] = {}
    taken: dict[int, int] = {}
    for start in range(len(events)):
        _augment(start, candidates, finder, taken)
    return finder, due


def _augment(start: int, candidates: Sequence[Sequence[int]], finder: dict[int, int], taken: dict[int, int]) -> None:
    """Give one more event an alarm, moving those of others where that is needed and possible."""
    came_from: dict[int, int] = {}
    queue = deque([start])
    while queue:
        event = queue.popleft()
        for alarm in candidates[event]:
            if alarm in came_from:
                continue
            came_from[alarm] = event
            if alarm in taken:
                queue.append(taken[alarm])
                continue
            free: int | None = alarm
            while free is not None:
                owner = came_from[free]
                previous = finder.get(owner)
                finder[owner], taken[free] = free, owner
                free = previous
            return


def _is_due(alarm: Alarm, part: Truth, grace: Instant) -> bool:
    return part.begins <= alarm.raised_at <= part.ends + grace and (not part.explains or alarm.rule in part.explains)


def _is_watched(alarm: Alarm, watched: Watched, grace: Instant) -> bool:
    return alarm.device in watched.devices and watched.begins <= alarm.raised_at <= watched.ends + grace


def _order(alarm: Alarm) -> tuple[Instant, str, str]:
    return alarm.raised_at, alarm.device, alarm.rule


def _hits(found: Iterable[Found]) -> tuple[int, int]:
    listed = list(found)
    return sum(one.first is not None for one in listed), len(listed)


def _summary(
    found: Sequence[Found], alarms: int | None, false: int | None, months: float, mild: float
) -> Summary:  # fmt: skip
    """`alarms` and `false` are None for a kind of fault: a false alarm belongs to none."""
    delays = sorted(one.delay for one in found if one.delay is not None)
    counts = [one.alarms for one in found if one.first is not None]
    return Summary(
        Rate(*_hits(one for one in found if one.event.severity > mild)),
        Rate(0, 0) if alarms is None or false is None else Rate(alarms - false, alarms),
        None if not delays else round(median(delays)),
        None if not delays else delays[ceil(0.95 * len(delays)) - 1],
        None if not counts else float(median(counts)),
        None if false is None or not months else false / months,
    )


def _rules(alarms: Sequence[Alarm], false: Sequence[Alarm], months: float) -> dict[str, RuleScore]:
    result = {}
    for rule in sorted({alarm.rule for alarm in alarms}):
        wrong = sum(alarm.rule == rule for alarm in false)
        result[rule] = RuleScore(sum(alarm.rule == rule for alarm in alarms), wrong, wrong / months if months else 0.0)
    return result


def _baselines(
    truth: GroundTruth,
    events: Sequence[Event],
    alarms: Sequence[Alarm],
    watched: Watched,
    grace: Instant,
    mild: float,
    seed: int,
) -> dict[str, Baseline]:
    """What knows nothing. Always on: one alarm on each device from the beginning on. Every hour: that, raised again and
    again. Random: as many alarms as were raised, by the same rules, at any time on any device.

    Rules are no matter but for the random ones.
    """
    anything = [replace(event, parts=tuple(replace(part, explains=()) for part in event.parts)) for event in events]

    def told(device: str, at: Instant) -> Alarm:
        return Alarm("any", device, Priority.LOW, "", at, at)

    on = [told(device, watched.begins) for device in watched.devices]
    hourly = [told(device, at) for device in watched.devices for at in range(watched.begins, watched.ends, _EVERY)]
    rng = Random(seed)  # noqa: S311 - a baseline, no secret
    draws = []
    for _ in range(_DRAWS if alarms else 1):
        drawn = [
            replace(alarm, device=rng.choice(watched.devices), raised_at=rng.randrange(watched.begins, watched.ends))
            for alarm in alarms
        ]
        draws.append(_baseline(events, drawn, watched, grace, mild))
    return {
        "always on": _baseline(anything, on, watched, grace, mild),
        "always off": _baseline(events, [], watched, grace, mild),
        "every hour": _baseline(anything, hourly, watched, grace, mild),
        "random": Baseline(
            _mean(one.recall for one in draws),
            _mean(one.precision for one in draws),
            _mean(one.false_per_device_month for one in draws) or 0.0,
        ),
    }


def _baseline(
    events: Sequence[Event], alarms: Sequence[Alarm], watched: Watched, grace: Instant, mild: float
) -> Baseline:
    first, due = assign(events, alarms, grace)
    wanted = [number for number, event in enumerate(events) if event.severity > mild]
    hit = sum(number in first for number in wanted)
    false = sum(not ones for ones in due)
    months = (watched.ends - watched.begins) * len(watched.devices) / MONTH
    return Baseline(
        hit / len(wanted) if wanted else None,
        (len(alarms) - false) / len(alarms) if alarms else None,
        false / months if months else 0.0,
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _times(truth: GroundTruth, alarms: Sequence[Alarm], watched: Watched) -> tuple[float | None, float | None]:
    """The shares of faulty and of healthy device-time in which some alarm was on."""
    faulty = alarmed_faulty = alarmed = 0
    for device in watched.devices:
        wrong = _union((part.begins, part.ends) for part in truth.faults if part.device == device)
        on = _union(
            (alarm.raised_at, watched.ends if alarm.cleared_at is None else alarm.cleared_at)
            for alarm in alarms
            if alarm.device == device
        )
        wrong, on = _clipped(wrong, watched), _clipped(on, watched)
        faulty += _length(wrong)
        alarmed += _length(on)
        alarmed_faulty += _length(wrong) + _length(on) - _length(_union([*wrong, *on]))
    healthy = (watched.ends - watched.begins) * len(watched.devices) - faulty
    return (
        alarmed_faulty / faulty if faulty else None,
        (alarmed - alarmed_faulty) / healthy if healthy else None,
    )


_Span = tuple[Instant, Instant]


def _union(spans: Iterable[_Span]) -> list[_Span]:
    joined: list[_Span] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _clipped(spans: Iterable[_Span], watched: Watched) -> list[_Span]:
    limited = ((max(begin, watched.begins), min(end, watched.ends)) for begin, end in spans)
    return [(begin, end) for begin, end in limited if begin < end]


def _length(spans: Iterable[_Span]) -> Instant:
    return sum(end - begin for begin, end in spans)
