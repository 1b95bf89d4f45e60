"""`headworks scenarios …`: what can be simulated, without simulating it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from devices.duration import format_duration
from devices.model import instant
from headworks import clock
from headworks.profiles import load_profile_files
from headworks.settings import load_settings

app = typer.Typer(
    help="Scenarios for `headworks simulate`: list and check them, print their schema.", no_args_is_help=True
)
out = Console(highlight=False)


@app.command("list")
def list_() -> None:
    """List the scenarios that are shipped."""
    from simulators.scenario import read_scenario, scenario_path, shipped_scenarios

    table = Table("scenario", "title", "lasts", box=None, pad_edge=False)
    profiles = load_profile_files(load_settings().profiles)
    for name in shipped_scenarios():
        document, _ = read_scenario(scenario_path(name), profiles)
        table.add_row(name, document.title, format_duration(document.duration))
    out.print(table)


@app.command()
def check(scenario: Annotated[str, typer.Argument(help="A scenario file, or a shipped one by its name")]) -> None:
    """Check a scenario and the sites that it names; every problem is printed with its file, line and column."""
    from simulators.scenario_plant import load_scenario, play  # needs EPANET, which the rest does not

    found = load_scenario(scenario, profiles=load_profile_files(load_settings().profiles))
    begin = found.document.start
    played = play(found, instant(begin) if begin else clock.now() - found.document.duration)
    counts: dict[str, int] = {}
    for unit in found.units:
        counts[unit.fleet.protocol.value] = counts.get(unit.fleet.protocol.value, 0) + 1
        played.steps(unit)
    typer.echo(
        f"{found.document.scenario} is valid: {len(found.units)} devices "
        f"({', '.join(f'{number} by {name}' for name, number in counts.items())}), "
        f"{len({fault.event for fault in played.truth.faults})} faults in {format_duration(found.document.duration)}"
    )


@app.command()
def schema() -> None:
    """Print the JSON Schema of scenarios, for editors that complete and check YAML."""
    from simulators.scenario import json_schema

    typer.echo(json_schema(), nl=False)
