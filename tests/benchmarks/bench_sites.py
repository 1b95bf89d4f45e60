"""A day of the district network: 500 devices, sampled each minute, physics and instruments, without radio."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from devices.model import DAY, instant
from simulators.site import load_site
from simulators.site_view import observe_site
from tests.benchmarks.figures import Figure

LIMIT = 20.0
"""CPU seconds that a day may take on one core."""


def figures() -> list[Figure]:
    """The better of two runs, in CPU seconds."""
    start = instant(datetime(2026, 3, 3, tzinfo=UTC))
    site = load_site("district-network")
    assert len(site.mounted) == 500
    costs: list[float] = []
    for _ in range(2):
        begun = time.process_time()
        observe_site(site, 1, [], start, start + DAY)
        costs.append(time.process_time() - begun)
    return [Figure("a day of the district network, 500 devices, CPU", min(costs), "s", LIMIT, "limit")]
