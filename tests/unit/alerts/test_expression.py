"""The condition language: what it takes, what it refuses, and what it decides."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts import physics
from alerts.closures import calculation, relaxed, strict, why_unknown
from alerts.expression import Comparison, ConditionError
from alerts.functions import PHYSICS
from alerts.grammar import parse_condition
from alerts.reader import MAX_DEPTH


def decide(text: str, deadband: float | Mapping[str, float] = 0.0, /, **values: float) -> bool | None:
    condition = parse_condition(text)
    names = [operand.name for operand in condition.operands]
    slots = {name: number for number, name in enumerate(names)}
    given = {name.replace("design_", "design."): value for name, value in values.items()}
    known = [given.get(name) for name in names]
    if deadband == 0.0:
        return strict(condition, slots)(known)
    return relaxed(condition, slots, condition.deadbands(deadband))(known)


@pytest.mark.parametrize(
    ("text", "values", "verdict"),
    [
        ("flow > 1", {"flow": 2}, True),
        ("flow > 1", {"flow": 1}, False),
        ("flow >= 1 and flow <= 1 and flow == 1 and not flow != 1", {"flow": 1}, True),
        ("1 < flow < 3", {"flow": 2}, True),
        ("1 < flow < 3", {"flow": 3}, False),
        ("-flow > 1", {"flow": -2}, True),
        ("suction_pressure < -0.2", {"suction_pressure": -0.3}, True),
        ("abs(position_command - position) > 5", {"position_command": 10, "position": 16}, True),
        ("max(position, position_command, 3) >= 7", {"position": 7, "position_command": 1}, True),
        ("min(position, position_command) > 3", {"position": 7, "position_command": 1}, False),
        ("power / flow > 0.5 * 3", {"power": 4, "flow": 2}, True),
        ("flow < 0.05 * design.rated_flow", {"flow": 4, "design_rated_flow": 100}, True),
        ("running", {"running": 1}, True),
        ("not running and flow > 1", {"running": 0, "flow": 2}, True),
        ("flow > 1 # in m3/h\n and flow < 5", {"flow": 7}, False),
        ("(flow > 1 or\n power > 1)", {"flow": 0, "power": 2}, True),
    ],
)
def test_a_condition_decides(text: str, values: dict[str, float], verdict: bool) -> None:
    assert decide(text, **values) is verdict


@pytest.mark.parametrize(
    ("text", "values", "verdict"),
    [
        ("flow > 1", {}, None),
        ("flow > 1 and power > 1", {"flow": 0}, False),
        ("flow > 1 and power > 1", {"flow": 2}, None),
        ("power > 1 and flow > 1", {"flow": 0}, False),
        ("flow > 1 or power > 1", {"flow": 2}, True),
        ("flow > 1 or power > 1", {"flow": 0}, None),
        ("not flow > 1", {}, None),
        ("flow / power > 1", {"flow": 1, "power": 0}, None),
        ("flow * 1e308 * 1e308 > 1", {"flow": 1}, None),
        ("max(flow, 1) > 0", {}, None),
        ("-flow > 0", {}, None),
        ("abs(flow) > 0", {}, None),
        ("flow > design.rated_flow", {"flow": 1}, None),
    ],
)
def test_what_is_not_known_is_unknown(text: str, values: dict[str, float], verdict: bool | None) -> None:
    assert decide(text, **values) is verdict


@pytest.mark.parametrize(
    ("text", "values", "why"),
    [
        ("flow > 1", {"flow": 1.0}, None),
        ("not flow > 1", {}, "‘flow’ has no valid value"),
        ("flow > 1 and power > 1", {"flow": 0.0}, None),
        ("flow > 1 and power > 1", {"flow": 2.0}, "‘power’ has no valid value"),
        ("flow / (power - 1) > 1", {"flow": 1.0, "power": 1.0}, "division by zero in ‘flow / (power - 1)’"),
        ("flow * 1e308 > 1", {"flow": 1e9}, "‘flow * 1e308’ is too large to calculate"),
        ("max(flow, 2) > design.rated_flow", {"flow": 1.0}, "the device has no design.rated_flow"),
    ],
)
def test_an_unknown_condition_can_say_why(text: str, values: dict[str, float], why: str | None) -> None:
    assert why_unknown(parse_condition(text), values) == why


@pytest.mark.parametrize(
    "text",
    [
        "().__class__.__bases__[0].__subclasses__() > 1",
        "flow.real > 1",
        "design.__class__ > 1",
        "design.a.b > flow",
        "__import__('os').system('true') > 1",
        "eval('1') > flow",
        "open('/etc/passwd') > flow",
        "[flow for flow in (1,)] > 1",
        "{flow: 1} > 1",
        "f'{flow}' > '1'",
        "'flow' > 1",
        "b'x' > flow",
        "(flow := 2) > 1",
        "lambda: flow > 1",
        "(lambda: flow)() > 1",
        "flow if power > 1 else 2",
        "flow ** 9 ** 9 ** 9 > 1",
        "flow << 99999 > 1",
        "flow % 2 > 1",
        "flow // 2 > 1",
        "~flow > 1",
        "+flow > 1",
        "flow[0] > 1",
        "flow > True",
        "flow > None",
        "flow > ...",
        "flow > 1j",
        "flow > 1e999",
        "flow > " + "9" * 400,
        "flow is 1",
        "flow in (1, 2)",
        "flow > 1, power > 1",
        "*flow",
        "flow > 1; power > 1",
        "flow > 1\nimport os",
        "yield flow",
        "await flow",
        "abs(*[flow]) > 1",
        "abs(x=flow) > 1",
        "abs() > flow",
        "abs(flow, flow) > 1",
        "max(flow) > 1",
        "round(flow) > 1",
        "abs > 1",
        "design > 1",
        "flow > 1 and",
        "1and flow",
        "flow > \x00",
        "",
        "   ",
        "1 < 2",
        "design.kv > 2",
        "flow",
        "not flow",
        "flow + 1",
        "flow = 1",
        "flow && power",
        "(" * 300 + "flow" + ")" * 300 + " > 1",
        "-" * 900 + "flow > 1",
        "not " * 200 + "flow > 1",
        "abs(" * (MAX_DEPTH + 1) + "flow" + ")" * (MAX_DEPTH + 1) + " > 1",
        "flow > 1 or " * 5000 + "flow > 1",
        "flow > \ud800",
    ],
)
def test_nothing_else_is_a_condition(text: str) -> None:
    with pytest.raises(ConditionError):
        parse_condition(text)


@given(st.text(max_size=60) | st.text(alphabet="flow power()+-*/<>=!.andorht 019\n'\"[]{}:,#\\", max_size=60))
def test_any_text_is_a_condition_or_a_clear_error(text: str) -> None:
    try:
        parse_condition(text)
    except ConditionError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flow / 0 > 5", "column 1: this divides by zero"),
        ("flow > 1 or flow / (2 - 2) > 5", "column 13: this divides by zero"),
        ("vibratoin > 5", "column 1: unknown metric ‘vibratoin’, did you mean ‘vibration’?"),
        ("flow > 1 and\n  vibratoin > 5", "line 2, column 3: unknown metric"),
        ("flow > 1 and pressure > flow", "column 14: cannot compare quantities of different units (bar and m3/h)"),
        ("flow + power > 1", "column 1: cannot add quantities of different units (m3/h and kW)"),
        ("max(flow, power) > 1", "cannot take the max of quantities of different units"),
        ("2 * flow - power > 1", "cannot subtract quantities of different units"),
        ("flow / 3 > power", "cannot compare quantities of different units"),
        ("flow = 1", "a comparison is written =="),
        ("flow > 1 && power > 1", "write ‘and’ in place of ‘&&’"),
        ("flow > 1 AND power > 1", "write ‘and’ in place of ‘AND’"),
        ("flow", "‘flow’ is a quantity in m3/h: compare it, as in flow > 1"),
        ("mean(flow) > 1", "unknown function ‘mean’; there are abs, min, max"),
        ("abs(flow, 1) > 1", "abs() takes 1 number"),
        ("design.kv > 1", "names no metric"),
        ("flow.max > 1", "‘flow.max’ is not allowed here"),
        ("pressure > 2 * temperature", "cannot compare quantities of different units (bar and degC)"),
        ("pressure > '5 degC'", "cannot compare quantities of different units (bar and degC)"),
        ("pressure > '5 brr'", "unknown unit ‘brr’, did you mean ‘bar’?"),
        ("pressure > '5'", "‘5’ is neither a quantity such as '5 bar' nor a duration such as '10m'"),
        ("pressure > 0.9 * design.rated_flow", "cannot compare quantities of different units (bar and m3/h)"),
        ("avg(presure, '1h') > 1", "column 5: unknown metric ‘presure’, did you mean ‘pressure’?"),
        ("avg(pressure, '1y') > 1", "column 15: '1y' is not a duration"),
        ("avg(pressure, '8d') > 1", "column 15: a window is 1s to 7d long, not 8d"),
        ("avg(pressure, 10) > 1", "a window is written as a quoted duration"),
        ("avg(pressure) > 1", "avg() takes a metric and a window, as in avg(flow, '10m')"),
        ("avg(2 * pressure, '1h') > 1", "avg() takes the name of a metric; calculate with its result"),
        ("avg(pressure, '1h') > flow", "cannot compare quantities of different units (bar and m3/h)"),
        ("rate(pressure, '1h') > pressure", "cannot compare quantities of different units (bar/h and bar)"),
        ("age(flow) > '1 bar'", "cannot compare quantities of different units (s and bar)"),
        ("quality(flow) == 192 or quality(flow) > flow", "cannot compare quantities of different units"),
        ("changed(flow) > 1", "changed() is a condition by itself"),
        ("changed(flow + 1)", "changed() takes the name of a metric"),
        ("previous() > 1", "previous() takes one metric"),
        ("vapour_pressure(pressure) > 1", "column 17: vapour_pressure() takes degC here, not bar"),
        ("head() > 1", "head() takes 2 numbers (bar, degC, the last 1 optional)"),
        ("avg(flow, '10m')", "‘avg(flow, '10m')’ is not a condition"),
        ("flow > setpoint.high", "the rule has no set-point ‘high’"),
        ("flow > 1 and 5", "‘5’ is not a condition"),
    ],
)
def test_the_error_says_where_and_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ConditionError) as caught:
        parse_condition(text)
    assert message in str(caught.value)


def test_quantities_are_taken_in_the_unit_of_what_they_are_compared_with() -> None:
    assert decide("pressure > '350 kPa'", pressure=3.6) is True
    assert decide("pressure > '350 kPa'", pressure=3.4) is False
    assert decide("flow > '1 L/s'", flow=3.7) is True
    assert decide("stroke_time > '1m'", stroke_time=61) is True
    assert decide("temperature > '300 K'", temperature=26) is False


PHYSICAL = {
    "vapour_pressure(temperature)": physics.vapour_pressure(60.0),
    "head(pressure)": physics.head(4.0),
    "head(pressure, temperature)": physics.head(4.0, 60.0),
    "npsh_available(suction_pressure, temperature)": physics.npsh_available(1.2, 60.0),
    "hydraulic_power(flow, pressure)": physics.hydraulic_power(90.0, 4.0),
    "pump_head(flow, design.rated_flow, design.rated_head, design.shutoff_head, speed / design.rated_speed)": (
        physics.pump_head(90.0, 100.0, 40.0, 50.0, 0.5)
    ),
    "affinity_flow(flow, speed / design.rated_speed)": physics.affinity_flow(90.0, 0.5),
    "affinity_head(design.rated_head, speed / design.rated_speed)": physics.affinity_head(40.0, 0.5),
    "affinity_power(power, speed / design.rated_speed)": physics.affinity_power(12.0, 0.5),
    "equal_percentage(position, 50)": physics.equal_percentage(35.0, 50.0),
    "kv_flow(design.kv, pressure - outlet_pressure)": physics.kv_flow(25.0, 3.0),
    "choked_drop(pressure, temperature, 0.9)": physics.choked_drop(4.0, 60.0, 0.9),
    "cavitation_index(pressure, outlet_pressure, temperature)": physics.cavitation_index(4.0, 1.0, 60.0),
    "vibration_limit(design.rated_power, 2, 3)": physics.vibration_limit(11.0, 2.0, 3.0),
    "vibration_zone(vibration, design.rated_power, 2)": physics.vibration_zone(6.0, 11.0, 2.0),
}
MEASURED = {
    "temperature": 60.0, "pressure": 4.0, "outlet_pressure": 1.0, "suction_pressure": 1.2, "flow": 90.0, "speed": 725.0,
    "power": 12.0, "position": 35.0, "vibration": 6.0, "design_rated_flow": 100.0, "design_rated_head": 40.0,
    "design_shutoff_head": 50.0, "design_rated_speed": 1450.0, "design_kv": 25.0, "design_rated_power": 11.0,
}  # fmt: skip


@pytest.mark.parametrize("text", PHYSICAL)
def test_a_condition_calculates_with_every_helper(text: str) -> None:
    value = PHYSICAL[text]
    assert math.isfinite(value)
    assert value > 0
    # A helper of nameplate entries alone is no condition: that would name no metric.
    less, more = (f"{text} > {limit} and flow > 0" for limit in (0.999 * value, 1.001 * value))
    assert decide(less, **MEASURED) is True
    assert decide(more, **MEASURED) is False


def test_every_helper_is_tried() -> None:
    assert {text.partition("(")[0] for text in PHYSICAL} == PHYSICS.keys()


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("avg(flow, '10m') > 1 and min(flow, '1h') > 1", ["avg(flow, '10m')", "min(flow, '1h')"]),
        ("min(flow, 1) > 1", []),
        ("avg(flow, '60s') > avg(flow, '1m')", ["avg(flow, '1m')"]),
        ("changed(position)", ["previous(position)"]),
        ("quality(flow) != good and age(flow) > '1h'", ["quality(flow)", "age(flow)"]),
    ],
)
def test_the_features_of_a_condition(text: str, features: list[str]) -> None:
    assert [feature.name for feature in parse_condition(text).features] == features


@pytest.mark.parametrize(
    ("text", "deadband", "value", "verdict"),
    [
        ("avg(flow, '1h') > 5", 1, 4.5, True),
        ("avg(flow, '1h') > 5", {"flow": 1}, 4.5, True),
        ("rate(flow, '1h') > 5", 1, 4.5, True),
        ("rate(flow, '1h') > 5", {"rate(flow, '1h')": 1}, 3.9, False),
    ],
)
def test_a_deadband_holds_for_windows_too(
    text: str, deadband: float | Mapping[str, float], value: float, verdict: bool
) -> None:
    condition = parse_condition(text)
    slots = {condition.operands[0].name: 0}
    assert relaxed(condition, slots, condition.deadbands(deadband))([value]) is verdict


@pytest.mark.parametrize("text", ["2 * flow > flow / 2", "flow / power > power / flow", "min(flow, 3) + 1 > -flow"])
def test_numbers_and_ratios_fit_every_unit(text: str) -> None:
    parse_condition(text)


def test_the_leading_metric_is_the_first_with_a_limit() -> None:
    cases = {
        "running == 1 and flow < 2 and power < 3": "flow",
        "running > 0.5 and 3 < power": "power",
        "coverage_level >= 2": "coverage_level",
        "enclosure_open": "enclosure_open",
        "design.rated_flow > flow": "flow",
    }
    assert {text: parse_condition(text).leading_metric for text in cases} == cases


# --- deadband


@pytest.mark.parametrize(
    ("text", "deadband", "value", "verdict"),
    [
        ("flow > 5", 1, 4.5, True),
        ("flow > 5", 1, 4, False),
        ("flow >= 5", 1, 4, True),
        ("flow < 5", 1, 5.5, True),
        ("flow < 5", 1, 6, False),
        ("5 < flow", 1, 4.5, True),
        ("5 > flow", 1, 5.5, True),
        ("2 < flow < 5", 1, 1.5, True),
        ("2 < flow < 5", 1, 5.5, True),
        ("2 < flow < 5", 1, 6, False),
        ("not flow < 5", 1, 4.5, True),
        ("not flow < 5", 1, 4, True),
        ("not flow < 5", 1, 3.9, False),
        ("not not flow > 5", 1, 4.5, True),
        ("not (flow < 2 or flow > 5)", 1, 5.5, True),
        ("-flow < -5", 1, 4.5, True),
        ("flow == 5 or flow > 9", 1, 4.5, False),
        ("flow == 5 or flow > 9", 1, 8.5, True),
    ],
)
def test_the_deadband_moves_thresholds_in_the_clearing_direction(
    text: str, deadband: float, value: float, verdict: bool
) -> None:
    assert decide(text, deadband, flow=value) is verdict


def test_a_deadband_for_a_metric_moves_its_own_thresholds_only() -> None:
    text = "flow > 5 and power > 5"
    assert decide(text, {"flow": 1}, flow=4.5, power=6) is True
    assert decide(text, {"flow": 1}, flow=6, power=4.5) is False
    assert decide("flow > 5 and flow / power > 5", {"flow": 1}, flow=6, power=1.25) is False


def test_states_have_no_deadband_beside_a_quantity() -> None:
    assert decide("running > 0.5 and flow < 5", 1, running=0, flow=1) is False


@pytest.mark.parametrize(
    ("text", "deadband", "message"),
    [
        ("flow > 5 and power > 5", 1, "give a deadband for each metric it is meant for (flow, power)"),
        ("enclosure_open", 1, "has no threshold"),
        ("flow == 1", 1, "has no threshold"),
        ("flow / power > 1", 1, "no metric is compared in its own unit"),
        ("flow > 5", {"flwo": 1}, "‘flwo’ is not in the condition, did you mean ‘flow’?"),
        ("flow > 5 and running", {"running": 1}, "‘running’ has no threshold"),
    ],
)
def test_a_deadband_that_means_nothing_is_an_error(
    text: str, deadband: float | Mapping[str, float], message: str
) -> None:
    with pytest.raises(ConditionError) as caught:
        parse_condition(text).deadbands(deadband)
    assert message in str(caught.value)


METRICS = ("flow", "power", "pressure")
leaves = st.builds(
    lambda metric, sign, limit: f"{metric} {sign} {limit}",
    st.sampled_from(METRICS),
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    st.integers(-5, 5),
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda a: f"not ({a})", inner),
        st.builds(lambda a, b: f"({a}) and ({b})", inner, inner),
        st.builds(lambda a, b: f"({a}) or ({b})", inner, inner),
    ),
    max_leaves=6,
)
measured = st.dictionaries(st.sampled_from(METRICS), st.integers(-8, 8).map(float))


@given(conditions, measured, st.integers(0, 4))
def test_the_relaxed_condition_holds_wherever_the_strict_one_does(
    text: str, values: dict[str, float], width: int
) -> None:
    condition = parse_condition(text)
    names = [operand.name for operand in condition.operands]
    slots = {name: number for number, name in enumerate(names)}
    known = [values.get(name) for name in names]
    kept = relaxed(condition, slots, dict.fromkeys(METRICS, float(width)))(known)
    raised = strict(condition, slots)(known)
    if raised is True:
        assert kept is True
    if kept is False:
        assert raised is False
    if width == 0:
        assert kept is raised


@given(conditions, measured)
def test_a_condition_with_all_values_decides_as_python_does(text: str, values: dict[str, float]) -> None:
    complete = dict.fromkeys(METRICS, 0.0) | values
    assert decide(text, **complete) is eval(text, {}, complete)


@given(conditions, measured)
def test_unknown_means_that_a_missing_value_could_decide_it(text: str, values: dict[str, float]) -> None:
    if decide(text, **values) is not None:
        for value in (-9.0, 0.0, 9.0):
            assert decide(text, **(dict.fromkeys(METRICS, value) | values)) is decide(text, **values)


@pytest.mark.parametrize("sign", ["+", "-", "*", "/"])
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_arithmetic_is_pythons(sign: str, a: float, b: float) -> None:
    condition = parse_condition(f"position {sign} position_command > 0")
    assert isinstance(condition.root, Comparison)
    operations: dict[str, Callable[[float, float], float]] = {
        "+": operator.add,
        "-": operator.sub,
        "*": operator.mul,
        "/": operator.truediv,
    }
    try:
        expected = operations[sign](a, b)
    except ZeroDivisionError:
        expected = float("nan")
    result = calculation(condition.root.left, {"position": 0, "position_command": 1})([a, b])
    assert result == (expected if abs(expected) < float("inf") else None)
