"""Options that several commands share, from the text a user types to what the rooms take."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

from devices.model import Instant, instant


def parse_time(text: str | None, option: str) -> Instant | None:
    """An ISO 8601 date or time, UTC where it names no zone; `typer.BadParameter` naming the option otherwise."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a date or time such as 2026-11-23 or 2026-11-23T10:00:00Z", param_hint=option
        ) from None
    return instant(found if found.tzinfo else found.replace(tzinfo=UTC))
