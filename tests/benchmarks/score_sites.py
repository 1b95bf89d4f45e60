"""The shipped rules on the shipped sites, judged by ground truth: `python -m tests.benchmarks.score_sites`.

Each fault of the catalogue alone, in runs of 22 hours (of four days where it grows slowly), with severities of 1 and
0.6 in turn; a healthy run for every eighth. Every run has a seed, and so devices, of its own; all are judged together.
Readings go through the platform's own normalisation and engine, groups included, without radio and database. The
loggers are sampled as their profile says. `--district` plays the district network with its 500 devices instead.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from alerts.backtest import occurrences, ranges_of, worth_judging
from alerts.groups import judge_group
from alerts.rulefiles import shipped_rules
from alerts.scopes import compose
from devices.alarm import Alarm
from devices.model import DAY, HOUR, MINUTE, Device, Measurement, Reading, Report, instant
from devices.normalize import normalize
from devices.profile import shipped_profiles
from simulators.catalogue import CATALOGUE, On
from simulators.injection import Injection
from simulators.noise import choice
from simulators.observation import Observation
from simulators.score import MONTH, Score, score
from simulators.sensors import INSTRUMENTS
from simulators.site import Site, load_site, shipped_sites
from simulators.site_view import observe_site, truth_of_site
from simulators.truth import GroundTruth, Truth, Watched

FIRST_SEED = 3001
"""Seeds from here to 3200 are those that rules and catalogue are tuned on. What others may expect is told by seeds that
were never played: `simulators/README.md` lists those that were."""
START = instant(datetime(2026, 3, 3, 16, tzinfo=UTC))
END = START + 22 * HOUR
_DAYS = 4
"""How long a run with a fault lasts that shows in days."""
_IN_DAYS = frozenset({"sensor-drift", "background-leak"})
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
_DISTRICT = {
    "burst": "N0510",
    "valve-left-closed": "V07",
    "dry-run": "DN-P1",
    "bearing-wear": "DN-P1",
    "valve-friction": "DV-V03",
    "valve-clogging": "DV-V11",
    "transducer-fault": "DV-V15",
    "flow-sensor-fault": "DV-V19",
    "sensor-freeze": "LG-N0105/pressure",
    "sensor-range": "LG-N1808/pressure",
}
"""Where faults are put on the district network."""
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
    everything, profiles = shipped_rules(), shipped_profiles()
    rules = [rule for rule in everything if rule.group is None]
    scopes, _ = compose(everything, site.devices(seed), profiles)
    grouped = {identity for scope in scopes for identity in scope.identities}
    kept: list[Reading] = []
    end = START + _DAYS * DAY if any(fault.fault in _IN_DAYS for fault in faults) else END
    seen = observe_site(site, seed, faults, START, end)
    alarms: list[Alarm] = []
    for device, found in readings(site, seed, seen):
        chosen = worth_judging(rules, device, profiles, ranges_of(found))
        alarms += occurrences(chosen, device, profiles, found)
        if device.identity in grouped:
            kept += found
    for scope in scopes:
        alarms += judge_group(scope, kept)
    return Run(truth_of_site(site, seed, faults, START, end, seen), alarms)


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
    if name == "illegal-draw":
        since = START + HOUR // 2  # it is drawn from one to four at night
    elif name == "background-leak":
        since += 2 * DAY  # it is found by comparing nights, so there must be some before it
    elif target.startswith("CV-TANK"):
        since = START + round(choice(seed, "since", 0.3, 0.8) * HOUR)  # the tank is filled until five
    lasts = {
        "sensor-freeze": 16 * HOUR,
        "sensor-drift": _DAYS * DAY - 12 * HOUR,
        "background-leak": START + _DAYS * DAY - since,  # nobody repairs it before it is found
    }.get(name, 7 * HOUR)
    return place, seed, [Injection(name, target, since, since + lasts, (1.0, 0.6)[repeat % 2])]


def district(seed: int) -> Iterator[tuple[str, int, list[Injection]]]:
    """One run for each fault of the district network, and a healthy one."""
    for number, (name, target) in enumerate(_DISTRICT.items()):
        since = START + round(choice(seed + number, "since", 2.5, 5.0) * HOUR)
        lasts = 16 * HOUR if name == "sensor-freeze" else 7 * HOUR
        severity = (1.0, 0.6)[number % 2]
        yield "district-network", seed + number, [Injection(name, target, since, since + lasts, severity)]
    yield "district-network", seed + len(_DISTRICT), []


def judge(runs: Iterable[Run]) -> Score:
    """All runs together: no two of them share a device. False alarms a month are by the time that each was watched."""
    truths: list[Truth] = []
    devices: list[str] = []
    spans: list[tuple[int, int]] = []
    alarms: list[Alarm] = []
    for number, one in enumerate(runs):
        assert one.truth.watched is not None
        # Two runs may have faults of the same name, place and time.
        truths += [
            Truth(t.fault, t.device, t.begins, t.ends, t.severity, t.explains, f"{number}: {t.event}")
            for t in one.truth.faults
        ]
        devices += one.truth.watched.devices
        spans.append((one.truth.watched.ends, len(one.truth.watched.devices)))
        alarms += one.alarms
    ends = max((truth.ends for truth in truths), default=END)
    judged = score(GroundTruth(tuple(truths), Watched(START, max(END, ends), tuple(devices))), alarms)
    months = sum((end - START) * count for end, count in spans) / MONTH
    return replace(
        judged,
        total=replace(judged.total, false_per_device_month=len(judged.false) / months),
        rules={rule: replace(one, false_per_device_month=one.false / months) for rule, one in judged.rules.items()},
    )


def table(judged: Score) -> str:
    """As it stands in simulators/README.md."""
    lines = ["| fault | found | median delay | alarms a fault |", "|---|---|---|---|"]
    for fault, summary in judged.faults.items():
        recall = summary.recall
        delay = "–" if summary.delay_median is None else f"{summary.delay_median / MINUTE:.0f} min"
        lines.append(f"| `{fault}` | {recall.hits} of {recall.of} | {delay} | {summary.alarms_per_event or 0:.0f} |")
    lines += ["", "| rule | alarms | false | false a device and month |", "|---|---|---|---|"]
    lines += [
        f"| `{rule}` | {one.alarms} | {one.false} | {one.false_per_device_month:.3f} |"
        for rule, one in judged.rules.items()
    ]
    total = judged.total
    own = (total.recall.value, total.precision.value, total.false_per_device_month or 0.0)
    beside = [(n, (b.recall, b.precision, b.false_per_device_month)) for n, b in judged.baselines.items()]
    lines += ["", "| | recall | precision | false a device and month |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {'–' if recall is None else f'{recall:.2f}'} | {'–' if precision is None else f'{precision:.2f}'}"
        f" | {false:.2f} |"
        for name, (recall, precision, false) in [("the shipped rules", own), *beside]
    ]
    return "\n".join(lines)


def _told(sites: dict[str, Site], planned: list[tuple[str, int, list[Injection]]]) -> Iterator[Run]:
    """The runs, with a word about each."""
    for number, (place, seed, faults) in enumerate(planned, 1):
        one = run(sites[place], seed, faults)
        named = faults[0].fault if faults else "healthy"
        rules = sorted({alarm.rule for alarm in one.alarms})
        print(f"{number}/{len(planned)} {place} {seed} {named}: {', '.join(rules)}", file=sys.stderr, flush=True)
        yield one


def main() -> int:
    """Print the tables; writes build/site-scores.json."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=2, help="runs of each fault")
    options.add_argument("--first-seed", type=int, default=FIRST_SEED)
    options.add_argument("--district", action="store_true", help="the district network in place of the small sites")
    options.add_argument("--faults", nargs="*", help="only these")
    chosen = options.parse_args()
    runs = district(chosen.first_seed) if chosen.district else programme(chosen.repeats, chosen.first_seed)
    planned = [one for one in runs if not chosen.faults or (one[2] and one[2][0].fault in chosen.faults)]
    sites = {name: load_site(name) for name in shipped_sites()}
    judged = judge(_told(sites, planned))
    print(table(judged))
    print(judged.total)
    for found in judged.events:
        if found.first is None:
            print("missed:", found.event.name, found.event.severity)
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
