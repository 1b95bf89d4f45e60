"""What Grafana makes of a query before PostgreSQL sees it: variables in the browser, then macros in the server.

Tests expand the dashboards' queries with it and run them, so it follows Grafana to the letter, oddities included:
sources are `packages/scenes/src/variables` (formats) and `pkg/tsdb/grafana-postgresql-datasource/macros.go` with
`sqleng/sql_engine.go` (macros) of Grafana 12. Filling gaps happens after the query and is only reported here.
Nothing here is needed to show a dashboard.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from devices.model import DAY, HOUR, MINUTE, SECOND, Instant, moment

_MILLISECOND: Instant = 1000
_MACRO = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")
# JavaScript's \w is ASCII only.
_VARIABLE = re.compile(r"\$(\w+)|\[\[(\w+?)(?::(\w+))?\]\]|\$\{(\w+)(?:\.([^:^}]+))?(?::([^}]+))?\}", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_DAYS = re.compile(r"(\d+)([dw])")
_DURATION_UNITS = {"us": 1, "µs": 1, "ms": _MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR}


class MacroError(ValueError):
    """Grafana would show an error instead of the panel, or the format is one that is not safe in PostgreSQL."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The dashboard's time picker: from `start` to `end`, both inclusive. Grafana's own resolution is milliseconds."""

    start: Instant
    end: Instant


@dataclass(frozen=True, slots=True)
class Variable:
    """A template variable with what is selected: one text, or several. “All” stands for every option's value.

    `multi` is true where the variable is declared multi-valued or with “All”: the plain form then quotes.
    """

    value: str | Sequence[str]
    multi: bool = False


class FillMode(StrEnum):
    """How Grafana fills missing buckets after the query."""

    NULL = "NULL"
    PREVIOUS = "previous"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Fill:
    """A fill requested by the third argument of a group macro; `interval` in microseconds."""

    interval: Instant
    mode: FillMode
    value: float = 0.0


@dataclass(slots=True)
class Expansion:
    """A query as PostgreSQL gets it, and the fill that Grafana then does (the last one asked for)."""

    sql: str
    fill: Fill | None = field(default=None)


def expand(
    sql: str,
    time_range: TimeRange,
    variables: Mapping[str, Variable],
    *,
    interval: Instant = MINUTE,
    timescaledb: bool = True,
) -> Expansion:
    """Everything that Grafana does to a raw query, in its order.

    `interval` is what the panel's width and time range ask for (`$__interval`); `timescaledb` is the switch of the data
    source. Raises `MacroError`.
    """
    built_in = {
        "__interval": Variable(format_interval(interval)),
        "__interval_ms": Variable(str(interval // _MILLISECOND)),
        "__from": Variable(str(time_range.start // _MILLISECOND)),
        "__to": Variable(str(time_range.end // _MILLISECOND)),
    }
    replaced = interpolate_variables(sql, {**variables, **built_in})
    return expand_macros(replaced, time_range, interval=interval, timescaledb=timescaledb)


def interpolate_variables(sql: str, variables: Mapping[str, Variable]) -> str:
    """Replace `$name`, `${name}`, `${name:format}` and `[[name]]`, as the browser does.

    An unknown name is left as it stands, as `$__timeFilter` is one too. Formats other than `sqlstring` raise
    `MacroError`.
    """

    def replace(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[4]
        variable = variables.get(name)
        if variable is None:
            return match[0]
        return _format(name, variable, match[3] or match[6])

    return _VARIABLE.sub(replace, sql)


def _format(name: str, variable: Variable, format_name: str | None) -> str:
    if format_name == "sqlstring":
        return _sqlstring(variable.value)
    if format_name is not None:
        raise MacroError(f"${{{name}:{format_name}}} is not quoted for PostgreSQL; write ${{{name}:sqlstring}}")
    # The plain form is the data source's own: quoted where several values are possible, else only made harmless.
    if not isinstance(variable.value, str):
        return ",".join(_quote(value) for value in variable.value)
    return _quote(variable.value) if variable.multi else variable.value.replace("'", "''")


def _quote(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _sqlstring(value: str | Sequence[str]) -> str:
    """Grafana's `sqlstring`. It also writes a double quote as `\\"`, which PostgreSQL takes for two characters: a value
    with one never matches. That is why `dashboards.query.SITE` keeps double quotes out of values."""
    values: Iterable[str] = [value] if isinstance(value, str) else value
    return ",".join(_quote(text).replace('"', '\\"') for text in values)


def expand_macros(
    sql: str, time_range: TimeRange, *, interval: Instant = MINUTE, timescaledb: bool = True
) -> Expansion:
    """Replace `$__…` and `$__…(…)`, as the server does; `MacroError` for an unknown macro or a wrong argument.

    A macro ends at the first `)`: an argument cannot hold parentheses. Arguments are split at commas, even in quotes.
    """
    sql = sql.replace("$__interval_ms", str(interval // _MILLISECOND))
    sql = sql.replace("$__interval", format_interval(interval))
    sql = sql.replace("$__unixEpochFrom()", str(time_range.start // SECOND))
    sql = sql.replace("$__unixEpochTo()", str(time_range.end // SECOND))
    result = Expansion(sql)

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name == "__timeGroup":
            # Kept by Grafana for dashboards older than 5.3: a comma right behind the first such call asks for an alias.
            after = sql.index(match[0]) + len(match[0])
            if sql[after : after + 1] == ",":
                name = "__timeGroupAlias"
        args = [argument.strip(" ") for argument in match[2].split(",")]
        return _evaluate(name, args, time_range, result, timescaledb=timescaledb)

    result.sql = _MACRO.sub(replace, sql)
    return result


def macro_calls(sql: str) -> list[tuple[str, str]]:
    """Every macro call of a raw query as (name, argument text), for linters."""
    return [(match[1], match[2]) for match in _MACRO.finditer(sql)]


def variable_uses(sql: str) -> list[tuple[str, str | None]]:
    """Every variable of a raw query as (name, format or None), without macros and built-in ones, for linters."""
    found = [(match[1] or match[2] or match[4], match[3] or match[6]) for match in _VARIABLE.finditer(sql)]
    return [(name, format_name) for name, format_name in found if not name.startswith("__")]


def _evaluate(name: str, args: list[str], time_range: TimeRange, result: Expansion, *, timescaledb: bool) -> str:
    column = args[0]
    start, end = time_range.start, time_range.end
    match name:
        case "__timeGroup" | "__unixEpochGroup":
            bucket = _bucket(name, args, result)
            if name == "__unixEpochGroup":
                return f"floor(({column})/{_seconds(bucket)})*{_seconds(bucket)}"
            if timescaledb:
                return f"time_bucket('{bucket / SECOND:.3f}s',{column})"
            return f"floor(extract(epoch from {column})/{_seconds(bucket)})*{_seconds(bucket)}"
        case "__timeGroupAlias" | "__unixEpochGroupAlias":
            group = _evaluate(name.removesuffix("Alias"), args, time_range, result, timescaledb=timescaledb)
            return f'{group} AS "time"'
    simple = {
        "__time": f'{column} AS "time"',
        "__timeEpoch": f'extract(epoch from {column}) as "time"',
        "__timeFilter": f"{column} BETWEEN '{_rfc3339(start)}' AND '{_rfc3339(end)}'",
        "__timeFrom": f"'{_rfc3339(start)}'",
        "__timeTo": f"'{_rfc3339(end)}'",
        "__unixEpochFilter": f"{column} >= {start // SECOND} AND {column} <= {end // SECOND}",
        "__unixEpochNanoFilter": f"{column} >= {start * 1000} AND {column} <= {end * 1000}",
        "__unixEpochNanoFrom": str(start * 1000),
        "__unixEpochNanoTo": str(end * 1000),
    }
    if name not in simple:
        raise MacroError(f"unknown macro {name!r}")
    return simple[name]


def _bucket(name: str, args: list[str], result: Expansion) -> Instant:
    if len(args) < 2:
        raise MacroError(f"macro {name} needs a time column, an interval and optionally a fill value")
    interval = parse_interval(args[1].strip("'"))
    if len(args) == 3:
        result.fill = _fill(interval, args[2])
    return interval


def _fill(interval: Instant, text: str) -> Fill:
    if text in {FillMode.NULL, FillMode.PREVIOUS}:
        return Fill(interval, FillMode(text))
    try:
        return Fill(interval, FillMode.VALUE, float(text))
    except ValueError as error:
        raise MacroError(f"fill value {text!r} is none of NULL, previous and a number") from error


def parse_interval(text: str) -> Instant:
    """Microseconds of a macro's interval: a Go duration (`1h30m`, `20ms`) or whole days or weeks (`12d`, `1w`).

    Months and years depend on the clock in Grafana; here they are a `MacroError`, as is everything else.
    """
    if days := _DAYS.fullmatch(text):
        return int(days[1]) * (7 * DAY if days[2] == "w" else DAY)
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise MacroError(f"error parsing interval {text!r}")
    interval = round(sum(float(number) * _DURATION_UNITS.get(unit, 0.001) for number, unit in parts))
    if interval <= 0:
        raise MacroError(f"interval {text!r} is not above zero")
    return interval


def format_interval(interval: Instant) -> str:
    """`$__interval`'s text: the largest unit of which the interval holds at least one, rounded down (`30s`, `1h`)."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s"), (_MILLISECOND, "ms")):
        if interval >= unit:
            return f"{interval // unit}{name}"
    return "1ms"


def _seconds(interval: Instant) -> str:
    """Go's shortest text of a float: no fraction where there is none."""
    return str(interval // SECOND) if interval % SECOND == 0 else repr(interval / SECOND)


def _rfc3339(at: Instant) -> str:
    """Go's RFC3339Nano in UTC: trailing zeros of the fraction are dropped, and the point with them."""
    whole, fraction = divmod(at, SECOND)
    text = moment(whole * SECOND).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{fraction:06d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"
