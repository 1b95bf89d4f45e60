"""`python -m dashboards` builds the JSON files from the code; `--check` only says whether they are up to date."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import connectivity, fleet, performance, platform, pump, reliability, site, valve
from dashboards.language import LANGUAGES, Language, translated, words

BOARDS = {
    "fleet-overview": fleet.build,
    "site": site.build,
    "pump": pump.build,
    "valve": valve.build,
    "connectivity": connectivity.build,
    "alarm-performance": performance.build,
    "reliability": reliability.build,
    "platform": platform.build,
}
"""What builds each dashboard, by the name of its file."""

DIRECTORY = Path(__file__).parent / "json"
"""Where the files are, in a folder a language."""


def render(board: Dashboard | dict[str, Any]) -> str:
    """A dashboard as the JSON text that Grafana imports; equal dashboards give equal texts."""
    return json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def files(language: Language = "en") -> dict[str, str]:
    """Every dashboard's file name and text. `UntranslatedError` where a language lacks a word."""
    english = {f"{name}.json": render(build()) for name, build in BOARDS.items()}
    if language == "en":
        return english
    say = words(language)
    return {name: render(translated(json.loads(text), language, say)) for name, text in english.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Build or check; the exit code is 1 where a file is missing or out of date."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a file differs from the code")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where the files are (default: %(default)s)")
    options = parser.parse_args(arguments)
    directory: Path = options.directory
    built = {f"{language}/{name}": text for language in LANGUAGES for name, text in files(language).items()}
    stale = [
        name
        for name, text in built.items()
        if not (directory / name).is_file() or (directory / name).read_text(encoding="utf-8") != text
    ]
    if options.check:
        for name in stale:
            sys.stderr.write(f"{directory / name} is not what the code builds; run `python -m dashboards`\n")
        return 1 if stale else 0
    for name, text in built.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{directory / name}{' (changed)' if name in stale else ''}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
