"""The quick way past the rules names every rule that something happens to."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts import evaluation
from alerts.evaluation import Plan
from alerts.expression import Call, Comparison, Number, Operand
from alerts.quick import Layout, check
from alerts.rules import Rule
from alerts.track import Track
from alerts.windows import empty_room
from devices.alarm import Alarm
from devices.model import Device, Reading
from tests.unit.alerts.plant import PUMP, T0, VALIDITY, rule
from tests.unit.alerts.test_engine import readings_strategy, rules_strategy

ODD = (
    "power / flow > 2 and running",
    "not (power / flow > 2 or running)",
    "min(power / flow, 3) > 2",
    "max(-(power * 1e308 * 1e308), -power) < -5 and flow > 2",
    "1 / (power / flow) < 3",
    "vapour_pressure(temperature) > 0.01 or vibration > 8",
    "not (vapour_pressure(100 * temperature) > 0.01) and flow > 3",
    "flow < setpoint.low and -(power - 2) > -3",
    "abs(temperature - previous(temperature)) > 3",
    "max(flow, '10m') > 8 and 2 < flow < 7",
    "avg(flow, '10m') > 4.37",
)


def told(rules: list[Rule], readings: list[Reading], device: Device, worth: int) -> tuple[list[Alarm], Counter[str]]:
    """What is raised and cleared, and how often which rule could not be calculated."""
    failures: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "WORTH", worth)
        plan = Plan(rules, VALIDITY)
        track = Track(plan, device)
        track.wake()
        moved = track.advance(plan.relevant(readings), lambda name, why: failures.update([f"{name}: {why}"]))
    return moved, failures


odd_rules = st.sampled_from(ODD).map(
    lambda condition: rule(condition, setpoints={"low": 4} if "setpoint" in condition else {}, metric=None)
)


@given(st.lists(rules_strategy() | odd_rules, min_size=1, max_size=6), readings_strategy())
@settings(max_examples=200)
def test_it_comes_to_the_same_as_asking_every_rule_at_every_sample(tested: list[Rule], readings: list[Reading]) -> None:
    rules = [one.model_copy(update={"rule": f"r{number}"}) for number, one in enumerate(tested)]
    own = [reading for reading in readings if reading.device == PUMP.identity]
    assert told(rules, own, PUMP, worth=1) == told(rules, own, PUMP, worth=1_000_000)


def test_what_it_does_not_know_is_always_named() -> None:
    (known,) = Plan([rule("flow > 5")], VALIDITY).rules
    strange = Call("strange", (Operand("flow", "m3/h"),))
    (unknown,) = Plan([rule("flow > 6")], VALIDITY).rules
    unknown.root = Comparison(">", strange, Number(5.0), None)
    found = check([known, unknown], 0, Layout({}, {}, 0))
    assert found(T0, [4.0], [T0], empty_room(()), [None]) == [unknown]
    assert found(T0, [6.0], [T0], empty_room(()), [None]) == [known, unknown]


def test_what_it_writes_holds_nothing_of_the_rules_text() -> None:
    """Set-points, nameplate entries and messages are the user's words; they are read by slot."""
    tested = rule("flow > setpoint.secret", setpoints={"secret": 5})
    plan = Plan([tested], VALIDITY)
    made = check(plan.rules, 0, Layout({}, {}, 0))
    assert not {"flow", "setpoint", "secret"} & {*made.__code__.co_names, *made.__code__.co_varnames}
    assert made.__globals__["__builtins__"] == {}
