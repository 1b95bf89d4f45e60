"""Which signal of SKAB tells of a fault, and how soon: `python -m tests.benchmarks.skab_signals --data DIR`.

It is generous. Each signal is watched by thirteen statistics, upwards and downwards: means of 5 to 40 s
against the mean of the ten minutes before, the same for standard deviations, and each mean against the one before it.
Each has the lowest limit that gives at most one alarm (10 s on-delay) in the clean beginnings of all files together
(1.3 h of `valve1/0` to `7`), so the limits know the files that they judge. The best statistic of a signal is shown, and
that of made-up noise for comparison: what is not above it says nothing.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulators.mapping import load_mapping
from tests.benchmarks.score_skab import TEACH

Series = NDArray[np.float64]
ON_DELAY, OFF_DELAY, WARM_UP = 10.0, 30.0, 90.0
SOON = 45.0
_BASE = 600.0
_LIMITS = 80
_NOISE = "(noise)"


class Watched(NamedTuple):
    """One signal of one file: seconds, values, and the rows of the first and the last label."""

    seconds: Series
    values: Series
    begin: int
    end: int


def signals(path: Path, seed: int) -> dict[str, Watched]:
    """The columns of a labelled file, and one of noise."""
    mapping = load_mapping(Path("skab"))
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file, delimiter=mapping.separator))
    at = [datetime.strptime(row[mapping.time_column], "%Y-%m-%d %H:%M:%S") for row in table]  # noqa: DTZ007
    seconds = np.array([(one - at[0]).total_seconds() for one in at])
    labelled = np.flatnonzero([float(row["anomaly"]) > 0 for row in table])
    found = {name: np.array([float(row[name]) for row in table]) for name in mapping.columns}
    found[_NOISE] = np.random.default_rng(seed).normal(size=len(table))
    return {name: Watched(seconds, values, labelled[0], labelled[-1]) for name, values in found.items()}


def trailing(seconds: Series, values: Series, width: float, before: float = 0.0) -> Series:
    """Means over the last `width` seconds, up to `before` seconds ago; NaN where there are none."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    last = np.searchsorted(seconds, seconds - before, side="right")
    first = np.searchsorted(seconds, seconds - before - width, side="right")
    with np.errstate(invalid="ignore"):
        return np.asarray((sums[last] - sums[first]) / (last - first), dtype=np.float64)


def scatter(seconds: Series, values: Series, width: float) -> Series:
    """Standard deviations over the last `width` seconds."""
    apart = values - values.mean()
    squares = trailing(seconds, apart**2, width) - trailing(seconds, apart, width) ** 2
    return np.sqrt(np.maximum(squares, 0.0))


def statistics(one: Watched) -> Iterator[tuple[str, Series]]:
    """Each statistic of a signal by its name; it is large where the signal rises."""
    seconds, values = one.seconds, one.values
    for width in (5, 10, 15, 20, 40):
        mean = trailing(seconds, values, width)
        yield f"mean of {width} s", mean - trailing(seconds, values, _BASE)
        yield f"mean of {width} s, to the one before", mean - trailing(seconds, values, width, width)
    for width in (10, 20, 40):
        yield f"scatter of {width} s", scatter(seconds, values, width) - scatter(seconds, values, _BASE)


def alarms(seconds: Series, on: NDArray[np.bool_]) -> list[float]:
    """When alarms are raised."""
    found: list[float] = []
    active, since = False, None
    for at, is_on in zip(seconds, on, strict=True):
        if at < WARM_UP or is_on == active:
            since = None
            continue
        since = at if since is None else since
        if at - since >= (OFF_DELAY if active else ON_DELAY):
            active, since = not active, None
            if active:
                found.append(at)
    return found


def delays(watched: Sequence[Watched], found: Sequence[Series]) -> list[float | None]:
    """Of each file, from the label to the first alarm; by the lowest limit with at most one alarm before all labels."""
    clean = np.concatenate(
        [series[: one.begin][one.seconds[: one.begin] >= WARM_UP] for one, series in zip(watched, found, strict=True)]
    )
    steps = np.nanquantile(clean, np.linspace(0.5, 1.0, _LIMITS))

    def false(limit: float) -> int:
        return sum(
            len(alarms(one.seconds[: one.begin], series[: one.begin] > limit))
            for one, series in zip(watched, found, strict=True)
        )

    limit = next((step for step in steps if false(step) <= 1), steps[-1])
    hits: list[float | None] = []
    for one, series in zip(watched, found, strict=True):
        begin, end = one.seconds[one.begin], one.seconds[one.end]
        raised = alarms(one.seconds, series > limit)
        hits.append(next((at - begin for at in raised if begin <= at <= end), None))
    return hits


def main() -> int:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True, help="the folder of anomaly-free.csv")
    options.add_argument("--files", default=TEACH, help="the labelled files")
    chosen = options.parse_args()
    files = [signals(path, number) for number, path in enumerate(sorted(chosen.data.glob(chosen.files)))]
    print(f"| signal | its best statistic | files of {len(files)} within {SOON:.0f} s | ever | delay by file, s |")
    print("|---|---|---|---|---|")
    for name in files[0]:
        watched = [file[name] for file in files]
        by_file = [dict(statistics(one)) for one in watched]
        tried = []
        for statistic in by_file[0]:
            for sign, word in ((1.0, "up"), (-1.0, "down")):
                hits = delays(watched, [sign * found[statistic] for found in by_file])
                soon = sum(hit is not None and hit <= SOON for hit in hits)
                tried.append((soon, sum(hit is not None for hit in hits), f"{statistic}, {word}", hits))
        soon, ever, label, hits = max(tried, key=lambda one: one[:2])
        shown = ", ".join("–" if hit is None else f"{hit:.0f}" for hit in hits)
        print(f"| {name} | {label} | {soon} | {ever} | {shown} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
