"""The database and the broker that a run uses: the user's own where the settings name them, else embedded ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.provision import provision
from headworks.embedded import EmbeddedBroker, EmbeddedPostgres
from headworks.settings import Settings


@dataclass(frozen=True, slots=True)
class Servers:
    """Where they are. The addresses may hold passwords: show them with `storage.database.describe` only."""

    database_url: str
    mqtt_url: str
    broker: str
    """What the broker is, for people: name and version, or its address where it is the user's own."""


@contextmanager
def servers(settings: Settings, folder: Path, report: Callable[[str], None]) -> Iterator[Servers]:
    """Start what is needed below `folder` and stop it again at the end, in the reverse order."""
    with ExitStack() as stack:
        own_database, own_broker = settings.database_url, settings.mqtt_url
        installation = None if own_database and own_broker else provision(report, settings.cache_dir)
        if own_database:
            database_url = own_database.get_secret_value()
        else:
            assert installation is not None
            database_url = stack.enter_context(EmbeddedPostgres(installation, folder / "postgres")).url
        if own_broker:
            mqtt_url, broker = own_broker.get_secret_value(), "external"
        else:
            assert installation is not None
            embedded = stack.enter_context(EmbeddedBroker(installation, folder / "mosquitto", port=settings.mqtt_port))
            mqtt_url, broker = embedded.url, embedded.version
        yield Servers(database_url, mqtt_url, broker)
