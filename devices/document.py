"""YAML documents (profiles, rules, scenarios, maps) checked against a pydantic model, with errors that name file, line
and column and suggest the word that was meant."""

from __future__ import annotations

import difflib
import io
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError


class DocumentModel(BaseModel):
    """Base of everything that is read from YAML: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


Model = TypeVar("Model", bound=BaseModel)


class DocumentError(ValueError):
    """A document is not valid; the message has one `file:line:column: what is wrong` a line."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class Positions:
    """Where each value of a YAML document stands, for errors found after parsing."""

    def __init__(self, source: str, root: Any) -> None:
        self._source = source
        self._root = root

    def locate(self, path: Sequence[str | int]) -> str:
        """`file:line:column` (both from 1) of the value at `path`, or of its nearest parent in the document."""
        line, column = 0, 0
        node = self._root
        for step in path:
            if _is_tag(step):
                continue
            if isinstance(node, CommentedMap) and step in node:
                line, column = node.lc.value(step)
            elif isinstance(node, CommentedSeq) and isinstance(step, int) and step < len(node):
                line, column = node.lc.item(step)
            else:
                break
            node = node[step]
        else:
            return f"{self._source}:{line + 1}:{column + 1}"
        # The last step is not in the document (a missing key) or is a key itself (an unknown one): point at the parent.
        return f"{self._source}:{line + 1}:{column + 1}"

    def locate_key(self, path: Sequence[str | int]) -> str:
        """`file:line:column` of the key that `path` ends in."""
        node = self._root
        for step in path[:-1]:
            if _is_tag(step):
                continue
            if not isinstance(node, CommentedMap | CommentedSeq):
                break
            node = node[step]
        if isinstance(node, CommentedMap) and path[-1] in node:
            line, column = node.lc.key(path[-1])
            return f"{self._source}:{line + 1}:{column + 1}"
        return self.locate(path)


def load_yaml(text: str, source: str) -> tuple[Any, Positions]:
    """Parse YAML 1.2 to plain data with positions; `DocumentError` where it is not YAML."""
    yaml = YAML(typ="rt")
    yaml.allow_duplicate_keys = False
    try:
        if "!" in text:  # rarely; to parse twice takes twice the time
            _refuse_tags(yaml, text, source)
        root = yaml.load(io.StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark is not None else source
        raise DocumentError([f"{where}: {error.problem or error.context or 'not valid YAML'}"]) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise DocumentError([f"{source}: not valid YAML: {error}"]) from error
    return root, Positions(source, root)


def _refuse_tags(yaml: YAML, text: str, source: str) -> None:
    """A tag (`!!python/…`) would make something else of a value than plain data: it has no place in any document."""
    for event in yaml.parse(io.StringIO(text)):
        if getattr(event, "tag", None) is not None:
            mark = event.start_mark
            raise DocumentError([f"{source}:{mark.line + 1}:{mark.column + 1}: a YAML tag has no place here"])


def validate(root: Any, positions: Positions, model: type[Model], at: Sequence[str | int] = ()) -> Model:
    """Check plain data against a model; every problem of the document is reported at once."""
    try:
        return model.model_validate(root)
    except ValidationError as error:
        raise DocumentError([_describe(problem, positions, model, at) for problem in error.errors()]) from error


def load_document(text: str, source: str, model: type[Model]) -> Model:
    """Parse and check one YAML document."""
    root, positions = load_yaml(text, source)
    return validate(root, positions, model)


def suggest(word: str, known: Sequence[str]) -> str:
    """`, did you mean ‘…’?` where a known word is near, else nothing."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f", did you mean ‘{near[0]}’?" if near else ""


def _describe(problem: Any, positions: Positions, model: type[BaseModel], at: Sequence[str | int]) -> str:
    path = [*at, *problem["loc"]]
    if path and path[-1] == "[key]":
        return f"{positions.locate_key(path[:-1])}: {problem['msg'].removeprefix('Value error, ')}"
    name = ".".join(str(step) for step in path if not _is_tag(step)) or "the document"
    if problem["type"] == "extra_forbidden":
        hint = suggest(str(path[-1]), _known_keys(model, problem["loc"][:-1]))
        return f"{positions.locate_key(path)}: unknown key ‘{path[-1]}’{hint}"
    if problem["type"] == "missing":
        return f"{positions.locate(path[:-1])}: ‘{path[-1]}’ is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{positions.locate(path)}: {name}: {message}"


def _is_tag(step: str | int) -> bool:
    """Whether a step of a path only says which model of several was chosen (`<Repeat>`): no key of the document."""
    return isinstance(step, str) and step.startswith("<") and step.endswith(">")


def _known_keys(model: Any, path: Sequence[str | int]) -> list[str]:
    """The keys allowed at a path inside a model, as far as it leads through models, lists, maps and choices of them."""
    models = _models(model)
    for step in path:
        if _is_tag(step):
            models = [found for found in models if f"<{found.__name__}>" == step]
        else:
            inner = [found.model_fields[step].annotation for found in models if step in found.model_fields]
            if inner:
                models = [found for annotation in inner for found in _models(annotation)]
    return [key for found in models for key in found.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type consists of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _models(part)]
