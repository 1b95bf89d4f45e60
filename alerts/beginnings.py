"""Judging a history whose beginning is cut off: by retention, or as no more than two weeks are read again. Pure.

What was there before is not known: the last values, what the windows held, and whether a run had begun that counts
towards a delay. The journal knows what came of it. So at the beginning each rule goes by the journal, and judges by
itself from where its own judgement can be told to be what it would have been with the whole history:

- its windows are full, and values from before the beginning would have expired;
- from then on it is taken to be in a run of unknown length. As soon as a sample ends that run, or the journal has what
  it led to, nothing from before the beginning counts any more;
- where the run leads to what the journal does not have, the journal was written by other rules: a run that is known in
  part is never longer than the whole one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from alerts.compiled import CompiledRule, Failed, RuleState, active
from alerts.evaluation import Plan, sample_time
from alerts.track import Track
from devices.alarm import Alarm
from devices.model import HOUR, Instant, Reading

_LOOKS = 9
"""How often it is looked whether a rule can judge by itself: an hour after the beginning, and each time after twice
that, up to ten days."""


def settle(
    track: Track, replay: Sequence[Reading], known: Sequence[Alarm], first: Instant, failed: Failed
) -> tuple[list[Alarm], list[Alarm]]:
    """Judge relevant readings, sorted by time, on a track that was reset. Gives what the journal holds (`known`, of
    these rules) from where each rule judged by itself, and what there is instead; an occurrence may stand there in each
    of its states, the last one counts. From `first` on, the earliest reading that may not be judged yet, the journal
    knows nothing, and every rule judges by itself."""
    begin = replay[0].measured_at
    first = max(begin, first)
    unsettled = {
        compiled.rule.rule: _Unsettled(
            compiled,
            [alarm for alarm in known if alarm.rule == compiled.rule.rule],
            begin + _memory(track.plan, compiled),
            first,
        )
        for compiled in track.plan.rules
    }
    stops: dict[Instant, set[str]] = {}
    for name, one in unsettled.items():
        for stop in one.stops(begin):
            stops.setdefault(stop, set()).add(name)
    before: list[Alarm] = []
    after: list[Alarm] = []
    last, done = begin, 0
    for stop in sorted(stops):
        if stops[stop].isdisjoint(unsettled):
            continue
        end = bisect_left(replay, stop, key=sample_time)
        moved = track.advance(replay[done:end], failed)
        after += [alarm for alarm in moved if alarm.rule not in unsettled]
        for name, one in list(unsettled.items()):
            found = one.look(track.memory.states, [alarm for alarm in moved if alarm.rule == name], last, stop)
            if found is not None:
                del unsettled[name]
                before += found[0]
                after += found[1]
        track.commit()
        last, done = stop, end
    return before, after + track.advance(replay[done:], failed)


class _Unsettled(NamedTuple):
    """A rule that does not judge by itself yet."""

    compiled: CompiledRule
    told: list[Alarm]
    """What the journal holds of it."""
    full: Instant
    """From when on its values and windows are known."""
    first: Instant

    def stops(self, begin: Instant) -> set[Instant]:
        """When to look. What counts towards a transition begins after the one before it that the journal has."""
        found = {begin, self.first, self.full, *(begin + HOUR * 2**look for look in range(_LOOKS))}
        found.update(at + 1 for alarm in self.told for at in (alarm.raised_at, alarm.cleared_at) if at is not None)
        return {stop for stop in found if begin <= stop <= self.first}

    def look(
        self, states: list[RuleState | None], moved: list[Alarm], last: Instant, stop: Instant
    ) -> tuple[list[Alarm], list[Alarm]] | None:
        """Let it go by the journal at a stop (`moved`: what it came to since the last one), or give what the journal
        holds from where it judges by itself, and what it came to there."""
        index, full = self.compiled.index, self.full
        given, state = self._active(stop), states[index]
        is_active = state is not None and state.alarm is not None
        if moved and last >= full and is_active != (given is not None):
            # It came to something else than the journal: by other rules, or in what nobody has judged.
            earlier = self._active(last)
            return self._from(last), [earlier, *moved] if earlier else moved
        if stop == full and stop < self.first:
            states[index] = RuleState(given, stop, 0, stop, known=False)  # the run of unknown length
            return None
        state = states[index] = _going_on(state, given, stop)
        in_unknown_run = state is not None and state.since is not None and state.since <= full
        if stop < self.first and (stop < full or in_unknown_run):
            return None
        return self._from(stop), active([state])

    def _active(self, at: Instant) -> Alarm | None:
        """What the journal says to be active just before an instant, as it was then."""
        found = [a for a in self.told if a.raised_at < at and (a.cleared_at is None or a.cleared_at >= at)]
        return replace(found[-1], cleared_at=None) if found else None

    def _from(self, at: Instant) -> list[Alarm]:
        return [alarm for alarm in self.told if alarm.cleared_at is None or alarm.cleared_at >= at]


def _memory(plan: Plan, compiled: CompiledRule) -> Instant:
    """How long after its beginning a history holds all values and windows that a rule goes by."""
    reach = max((plan.window_at[slot].reach for slot in compiled.windows), default=0)
    return max(reach, compiled.validity) if compiled.slots or compiled.ages else reach


def _going_on(state: RuleState | None, given: Alarm | None, at: Instant) -> RuleState | None:
    """A rule's state with what the journal says to be active; a run towards the other stays."""
    if given is None:
        return None if state is None or state.alarm is not None else state
    if state is None or state.alarm is None:
        return RuleState(given, None, 0, at, known=True)
    return state._replace(alarm=given)
