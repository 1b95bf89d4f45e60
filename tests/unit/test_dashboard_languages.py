"""Every dashboard in every language: the same dashboards, and not a word of English left where another is meant."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from dashboards.__main__ import DIRECTORY, files
from dashboards.language import FOLDERS, LANGUAGES, WORDS, UntranslatedError, translated, words

ENGLISH = {name: json.loads(text) for name, text in files().items()}
OTHERS = [language for language in LANGUAGES if language != "en"]
BOARDS = [
    pytest.param(ENGLISH[name], json.loads(text), language, id=f"{language}-{name}")
    for language in OTHERS
    for name, text in files(language).items()
]
ALIKE = {"–", "A", "B", "C", "D", "p5", "p95", "95 %", "Kv", "DN", "PN", "σ", "kWh/m³"}
"""What engineers write alike in both."""
every_board = pytest.mark.parametrize(("english", "board", "language"), BOARDS)


def _entries(language: str) -> list[tuple[str, str, str, str]]:
    return [
        (path.name, part, key, value)
        for path in sorted((WORDS / language).glob("*.json"))
        for part, entries in json.loads(path.read_text("utf-8")).items()
        for key, value in entries.items()
    ]


CHINESE = _entries("zh")
every_entry = pytest.mark.parametrize(
    ("key", "value"), [pytest.param(key, value, id=f"{file}-{key[:40]}") for file, _, key, value in CHINESE]
)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_committed_json_is_what_the_code_builds(language: str) -> None:
    built = files(language)  # type: ignore[arg-type]  # one of the languages
    assert {path.name for path in (DIRECTORY / language).iterdir()} == set(built)
    for name, text in built.items():
        assert (DIRECTORY / language / name).read_text("utf-8") == text, "run `python -m dashboards`"


@every_entry
def test_a_translation_is_chinese_and_keeps_numbers_and_commands(key: str, value: str) -> None:
    assert re.search("[\u4e00-\u9fff]", value) or value in ALIKE
    assert re.findall(r"`[^`]*`", value) == re.findall(r"`[^`]*`", key)
    number = r"\d[\d,.]*\d|\d"
    assert sorted(re.findall(number, value)) == sorted(re.findall(number, key))
    prose = re.sub(r"`[^`]*`|headworks sites set SITE --position NORTH,EAST", "", value)
    assert not re.search(r"[a-z]{3,} [a-z]{3,}", prose), "a piece of English"


@every_entry
def test_a_description_says_what_is_normal_and_what_to_do(key: str, value: str) -> None:
    if "Normal:" in key:
        assert "正常：" in value
        assert "处置：" in value


def test_no_word_is_translated_twice_or_for_nothing() -> None:
    keys = [(part, key) for _, part, key, _ in CHINESE]
    assert len(set(keys)) == len(keys)
    used: set[tuple[str, str]] = set()
    say = words("zh")

    def watched(part: Any, text: str) -> str:
        used.add((part, text))
        return say(part, text)

    for board in ENGLISH.values():
        translated(board, "zh", watched)
    assert used == set(keys)


@every_board
def test_only_words_differ(english: dict[str, Any], board: dict[str, Any], language: str) -> None:
    assert board["uid"] == f"{english['uid']}-{language}"
    assert len(board["panels"]) == len(english["panels"])
    for mine, theirs in zip(board["panels"], english["panels"], strict=True):
        assert (mine["id"], mine["type"], mine["gridPos"]) == (theirs["id"], theirs["type"], theirs["gridPos"])
        structure = [re.sub(r"'[^']*'|\"[^\"]*\"", "_", panel["targets"][0]["rawSql"]) for panel in (mine, theirs)]
        assert structure[0] == structure[1]


@every_board
def test_nothing_that_people_read_is_left_in_english(
    english: dict[str, Any], board: dict[str, Any], language: str
) -> None:
    """Whatever is found in a place that Grafana shows, by the names of the places and not by the translator's list."""
    shown = [board["title"], board["description"]]
    shown += [link[key] for link in board["links"] for key in ("title", "tooltip") if link[key]]
    shown += [variable["label"] for variable in board["templating"]["list"]]
    shown += [annotation["name"] for annotation in board["annotations"]["list"]]
    text = json.dumps(board["panels"], ensure_ascii=False)
    for place in ("title", "description", "noValue", "text", "displayName", "axisLabel"):
        shown += re.findall(rf'"{place}": "((?:[^"\\]|\\.)*)"', text)
    for panel in board["panels"]:
        shown += re.findall(r'AS "([^"]*)"', panel["targets"][0]["rawSql"])
    internal = {"time", "Asset", "Device", "Board", "Number"}
    for one in set(shown) - ALIKE - internal:
        bare = re.sub(r"\$\{[^}]*\}|\W|\d|h", "", one)
        assert not bare or re.search("[\u4e00-\u9fff]", one), f"{one!r} is not translated"


@every_board
def test_links_and_menu_stay_within_the_language(english: dict[str, Any], board: dict[str, Any], language: str) -> None:
    text = json.dumps(board, ensure_ascii=False)
    urls = re.findall(r'"url": "(/d/[^"]*)"', text)
    assert all(re.match(rf"/d/headworks-[a-zA-Z_.$\{{\}}]+-{language}\?", url) for url in urls)
    assert f"headworks-{language}" in board["tags"]
    menu = next(link for link in board["links"] if link["type"] == "dashboards")
    assert menu["tags"] == [f"headworks-{language}"]
    for panel in board["panels"]:
        sql = panel["targets"][0]["rawSql"]
        for name in re.findall(r"__data\.fields\.([^:}]+)", json.dumps(panel, ensure_ascii=False)):
            assert f'"{name}"' in sql


def test_a_missing_word_is_an_error_that_says_where_to_add_it() -> None:
    board = {**ENGLISH["pump.json"], "title": "Something new"}
    with pytest.raises(UntranslatedError, match=r"words.zh has no 'Something new' in its 'texts'"):
        translated(board, "zh", words("zh"))


def test_each_language_has_a_folder_of_its_own() -> None:
    assert set(FOLDERS) == set(LANGUAGES)
    assert len(set(FOLDERS.values())) == len(LANGUAGES)
