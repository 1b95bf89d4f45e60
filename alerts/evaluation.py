"""Rules at work on the samples of one device, in sample time. Pure; everything that judges goes through here.

A sample is what a device measured at one instant. A rule meets the samples that hold one of its metrics; of its other
metrics it takes the last known value, as long as that is valid. What it then says (true, false, unknown) stands until
the rule's next sample, but no longer than the validity: only such time counts towards a delay. Unknown keeps what is:
it neither advances a delay (no evidence) nor starts it again (no evidence against).

What delays make of what one rule says is in `alerts.compiled`; where the readings come from, and in which order, is the
business of `alerts.engine`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from operator import itemgetter
from types import MappingProxyType
from typing import NamedTuple

from alerts.closures import Calculate, Slots, calculation
from alerts.compiled import CompiledRule, Failed, RuleState
from alerts.expression import Feature
from alerts.quick import Check, Layout, check
from alerts.rules import Rule
from alerts.setpoints import Override
from alerts.window_code import feeding
from alerts.window_kinds import Room
from alerts.windows import Window, empty_room, lay_out
from devices.alarm import Alarm
from devices.model import HOUR, SECOND, Device, Instant, Quality, Reading

NEVER: Instant = -(2**62)
"""When a value that was never measured was measured."""
REFILL: Instant = 2 * HOUR
"""Windows up to this length are not kept in snapshots but filled again from history when a late reading needs one: a
few snapshots of them would be most of the memory that a device takes."""

_CHOICES = 256
"""Combinations of metrics whose rules are remembered; devices use a handful."""
_SHARED = 1_024
"""Ages of values that are remembered to be shared: devices measure most things at the same instants."""
WORTH = 64
"""So many samples of one combination make it worth writing a function for it (`alerts.quick`)."""

sample_time = itemgetter(2)
"""The `measured_at` of a reading, as a sort key."""


class Schedule(NamedTuple):
    """A set-point that changes with time: `values` has one more entry than `begins`, the first from ever on."""

    begins: tuple[Instant, ...]
    values: tuple[float | None, ...]

    def at(self, at: Instant) -> float | None:
        """What was valid at a moment."""
        return self.values[bisect_right(self.begins, at)]


class Plan:
    """The rules of one kind of device, compiled together; shared by all devices with the same profile and rules.

    A device's values are kept by slot: first one for each metric that a rule names (its last known value), then the
    previous values and the qualities that rules ask for; these are its memory. Behind them come what is calculated
    anew for every sample (ages, windows) and what is given (nameplate entries, set-points).
    """

    def __init__(
        self, rules: Sequence[Rule], validity: Instant, rollovers: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        read = dict.fromkeys(operand for rule in rules for operand in rule.parsed.operands)
        features = dict.fromkeys(operand for operand in read if isinstance(operand, Feature))
        metrics = dict.fromkeys(metric for rule in rules for metric in rule.parsed.metrics)
        previous = [f for f in features if f.function == "previous"]
        qualities = [f for f in features if f.function == "quality"]
        # Those that reach back furthest come last: only they are kept in snapshots.
        windows = sorted((f for f in features if f.window), key=lambda f: f.window)
        ages = [f for f in features if f.function == "age"]
        design = dict.fromkeys(o.name for rule in rules for o in rule.given if o.name.startswith("design."))
        setpoints = [f"{rule.rule}:setpoint.{name}" for rule in rules for name in rule.setpoints]
        names = [*metrics, *(f.name for f in (*previous, *qualities, *windows, *ages)), *design, *setpoints]
        self.slots = {name: number for number, name in enumerate(names)}
        self.metrics = {name: self.slots[name] for name in metrics}
        self.kept = len(metrics) + len(previous) + len(qualities)
        """How many slots are a device's memory."""
        self.given_from = len(names) - len(design) - len(setpoints)
        """From which slot on nothing is measured."""
        self.design = {name.removeprefix("design."): self.slots[name] for name in design}
        self.windows = lay_out([(f.kind, f.window, rollovers.get(f.metric)) for f in windows])
        self.empty = empty_room(self.windows).tobytes()
        """All windows of a device of which no reading is known."""
        self.window_at = {self.slots[f.name]: window for f, window in zip(windows, self.windows, strict=True)}
        short = [window for window in self.windows if window.reach <= REFILL]
        self.refill = short[-1].reach if short else 0
        """How much history before a snapshot is read again to fill the windows that it does not hold."""
        self.long = short[-1].end if short else 0
        """Where in the array the windows begin that snapshots hold."""
        self.qualities = {f.metric: self.slots[f.name] for f in qualities}
        self.previous = {self.slots[f.metric]: self.slots[f.name] for f in previous}
        fed: dict[int, list[Window]] = {}
        for feature, window in zip(windows, self.windows, strict=True):
            fed.setdefault(self.slots[feature.metric], []).append(window)
        self.feeds = {slot: feeding(found) for slot, found in fed.items()}
        """By a metric's slot what takes a reading into its windows."""
        self.refills = {
            metric: feeding(again)
            for metric, slot in self.metrics.items()
            if (again := [window for window in fed.get(slot, ()) if window.reach <= REFILL])
        }
        """By metric the same for the windows that snapshots do not hold."""
        self.plain = [slot not in self.feeds and slot not in self.previous for slot in range(len(names))]
        self.rules = tuple(CompiledRule(n, rule, _Own(self.slots, rule.rule), validity) for n, rule in enumerate(rules))
        self.names = frozenset(rule.rule for rule in rules)
        self.meets = [0] * len(self.slots)
        for compiled in self.rules:
            for name in compiled.rule.parsed.metrics:
                self.meets[self.slots[name]] |= 1 << compiled.index
            for feature in compiled.rule.parsed.features:
                if feature.function == "quality":
                    self.meets[self.slots[feature.name]] |= 1 << compiled.index
        self.bits = [1 << slot for slot in range(len(names))]
        self._chosen: dict[int, _Chosen] = {}
        ages_of = {self.slots[f.name]: self.slots[f.metric] for f in ages}
        self._layout = Layout({slot: w.value for slot, w in self.window_at.items()}, ages_of, NEVER)
        self.normal: tuple[RuleState | None, ...] = (None,) * len(self.rules)
        """The states of rules of which none is active or about to be."""
        self.types: dict[tuple[object, ...], Given] = {}
        """What devices with the same entries on their nameplates share, where no set-point is their own."""
        self.setpoints = tuple(_setpoints(rule, self.slots) for rule in rules if rule.setpoints)
        self.has_overrides = any(rule.overrides for rule in rules)
        self._shared: dict[bytes, bytes] = {}
        self.memory = Memory(self)
        """The unpacked memory that the devices of this plan take in turns."""

    def chosen(self, told: int) -> _Chosen:
        """The rules that meet a sample with the slots of these bits."""
        found = self._chosen.get(told)
        if found is None:
            if len(self._chosen) >= _CHOICES:
                self._chosen.clear()
            mask = 0
            for slot, meets in enumerate(self.meets):
                if told >> slot & 1:
                    mask |= meets
            found = self._chosen[told] = _Chosen(tuple(rule for rule in self.rules if mask >> rule.index & 1))
        if found.check is None:
            found.met += 1
            if found.met >= WORTH:
                found.check = check(found.rules, told, self._layout)
        return found

    def sharing(self, ages: bytes) -> bytes:
        """The same ages, held once for all devices that have them."""
        shared = self._shared.get(ages)
        if shared is None:
            if len(self._shared) >= _SHARED:
                self._shared.clear()
            shared = self._shared[ages] = ages
        return shared

    def relevant(self, readings: Iterable[Reading]) -> list[Reading]:
        """The readings that feed a condition: of a metric that a rule names, and not bad unless a rule asks for its
        quality; by sample time."""
        metrics, qualities, usable = self.metrics, self.qualities, Quality.UNCERTAIN
        found = [r for r in readings if r[1] in metrics and (r[4] >= usable or r[1] in qualities)]
        found.sort(key=sample_time)
        return found


class _Chosen:
    """The rules that meet one combination of metrics, and what tells quickly to which of them something may happen."""

    __slots__ = ("check", "met", "rules")

    def __init__(self, rules: tuple[CompiledRule, ...]) -> None:
        self.rules = rules
        self.met = 0
        self.check: Check | None = None


class _Own(dict[str, int]):
    """A plan's slots as one rule names them: its set-points are its own."""

    def __init__(self, slots: Slots, rule: str) -> None:
        super().__init__(slots)
        own = f"{rule}:"
        self.update({name.removeprefix(own): slot for name, slot in slots.items() if name.startswith(own)})


class Given(NamedTuple):
    """What a device was given: nameplate and set-points by slot, and by rule the set-points that change with time."""

    values: tuple[float | None, ...]
    schedule: tuple[tuple[tuple[int, Schedule], ...], ...]


class _Setpoint(NamedTuple):
    """A set-point of a rule: its slot, how it comes from the nameplate, and how the overrides of it do."""

    slot: int
    calculate: Calculate
    overrides: tuple[tuple[Override, Calculate], ...]


def _setpoints(rule: Rule, slots: Slots) -> tuple[_Setpoint, ...]:
    return tuple(
        _Setpoint(
            slots[f"{rule.rule}:setpoint.{name}"],
            calculation(rule.setpoint(name), slots),
            tuple((o, calculation(o.setpoint(name), slots)) for o in rule.overrides if name in o.setpoints),
        )
        for name in rule.setpoints
    )


def given(plan: Plan, device: Device) -> Given:
    """What a device was given; devices of one type share it."""
    design = device.design
    nameplate = tuple([design.get(name) for name in plan.design])
    if not plan.has_overrides and (known := plan.types.get(nameplate)) is not None:
        return known
    values: list[float | None] = [None] * len(plan.slots)
    for slot, value in zip(plan.design.values(), nameplate, strict=True):
        values[slot] = _number(value)
    schedule: list[tuple[tuple[int, Schedule], ...]] = []
    for setpoints in plan.setpoints:
        changing: list[tuple[int, Schedule]] = []
        for slot, calculate, overrides in setpoints:
            values[slot] = calculate(values)
            over = [(one, by) for one, by in overrides if one.covers(device)]
            if over:
                numbers = [values[slot], *(by(values) for _, by in over)]
                changing.append((slot, Schedule(tuple(one.valid_from for one, _ in over), tuple(numbers))))
        if changing:
            schedule.append(tuple(changing))
    found = Given(tuple(values[plan.given_from :]), tuple(schedule))
    return found if schedule else plan.types.setdefault(nameplate, found)


class Memory:
    """What the past of one device amounts to: its last known values, its windows and the state of each rule."""

    __slots__ = ("device", "plan", "schedule", "states", "times", "values", "windows")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.device = ""
        self.times: list[Instant] = [NEVER] * plan.kept
        self.values: list[float | None] = [None] * len(plan.slots)
        self.windows: Room = empty_room(plan.windows)
        self.states: list[RuleState | None] = [None] * len(plan.rules)
        self.schedule: tuple[tuple[tuple[int, Schedule], ...], ...] = ()

    def begin(self, device: str, what: Given) -> None:
        """Be the memory of a device of which no reading is known."""
        plan = self.plan
        self.device = device
        self.schedule = what.schedule
        self.times[:] = [NEVER] * plan.kept
        self.values[: plan.kept] = [None] * plan.kept
        self.values[plan.given_from :] = what.values
        self.windows = empty_room(plan.windows)
        self.states[:] = plan.normal

    def take(self, slot: int, at: Instant, value: float) -> None:
        """Take in a value of a metric whose past counts."""
        plan, times, values = self.plan, self.times, self.values
        if times[slot] == at:  # the same reading again
            return
        previous = plan.previous.get(slot)
        if previous is not None:
            values[previous] = values[slot]
            times[previous] = at
        feed = plan.feeds.get(slot)
        if feed is not None:
            feed(self.windows, at, value)
        times[slot] = at
        values[slot] = value

    def refill(self, readings: Iterable[Reading]) -> None:
        """Fill the windows that a snapshot does not hold with what was measured before it, by sample time."""
        feeds, room = self.plan.refills, self.windows
        for _, metric, at, value, quality in readings:
            if metric in feeds and quality >= Quality.UNCERTAIN:
                feeds[metric](room, at, value)

    def judge(self, at: Instant, told: int, moved: list[Alarm], failed: Failed) -> None:
        """Let the rules meet the sample at `at`, whose values are in, those of the slots `told`; what is raised or
        cleared goes to `moved`."""
        states = self.states
        done: set[int] = set()
        for rule in self._due(at, told):
            if rule.windows or rule.ages:
                self._calculate(rule, at, done)
            values: Sequence[float | None] = self.values
            if rule.slots:
                oldest = at - rule.validity
                times = self.times
                for slot in rule.slots:
                    if times[slot] < oldest:
                        values = self._valid(rule.slots, oldest)
                        break
            index = rule.index
            state = states[index]
            try:
                verdict = rule.strict(values) if state is None or state[0] is None else rule.relaxed(values)
                if verdict is None and (why := rule.why(values)) is not None:
                    failed(rule.rule.rule, why)
                if state is None and not verdict:
                    continue
                states[index], alarm = rule.step(state, verdict, at, values, self.device)
            except Exception as error:  # a defect of one rule must not end the others
                failed(rule.rule.rule, error)
                continue
            if alarm is not None:
                moved.append(alarm)

    def _due(self, at: Instant, told: int) -> Sequence[CompiledRule]:
        """The rules that meet a sample, without those that are known to stay in the normal state."""
        for changing in self.schedule:
            for slot, schedule in changing:
                self.values[slot] = schedule.at(at)
        chosen = self.plan.chosen(told)
        if chosen.check is None:
            return chosen.rules
        return chosen.check(at, self.values, self.times, self.windows, self.states)

    def _calculate(self, rule: CompiledRule, at: Instant, done: set[int]) -> None:
        """Put in what changes with time alone, once for a sample."""
        values, plan = self.values, self.plan
        for slot in rule.windows:
            if slot in done:
                continue
            done.add(slot)
            values[slot] = plan.window_at[slot].value(self.windows, at)
        for slot, metric in rule.ages:
            newest = self.times[metric]
            values[slot] = None if newest == NEVER else (at - newest) / SECOND

    def _valid(self, slots: Sequence[int], oldest: Instant) -> list[float | None]:
        values = self.values.copy()
        for slot in slots:
            if self.times[slot] < oldest:
                values[slot] = None
        return values


def _number(value: object) -> float | None:
    """A nameplate entry; what is no finite number is as good as missing."""
    return float(value) if isinstance(value, int | float) and isfinite(value) else None
