"""Rules on groups: who belongs together, when a moment is judged, and that the order of arrival plays no part."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.groups import judge_group
from alerts.rules import Rule
from alerts.scopes import MOST, Scope, compose, judged_until
from devices.alarm import ChangeKind
from devices.model import HOUR, MINUTE, Device, DeviceStatus, Instant, Quality, Reading
from tests.unit.alerts.plant import PROFILES, T0, House, deliver_at_random, minutes, rule

PLACE: dict[str, Any] = {"site": "east", "area": "zone 1", "unit": "station"}
INLET = Device("in", "centrifugal-pump", tag="FT-1", design={"pn": 16.0, "weight": 1.0}, **PLACE)
OUTLETS = [
    Device("out-1", "control-valve", tag="FT-2", design={"pn": 10.0, "share": 3.0}, **PLACE),
    Device("out-2", "control-valve", tag="FT-3", design={"pn": 6.0, "share": 4.0}, **PLACE),
]
PLANT = {device.identity: device for device in (INLET, *OUTLETS)}
ROLES: dict[str, dict[str, Any]] = {"inlet": {"kind": "pump"}, "outlet": {"kind": "valve", "several": True}}
BALANCE = "inlet.flow - sum(outlet.flow) > 2"


def grouped(condition: str = BALANCE, roles: dict[str, Any] = ROLES, **fields: Any) -> Rule:
    group = {"roles": roles} | {name: fields.pop(name) for name in ("by", "patience") if name in fields}
    return rule(condition, group=group, **fields)


def scope(tested: Rule | None = None, *devices: Device) -> Scope:
    (found,), _ = compose([tested or grouped()], devices or PLANT.values(), PROFILES)
    return found


def flow(device: str, values: list[float | None], start: Instant = T0, step: Instant = MINUTE) -> list[Reading]:
    return [
        Reading(device, "flow", start + number * step, value)
        for number, value in enumerate(values)
        if value is not None
    ]


def of(tested: Rule, *readings: list[Reading]) -> list[tuple[float, float, float | None]]:
    return [minutes(alarm) for alarm in judge_group(scope(tested), [one for some in readings for one in some])]


# --- who belongs together


def test_there_is_a_group_for_each_device_of_the_first_role() -> None:
    other = replace(INLET, identity="in-2", tag="FT-9")
    scopes, without = compose([grouped()], [*PLANT.values(), other], PROFILES)
    assert [(one.about.identity, one.identities) for one in scopes] == [
        ("in", ("in", "out-1", "out-2")),
        ("in-2", ("in-2", "out-1", "out-2")),
    ]
    assert not without


def test_there_is_one_for_the_place_where_the_first_role_is_several() -> None:
    roles = {"outlet": ROLES["outlet"], "inlet": ROLES["inlet"]}
    scopes, _ = compose([grouped("sum(outlet.flow) > inlet.flow", roles)], PLANT.values(), PROFILES)
    assert [one.about.identity for one in scopes] == ["out-1"]


@pytest.mark.parametrize(("by", "groups"), [("site", 1), ("area", 2), ("unit", 2)])
def test_the_place_says_who_belongs_together(by: str, groups: int) -> None:
    elsewhere = [replace(d, identity=f"{d.identity}-b", area="zone 2") for d in PLANT.values()]
    tested = grouped("max(outlet.flow) > max(inlet.flow)", {n: r | {"several": True} for n, r in ROLES.items()}, by=by)
    scopes, _ = compose([tested], [*PLANT.values(), *elsewhere], PROFILES)
    assert len(scopes) == groups


def test_a_neighbourhood_is_an_area_else_a_site_else_a_device_by_itself() -> None:
    tested = grouped("max(outlet.flow) > 3", {"outlet": ROLES["outlet"]}, by="neighbourhood")
    places = [("east", "zone 1"), ("east", "zone 1"), ("east", ""), ("east", ""), ("", ""), ("", "")]
    devices = [
        replace(OUTLETS[0], identity=f"v-{number}", tag=f"V-{number}", site=site, area=area)
        for number, (site, area) in enumerate(places)
    ]
    scopes, _ = compose([tested], devices, PROFILES)
    assert [one.identities for one in scopes] == [("v-0", "v-1"), ("v-2", "v-3"), ("v-4",), ("v-5",)]


def test_in_a_neighbourhood_of_too_many_each_device_is_judged_by_itself() -> None:
    tested = grouped("max(outlet.flow) > 3", {"outlet": ROLES["outlet"]}, by="neighbourhood")
    devices = [replace(OUTLETS[0], identity=f"v-{number:03}", tag=f"V-{number:03}") for number in range(MOST + 1)]
    scopes, without = compose([tested], devices, PROFILES)
    assert [one.identities for one in scopes] == [(device.identity,) for device in devices]
    assert not without
    (alarm,) = judge_group(scopes[7], [*flow("v-007", [4] * 5), *flow("v-008", [9] * 5)])
    assert (alarm.device, alarm.value) == ("v-007", 4)


def test_where_one_device_is_enough_those_without_the_metric_have_no_part() -> None:
    silent = [Device(f"ball-{n}", "motorised-ball-valve", tag=f"BV-{n}", **PLACE) for n in range(MOST)]
    tested = grouped("max(outlet.flow) > 3 and inlet.flow > 1")
    assert scope(tested, *PLANT.values(), *silent).identities == ("in", "out-1", "out-2")
    _, without = compose([grouped()], [*PLANT.values(), *silent], PROFILES)
    assert "more than" in next(iter(without["tested"])), "of a sum each that it lacks is missed"


def test_a_device_without_a_place_is_in_no_group() -> None:
    assert compose([grouped()], [replace(d, unit="") for d in PLANT.values()], PROFILES) == ([], {})


@pytest.mark.parametrize(
    ("devices", "roles", "condition", "why"),
    [
        ([INLET], ROLES, BALANCE, "no device of its unit is its ‘outlet’"),
        ([INLET, replace(OUTLETS[0], status=DeviceStatus.RETIRED)], ROLES, BALANCE, "no device of its unit is"),
        (
            [INLET, *OUTLETS],
            {"inlet": {"kind": "pump"}, "outlet": {"kind": "valve"}},
            "inlet.flow > outlet.flow",
            "several devices of its unit could be its ‘outlet’; it takes one",
        ),
        ([INLET, *OUTLETS], ROLES, "inlet.flow > sum(outlet.volume)*0 + max(outlet.flow)", "cannot"),
        ([INLET, *OUTLETS], ROLES, "inlet.leak and sum(outlet.flow) > 1", "there is no inlet.leak"),
        (
            [INLET, *OUTLETS],
            ROLES,
            "inlet.flow > sum(outlet.design.kv) + max(outlet.flow)",
            "there is no design.outlet",
        ),
        (
            [INLET, *(replace(OUTLETS[0], identity=f"out-{n}") for n in range(MOST))],
            ROLES,
            BALANCE,
            f"the group has {MOST + 1} devices, more than {MOST}",
        ),
    ],
)
def test_a_group_that_cannot_be_judged_is_named_with_the_reason(
    devices: list[Device], roles: dict[str, Any], condition: str, why: str
) -> None:
    if why == "cannot":
        with pytest.raises(ValueError, match="different units"):
            grouped(condition, roles)
        return
    scopes, without = compose([grouped(condition, roles)], devices, PROFILES)
    assert not scopes
    ((reason, device),) = without["tested"].items()
    assert why in reason
    assert device == "in"


# --- what a condition may say


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("flow > 1", "whose flow? Write the role before it, as in inlet.flow"),
        ("inlet.flow > outlet.flow", "‘outlet’ may be several devices: say sum(outlet.flow), min(outlet.flow) or max"),
        ("inlett.flow > sum(outlet.flow)", "the rule has no role ‘inlett’, did you mean ‘inlet’?"),
        ("inlet.flwo > sum(outlet.flow)", "unknown metric ‘flwo’, did you mean ‘flow’?"),
        ("inlet.flow > sum(outlet.pressure)", "different units (m3/h and bar)"),
        ("sum(inlet.flow) > max(outlet.flow)", "sum() over devices takes one number of one role of several devices"),
        ("inlet.flow > sum(max(outlet.flow))", "max() over devices stands within another one"),
        ("inlet.flow > 1", "the role ‘outlet’ is not in the condition: write outlet.<metric>"),
        ("inlet.flow and max(outlet.flow) > 1", "compare it, as in inlet.flow > 1"),
        ("inlet.__class__ > sum(outlet.flow)", "unknown metric"),
        ("inlet.design.__class__ > sum(outlet.flow)", "not allowed"),
    ],
)
def test_an_unfit_condition_is_refused(condition: str, why: str) -> None:
    with pytest.raises(ValueError, match="condition") as error:
        grouped(condition)
    assert why in str(error.value)


def test_a_rule_without_a_group_has_no_roles() -> None:
    with pytest.raises(ValueError, match="not allowed here"):
        rule("inlet.flow > 1")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"applies_to": {"kind": "pump"}}, "leave applies_to out"),
        ({"roles": {"inlet": {"kind": "pump"}}, "condition": "inlet.flow > 1"}, "a group of one device is none"),
        ({"roles": {"In-let": {"kind": "pump"}, **ROLES}}, "no name for a role"),
        ({"roles": {"design": {"kind": "pump"}, **ROLES}}, "no name for a role"),
    ],
)
def test_an_unfit_group_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        grouped(**fields)


@pytest.mark.parametrize(
    ("condition", "is_raised"),
    [
        ("inlet.flow > sum(outlet.flow) + 0.5", True),
        ("inlet.flow > sum(outlet.flow * 2)", False),
        ("inlet.flow > min(outlet.flow) + 4", True),
        ("inlet.flow > max(outlet.flow) + 4", False),
        ("max(outlet.flow) > 3 and inlet.flow > 0 * inlet.design.weight", True),
        ("max(outlet.flow) > 3 and design.pn == 16 and inlet.flow > 1", True),
        ("inlet.flow > 1 and min(outlet.design.pn) == 6 and max(outlet.flow) > 3", True),
        ("inlet.flow > 1 and sum(avg(outlet.flow, '2m')) > 5.5", True),
        ("inlet.flow > 1 and max(previous(outlet.flow)) == 4", True),
        ("changed(inlet.flow) and sum(outlet.flow) > 1", False),
        ("quality(inlet.flow) == good and max(quality(outlet.flow)) == good", True),
    ],
)
def test_a_role_of_several_devices_is_added_up_or_compared(condition: str, is_raised: bool) -> None:
    tested = grouped(condition)
    some = [*flow("in", [7] * 5), *flow("out-1", [4] * 5), *flow("out-2", [2] * 5)]
    assert bool(judge_group(scope(tested), some)) is is_raised


def test_what_is_shown_is_what_the_leading_comparison_compares() -> None:
    tested = grouped(message="{value} {unit} more, limit {limit}", deadband={"inlet.flow": 0.5})
    (alarm,) = judge_group(
        scope(tested), [*flow("in", [7, 8.4, 8.4]), *flow("out-1", [4] * 3), *flow("out-2", [2] * 3)]
    )
    assert (alarm.device, alarm.message) == ("in", "2.4 m3/h more, limit 2")


def test_the_alarm_clears_behind_the_deadband_of_all() -> None:
    tested = grouped("sum(outlet.flow) - inlet.flow > 2", deadband={"outlet.flow": 1})
    outs = flow("out-2", [1] * 4)
    assert of(tested, flow("in", [4] * 4), flow("out-1", [6, 4.5, 3.5, 3.5]), outs) == [(0, 0, 2)]


# --- when a moment is judged


def test_nothing_is_judged_before_it_is_known_of_all() -> None:
    tested = grouped("inlet.flow - sum(outlet.flow) > 2", patience="1h")
    outs = flow("out-1", [4] * 3)
    assert of(tested, flow("in", [9] * 10), outs) == []
    assert of(tested, flow("in", [9] * 10), outs, flow("out-2", [2] * 3)) == [(0, 0, None)]


def test_after_its_patience_what_is_missing_is_unknown() -> None:
    tested = grouped("inlet.flow > 8 or inlet.flow - sum(outlet.flow) > 2", patience="20m")
    late = judge_group(scope(tested), flow("in", [9] * 25))
    assert [minutes(alarm) for alarm in late] == [(0, 0, None)]
    assert judge_group(scope(tested), flow("in", [9] * 19)) == []


@pytest.mark.parametrize(
    ("condition", "is_raised"),
    [
        ("max(outlet.flow) > 3", True),
        ("3 < max(outlet.flow)", True),
        ("min(outlet.flow) < 5", True),
        ("min(outlet.flow) < 3", False),
        ("max(outlet.flow) < 5", False),  # the silent one may have more
        ("min(outlet.flow) > 3", False),
        ("sum(outlet.flow) > 3", False),
        ("not max(outlet.flow) > 5", False),  # as max(outlet.flow) <= 5
        ("not max(outlet.flow) < 3", True),
        ("not min(outlet.flow) < 3", False),
        ("not min(outlet.flow) > 5", True),
    ],
)
def test_a_greatest_above_a_limit_does_not_wait_for_the_silent(condition: str, is_raised: bool) -> None:
    tested = grouped(condition, {"outlet": ROLES["outlet"]}, patience="1m")
    assert bool(judge_group(scope(tested), flow("out-1", [4] * 5))) is is_raised


def test_such_an_alarm_clears_though_one_has_fallen_silent() -> None:
    tested = grouped("max(outlet.flow) > 3", {"outlet": ROLES["outlet"]}, patience="1m", validity="2m")
    some = [*flow("out-1", [4, 2, 2, 2, 2, 2, 2]), *flow("out-2", [4])]
    assert [minutes(alarm) for alarm in judge_group(scope(tested), some)] == [(0, 0, 3)]


@given(
    st.dictionaries(st.sampled_from(["inlet", "outlet[1]", "outlet[2]"]), st.integers(0, 10**12), max_size=3),
    st.dictionaries(st.sampled_from(["inlet", "outlet[1]", "outlet[2]"]), st.integers(0, 10**12), max_size=3),
)
def test_what_is_judged_stays_judged(known: dict[str, int], more: dict[str, int]) -> None:
    later = {name: max(known.get(name, 0), more.get(name, 0)) for name in {*known, *more}}
    assert judged_until(scope(), later) >= judged_until(scope(), known)


def test_a_late_device_is_waited_for_and_no_line_is_written_that_is_taken_back() -> None:
    house = House([grouped()], PLANT)
    kinds: list[ChangeKind] = []
    for minute in range(0, 60, 5):
        start = T0 + minute * MINUTE
        kinds += [c.kind for c in house.deliver(flow("in", [7 + minute] * 5, start))]
        kinds += [c.kind for c in house.deliver(flow("out-1", [4 + minute] * 5, start))]
    assert kinds == []
    kinds += [c.kind for c in house.deliver(flow("out-2", [2.0] * 60))]
    assert kinds == []
    kinds += [c.kind for c in house.deliver(flow("in", [99], T0 + HOUR))]
    assert kinds == []
    for device in ("out-1", "out-2"):
        kinds += [c.kind for c in house.deliver(flow(device, [2], T0 + HOUR))]
    assert kinds == [ChangeKind.RAISED]


def test_a_device_that_moves_to_another_unit_leaves_its_group() -> None:
    house = House([grouped("inlet.flow - sum(outlet.flow) > 4")], PLANT)
    house.deliver([*flow("in", [7]), *flow("out-1", [4]), *flow("out-2", [2])])
    assert house.alarms == []
    house.devices["out-2"] = replace(OUTLETS[1], unit="elsewhere")
    house.deliver([*flow("in", [9], T0 + MINUTE), *flow("out-1", [4], T0 + MINUTE), *flow("out-2", [2], T0 + MINUTE)])
    assert [(alarm.rule, minutes(alarm)) for alarm in house.alarms] == [("tested", (1, 1, None))]


def test_a_rule_on_a_group_leaves_other_rules_of_its_device_alone() -> None:
    own = rule("flow > 8", rule="own")
    house = House([own, grouped()], PLANT)
    house.deliver([*flow("in", [9]), *flow("out-1", [1]), *flow("out-2", [1])])
    assert [alarm.rule for alarm in house.alarms] == ["own", "tested"]
    house.deliver([*flow("in", [9], T0 - MINUTE), *flow("out-1", [1], T0 - MINUTE), *flow("out-2", [1], T0 - MINUTE)])
    assert [(alarm.rule, minutes(alarm)[1]) for alarm in house.alarms] == [("own", -1), ("tested", -1)]


# --- the order of arrival

CONDITIONS = (
    BALANCE,
    "inlet.flow - sum(outlet.flow) > 2 and inlet.running",
    "sum(avg(outlet.flow, '5m')) > 7.37 or inlet.flow < 1.37",
    "max(outlet.flow) - min(outlet.flow) > 3.5 and inlet.flow > 2",
    "changed(inlet.running) and max(outlet.flow) > 4",
    "age(inlet.flow) > '90s' and max(age(outlet.flow)) > '2m'",
    "min(quality(outlet.flow)) == bad or inlet.flow > 8.5",
    "inlet.flow > design.weight * 5 and max(outlet.flow) > min(outlet.design.share)",
)


@st.composite
def group_rules(draw: st.DrawFn) -> Rule:
    return grouped(
        draw(st.sampled_from(CONDITIONS)),
        on_delay=draw(st.sampled_from(["0", "1m", "3m"])),
        off_delay=draw(st.sampled_from(["0", "2m"])),
        patience=draw(st.sampled_from([None, "1m", "7m", "1d"])),
        validity=draw(st.sampled_from([None, "2m"])),
    )


@st.composite
def group_readings(draw: st.DrawFn) -> list[Reading]:
    found: list[Reading] = []
    for device in PLANT:
        begin = draw(st.integers(0, 10))
        step = draw(st.sampled_from([MINUTE, 90_000_000, 5 * MINUTE]))
        values = draw(st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=0, max_size=25))
        for number, value in enumerate(values):
            at = T0 + begin * MINUTE + number * step
            if value is not None:
                quality = Quality.BAD if draw(st.integers(0, 15)) == 0 else Quality.GOOD
                found.append(Reading(device, "flow", at, float(value), quality))
            if device == "in" and draw(st.booleans()):
                found.append(Reading(device, "running", at, float(draw(st.booleans()))))
    return sorted(found, key=lambda reading: reading.measured_at)


@given(group_rules(), group_readings(), st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_the_journal_is_a_function_of_the_set_of_readings(
    tested: Rule, readings: list[Reading], chance: random.Random
) -> None:
    deliver_at_random([tested, rule("flow > 6", rule="own")], readings, chance, PLANT)


def some_group(chance: random.Random) -> tuple[Rule, list[Reading]]:
    """A random rule on the plant, and readings of its devices, of which some end before others."""
    tested = grouped(
        chance.choice(CONDITIONS),
        on_delay=chance.choice(["0", "1m", "3m"]),
        off_delay=chance.choice(["0", "2m"]),
        patience=chance.choice([None, "1m", "7m", "1d"]),
    )
    readings = [
        Reading(device, "flow", T0 + chance.randrange(20) * MINUTE + n * MINUTE, float(chance.randrange(10)))
        for device in PLANT
        for n in range(chance.randrange(25))
    ]
    known = {(r.device, r.metric, r.measured_at): r for r in readings}
    return tested, sorted(known.values(), key=lambda r: r.measured_at)


@pytest.mark.deliveries
def test_over_ten_thousand_random_deliveries() -> None:
    for seed in range(10_000):
        chance = random.Random(seed)
        tested, readings = some_group(chance)
        try:
            deliver_at_random([tested], readings, chance, PLANT)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {tested.condition}") from error


def test_a_group_is_judged_again_from_its_history_after_a_start() -> None:
    house = House([grouped(on_delay="10m")], PLANT)
    house.deliver([*flow("in", [9] * 5), *flow("out-1", [4] * 5), *flow("out-2", [2] * 5)])
    house.restart()
    later = T0 + 5 * MINUTE
    house.deliver([*flow("in", [9] * 10, later), *flow("out-1", [4] * 10, later), *flow("out-2", [2] * 10, later)])
    assert [minutes(alarm) for alarm in house.alarms] == [(0, 10, None)]
    assert house.engine.idle == {}
