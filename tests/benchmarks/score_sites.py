"""The shipped rules on the shipped sites, judged by ground truth: `python -m tests.benchmarks.score_sites`.

Each fault of the catalogue alone, in runs of 22 hours, with severities of 1 and 0.6 in turn; a healthy run for every
eighth. Every run has a seed, and so devices, of its own; all are judged together. Readings go through the platform's
own normalisation and engine, without radio and database. The loggers are sampled as their profile says.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from alerts.backtest import occurrences, ranges_of, worth_judging
from alerts.rules import shipped_rules
from devices.alarm import Alarm
from devices.model import HOUR, MINUTE, Device, Measurement, Reading, Report, instant
from devices.normalize import normalize
from devices.profile import shipped_profiles
from simulators.catalogue import CATALOGUE, Injection, On
from simulators.noise import choice
from simulators.observation import Observation
from simulators.score import Score, score
from simulators.sensors import INSTRUMENTS
from simulators.site import Site, load_site
from simulators.site_view import observe_site, truth_of_site
from simulators.truth import GroundTruth, Truth, Watched

FIRST_SEED = 7001
"""Seeds from here on were not looked at while faults, sites or rules were made."""
START = instant(datetime(2026, 3, 3, 16, tzinfo=UTC))
END = START + 22 * HOUR
_SITES = ("pumping-station", "control-skid")
_SLOW = frozenset({"battery", "battery_voltage", "rsrp", "snr", "coverage_level"})
_STANDING = {
    "seat-sedimentation": "SK-RV1",
    "seat-erosion": "SK-RV1",
    "valve-internal-leak": "SK-RV1",
    "bypass-open": "SK-RV1",
    "check-valve-passing": "SK-PB",
}
"""Faults that show on what is shut or stands."""
_NODES = {"pumping-station": ("T2", "T4", "U"), "control-skid": ("A1", "H", "C1")}
_PIPES = {"pumping-station": ("LU", "MAIN"), "control-skid": ("HA", "HC")}
_WORKING = {
    "pumping-station": {"pump": ("PS-P1",), "valve": ("CV-TOWN", "CV-TANK")},
    "control-skid": {"pump": ("SK-PA",), "valve": ("SK-FV1", "SK-FV2", "SK-LV1")},
}


class Run(NamedTuple):
    """One run's truth and alarms."""

    truth: GroundTruth
    alarms: list[Alarm]


def readings(site: Site, seed: int, seen: Observation) -> Iterator[tuple[Device, list[Reading]]]:
    """What the platform makes of what the devices of a site show."""
    profiles = shipped_profiles()
    for device in site.devices(seed):
        profile = profiles[device.profile]
        every = max(1, profile.reporting.sampling // MINUTE)
        measurements = [
            Measurement(metric, INSTRUMENTS[metric].unit, float(value), int(at))
            for metric, values in seen.values[device.tag].items()
            for at, value in zip(
                seen.times[:: 15 if metric in _SLOW else every],
                values[:: 15 if metric in _SLOW else every],
                strict=True,
            )
        ]
        measurements = [m._replace(unit=None) if m.unit == "count" else m for m in measurements]
        found = normalize(Report(device.identity, measurements), device, profile, int(seen.times[-1]) + MINUTE)
        yield device, found.readings


def run(site: Site, seed: int, faults: list[Injection]) -> Run:
    """Play a site, and judge it by the shipped rules."""
    rules, profiles = [rule for rule in shipped_rules() if rule.group is None], shipped_profiles()
    seen = observe_site(site, seed, faults, START, END)
    alarms: list[Alarm] = []
    for device, found in readings(site, seed, seen):
        chosen = worth_judging(rules, device, profiles, ranges_of(found))
        alarms += occurrences(chosen, device, profiles, found)
    return Run(truth_of_site(site, seed, faults, START, END, seen), alarms)


def programme(count: int, seed: int) -> Iterator[tuple[str, int, list[Injection]]]:
    """Site, seed and faults of each run."""
    for repeat in range(count):
        for number, name in enumerate(CATALOGUE):
            yield _one(name, seed, repeat)
            seed += 1
            if number % 8 == 0:
                yield _SITES[(repeat + number // 8) % 2], seed, []
                seed += 1


def _one(name: str, seed: int, repeat: int) -> tuple[str, int, list[Injection]]:
    on = CATALOGUE[name].on
    place = _SITES[seed % 2]
    if name in _STANDING or name == "critical-flow":
        place = "control-skid"  # only there a valve is shut for most of the day, or the medium hot
    pick = int(choice(seed, "target", 0.0, 6.0))
    if name in _STANDING:
        target = _STANDING[name]
    elif on is On.NODE:
        target = _NODES[place][pick % len(_NODES[place])]
    elif on is On.LINK:
        target = _PIPES[place][pick % len(_PIPES[place])]
    elif on is On.INSTRUMENT:
        tags = _WORKING[place]["valve"]
        target = f"{tags[pick % len(tags)]}/{('pressure', 'flow')[repeat % 2]}"
    else:
        tags = _WORKING[place][on.value]
        target = tags[pick % len(tags)]
    since = START + round(choice(seed, "since", 2.5, 5.0) * HOUR)
    lasts = 16 * HOUR if name == "sensor-freeze" else 7 * HOUR
    return place, seed, [Injection(name, target, since, since + lasts, (1.0, 0.6)[repeat % 2])]


def judge(runs: Iterable[Run]) -> Score:
    """All runs together: no two of them share a device."""
    truths: list[Truth] = []
    devices: list[str] = []
    alarms: list[Alarm] = []
    for number, one in enumerate(runs):
        assert one.truth.watched is not None
        # Two runs may have faults of the same name, place and time.
        truths += [
            Truth(t.fault, t.device, t.begins, t.ends, t.severity, t.explains, f"{number}: {t.event}")
            for t in one.truth.faults
        ]
        devices += one.truth.watched.devices
        alarms += one.alarms
    return score(GroundTruth(tuple(truths), Watched(START, END, tuple(devices))), alarms)


def table(judged: Score) -> str:
    """As it stands in simulators/README.md."""
    lines = ["| fault | found | median delay | alarms a fault |", "|---|---|---|---|"]
    for fault, summary in judged.faults.items():
        recall = summary.recall
        delay = "–" if summary.delay_median is None else f"{summary.delay_median / MINUTE:.0f} min"
        lines.append(f"| `{fault}` | {recall.hits} of {recall.of} | {delay} | {summary.alarms_per_event or 0:.0f} |")
    return "\n".join(lines)


def main() -> int:
    """Print the tables; writes build/site-scores.json."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=2, help="runs of each fault")
    options.add_argument("--first-seed", type=int, default=FIRST_SEED)
    chosen = options.parse_args()
    sites = {name: load_site(name) for name in _SITES}
    judged = judge(
        run(sites[place], seed, faults) for place, seed, faults in programme(chosen.repeats, chosen.first_seed)
    )
    print(table(judged))
    print(judged.total)
    for rule, found in sorted(judged.rules.items()):
        print(rule, found)
    expected = {name for name, entry in CATALOGUE.items() if entry.rules}
    ours = [one for one in judged.events if one.event.fault in expected]
    print("of faults that a rule is expected to see:", sum(one.first is not None for one in ours), "of", len(ours))
    for one in judged.false:
        print("false:", one.rule, one.device, (one.raised_at - START) // MINUTE)
    Path("build").mkdir(exist_ok=True)
    Path("build/site-scores.json").write_text(json.dumps({"table": table(judged)}, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
