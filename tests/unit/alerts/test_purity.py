"""The engine is pure: no clock, no I/O. import-linter holds the listed modules to it; here none is left out."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]
IMPURE = {"channels", "courier", "feeding", "keeping", "live", "pasts", "ports", "webhook"}
"""What carries and what runs; `ports` names only what is asked for."""
CLOCKS = {"now", "utcnow", "today", "time", "monotonic", "perf_counter"}


def modules() -> dict[str, Path]:
    return {path.stem: path for path in (ROOT / "alerts").glob("*.py") if path.stem != "__init__"}


def test_every_module_of_the_engine_is_held_to_it() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    [held] = [one["source_modules"] for one in contracts if "do no I/O" in one["name"]]
    listed = {name.removeprefix("alerts.") for name in held if name.startswith("alerts.")}
    assert listed == modules().keys() - IMPURE


def test_none_of_them_asks_for_the_time_or_opens_a_file() -> None:
    for name in modules().keys() - IMPURE:
        for node in ast.walk(ast.parse(modules()[name].read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                of = ast.unparse(node.func.value)
                assert not (node.func.attr in CLOCKS and of in ("datetime", "date", "time")), (name, node.lineno)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("open", "eval", "__import__"), (name, node.lineno)
                # What these write and run holds nothing of a rule's text: test_quick.py, and the kinds' own words.
                assert node.func.id != "exec" or name in ("quick", "window_code"), (name, node.lineno)
