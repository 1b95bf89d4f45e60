"""The command line: what a user types, and nothing more. Each command gathers its settings and calls a room."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
import typer.main
from rich.console import Console

from deploy.problems import ProvisionError
from devices.document import DocumentError
from devices.errors import UnavailableError
from headworks.embedded import EmbeddedServiceError
from headworks.running import database_url
from headworks.settings import SettingsError, load_settings
from storage.migrate import MigrationError

_GROUPS = (
    "dashboards", "devices", "sites", "tokens", "broker", "rules", "alarms", "notify", "profiles", "quarantine",
    "storage", "scenarios",
)  # fmt: skip
"""Commands with commands of their own: each is the `app` of the module `cli_<name>`."""
_COMMANDS = {
    "backtest": ("cli_backtest", "backtest"),
    "export": ("cli_exchange", "export"),
    "import": ("cli_exchange", "import_"),
    "simulate": ("cli_simulate", "simulate"),
    "replay": ("cli_replay", "replay_file"),
    "score": ("cli_score", "score"),
    "record": ("cli_record", "record"),
    "storm": ("cli_storm", "storm"),
}
"""Commands that are a function of a module."""


class _Commands(typer.core.TyperGroup):
    """Those of this module, and those of others: a module is loaded when its command is asked for, as all of them
    together take three seconds."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*self.commands, *(name for name in (*_GROUPS, *_COMMANDS) if name not in self.commands)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # Where a name is none, all are loaded: from among them it is suggested what may have been meant.
        for name in (cmd_name,) if cmd_name in self.list_commands(ctx) else self.list_commands(ctx):
            if name not in self.commands:
                self.commands[name] = _load(name)
        return super().get_command(ctx, cmd_name)


def _load(name: str) -> Any:
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    if name in _GROUPS:
        alone.add_typer(import_module(f"headworks.cli_{name}").app, name=name)
    else:
        module, function = _COMMANDS[name]
        alone.command(name)(getattr(import_module(f"headworks.{module}"), function))
    return typer.main.get_group(alone).commands[name]


app = typer.Typer(
    name="headworks",
    cls=_Commands,
    help="Telemetry for NB-IoT pumps and valves: CoAP and MQTT gateways, TimescaleDB, alarms you can trust, and a "
    "simulated plant to try it all on.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
err = Console(stderr=True, highlight=False)


@app.callback(invoke_without_command=True)
def _root(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,  # noqa: FBT002
) -> None:
    if show_version:
        typer.echo(f"headworks {version('headworks')}")
        raise typer.Exit


@app.command()
def up() -> None:
    """Run the whole platform here until Ctrl-C, with its own database and broker where none are named."""
    from headworks.run import run_up  # the heavy rooms are loaded by the commands that need them

    raise typer.Exit(run_up(load_settings()))


@app.command()
def serve(
    until_eof: Annotated[bool, typer.Option("--until-eof", help="Also stop when standard input is closed.")] = False,  # noqa: FBT002
) -> None:
    """Run the platform against the database and broker named in the settings (production)."""
    from headworks.run import run_serve

    raise typer.Exit(run_serve(load_settings(), until_eof=until_eof))


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(help="How long the simulated day takes to play.")] = 45.0,
    seed: Annotated[int, typer.Option(help="Another seed, another day.")] = 1,
    output: Annotated[Path, typer.Option(help="Where the result is written.")] = Path("build/demo.json"),
) -> None:
    """Play one day of a simulated plant through the real gateways, check the result, and end."""
    from headworks.demo import run_demo

    raise typer.Exit(run_demo(load_settings(), seconds=seconds, seed=seed, output=output))


@app.command()
def migrate(
    plan: Annotated[bool, typer.Option("--plan", help="Only print what would be applied.")] = False,  # noqa: FBT002
) -> None:
    """Bring the schema of the database named in the settings up to date."""
    from storage import migrate as migrations
    from storage import transactions
    from storage.database import connect

    with connect(database_url(load_settings()), application="headworks migrate") as connection:
        names = [step.name for step in migrations.plan(connection)] if plan else migrations.migrate(connection)
        ahead = None if plan else transactions.go_on(connection)
    for name in names:
        typer.echo(f"{'would apply' if plan else 'applied'} {name}")
    if not names:
        typer.echo("the schema is up to date")
    if ahead is not None:
        typer.echo(f"restored from another server: its transactions go on, numbered {ahead} above this one's own")


@app.command()
def doctor() -> None:
    """Check this machine, the settings, the database and the broker, and say what to do about each problem."""
    from headworks.doctor import run_doctor

    raise typer.Exit(run_doctor(load_settings()))


_EXPECTED = (
    SettingsError, DocumentError, UnavailableError, MigrationError, EmbeddedServiceError, ProvisionError, OSError,
)  # fmt: skip


def main() -> None:
    """Run a command; an error that the user can do something about is a message, not a traceback."""
    try:
        app()
    except BrokenPipeError:
        sys.exit(0)
    except _EXPECTED as error:
        for line in str(error).splitlines():
            err.print(f"headworks: {line}", style="red" if sys.stderr.isatty() else None, markup=False, soft_wrap=True)
        sys.exit(2)
