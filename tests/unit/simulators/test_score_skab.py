"""SKAB judged event by event: what counts as a hit, and that a folder of such files is judged from end to end."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from devices.model import HOUR, SECOND
from tests.benchmarks.score_skab import Judged, baselines, figures, score
from tests.benchmarks.skab_signals import SOON, delays, signals, statistics

HEAD = (
    "datetime;Accelerometer1RMS;Accelerometer2RMS;Current;Pressure;Temperature;Thermocouple;Voltage;Volume Flow RateRMS"
)


def judged(*raised: int) -> Judged:
    """A file of an hour whose fault lasts from 600 to 1,000 s, with alarms at these seconds."""
    return Judged((600 * SECOND, 1000 * SECOND), 0, HOUR, tuple(at * SECOND for at in raised))


def test_an_alarm_hits_within_the_window_and_only_once() -> None:
    found = figures([judged(630, 900), judged(1001)])
    assert found.recall == 0.5
    assert found.precision == pytest.approx(1 / 3)
    assert (found.delay_median, found.delay_p95) == (30, 30)
    assert found.false_per_hour == pytest.approx(1 / (2 * 3200 / 3600))


def test_what_is_always_on_hits_nothing() -> None:
    beside = baselines([judged(630)])
    assert beside["always on"].recall == beside["always off"].recall == 0
    assert beside["every five minutes"].precision == pytest.approx(1 / 12)


def written(path: Path, count: int, fault: tuple[int, int] | None, seed: int, loss: float = 0.05) -> None:
    """A loop with a flow of its own for this file, which loses a share of it while the fault lasts."""
    chance, begins = random.Random(seed), datetime(2026, 3, 1, 10, tzinfo=UTC)
    level = chance.uniform(30, 120)
    lines = [HEAD + (";anomaly;changepoint" if fault else "")]
    for number in range(count):
        faulty = fault is not None and fault[0] <= number < fault[1]
        flow = level * (1 - loss if faulty else 1) * (1 + 0.005 * chance.gauss(0, 1))
        noise = [1 + 0.05 * chance.gauss(0, 1) for _ in range(5)]
        at = f"{begins + timedelta(seconds=number):%Y-%m-%d %H:%M:%S}"
        values = [0.2 * noise[0], 0.3 * noise[1], 2 * noise[2], 0.1 * noise[3], 80, 25, 230 * noise[4], flow]
        lines.append(
            ";".join([at, *(f"{value:.5f}" for value in values), *([str(float(faulty)), "0"] if fault else [])])
        )
    path.write_text("\n".join(lines) + "\n", "utf-8")


def test_a_folder_is_judged_by_models_that_did_not_see_what_they_judge(tmp_path: Path) -> None:
    for folder in ("valve1", "other"):
        (tmp_path / folder).mkdir()
    written(tmp_path / "anomaly-free.csv", 1300, None, 1)
    for number, folder in enumerate(("valve1", "valve1", "other")):
        written(tmp_path / folder / f"{number}.csv", 800, (450, 700), number + 2)
    found = score(tmp_path, "valve1/*.csv", 1, 1)
    assert [name for name, _ in found["left out in turn"]] == ["valve1/0.csv", "valve1/1.csv"]
    assert [name for name, _ in found["never seen"]] == ["other/2.csv"]
    for ones in found.values():
        assert figures([one for _, one in ones])[1] == 1.0


def test_a_small_fall_of_the_flow_alone_is_told_within_half_a_minute(tmp_path: Path) -> None:
    (tmp_path / "valve1").mkdir()
    written(tmp_path / "anomaly-free.csv", 1300, None, 1)
    for number in range(3):
        written(tmp_path / "valve1" / f"{number}.csv", 900, (570, 800), number + 2, loss=0.02)
    found = figures([one for _, one in score(tmp_path, "valve1/*.csv", 3, 1)["left out in turn"]])
    assert (found.recall, found.precision) == (1.0, 1.0)
    assert found.delay_p95 is not None and found.delay_p95 <= 30


def test_what_each_signal_could_tell_at_best(tmp_path: Path) -> None:
    files = []
    for number in range(3):
        written(tmp_path / f"{number}.csv", 800, (450, 700), number, loss=0.03)
        files.append(signals(tmp_path / f"{number}.csv", number))
    hits = {}
    for column in ("Volume Flow RateRMS", "Current"):
        watched = [file[column] for file in files]
        hits[column] = delays(watched, [-dict(statistics(one))["mean of 10 s"] for one in watched])
    assert all(hit is not None and hit <= SOON for hit in hits["Volume Flow RateRMS"])
    assert hits["Current"].count(None) > 0


def test_the_real_loop_is_found_where_it_is_at_hand() -> None:
    folder = Path(__file__).parents[4] / "shared" / "data" / "skab"
    if not (folder / "anomaly-free.csv").is_file():
        pytest.skip(f"the SKAB data set is not in {folder}")
    found = figures([one for _, one in score(folder, "valve1/[35].csv", 1, 1)["left out in turn"]])
    assert (found.recall, found.false_per_hour) == (1.0, 0.0)
    assert found.delay_median is not None and found.delay_median <= 45
