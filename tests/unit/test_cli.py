"""The command line: every command explains itself and stands in the README."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from headworks.cli import app

ROOT = typer.main.get_command(app)
README = Path(__file__).parents[2] / "README.md"


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from commands(command.get_command(None, name), (*path, name))
    else:
        yield path, command


ALL = dict(commands(ROOT))


def test_the_help_lists_what_the_product_does() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    for name in ("up", "demo", "migrate", "devices", "rules", "simulate", "replay", "doctor"):
        assert re.search(rf"^\s+{name}\s+\S", shown, re.MULTILINE), f"{name} is not explained in\n{shown}"


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_and_every_option_explains_itself(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert command.help, f"{path} has no description"
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0, result.output


def test_a_command_that_is_misspelt_is_met_with_what_was_meant() -> None:
    assert "Did you mean 'score'" in CliRunner().invoke(app, ["scor"]).output


def test_a_command_loads_nothing_of_the_others() -> None:
    """What a command does not need would be waited for at each: together they take seconds."""
    code = "import sys; from headworks.cli import main; sys.argv = ['headworks', '--version']\n"
    code += "try: main()\nexcept SystemExit: print([name for name in sys.modules if name.startswith('headworks.cli_')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_stands_in_the_readme() -> None:
    text = README.read_text("utf-8")
    for path in ALL:
        assert f"`headworks {path[0]}" in text, f"`headworks {path[0]}` is not in the README"
