"""The shipped rules on the shipped small sites, each fault once, on the seeds that rules and catalogue are tuned on."""

from __future__ import annotations

from simulators.site import load_site, shipped_sites
from tests.benchmarks.figures import Figure
from tests.benchmarks.score_sites import FIRST_SEED, judge, programme, run

LEAST_RECALL, LEAST_PRECISION, MOST_ALARMS = 0.95, 0.9, 3.0


def figures() -> list[Figure]:
    """Recall, precision, and alarms a fault in the median."""
    sites = {name: load_site(name) for name in shipped_sites()}
    total = judge(run(sites[place], seed, faults) for place, seed, faults in programme(1, FIRST_SEED)).total
    return [
        Figure("the shipped rules: recall", total.recall.value or 0.0, "", LEAST_RECALL, "at least"),
        Figure("the shipped rules: precision", total.precision.value or 0.0, "", LEAST_PRECISION, "at least"),
        Figure("the shipped rules: alarms a fault, median", total.alarms_per_event or 0.0, "", MOST_ALARMS, "at most"),
    ]
