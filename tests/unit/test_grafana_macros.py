"""The expander does to a query what Grafana does. Expectations are Grafana's own documented and tested behaviour."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.macros import (
    Fill,
    FillMode,
    MacroError,
    TimeRange,
    Variable,
    expand,
    expand_macros,
    format_interval,
    interpolate_variables,
    parse_interval,
    variable_uses,
)
from devices.model import DAY, HOUR, MINUTE, SECOND

START = 1_523_556_000 * SECOND  # 2018-04-12T18:00:00Z
RANGE = TimeRange(START, START + 5 * MINUTE)
FROM, TO = "2018-04-12T18:00:00Z", "2018-04-12T18:05:00Z"


@pytest.mark.parametrize(
    ("raw", "expanded"),
    [
        ("$__time(t)", 't AS "time"'),
        ("min($__time(t))", 'min(t AS "time")'),
        ("$__timeEpoch(t)", 'extract(epoch from t) as "time"'),
        ("WHERE $__timeFilter(r.t)", f"WHERE r.t BETWEEN '{FROM}' AND '{TO}'"),
        ("$__timeFrom()::timestamptz", f"'{FROM}'::timestamptz"),
        ("$__timeTo()", f"'{TO}'"),
        ("$__unixEpochFilter(t)", "t >= 1523556000 AND t <= 1523556300"),
        ("$__unixEpochFrom() $__unixEpochTo()", "1523556000 1523556300"),
        ("$__unixEpochNanoFilter(t)", "t >= 1523556000000000000 AND t <= 1523556300000000000"),
        ("$__unixEpochNanoFrom() $__unixEpochNanoTo()", "1523556000000000000 1523556300000000000"),
        ("$__unixEpochGroup(a+b,'5m')", "floor((a+b)/300)*300"),
        ("$__unixEpochGroupAlias(a,'5m')", 'floor((a)/300)*300 AS "time"'),
        ("$__interval and $__interval_ms", "30s and 30000"),
        ("$__timeGroup(t,$__interval)", "floor(extract(epoch from t)/30)*30"),
    ],
)
def test_each_macro_expands_as_in_grafana(raw: str, expanded: str) -> None:
    assert expand_macros(raw, RANGE, interval=30 * SECOND, timescaledb=False).sql == expanded


@pytest.mark.parametrize(
    ("argument", "timescale", "plain"),
    [
        ("'5m'", "time_bucket('300.000s',t)", "floor(extract(epoch from t)/300)*300"),
        ("'12d'", "time_bucket('1036800.000s',t)", "floor(extract(epoch from t)/1036800)*1036800"),
        ("'20ms'", "time_bucket('0.020s',t)", "floor(extract(epoch from t)/0.02)*0.02"),
        ("1h", "time_bucket('3600.000s',t)", "floor(extract(epoch from t)/3600)*3600"),
    ],
)
def test_a_group_is_a_time_bucket_only_where_the_data_source_says_timescaledb(
    argument: str, timescale: str, plain: str
) -> None:
    raw = f"GROUP BY $__timeGroup(t , {argument})"
    assert expand_macros(raw, RANGE, timescaledb=True).sql == f"GROUP BY {timescale}"
    assert expand_macros(raw, RANGE, timescaledb=False).sql == f"GROUP BY {plain}"
    aliased = expand_macros(raw.replace("Group(", "GroupAlias("), RANGE).sql
    assert aliased == f'GROUP BY {timescale} AS "time"'


def test_a_comma_right_behind_a_group_asks_for_the_alias() -> None:
    assert expand_macros("$__timeGroup(t,'5m'), v", RANGE).sql == "time_bucket('300.000s',t) AS \"time\", v"
    assert expand_macros("$__timeGroup(t,'5m') , v", RANGE).sql == "time_bucket('300.000s',t) , v"


def test_the_time_range_keeps_milliseconds_and_drops_trailing_zeros() -> None:
    odd = TimeRange(START + SECOND // 2, START + SECOND + 120_000)
    assert (
        expand_macros("$__timeFilter(t)", odd).sql == "t BETWEEN '2018-04-12T18:00:00.5Z' AND '2018-04-12T18:00:01.12Z'"
    )


@pytest.mark.parametrize(
    ("argument", "fill"),
    [
        ("NULL", Fill(HOUR, FillMode.NULL)),
        ("previous", Fill(HOUR, FillMode.PREVIOUS)),
        ("0", Fill(HOUR, FillMode.VALUE, 0.0)),
        ("-1.5", Fill(HOUR, FillMode.VALUE, -1.5)),
    ],
)
def test_the_third_argument_is_a_fill_that_leaves_no_trace_in_the_query(argument: str, fill: Fill) -> None:
    expansion = expand_macros(f"$__timeGroup(t,'1h',{argument})", RANGE)
    assert expansion.fill == fill
    assert expansion.sql == "time_bucket('3600.000s',t)"


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ("$__timeFilterr(t)", "unknown macro '__timeFilterr'"),
        ("price $1(a)", "unknown macro '1'"),
        ("$__timeGroup(t)", "needs a time column"),
        ("$__timeGroup(t,'soon')", "error parsing interval 'soon'"),
        ("$__timeGroup(t,'0s')", "not above zero"),
        ("$__timeGroup(t,'1M')", "error parsing interval"),
        ("$__timeGroup(t,'1h',zero)", "fill value 'zero'"),
        ("$__timeGroup(t,'1h',null)", "fill value 'null'"),
    ],
)
def test_what_grafana_refuses_is_an_error(raw: str, complaint: str) -> None:
    with pytest.raises(MacroError, match=re.escape(complaint)):
        expand_macros(raw, RANGE)


def test_a_macro_ends_at_the_first_closing_parenthesis() -> None:
    mangled = expand_macros("$__timeFilter(lower(t))", RANGE).sql
    assert mangled == f"lower(t BETWEEN '{FROM}' AND '{TO}')"


def test_arguments_are_split_at_every_comma() -> None:
    with pytest.raises(MacroError, match="error parsing interval"):
        expand_macros("$__timeGroup(f[1,2],'1h')", RANGE)


def test_sqlstring_quotes_and_joins() -> None:
    several = {"site": Variable(["North", "O'Brien's"], multi=True)}
    assert interpolate_variables("IN (${site:sqlstring})", several) == "IN ('North','O''Brien''s')"
    assert interpolate_variables("= [[site:sqlstring]]", {"site": Variable("x'y")}) == "= 'x''y'"


def test_sqlstring_spoils_double_quotes_as_grafana_does() -> None:
    assert interpolate_variables("${site:sqlstring}", {"site": Variable('a"b')}) == "'a\\\"b'"


def test_the_plain_form_quotes_only_where_several_values_are_possible() -> None:
    assert interpolate_variables("$v", {"v": Variable("it's")}) == "it''s"
    assert interpolate_variables("$v", {"v": Variable("it's", multi=True)}) == "'it''s'"
    assert interpolate_variables("${v}", {"v": Variable(["a", "b"], multi=True)}) == "'a','b'"


@pytest.mark.parametrize("format_name", ["raw", "csv", "singlequote", "doublequote", "pipe", "text"])
def test_formats_that_are_unsafe_in_postgresql_are_refused(format_name: str) -> None:
    with pytest.raises(MacroError, match="sqlstring"):
        interpolate_variables(f"${{site:{format_name}}}", {"site": Variable("a")})


def test_unknown_variables_are_left_for_the_macros() -> None:
    assert interpolate_variables("$__timeFilter(t) $nobody", {}) == "$__timeFilter(t) $nobody"


def test_variables_come_before_macros_so_a_value_may_look_like_one() -> None:
    with pytest.raises(MacroError, match="unknown macro"):
        expand("${site:sqlstring}", RANGE, {"site": Variable("Depot $1(a)")})


def test_the_browser_knows_the_time_range_too() -> None:
    assert expand("${__from} $__to", RANGE, {}).sql == "1523556000000 1523556300000"


def test_uses_of_variables_are_found_with_their_formats() -> None:
    raw = "$__timeFilter(t) AND site IN (${site:sqlstring}) OR a = $kind OR b = [[x:csv]] AND $__interval"
    assert variable_uses(raw) == [("site", "sqlstring"), ("kind", None), ("x", "csv")]


@given(st.lists(st.text(st.characters(exclude_characters='"$', codec="utf-8")), min_size=1, max_size=4))
def test_no_value_escapes_its_quotes(values: list[str]) -> None:
    text = interpolate_variables("${v:sqlstring}", {"v": Variable(values, multi=True)})
    literals = re.findall(r"'((?:[^']|'')*)'", text)
    assert [literal.replace("''", "'") for literal in literals] == values


@given(st.integers(min_value=1, max_value=400), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_an_interval_text_is_read_back_not_longer_than_it_was(count: int, unit: str) -> None:
    interval = parse_interval(f"{count}{unit}")
    again = parse_interval(format_interval(interval))
    assert again <= interval < 2 * again


def test_durations_may_have_several_parts() -> None:
    assert parse_interval("1h30m") == HOUR + 30 * MINUTE
    assert parse_interval("1.5s") == SECOND * 3 // 2
    assert parse_interval("1w") == 7 * DAY
