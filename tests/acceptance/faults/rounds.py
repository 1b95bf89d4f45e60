"""How often a fault is repeated: a few times in `make test`, often in `make test-faults`."""

from __future__ import annotations

import pytest


def repeated(short: int, long: int, minutes: int = 10) -> pytest.MarkDecorator:
    """Parametrise a test with its number of rounds (seconds, uplinks); with `short` 0 there is only the long run, which
    may take so many minutes."""
    marks = [pytest.mark.faults, pytest.mark.timeout(minutes * 60)]
    return pytest.mark.parametrize("rounds", [*([short] if short else []), pytest.param(long, marks=marks)])
