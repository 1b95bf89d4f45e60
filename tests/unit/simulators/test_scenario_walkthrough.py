"""“A site of your own, a fault, and its score in ten minutes” in simulators/README.md, done as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headworks.cli import app
from simulators.device_faults import DEVICE_CATALOGUE

ROOT = Path(__file__).parents[3]
README = (ROOT / "simulators" / "README.md").read_text("utf-8")
WALK = README.split("## A site of your own")[1].split("\n## ")[0]
FILES = dict(
    zip(
        ("mine.inp", "mine.yaml", "night.yaml"),
        re.findall(r"```(?:ini|yaml)\n(.*?)```", WALK, re.DOTALL),
        strict=True,
    )
)
"""By name, as the text tells to make them."""
[(COMMAND, SHOWN)] = re.findall(r"```console\n\$ (.*?)\n(.*?)```", WALK, re.DOTALL)


def test_the_check_prints_what_the_readme_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, shlex.split(COMMAND)[1:])
    assert result.output == SHOWN


def test_the_table_of_device_faults_is_that_of_the_code() -> None:
    library = "".join(path.read_text("utf-8") for path in (ROOT / "alerts" / "library").glob("*.yaml"))
    library += (ROOT / "alerts" / "contact.py").read_text("utf-8")
    for name, entry in DEVICE_CATALOGUE.items():
        rules = ", ".join(f"`{rule}`" for rule in entry.rules) or "–"
        assert f"| `{name}` | {entry.effect} | {entry.source} | {rules} |" in README
        for rule in (*entry.rules, *entry.explains):
            assert f"- rule: {rule}\n" in library or f'"{rule}"' in library, f"‘{rule}’ is not shipped"
