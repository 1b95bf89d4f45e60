"""Pictures for reports, as self-contained SVG text: no library draws a timeline of alarms in fewer lines."""

from __future__ import annotations

from html import escape

from alerts.backtest import Comparison
from devices.alarm import Alarm
from devices.model import Instant, moment

_ROW, _LEFT, _WIDTH, _TOP = 22, 260, 1000, 50
_KEPT, _GAINED, _LOST = "#8a8f98", "#c0392b", "#2c6fbb"


def timeline(result: Comparison, since: Instant, until: Instant, tags: dict[str, str]) -> str:
    """One line a rule and device with a difference: what is lost above, what is gained or shifted to below."""
    bars: dict[tuple[str, str], list[tuple[Alarm, str]]] = {}

    def add(alarm: Alarm, colour: str) -> None:
        bars.setdefault((alarm.rule, alarm.device), []).append((alarm, colour))

    for alarm in result.lost:
        add(alarm, _LOST)
    for alarm in result.gained:
        add(alarm, _GAINED)
    for pair in result.shifted:
        add(pair.current, _KEPT)
        add(pair.candidate, _GAINED)
    height = _TOP + _ROW * max(1, len(bars)) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 20} {height}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="100%" height="100%" fill="#ffffff"/><text x="8" y="20" font-size="14">Alarms from'
        f" {moment(since):%Y-%m-%d %H:%M} to {moment(until):%Y-%m-%d %H:%M} UTC</text>",
    ]
    for index, (colour, label) in enumerate(
        ((_LOST, "lost"), (_GAINED, "gained or shifted to"), (_KEPT, "shifted from"))
    ):
        x = 8 + 160 * index
        parts.append(
            f'<rect x="{x}" y="28" width="14" height="10" fill="{colour}"/><text x="{x + 20}" y="37">{label}</text>'
        )
    for row, ((rule, device), entries) in enumerate(sorted(bars.items())):
        y = _TOP + _ROW * row
        name = escape(f"{tags.get(device, device)}: {rule}"[:44])
        parts.append(f'<text x="8" y="{y + 14}">{name}</text>')
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y + 19}" y2="{y + 19}" stroke="#e3e5e8"/>')
        for alarm, colour in entries:
            begin = _LEFT + _place(alarm.raised_at, since, until)
            end = _LEFT + _place(until if alarm.cleared_at is None else alarm.cleared_at, since, until)
            top = y + (10 if colour == _GAINED else 2)
            title = escape(f"{alarm.message}, raised {moment(alarm.raised_at):%Y-%m-%d %H:%M:%S} UTC")
            parts.append(
                f'<rect x="{begin:.1f}" y="{top}" width="{max(2.0, end - begin):.1f}" height="7" fill="{colour}">'
                f"<title>{title}</title></rect>"
            )
    if not bars:
        parts.append(f'<text x="8" y="{_TOP + 14}">No difference.</text>')
    return "\n".join([*parts, "</svg>", ""])


def _place(at: Instant, since: Instant, until: Instant) -> float:
    return _WIDTH * min(1.0, max(0.0, (at - since) / (until - since)))
