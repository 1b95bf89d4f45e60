"""`python -m dashboards` builds the JSON files from the code; `--check` only says whether they are up to date."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import connectivity, fleet, performance, platform, pump, reliability, site, valve

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


def render(board: Dashboard) -> str:
    """A dashboard as the JSON text that Grafana imports; equal dashboards give equal texts."""
    return json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def files() -> dict[str, str]:
    """Every dashboard's file name and text."""
    return {f"{name}.json": render(build()) for name, build in BOARDS.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Build or check; the exit code is 1 where a file is missing or out of date."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a file differs from the code")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where the files are (default: %(default)s)")
    options = parser.parse_args(arguments)
    directory: Path = options.directory
    stale = [
        name
        for name, text in files().items()
        if not (directory / name).is_file() or (directory / name).read_text(encoding="utf-8") != text
    ]
    if options.check:
        for name in stale:
            sys.stderr.write(f"{directory / name} is not what the code builds; run `python -m dashboards`\n")
        return 1 if stale else 0
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (directory / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{directory / name}{' (changed)' if name in stale else ''}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
