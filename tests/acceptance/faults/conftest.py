"""A database server that may be killed, and the totals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.provision import Installation
from headworks.embedded import EmbeddedPostgres
from tests.acceptance.faults.harness import Rig, rig

Report = Callable[..., None]


@pytest.fixture(scope="session")
def server(installation: Installation, scratch: Path) -> Iterator[EmbeddedPostgres]:
    """A server of these tests' own, as durable as in production; a test that ends it starts it again."""
    with EmbeddedPostgres(
        installation, scratch / "faults-postgres", settings={"timescaledb.max_background_workers": "0"}
    ) as server:
        yield server


@pytest.fixture
def run(
    installation: Installation, server: EmbeddedPostgres, scratch: Path, request: pytest.FixtureRequest
) -> Iterator[Rig]:
    """Everything that a fault happens to."""
    with rig(installation, server, scratch) as found:
        found.long = request.node.get_closest_marker("faults") is not None
        yield found


@pytest.fixture(scope="session")
def totals(request: pytest.FixtureRequest) -> Iterator[dict[str, dict[str, Any]]]:
    """What all tests found, by fault; written to build/faults.json at the end of `make test-faults`."""
    found: dict[str, dict[str, Any]] = {}
    yield found
    if request.config.getoption("markexpr") != "faults":
        return
    path = Path(__file__).parents[3] / "build" / "faults.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    for fault, numbers in found.items():
        print(f"{fault}: " + ", ".join(f"{name} {value}" for name, value in numbers.items()))
    print(f"written to {path}")


@pytest.fixture
def report(totals: dict[str, dict[str, Any]], capfd: pytest.CaptureFixture[str]) -> Report:
    """Take down what a test found."""

    def take(fault: str, *parts: dict[str, Any], **numbers: Any) -> None:
        totals[fault] = {**numbers, **{name: value for part in parts for name, value in part.items()}}
        with capfd.disabled():
            print(f"\n{fault}: {totals[fault]}")

    return take
