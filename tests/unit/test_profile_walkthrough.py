"""“Add a device type in ten minutes” in devices/README.md, done as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headworks.cli import app

README = (Path(__file__).parents[2] / "devices" / "README.md").read_text("utf-8")
WALK = README.split("## Add a device type in ten minutes")[1].split("\n## ")[0]
[PROFILE] = re.findall(r"```yaml\n(.*?)```", WALK, re.DOTALL)
STEPS = [block.split("\n", 1) for block in re.findall(r"```console\n\$ (.*?)```", WALK, re.DOTALL)]


def test_every_command_prints_what_the_readme_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "borehole-logger.yaml").write_text(PROFILE, "utf-8")
    assert len(STEPS) == 3
    for command, shown in STEPS:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        printed = "\n".join(line.rstrip() for line in result.output.splitlines())
        assert printed.strip() == shown.strip(), command


def test_the_installed_profile_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "borehole-logger.yaml").write_text(PROFILE, "utf-8")
    monkeypatch.setenv("HEADWORKS_PROFILES", str(tmp_path))
    assert "borehole-logger" in CliRunner().invoke(app, ["devices", "profiles"]).output


def test_the_reference_names_every_element() -> None:
    from devices.codecs.frame import ELEMENTS

    reference = README.split("## What a profile says")[1].split("\n## ")[0]
    for name in ELEMENTS:
        assert re.search(rf"`{name}[:`]", reference), f"the README's table does not explain ‘{name}’"
