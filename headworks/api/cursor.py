"""Where a page ended, as a text that clients hand back as it is."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import StringConstraints

from headworks.api.problems import Problem

T = TypeVar("T", int, str, int | str)

CursorText = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,600}$")]


def encode(values: Sequence[int | str] | None) -> str | None:
    """The text for where a page ended; None where nothing follows."""
    if values is None:
        return None
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(text: str | None, kinds: Sequence[type]) -> list[int | str] | None:
    """What `encode` was given; 422 where the text is not one of ours. Nothing is trusted: values travel to the database
    as parameters."""
    if text is None:
        return None
    try:
        values = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        values = None
    fits = (
        isinstance(values, list)
        and len(values) == len(kinds)
        and all(type(value) is kind for value, kind in zip(values, kinds, strict=True))
        and all(abs(value) < 2**63 if isinstance(value, int) else "\0" not in value for value in values)
    )
    if not fits:
        raise Problem(422, "query.cursor: use `next` of the page before as it is, or leave it out")
    found: list[int | str] = values
    return found
