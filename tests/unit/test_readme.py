"""The README keeps up with the project: what it names is there, and what is there is named."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_every_dependency_stands_in_the_table_with_its_reason_and_licence() -> None:
    table = README.split("## Dependencies")[1].split("## More")[0]
    for requirement in (*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]):
        name = re.split(r"[\[<>=]", requirement)[0]
        assert name in table, f"{name} is not in the README's dependency table"
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith(("| library", "|---"))]
    assert all(line.count("|") == 5 for line in rows)


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z-]+)", README + (ROOT / "CONTRIBUTING.md").read_text("utf-8")))
    assert named <= targets, named - targets


def test_every_link_leads_somewhere() -> None:
    for document in ROOT.glob("*/README.md"), ROOT.glob("*.md"):
        for path in document:
            for target in re.findall(r"\]\(([^)#]+)\)", path.read_text("utf-8")):
                if "://" not in target:
                    assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_locks_have_hashes_and_no_addresses() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-fuzz.lock", "deploy/fallback.lock"):
        text = (ROOT / name).read_text("utf-8")
        assert "://" not in text
        pins = re.findall(r"^[A-Za-z0-9_.-]+==[^\n]*", text, re.MULTILINE)
        assert pins
        assert all(pin.rstrip().endswith("\\") for pin in pins), "every pin is followed by its hashes"
