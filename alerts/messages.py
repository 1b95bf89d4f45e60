"""How an announcement reads: in a language, in local time, with what a technician needs. Pure but for the templates.

What is announced is in `alerts.announcement`; a language is a file in `alerts/templates`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import quote
from zoneinfo import ZoneInfo

from pydantic import Field

from devices.document import DocumentModel, load_document

_SIGNS = {"degC": "°C", "m3": "m³", "m3/h": "m³/h", "rpm": "min⁻¹", "N*m": "N·m", "MOhm": "MΩ"}
"""How units read that the catalogue spells in ASCII."""
_SPELLED = re.compile(rf"(\d) ({'|'.join(sorted(map(re.escape, _SIGNS), key=len, reverse=True))})(?![\w/])")
LATE_SECONDS = 120
"""From how late on a message says when we learned of an alarm."""
_FORMATTER = string.Formatter()


class Message(NamedTuple):
    """A message to people: one line, and plain text."""

    subject: str
    body: str


class Template(DocumentModel):
    """The words of a language."""

    priorities: dict[str, str]
    lead: dict[str, str]
    notice: dict[str, str]
    subject: str
    subject_summary: str = Field(alias="subject-summary")
    lines: tuple[str, ...]
    lines_summary: tuple[str, ...] = Field(alias="lines-summary")
    withdrawn: str


@cache
def languages() -> tuple[str, ...]:
    """The languages that there are messages in."""
    found = files("alerts").joinpath("templates").iterdir()
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in found if entry.name.endswith(".yaml")))


@cache
def template(language: str) -> Template:
    """The words of one of `languages()`."""
    name = f"{language}.yaml"
    text = files("alerts").joinpath("templates").joinpath(name).read_text("utf-8")
    return load_document(text, f"alerts/templates/{name}", Template)


def word(told: Mapping[str, Any], key: str, language: str, zone: str, link: str = "") -> Message:
    """The message of an announcement. Times are in `zone`; `link` is a URL with {rule}, {device}, {tag}, {site}."""
    words = template(language)
    summary = told["event"] in ("summary", "summary-returned")
    fields = _summary(told, words, zone) if summary else _alarm(told, words, zone, link)
    fields["reference"] = key[:8]
    fields["notice"] = words.notice.get(str(told.get("notice")), "")
    fields["priority"] = words.priorities.get(str(told.get("priority")), "")
    fields["lead"] = _fill(words.lead[told["event"]], fields) or words.lead[told["event"]]
    if fields["notice"]:
        fields["lead"] += f" · {fields['notice']}"
    subject = words.subject_summary if summary else words.subject
    lines = words.lines_summary if summary else words.lines
    filled = [_fill(line, fields) for line in lines]
    return Message(" ".join(subject.format_map(fields).split()), "\n".join(line for line in filled if line))


def _fill(line: str, fields: Mapping[str, str]) -> str:
    """The line with its fields; nothing where one of them is not known."""
    names = [name for _, name, _, _ in _FORMATTER.parse(line) if name]
    return line.format_map(fields) if all(fields.get(name) for name in names) else ""


def _alarm(told: Mapping[str, Any], words: Template, zone: str, link: str) -> dict[str, str]:
    device = told["device"]
    guidance = told.get("guidance") or {}
    unit = "" if told.get("unit") in (None, "1") else f" {_SIGNS.get(told['unit'], told['unit'])}"
    limit = told.get("limit") or {}
    tag = device["tag"] or device["identity"]
    late = int(told.get("seconds_late") or 0)
    ends = told["event"] in ("returned", "withdrawn")
    places = {"rule": told["rule"], "device": device["identity"], "tag": tag, "site": device["site"]}
    return {
        "tag": tag,
        "title": str(told.get("title") or ""),
        "message": words.withdrawn if told["event"] == "withdrawn" else _readable(str(told.get("message") or "")),
        "place": " / ".join(filter(None, (device["site"], device["area"], device["unit"]))),
        "value": _number(told.get("value"), unit),
        "limit": f"{limit['operator']} {_number(limit['value'], unit)}" if limit and not ends else "",
        "since": _local(told.get("since"), zone),
        "learned": _local(told.get("announced_at"), zone) if late >= LATE_SECONDS else "",
        "late": _span(late),
        "cleared": _local(told.get("cleared_at"), zone),
        "cause": "" if ends else guidance.get("cause", ""),
        "consequence": "" if ends else guidance.get("consequence", ""),
        "corrective_action": "" if ends else guidance.get("corrective_action", ""),
        "time_to_respond": guidance.get("time_to_respond", ""),
        "link": link.format_map({name: quote(value, safe="") for name, value in places.items()}),
    }


def _summary(told: Mapping[str, Any], words: Template, zone: str) -> dict[str, str]:
    def counted(name: str) -> str:
        more = told.get(f"more_{name}") or 0
        text = ", ".join(f"{what or '–'} ({count})" for what, count in told.get(name, ()))
        return text + (f", … +{more}" if more else "")

    return {
        "count": str(told["count"]),
        "over": str(told["over"]) if told.get("over") else "",
        "rules": counted("rules"),
        "places": counted("places"),
        "first": _moment(told.get("first"), zone),
        "last": _moment(told.get("last"), zone),
        "tags": ", ".join(told.get("tags", ())),
    }


def _moment(one: Mapping[str, Any] | None, zone: str) -> str:
    return f"{_local(one['since'], zone)} {one['tag']} {one['title']}" if one else ""


def _readable(message: str) -> str:
    """A rule's message, in which units stand behind numbers as the catalogue spells them."""
    return _SPELLED.sub(lambda found: f"{found[1]} {_SIGNS[found[2]]}", message)


def _number(value: Any, unit: str) -> str:
    return "" if value is None else f"{float(value):.6g}{unit}"


def _local(iso: Any, zone: str) -> str:
    if not iso:
        return ""
    local = datetime.fromisoformat(str(iso)).astimezone(ZoneInfo(zone))
    return f"{local:%Y-%m-%d %H:%M:%S} {_offset(local)}"


def _offset(local: datetime) -> str:
    text = f"{local:%z}"
    return f"UTC{text[:3]}:{text[3:5]}"


def _span(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
