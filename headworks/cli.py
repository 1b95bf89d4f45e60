"""The command line: what a user types, and nothing more. Each command gathers its settings and calls a room."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy.problems import ProvisionError
from devices.document import DocumentError
from devices.errors import UnavailableError
from headworks import (
    cli_alarms,
    cli_backtest,
    cli_broker,
    cli_dashboards,
    cli_devices,
    cli_exchange,
    cli_notify,
    cli_profiles,
    cli_quarantine,
    cli_record,
    cli_replay,
    cli_rules,
    cli_scenarios,
    cli_score,
    cli_simulate,
    cli_sites,
    cli_storage,
    cli_storm,
    cli_tokens,
)
from headworks.embedded import EmbeddedServiceError
from headworks.running import database_url
from headworks.settings import SettingsError, load_settings
from storage.migrate import MigrationError

app = typer.Typer(
    name="headworks",
    help="Telemetry for NB-IoT pumps and valves: CoAP and MQTT gateways, TimescaleDB, alarms you can trust, and a "
    "simulated plant to try it all on.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_dashboards.app, name="dashboards")
app.add_typer(cli_devices.app, name="devices")
app.add_typer(cli_sites.app, name="sites")
app.add_typer(cli_tokens.app, name="tokens")
app.add_typer(cli_broker.app, name="broker")
app.add_typer(cli_rules.app, name="rules")
app.add_typer(cli_alarms.app, name="alarms")
app.add_typer(cli_notify.app, name="notify")
app.command("backtest")(cli_backtest.backtest)
app.add_typer(cli_profiles.app, name="profiles")
app.add_typer(cli_quarantine.app, name="quarantine")
app.command("export")(cli_exchange.export)
app.command("import")(cli_exchange.import_)
app.add_typer(cli_storage.app, name="storage")
app.add_typer(cli_scenarios.app, name="scenarios")
app.command("simulate")(cli_simulate.simulate)
app.command("replay")(cli_replay.replay_file)
app.command("score")(cli_score.score)
app.command("record")(cli_record.record)
app.command("storm")(cli_storm.storm)

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
    from storage.database import connect

    with connect(database_url(load_settings()), application="headworks migrate") as connection:
        names = [step.name for step in migrations.plan(connection)] if plan else migrations.migrate(connection)
    for name in names:
        typer.echo(f"{'would apply' if plan else 'applied'} {name}")
    if not names:
        typer.echo("the schema is up to date")


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
