"""`headworks rules …`: alarm rules from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from devices.duration import format_duration
from headworks.service import load_rule_files
from headworks.settings import load_settings

app = typer.Typer(help="Alarm rules: check files, list what applies, show one.", no_args_is_help=True)
out = Console(highlight=False)

Files = Annotated[
    Path | None,
    typer.Argument(
        help="A rule file or a folder of them; else those of HEADWORKS_RULES, else the shipped ones", exists=True
    ),
]


@app.command()
def check(path: Files = None) -> None:
    """Check rule files; every problem is printed with its file, line and column."""
    rules = load_rule_files(path or load_settings().rules)
    typer.echo(f"{len(rules)} rules are valid")


@app.command("list")
def list_(path: Files = None) -> None:
    """List the rules with their conditions."""
    table = Table("rule", "priority", "condition", "on-delay", "off-delay", box=None, pad_edge=False)
    for rule in load_rule_files(path or load_settings().rules):
        delays = format_duration(rule.on_delay), format_duration(rule.off_delay)
        table.add_row(rule.rule, rule.priority.value, " ".join(rule.condition.split()), *delays)
    out.print(table)


@app.command()
def show(name: str, path: Files = None) -> None:
    """Show one rule with its guidance."""
    rule = next((rule for rule in load_rule_files(path or load_settings().rules) if rule.rule == name), None)
    if rule is None:
        typer.echo(f"headworks: there is no rule {name!r}; `headworks rules list` shows what is", err=True)
        raise typer.Exit(1)
    for label, text in (
        ("rule", rule.rule),
        ("title", rule.title),
        ("condition", " ".join(rule.condition.split())),
        ("delays", f"on {format_duration(rule.on_delay)}, off {format_duration(rule.off_delay)}"),
        ("priority", f"{rule.priority.value} (severity {rule.severity})"),
        ("cause", rule.guidance.cause),
        ("consequence", rule.guidance.consequence),
        ("action", rule.guidance.corrective_action),
        ("respond in", format_duration(rule.guidance.time_to_respond)),
    ):
        out.print(f"{label:13}{text}", markup=False)
