"""What pushing changes on a Grafana server: first the difference, then, if wanted, the change. Nothing else is touched.

How Grafana is spoken to is in `dashboards.grafana`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from dashboards.grafana import Grafana, Json
from dashboards.language import FOLDERS, Language
from dashboards.query import PLUGIN

DATA_SOURCE_UID = "headworks"
PLUGIN_BEFORE_10 = "postgres"
"""The data source's plug-in id up to Grafana 9."""

_OWN = ("id", "version")
"""What Grafana itself writes into a dashboard."""
_SHOWN = 12
"""Lines of a difference that are shown."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs on the server: `lines` say in what; none for what is new."""

    what: str
    name: str
    is_new: bool
    lines: tuple[str, ...]
    apply: Callable[[], None]


def plugin(version: Sequence[int]) -> str:
    """The id of the PostgreSQL data source in a version of Grafana."""
    return PLUGIN if version[0] >= 10 else PLUGIN_BEFORE_10


def data_source(database_url: str, plugin_id: str, *, timescaledb: bool) -> Json:
    """The data source for a database, as Grafana's API takes it. `ValueError` for an address without what it needs."""
    try:
        parts = conninfo_to_dict(database_url)
    except ProgrammingError:  # its message may repeat the password
        parts = {}
    host, name, user = parts.get("host"), parts.get("dbname"), parts.get("user")
    if not host or not name or not user:
        raise ValueError(
            "the database address needs host, name and user: postgresql://grafana:…@db.example:5432/headworks"
        )
    return {
        "uid": DATA_SOURCE_UID,
        "name": "Headworks",
        "type": plugin_id,
        "access": "proxy",
        "url": f"{host}:{parts.get('port') or 5432}",
        "user": user,
        "jsonData": {
            "database": name,
            "sslmode": parts.get("sslmode") or "require",
            "postgresVersion": 1700,
            "timescaledb": timescaledb,
            "maxOpenConns": 10,
            "maxIdleConns": 10,
            "connMaxLifetime": 14400,
            "timeInterval": "1m",
        },
        "secureJsonData": {"password": parts.get("password") or ""},
    }


def prepared(board: Mapping[str, object], plugin_id: str) -> Json:
    """A dashboard for a server: with its plug-in id, and our data source chosen at first."""
    found: Json = json.loads(json.dumps(board).replace(f'"{PLUGIN}"', f'"{plugin_id}"'))
    for variable in found["templating"]["list"]:
        if variable["type"] == "datasource":
            variable["current"] = {"selected": False, "text": "Headworks", "value": DATA_SOURCE_UID}
    return found


def plan(
    grafana: Grafana, source: Json | None, boards: Mapping[Language, Sequence[Json]], message: str
) -> Iterator[Change]:
    """What has to change, in the order in which it has to: the data source, then each language's folder and boards."""
    if source is not None:
        found = grafana.data_source(source["uid"])
        public = {key: value for key, value in source.items() if key != "secureJsonData"}
        # Secrets cannot be read back: whether there is one is all that is known.
        has_secret = bool((found or {}).get("secureJsonFields", {}).get("password"))
        lines = () if found is None else tuple(_differences(_part(found, public), public))
        lacks_secret = bool(source["secureJsonData"]["password"]) and not has_secret
        if found is None or lines or lacks_secret:
            lines = lines or (() if found is None else ("its password is not set",))
            yield Change(
                "data source",
                source["name"],
                found is None,
                lines,
                lambda: grafana.put_data_source(source, new=found is None),
            )
    for language, several in boards.items():
        yield from _folder(grafana, *FOLDERS[language])
        for board in several:
            yield from _board(grafana, board, FOLDERS[language][0], message)


def _folder(grafana: Grafana, uid: str, title: str) -> Iterator[Change]:
    if grafana.folder(uid) is None:
        yield Change("folder", title, is_new=True, lines=(), apply=lambda: grafana.create_folder(uid, title))


def _board(grafana: Grafana, board: Json, folder: str, message: str) -> Iterator[Change]:
    found = grafana.dashboard(board["uid"])
    lines: list[str] = []
    if found is not None:
        held = {key: value for key, value in found["dashboard"].items() if key not in _OWN}
        lines = list(_differences(held, {key: value for key, value in board.items() if key not in _OWN}))
        if found.get("meta", {}).get("folderUid", folder) != folder:
            lines.append(f"it is in another folder: {found['meta'].get('folderTitle', '')}")
        if not lines:
            return
    yield Change(
        "dashboard",
        board["title"],
        found is None,
        tuple(lines),
        lambda: grafana.put_dashboard(copy.deepcopy(board), folder, message),
    )


def exported(board: Mapping[str, object]) -> Json:
    """A dashboard for import by hand: it says what it needs."""
    return {
        "__inputs": [],
        "__requires": [
            {"type": "grafana", "id": "grafana", "name": "Grafana", "version": "11.6.0"},
            {"type": "datasource", "id": PLUGIN, "name": "PostgreSQL", "version": "1.0.0"},
        ],
        **board,
    }


def shown(lines: Sequence[str]) -> list[str]:
    """The first lines of a difference, and how many more there are."""
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]


def _part(found: Json, wanted: Json) -> Json:
    """What the server has of the fields that we set; others are its own."""
    return {
        key: _part(found.get(key) or {}, value) if isinstance(value, dict) else found.get(key)
        for key, value in wanted.items()
    }


def _differences(old: object, new: object, at: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{at}.{key}" if at else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(one, other, f"{at}[{number}]")
    elif old != new:
        yield f"{at}: {_brief(old)} → {_brief(new)}"


def _brief(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
