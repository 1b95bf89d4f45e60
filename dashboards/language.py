"""The dashboards in another language: the same dashboards with other words, so that there is one code for all.

A language is a folder of JSON files beside this one (`words/zh/`), each with two parts: `texts` are titles,
descriptions and other sentences; `labels` are what stands in the SQL: names of columns and series, which overrides and
links repeat, and the few words that a query writes into its rows. Keys are the English words. A word that is missing
is an error, not English among Chinese. What the database holds (tags, messages of rules) is shown as it is.

Each language has dashboards of its own (`headworks-pump-zh`) in a folder of its own, so that one Grafana can have
several.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from dashboards.variables import TAG

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
FOLDERS: dict[Language, tuple[str, str]] = {"en": ("headworks", "Headworks"), "zh": ("headworks-zh", "Headworks 中文")}
"""The uid and the title of each language's folder in Grafana."""

WORDS = Path(__file__).parent / "words"

Part = Literal["texts", "labels"]
Say = Callable[[Part, str], str]
Json = dict[str, Any]

INTERNAL = frozenset({"time", "Asset", "Device", "Board", "Number"})
"""Columns that nobody sees: Grafana or links need them."""
_TOKEN = re.compile(r"'((?:[^']|'')*)'|\"([^\"]*)\"")
_FIELD = re.compile(r"(\$\{__data\.fields\.)([^:}]+)")
_BOARD = re.compile(r"^/d/(headworks-(?:[a-z]+|\$\{__data\.fields\.Board\}))\?")
_CHOSEN = re.compile(r"^(.+), (\$\{\w+_unit:text\}.*)$")
"""A name with the unit that the site chooses."""


class UntranslatedError(LookupError):
    """A word has no translation; the message says which, and where to add it."""


def words(language: Language) -> Say:
    """A look-up in the words of a language."""
    known: dict[str, dict[str, str]] = {"texts": {}, "labels": {}}
    for path in sorted((WORDS / language).glob("*.json")):
        for part, entries in json.loads(path.read_text("utf-8")).items():
            known[part] |= entries

    def say(part: Part, text: str) -> str:
        try:
            return known[part][text]
        except KeyError:
            raise UntranslatedError(f"{WORDS / language} has no {text!r} in its {part!r}") from None

    return say


def translated(board: Mapping[str, Any], language: Language, say: Say) -> Json:
    """A dashboard in another language; `say` gives its words."""
    found: Json = copy.deepcopy(dict(board))
    found["uid"] = f"{found['uid']}-{language}"
    found["title"], found["description"] = say("texts", found["title"]), say("texts", found["description"])
    found["tags"] = [f"{tag}-{language}" if tag == TAG else tag for tag in found["tags"]]
    for link in found["links"]:
        link["title"] = say("texts", link["title"])
        link["tags"] = [f"{tag}-{language}" for tag in link["tags"]]
        if link.get("tooltip"):
            link["tooltip"] = say("texts", link["tooltip"])
    for variable in found["templating"]["list"]:
        variable["label"] = say("texts", variable["label"])
        if variable["type"] == "query":
            variable["query"] = variable["definition"] = _sql(variable["query"], say)
    for annotation in found["annotations"]["list"]:
        annotation["name"] = say("texts", annotation["name"])
        annotation["target"]["rawSql"] = _sql(annotation["target"]["rawSql"], say)
    for panel in found["panels"]:
        _panel(panel, language, say)
    return found


def _panel(panel: Json, language: Language, say: Say) -> None:
    panel["title"], panel["description"] = say("texts", panel["title"]), say("texts", panel["description"])
    for target in panel["targets"]:
        target["rawSql"] = _sql(target["rawSql"], say)
    defaults = panel["fieldConfig"]["defaults"]
    defaults["noValue"] = _number_or(defaults["noValue"], say)
    if "unit" in defaults:
        defaults["unit"] = _unit(defaults["unit"], say)
    if "axisLabel" in defaults.get("custom", {}):
        defaults["custom"]["axisLabel"] = _name(defaults["custom"]["axisLabel"], say)
    _mappings(defaults.get("mappings", []), say)
    for override in panel["fieldConfig"]["overrides"]:
        override["matcher"]["options"] = _label(override["matcher"]["options"], say)
        for one in override["properties"]:
            one["value"] = _property(one["id"], one["value"], language, say)
    for layer in panel.get("options", {}).get("layers", []):
        layer["name"] = say("texts", layer["name"])
        layer["location"] |= {name: _label(layer["location"][name], say) for name in ("latitude", "longitude")}
        for part in ("size", "color"):
            layer["config"]["style"][part]["field"] = _label(layer["config"]["style"][part]["field"], say)


def _property(name: str, value: Any, language: Language, say: Say) -> Any:
    """A property of a field override, of those that show words."""
    match name:
        case "displayName" | "custom.axisLabel":
            return _name(value, say)
        case "custom.fillBelowTo":
            return _label(value, say)
        case "unit":
            return _unit(value, say)
        case "mappings":
            _mappings(value, say)
        case "links":
            return [
                {**link, "title": say("texts", link["title"]), "url": _url(link["url"], language, say)}
                for link in value
            ]
    return value


def _mappings(mappings: list[Json], say: Say) -> None:
    for mapping in mappings:
        for result in mapping["options"].values():
            result["text"] = say("texts", result["text"])


def _sql(sql: str, say: Say) -> str:
    """A query with its column names and the words that it shows; all else in it stays."""

    def replace(match: re.Match[str]) -> str:
        literal, name = match[1], match[2]
        if name is not None:
            return f'"{_label(name, say)}"'
        return f"'{_literal(literal, say)}'"

    return _TOKEN.sub(replace, sql)


def _literal(text: str, say: Say) -> str:
    """Shown is what begins with a capital, or has a space or a bracket: names of metrics, states and columns do not."""
    if re.match(r"[A-Z(σ]", text) or re.fullmatch(r"\d+ % of [\w ]+|p\d+|[a-z]+( [a-z]+)+|pumps|valves|meters", text):
        if text in _NOT_SHOWN:
            return text
        return say("labels", text)
    return text


_NOT_SHOWN = frozenset({"UTC", "A", "B", "C", "D"})
"""A time zone, and zones that have no other name."""


def _label(text: str, say: Say) -> str:
    return text if text in INTERNAL else say("labels", text)


def _name(text: str, say: Say) -> str:
    """A name of a column or an axis, with its unit or a unit alone."""
    if text.startswith("${"):
        return text
    chosen = _CHOSEN.match(text)
    if chosen:
        return f"{_label(chosen[1], say)}, {chosen[2]}"
    return _label(text, say)


def _number_or(text: str, say: Say) -> str:
    return text if text.isdecimal() else say("texts", text)


def _unit(unit: str, say: Say) -> str:
    return say("texts", unit) if unit == "suffix: years" else unit


def _url(url: str, language: Language, say: Say) -> str:
    url = _FIELD.sub(lambda match: match[1] + _label(match[2], say), url)
    return _BOARD.sub(lambda match: f"/d/{match[1]}-{language}?", url)
