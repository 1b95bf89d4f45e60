"""Rule files: what a YAML document beside the rules may say, and the set of rules that several of them make.

A document holds one entry or a list of them: a rule (`alerts.rules`), an override of a rule's set-points
(`alerts.setpoints`), or `include: shipped`. The shipped rules are `alerts/library/*.yaml`. Which files are read is
decided in `headworks.service`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import ValidationError

from alerts.rules import Rule
from alerts.setpoints import ENABLED, RuleOverride, SetPoint, unfit
from devices.document import DocumentError, DocumentModel, Positions, load_yaml, suggest, validate

TESTS = ".test.yaml"
"""How the names of files end that hold rules' unit tests (`alerts.ruletests`) beside the rules."""

Models = Callable[[str], str | None]
"""The text of a model's file by its name; None where the rule is to be read without it."""


class Include(DocumentModel):
    """Other rules that are in use beside those of this folder."""

    include: Literal["shipped"]


@dataclass(frozen=True, slots=True)
class _Placed:
    """An override, and where its parts stand."""

    override: RuleOverride
    positions: Positions
    at: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RuleFile:
    """What one document says."""

    rules: list[tuple[str, Rule]] = field(default_factory=list)
    """Each with its file, line and column."""
    overrides: list[_Placed] = field(default_factory=list)
    includes_shipped: bool = False


def read_rule_file(text: str, source: str, models: Models = lambda _: None) -> RuleFile:
    """The entries of a document. `DocumentError` with every problem of every entry; a rule's name may stand once."""
    root, positions = load_yaml(text, source)
    entries: list[tuple[tuple[int, ...], Any]] = [((), root)]
    if isinstance(root, list):
        entries = [((number,), entry) for number, entry in enumerate(root)]
    if not entries or not isinstance(root, list | Mapping):
        raise DocumentError([f"{source}:1:1: a document holds one rule (a mapping) or a list of rules"])
    problems: list[str] = []
    rules: list[tuple[str, Rule]] = []
    overrides: list[_Placed] = []
    includes = False
    for at, entry in entries:
        try:
            if isinstance(entry, Mapping) and "include" in entry:
                validate(entry, positions, Include, at)
                includes = True
            elif isinstance(entry, Mapping) and "override" in entry and "rule" not in entry:
                overrides.append(_Placed(validate(entry, positions, RuleOverride, at), positions, at))
            else:
                _put_model(entry, positions, at, models)
                rules.append((positions.locate((*at, "rule")), validate(entry, positions, Rule, at)))
        except DocumentError as error:
            problems += error.problems
    problems += _repeated(entries, positions)
    if problems:
        raise DocumentError(problems)
    return RuleFile(rules, overrides, includes)


def assemble(documents: Iterable[RuleFile]) -> list[Rule]:
    """The rules of several documents, with the overrides that stand among them. `DocumentError` where they do not fit
    together: nothing takes another's place in silence."""
    documents = list(documents)
    included = any(document.includes_shipped for document in documents)
    rules = {rule.rule: rule for rule in shipped_rules()} if included else {}
    shipped = frozenset(rules)
    problems: list[str] = []
    for where, rule in (placed for document in documents for placed in document.rules):
        if rule.rule in shipped:
            problems.append(
                f"{where}: ‘{rule.rule}’ is a shipped rule, and they are included; choose another name, and write"
                f" override: {rule.rule} with enabled: false if this takes its place"
            )
        elif rule.rule in rules:
            problems.append(f"{where}: the rule ‘{rule.rule}’ exists already")
        rules.setdefault(rule.rule, rule)
    overriding: dict[str, list[_Placed]] = {}
    for placed in (placed for document in documents for placed in document.overrides):
        if placed.override.override in rules:
            overriding.setdefault(placed.override.override, []).append(placed)
        else:
            problems.append(_stray(placed, rules, included=included))
    for name, placed_here in overriding.items():
        wrong = list(_unfit(rules[name], placed_here))
        problems += wrong
        if not wrong:
            try:
                rules[name] = _overridden(rules[name], [placed.override for placed in placed_here])
            except ValidationError as error:  # as a condition that is too long with the switch in it
                first = placed_here[0]
                problems.append(f"{first.positions.locate(first.at)}: {name}: {error.errors()[0]['msg']}")
    if problems:
        raise DocumentError(problems)
    return list(rules.values())


def load_rules(text: str, source: str, models: Models = lambda _: None) -> list[Rule]:
    """The rules of one document. `DocumentError` with every problem of every rule; one bad rule, and it gives none."""
    return assemble([read_rule_file(text, source, models)])


def shipped_rules() -> list[Rule]:
    """The rules that come with Headworks, by name."""
    return list(_shipped_rules())


@cache
def _shipped_rules() -> tuple[Rule, ...]:
    """Read once: it takes half a second."""
    entries = sorted(files("alerts").joinpath("library").iterdir(), key=lambda entry: entry.name)
    named = [entry for entry in entries if entry.name.endswith(".yaml") and not entry.name.endswith(TESTS)]
    found = assemble(read_rule_file(entry.read_text(encoding="utf-8"), entry.name) for entry in named)
    return tuple(sorted(found, key=lambda rule: rule.rule))


def json_schema() -> str:
    """The JSON Schema of a rule file, as `alerts/rule.schema.json` holds it."""
    definitions: dict[str, Any] = {}
    for model in (Rule, RuleOverride, Include):
        schema = model.model_json_schema()
        definitions |= schema.pop("$defs", {})
        definitions[model.__name__] = schema
    entries = [{"$ref": f"#/$defs/{model.__name__}"} for model in (Rule, RuleOverride, Include)]
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Headworks alarm rules",
        "anyOf": [*entries, {"type": "array", "items": {"anyOf": entries}, "minItems": 1}],
        "$defs": definitions,
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _stray(placed: _Placed, rules: Mapping[str, Rule], *, included: bool) -> str:
    name = placed.override.override
    shipped = [] if included else [rule.rule for rule in shipped_rules()]
    hint = suggest(name, [*rules, *shipped])
    if name in shipped:
        hint = "; it is a shipped one: write ‘include: shipped’ in one of the files to have those in use"
    return f"{placed.positions.locate((*placed.at, 'override'))}: there is no rule ‘{name}’{hint}"


def _unfit(rule: Rule, placed: Iterable[_Placed]) -> Iterator[str]:
    for one in placed:
        if one.override.enabled is not None and ENABLED in rule.setpoints:
            yield f"{one.positions.locate((*one.at, 'enabled'))}: the rule has a set-point of that name: use it"
        wrong = list(unfit(one.override, rule.setpoint_units))
        for name, why in wrong:
            yield f"{one.positions.locate((*one.at, 'setpoints', name))}: setpoints.{name}: {why}"
        if not wrong and (contrary := rule.contradiction(one.override)) is not None:
            yield f"{one.positions.locate((*one.at, 'setpoints'))}: with these set-points {contrary}"


def _overridden(rule: Rule, overrides: list[RuleOverride]) -> Rule:
    """The rule with these overrides. One that is switched off somewhere asks for that in its condition, so that the
    switch has its history as every set-point has."""
    parts = rule.model_dump()
    parts["overrides"] = (*rule.overrides, *(override.plain() for override in overrides))
    if any(override.enabled is not None for override in overrides):
        parts["setpoints"] = {**rule.setpoints, ENABLED: SetPoint(value=1.0, description="0 while it is switched off")}
        parts["condition"] = f"({rule.condition}) and setpoint.{ENABLED} == 1"
    return Rule.model_validate(parts)


def _put_model(entry: Any, positions: Positions, at: tuple[int, ...], models: Models) -> None:
    """In a rule its model in place of the name of the model's file."""
    name = entry.get("model") if isinstance(entry, Mapping) else None
    if not isinstance(entry, dict) or not isinstance(name, str):
        return
    where = positions.locate((*at, "model"))
    try:
        text = models(name)
        entry["model"] = None if text is None else json.loads(text)
    except (OSError, ValueError) as error:
        raise DocumentError([f"{where}: {error}; headworks rules learn writes a rule's model"]) from None


def _repeated(entries: Iterable[tuple[tuple[int, ...], Any]], positions: Positions) -> Iterator[str]:
    seen: set[object] = set()
    for at, entry in entries:
        name = entry.get("rule") if isinstance(entry, Mapping) else None
        if isinstance(name, str) and name in seen:
            yield f"{positions.locate((*at, 'rule'))}: the rule ‘{name}’ exists twice in this document"
        seen.add(name if isinstance(name, str) else None)
