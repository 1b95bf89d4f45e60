"""A score as a page for people: one HTML file with its pictures inside, nothing fetched, no script. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from devices.alarm import Alarm
from devices.model import DAY, HOUR, MINUTE, SECOND, Instant, moment
from simulators.score import Baseline, Found, Rate, Score

_LEFT, _WIDTH, _ROW = 230, 760, 26
_MOST_ROWS = 60
_FOUND, _MISSED, _FALSE, _INK, _LINE = "#5f7f9e", "#d08a1d", "#c0392b", "#2b2f36", "#d9dce1"
_STYLE = f"""
body {{ font: 15px/1.5 system-ui, sans-serif; color: {_INK}; background: #f4f5f6; margin: 2rem auto; max-width: 1080px;
       padding: 0 1rem }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.1rem; margin-top: 2rem }}
table {{ border-collapse: collapse; background: #fff; margin: .5rem 0 }}
th, td {{ padding: .25rem .7rem; border-bottom: 1px solid {_LINE}; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
.figures {{ display: flex; flex-wrap: wrap; gap: 1rem }}
.figures div {{ background: #fff; padding: .6rem 1rem; border-left: 4px solid {_FOUND} }}
.figures b {{ display: block; font-size: 1.5rem }}
svg {{ background: #fff; max-width: 100% }}
.aside {{ color: #6b7078; font-size: .9em }}
"""


def percent(value: float | None) -> str:
    """A share for people; – where there is none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def duration(value: Instant | None) -> str:
    """A time span for people."""
    if value is None:
        return "–"
    if abs(value) < 2 * MINUTE:
        return f"{value / SECOND:.0f} s"
    if abs(value) < 3 * HOUR:
        return f"{value / MINUTE:.0f} min"
    return f"{value / HOUR:.1f} h" if abs(value) < 3 * DAY else f"{value / DAY:.1f} d"


def rate(value: Rate) -> str:
    """`95.0 % (19 of 20)`."""
    return f"{percent(value.value)} ({value.hits} of {value.of})"


def page(score: Score, title: str, tags: Mapping[str, str]) -> str:
    """The whole report as HTML; `tags` gives devices the names that people know."""
    total, watched = score.total, score.watched
    low, high = total.recall.interval
    figures = (
        ("faults found", rate(total.recall), f"95 % interval {percent(low)} to {percent(high)}"),
        ("alarms that were right", rate(total.precision), "precision"),
        ("delay", duration(total.delay_median), f"median; p95 {duration(total.delay_p95)}"),
        ("false alarms", _number(total.false_per_device_month), "a device and month"),
        ("alarms a fault", _number(total.alarms_per_event), "median"),
    )
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>",
        f"<p>{len(watched.devices)} devices, {moment(watched.begins):%Y-%m-%d %H:%M} to"
        f" {moment(watched.ends):%Y-%m-%d %H:%M} UTC</p>",
        '<div class="figures">',
        *(f"<div>{name}<b>{escape(value)}</b>{escape(note)}</div>" for name, value, note in figures),
        "</div><h2>Faults</h2>",
        _recalls(score),
        _faults(score),
        "<h2>Rules</h2>",
        _table(
            ("rule", "alarms", "false", "false a device and month"),
            (
                (rule, str(one.alarms), str(one.false), _number(one.false_per_device_month))
                for rule, one in score.rules.items()
            ),
        ),
        "<h2>Beside alarms that know nothing</h2>",
        _baselines(score),
        "<h2>When</h2>",
        timeline(score, tags),
        '<p class="aside">As an aside, as such figures are easily gamed:',
        f"{percent(score.faulty_time_alarmed)} of the faulty and {percent(score.healthy_time_alarmed)} of the healthy",
        f"time of devices was alarmed. {rate(score.mild)} of the mild faults, which nobody has to find, were found.",
        f"{score.left_out} alarms were raised where or when nobody watched.</p></body></html>\n",
    ]  # fmt: skip
    return "\n".join(parts)


def _faults(score: Score) -> str:
    return _table(
        ("fault", "found", "delay, median", "delay, p95", "alarms a fault"),
        (
            (
                fault,
                rate(one.recall),
                duration(one.delay_median),
                duration(one.delay_p95),
                _number(one.alarms_per_event),
            )
            for fault, one in score.faults.items()
        ),
    )


def _baselines(score: Score) -> str:
    def row(name: str, one: Baseline) -> tuple[str, ...]:
        return name, percent(one.recall), percent(one.precision), _number(one.false_per_device_month)

    total = score.total
    mine = Baseline(total.recall.value, total.precision.value, total.false_per_device_month or 0.0)
    return _table(
        ("", "faults found", "precision", "false a device and month"),
        (row("these alarms", mine), *(row(name, one) for name, one in score.baselines.items())),
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><tr>{cells}</tr>\n{lines}</table>"


def _recalls(score: Score) -> str:
    """A bar for each kind of fault: the share that was found, and the interval that this share is good for."""
    rows = [(fault, one.recall) for fault, one in score.faults.items() if one.recall.of]
    height = _ROW * len(rows) + 10
    parts = [_svg(height, "Share of each kind of fault that was found")]
    for at, (fault, share) in enumerate(rows):
        y = 5 + _ROW * at
        low, high = share.interval
        parts += [
            f'<text x="8" y="{y + 16}">{escape(fault)}</text>',
            f'<rect x="{_LEFT}" y="{y + 4}" width="{_WIDTH}" height="14" fill="{_LINE}"/>',
            f'<rect x="{_LEFT}" y="{y + 4}" width="{_WIDTH * (share.value or 0.0):.1f}" height="14" fill="{_FOUND}">'
            f"<title>{escape(rate(share))}</title></rect>",
            f'<line x1="{_LEFT + _WIDTH * low:.1f}" x2="{_LEFT + _WIDTH * high:.1f}" y1="{y + 11}" y2="{y + 11}"'
            f' stroke="{_INK}"/>',
        ]
    return "\n".join([*parts, "</svg>"]) if rows else ""


def timeline(score: Score, tags: Mapping[str, str]) -> str:
    """A line for each device with a fault or a false alarm: faults as bands, alarms as ticks."""
    bands: dict[str, list[tuple[Found, Instant, Instant]]] = {}
    for one in score.events:
        for part in one.event.parts:
            bands.setdefault(part.device, []).append((one, part.begins, part.ends))
    false: dict[str, list[Alarm]] = {}
    for alarm in score.false:
        false.setdefault(alarm.device, []).append(alarm)
    devices = sorted({*bands, *false}, key=lambda device: tags.get(device, device))
    shown = devices[:_MOST_ROWS]
    parts = [_svg(_ROW * len(shown) + 34, "Faults and alarms over time")]
    for at, (colour, label) in enumerate(
        ((_FOUND, "fault, found"), (_MISSED, "fault, missed"), (_FALSE, "false alarm"))
    ):
        parts.append(
            f'<rect x="{8 + 150 * at}" y="8" width="14" height="10" fill="{colour}"/>'
            f'<text x="{28 + 150 * at}" y="17">{label}</text>'
        )
    for row, device in enumerate(shown):
        y = 28 + _ROW * row
        parts.append(f'<text x="8" y="{y + 16}">{escape(tags.get(device, device)[:34])}</text>')
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y + 22}" y2="{y + 22}" stroke="{_LINE}"/>')
        for one, begins, ends in bands.get(device, ()):
            x, end = _place(begins, score), _place(ends, score)
            colour = _FOUND if one.first is not None else _MISSED
            told = f"{one.event.fault}, severity {one.event.severity:g}: " + (
                "missed" if one.first is None else f"{one.first.rule} after {duration(one.delay)}"
            )
            parts.append(
                f'<rect x="{x:.1f}" y="{y + 4}" width="{max(2.0, end - x):.1f}" height="14" fill="{colour}"'
                f' fill-opacity="0.45"><title>{escape(told)}</title></rect>'
            )
            if one.first is not None and one.first.device == device:
                parts.append(_tick(_place(one.first.raised_at, score), y, _INK, one.first))
        parts += [_tick(_place(alarm.raised_at, score), y, _FALSE, alarm) for alarm in false.get(device, ())]
    parts.append("</svg>")
    if len(devices) > len(shown):
        parts.append(f"<p>{len(devices) - len(shown)} more devices are not drawn.</p>")
    return "\n".join(parts)


def _tick(x: float, y: int, colour: str, alarm: Alarm) -> str:
    told = escape(f"{alarm.rule}, {moment(alarm.raised_at):%Y-%m-%d %H:%M:%S} UTC: {alarm.message}")
    return f'<rect x="{x:.1f}" y="{y + 1}" width="2.5" height="20" fill="{colour}"><title>{told}</title></rect>'


def _svg(height: int, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 10} {height}" font-size="12"'
        f' font-family="sans-serif" role="img"><title>{escape(title)}</title>'
    )


def _place(at: Instant, score: Score) -> float:
    begins, ends = score.watched.begins, score.watched.ends
    return _LEFT + _WIDTH * min(1.0, max(0.0, (at - begins) / (ends - begins)))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
