"""Structured logs: one event a line, JSON for machines and aligned text for people, on standard error."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from headworks.settings import LogFormat

_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]+@")


def _hide_passwords(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The last line of defence: no `user:password@` of any address leaves in a log line."""
    for key, value in event.items():
        if isinstance(value, str) and "@" in value:
            event[key] = _PASSWORD.sub(r"\1:***@", value)
    return event


def configure(level: str = "info", style: LogFormat = LogFormat.AUTO) -> None:
    """Set up logging for the whole process; the libraries' own log goes the same way, from warnings on."""
    number = logging.getLevelNamesMapping()[level.upper()]
    people = style is LogFormat.CONSOLE or (style is LogFormat.AUTO and sys.stderr.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info if not people else structlog.processors.StackInfoRenderer(),
        _hide_passwords,
    ]
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if people else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processor=renderer, foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name]
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
