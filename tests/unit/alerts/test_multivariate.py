"""A model of what is usual: what it learns, what it says of features, and that it is a rule like any other."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import numpy as np
import pytest

from alerts.engine import judge
from alerts.learning import features_of, learn
from alerts.multivariate import Model, Period, fit
from alerts.rulefiles import load_rules
from alerts.rules import Rule
from devices.document import DocumentError
from devices.model import MINUTE, SECOND, Reading
from tests.unit.alerts.plant import PROFILES, PUMP, T0, bare, deliver_at_random, naive, rule, series

TAUGHT = [Period(device="P-1", since="2026-03-01", until="2026-03-02", samples=2000)]
FEATURES = ("avg(flow, '3m')", "power", "flow / power")
CONDITION = "count(flow, '10m') >= 5 and unusual() > 1"


def cloud(seed: int = 1, count: int = 2000) -> list[list[float]]:
    """Two features that go together, and one by itself."""
    chance = np.random.default_rng(seed)
    common, own, third = chance.normal(size=(3, count))
    return [[50 + 4 * a, 10 + 0.8 * a + 0.05 * b, c] for a, b, c in zip(common, own, third, strict=True)]


def machine(values: list[tuple[float, float]]) -> list[Reading]:
    flows, powers = zip(*values, strict=True)
    return [*series("flow", list(flows)), *series("power", list(powers))]


def usual(count: int, seed: int = 3) -> list[tuple[float, float]]:
    chance = random.Random(seed)
    flows = [50 + 4 * chance.gauss(0, 1) for _ in range(count)]
    return [(flow, 0.2 * flow + 0.1 * chance.gauss(0, 1)) for flow in flows]


def learnt(explained: float = 1.0) -> Rule:
    bare_rule = rule(CONDITION, features=list(FEATURES))
    model = learn(bare_rule, PROFILES, [([PUMP], machine(usual(600)))], explained=explained, quantile=0.999)
    return rule(CONDITION, features=list(FEATURES), model=model.model_dump(), on_delay="2m", off_delay="2m")


def test_the_stated_share_of_the_clean_samples_lies_within_the_limits() -> None:
    model = fit(("a", "b", "c"), cloud(), TAUGHT, quantile=0.99)
    inside = sum(model.index(*sample) <= 1 for sample in cloud())
    assert inside == pytest.approx(0.99 * 2000, abs=2)
    assert model.q_limit is None


def test_t2_of_all_components_is_the_mahalanobis_distance() -> None:
    samples = np.array(cloud())
    model = fit(("a", "b", "c"), samples.tolist(), TAUGHT)
    away = np.array([53.0, 9.0, 1.0]) - samples.mean(axis=0)
    distance = away @ np.linalg.inv(np.cov(samples.T, bias=True)) @ away
    assert model.index(53.0, 9.0, 1.0) * model.t2_limit == pytest.approx(distance, rel=1e-6)


def test_what_breaks_the_relation_is_unusual_though_each_value_is_usual() -> None:
    model = fit(("a", "b", "c"), cloud(), TAUGHT, explained=0.9)
    assert model.q_limit is not None
    assert model.index(54.0, 10.8, 0.0) < 1
    assert model.index(54.0, 9.2, 0.0) > 20


def test_the_feature_that_is_away_is_named_first() -> None:
    model = fit(("a", "b", "c"), cloud(), TAUGHT)
    assert model.because([50.0, 10.0, 7.0]).startswith("c at +7.")


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        (cloud(count=20), "there are 20 samples"),
        ([[1.0, float(n), float(n % 3)] for n in range(200)], "‘a’ never changes"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_with_its_reason(samples: list[list[float]], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        fit(("a", "b", "c"), samples, TAUGHT)


def test_features_that_are_bound_to_each_other_are_unusual_when_the_bond_breaks() -> None:
    bound = [[a, 2 * a, c] for a, _, c in cloud()]
    model = fit(("a", "b", "c"), bound, TAUGHT)
    assert sum(model.index(*sample) <= 1 for sample in bound) == pytest.approx(0.99 * 2000, abs=2)
    assert model.index(50.0, 101.0, 0.0) > 100


def test_a_model_is_plain_data() -> None:
    model = fit(("a", "b", "c"), cloud(), TAUGHT, explained=0.9)
    assert Model.model_validate(json.loads(model.model_dump_json())) == model


def test_a_rule_is_taught_by_the_samples_that_it_would_judge() -> None:
    values = usual(30)
    found = features_of(rule(CONDITION, features=list(FEATURES)), [PUMP], PROFILES, machine(values))
    assert len(found) == 26  # the first four minutes do not meet the rest of the condition
    assert found[0] == pytest.approx(
        (sum(flow for flow, _ in values[2:5]) / 3, values[4][1], values[4][0] / values[4][1])
    )


@pytest.mark.parametrize("explained", [1.0, 0.6])
def test_it_calls_when_the_machine_changes_and_says_what_made_it(explained: float) -> None:
    healthy, worn = usual(60, seed=5), [(flow, 0.26 * flow) for flow, _ in usual(30, seed=6)]
    (alarm,) = judge(learnt(explained), PUMP, PROFILES[PUMP.profile], machine([*healthy, *worn]))
    assert T0 + 60 * MINUTE <= alarm.raised_at <= T0 + 64 * MINUTE
    assert alarm.value is not None
    assert alarm.value > 1


def test_its_message_names_the_features() -> None:
    telling = learnt().model_copy(update={"message": "{value}: {features}"})
    (alarm,) = judge(telling, PUMP, PROFILES[PUMP.profile], machine([*usual(60, seed=5), *[(50.0, 13.0)] * 20]))
    assert "flow / power at -" in alarm.message
    assert "deviations" in alarm.message


def test_a_rule_that_was_not_taught_is_idle_and_says_so() -> None:
    untaught = rule(CONDITION, features=list(FEATURES))
    assert untaught.idle(["flow", "power"], []) == "its model has not been learnt"


@pytest.mark.parametrize("seed", range(40))
def test_the_order_of_arrival_plays_no_part(seed: int) -> None:
    chance = random.Random(seed)
    tested = learnt(chance.choice((1.0, 0.6)))
    values = [*usual(15, seed), *[(50.0, 12.0 + chance.random())] * 12, *usual(15, seed + 1)]
    readings = sorted(machine(values), key=lambda one: one.measured_at)
    whole = judge(tested, PUMP, PROFILES[PUMP.profile], readings)
    assert bare(whole) == naive(tested, PUMP, PROFILES[PUMP.profile], readings)
    assert whole
    deliver_at_random([tested], readings, chance)


RULE = """
rule: odd
title: Odd
features: [flow, power]
model: odd.model.json
condition: unusual() > 1
message: "{features}"
priority: low
guidance: {cause: a, consequence: b, corrective_action: c, time_to_respond: 1h}
"""


def _text(features: tuple[str, ...]) -> Callable[[str], str]:
    samples = [one[: len(features)] for one in cloud()]
    return lambda _: fit(features, samples, TAUGHT).model_dump_json()


def _missing(name: str) -> str:
    raise FileNotFoundError(f"there is no file {name}")


def test_a_rule_names_the_file_of_its_model() -> None:
    (found,) = load_rules(RULE, "odd.yaml", _text(("flow", "power")))
    assert found.model is not None
    assert found.model.features == ("flow", "power")


def test_a_rule_keeps_what_it_was_taught_when_it_is_overridden() -> None:
    name = RULE.partition("rule: ")[2].partition("\n")[0]
    off = f"override: {name}\nenabled: false\nvalid_from: 2026-01-01T00:00:00Z\nreason: r\n"
    both = "".join("- " + "  ".join(one.strip().splitlines(keepends=True)) + "\n" for one in (RULE, off))
    (found,) = load_rules(both, "odd.yaml", _text(("flow", "power")))
    (plain,) = load_rules(RULE, "odd.yaml", _text(("flow", "power")))
    assert found.model is not None
    assert found.model == plain.model
    assert "setpoint.enabled" in found.condition


@pytest.mark.parametrize(
    ("models", "why"),
    [
        (_text(("power", "flow")), "taught other features"),
        (_missing, "odd.yaml:5:.*there is no file odd.model.json; headworks rules learn"),
        (lambda _: "{", "headworks rules learn"),
    ],
)
def test_a_model_that_does_not_fit_is_told_with_its_place(models: Callable[[str], str], why: str) -> None:
    with pytest.raises(DocumentError, match=why):
        load_rules(RULE, "odd.yaml", models)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("unusual() > 1", "lists its ‘features’"),
        ("unusual(flow) > 1", "takes nothing"),
    ],
)
def test_unusual_needs_the_rules_features(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        rule(text)


def test_early_is_what_it_was_at_the_windows_beginning() -> None:
    readings = series("flow", [10.0] * 12 + [20.0] * 20, step=10 * SECOND)
    tested = rule("avg(flow, '20s') > 1.5 * early(flow, '5m')")
    (alarm,) = judge(tested, PUMP, PROFILES[PUMP.profile], readings)
    assert alarm.raised_at == T0 + 130 * SECOND
