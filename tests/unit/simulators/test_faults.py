"""Each fault shows where physics says it does, and nowhere else."""

from datetime import UTC, datetime

import numpy as np
import pytest

from devices.model import DAY, HOUR, MINUTE, instant
from simulators.faults import EXPLAINS, Fault, FaultKind, affected
from simulators.noise import Floats
from simulators.observation import observe
from simulators.plant import build
from simulators.records import truth_of
from simulators.schedule import schedule
from simulators.sensors import canonical
from simulators.truth import GroundTruth, Truth, Watched, read_truth, write_truth

START = instant(datetime(2026, 3, 2, 20, tzinfo=UTC))  # 4 in the morning at the plant
PLANT = build(7, 8, 8)
WORKS = PLANT.works
RUNNING = {
    tag
    for tag, shown in observe(WORKS, [], START, START + DAY).values.items()
    if "running" in shown and shown["running"].all()
}
PUMP = min(RUNNING)
SINCE, UNTIL = START + 4 * HOUR, START + 8 * HOUR


class Both:
    """What a plant shows with a fault and without, in canonical units, while the fault lasts and before."""

    def __init__(self, fault: Fault) -> None:
        self.sick = observe(WORKS, [fault], START, START + 10 * HOUR)
        self.well = observe(WORKS, [], START, START + 10 * HOUR)
        self.during = (self.sick.times >= fault.since + fault.growth) & (self.sick.times < fault.until)

    def sees(self, tag: str, metric: str) -> tuple[Floats, Floats]:
        """(with the fault at its full severity, without it)."""
        sick, well = (
            canonical(metric, shown.values[tag][metric])[self.during] for shown in (self.sick, self.well)
        )  # fmt: skip
        return sick, well

    def changed(self) -> set[str]:
        """The tags whose device shows anything else than without the fault."""
        return {
            tag
            for tag, metrics in self.sick.values.items()
            if any(not np.array_equal(values, self.well.values[tag][metric]) for metric, values in metrics.items())
        }


def test_a_pump_that_runs_dry_turns_without_flow_power_or_suction() -> None:
    both = Both(Fault(FaultKind.DRY_RUN, PUMP, SINCE, UNTIL))
    rated = WORKS.pumps[PUMP][1]
    assert (both.sees(PUMP, "running")[0] == 1.0).all()
    assert (both.sees(PUMP, "flow")[0] < 0.05 * rated.rated_flow).all()
    assert (both.sees(PUMP, "power")[0] < 0.5 * rated.rated_power).all()
    assert (both.sees(PUMP, "suction_pressure")[0] < 0.0).all()
    assert (both.sees(PUMP, "current")[0] > 0.3 * both.sees(PUMP, "current")[1]).all()
    site = WORKS.pumps[PUMP][0]
    valve = site.valves[0].tag
    assert both.sees(valve, "pressure")[0].min() > 3.0, "another pump is started, and nobody is without water"


def test_a_worn_bearing_shakes_and_heats_more_and_more() -> None:
    fault = Fault(FaultKind.BEARING_WEAR, PUMP, SINCE, UNTIL, growth=2 * HOUR)
    both = Both(fault)
    vibration, healthy = both.sees(PUMP, "vibration")
    assert (vibration > 6.4).all()
    assert (healthy < 3.0).all()
    assert both.sees(PUMP, "bearing_temperature")[0][60:].min() > 82.0
    grows = canonical("vibration", both.sick.values[PUMP]["vibration"])
    first, second = (
        grows[(both.sick.times >= begin) & (both.sick.times < begin + HOUR)].mean() for begin in (SINCE, SINCE + HOUR)
    )
    assert healthy.mean() < first < second < vibration.mean()
    assert both.changed() == {PUMP}


def test_a_stuck_stem_stays_where_it_was_and_the_outlet_shows_it() -> None:
    tag = next(valve.tag for site in WORKS.sites for valve in site.valves if not valve.fills_tank)
    since = START + HOUR  # before the morning's rise of demand
    both = Both(Fault(FaultKind.STICTION, tag, since, UNTIL))
    position = both.sees(tag, "position")[0]
    assert np.ptp(position) < 1.0
    assert (np.abs(both.sees(tag, "position_command")[0] - position) > 5.0).sum() > 60
    outlet, held = both.sees(tag, "outlet_pressure")
    assert outlet.min() < held.min() - 0.3
    assert both.sees(tag, "torque")[0].max() > 1.3 * both.sees(tag, "torque")[1].max()


def test_a_stuck_stem_stays_stuck_over_midnight() -> None:
    tag = next(valve.tag for site in WORKS.sites for valve in site.valves if not valve.fills_tank)
    midnight = START - START % DAY + DAY
    fault = Fault(FaultKind.STICTION, tag, midnight - 8 * HOUR, midnight + 3 * HOUR)
    shown = observe(WORKS, [fault], midnight - 2 * HOUR, midnight + 2 * HOUR)
    assert np.ptp(shown.values[tag]["position"]) < 1.0


def test_a_passing_seat_lets_water_through_a_shut_valve() -> None:
    tag = next(valve.tag for site in WORKS.sites for valve in site.valves if valve.fills_tank)
    both = Both(Fault(FaultKind.SEAT_PASSING, tag, SINCE, UNTIL))
    flow, healthy = both.sees(tag, "flow")
    assert (both.sees(tag, "position")[0] <= 0.5).all()
    assert (flow > 0.03 * WORKS.valves[tag][1].kvs).all()
    assert (healthy == 0.0).all()


def test_a_burst_takes_the_pressure_of_its_area_only() -> None:
    site = WORKS.sites[0]
    area = site.areas[0].name
    fault = Fault(FaultKind.PIPE_BURST, area, SINCE, UNTIL, 0.9)
    hit = affected(WORKS, fault)
    both = Both(fault)
    for valve in site.valves:
        pressure = both.sees(valve.tag, "pressure")[0]
        assert (pressure < 2.0).all() if valve.tag in hit else (pressure > 2.5).all(), valve.tag
    pumped = [sum(both.sees(pump.tag, "flow")[i].sum() for pump in site.pumps) for i in (0, 1)]
    assert pumped[0] > 1.2 * pumped[1], "what runs out of the burst has to be pumped"
    other = {asset.tag for asset in PLANT.assets if asset.device.site != site.name}
    assert not both.changed() & other


def test_tampering_and_a_dying_battery_show_at_the_unit_and_nowhere_else() -> None:
    opened = Both(Fault(FaultKind.TAMPER, PUMP, SINCE, UNTIL))
    assert (opened.sees(PUMP, "enclosure_open")[0] == 1.0).all()
    assert opened.changed() == {PUMP}
    dying = Both(Fault(FaultKind.BATTERY, PUMP, SINCE, UNTIL, growth=HOUR))
    assert (dying.sees(PUMP, "battery")[0] < 15.0).all()
    assert (dying.sees(PUMP, "battery_voltage")[0] < 3.5).all()


def test_a_fault_begins_grows_stays_and_ends() -> None:
    fault = Fault(FaultKind.BEARING_WEAR, PUMP, 0, 10 * HOUR, 0.8, 2 * HOUR)
    intensity = fault.intensity(np.array([-1, 0, HOUR, 2 * HOUR, 9 * HOUR, 10 * HOUR], dtype=np.int64))
    assert intensity.tolist() == pytest.approx([0.0, 0.0, 0.2, 0.8, 0.8, 0.0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"until": 0}, "ends before it begins"),
        ({"severity": 0.0}, "it goes from 0 to 1"),
        ({"severity": 1.1}, "it goes from 0 to 1"),
        ({"growth": -1}, "is negative"),
    ],
)
def test_an_impossible_fault_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fault(**({"kind": FaultKind.DRY_RUN, "target": PUMP, "since": 0, "until": HOUR} | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "target"), [(FaultKind.STICTION, "P-101"), (FaultKind.DRY_RUN, "P-999")])
def test_a_fault_of_something_that_cannot_have_it_is_refused(kind: FaultKind, target: str) -> None:
    with pytest.raises(ValueError, match=f"‘{target}’ is nothing in this plant"):
        observe(WORKS, [Fault(kind, target, START, UNTIL)], START, UNTIL)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_schedule_is_repeatable_spread_and_each_on_devices_of_its_own(seed: int) -> None:
    plant = build(seed)
    faults = schedule(plant.works, START, START + DAY)
    assert faults == schedule(plant.works, START, START + DAY)
    assert len(faults) >= 6
    assert len({fault.kind for fault in faults}) >= 4
    assert all(START < fault.since < fault.until <= START + DAY for fault in faults)
    assert faults[-1].since - faults[0].since > 8 * HOUR
    tags = [tag for fault in faults for tag in affected(plant.works, fault)]
    assert len(tags) == len(set(tags))
    assert set(EXPLAINS) == set(FaultKind)


def test_a_schedule_for_a_short_time_leaves_out_what_does_not_fit() -> None:
    faults = schedule(WORKS, START, START + 2 * HOUR)
    assert all(fault.until <= START + 2 * HOUR for fault in faults)
    assert schedule(WORKS, START, START + 10 * MINUTE) == []


def test_the_truth_names_every_affected_device_and_is_read_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    area = WORKS.sites[0].areas[0].name
    fault = Fault(FaultKind.PIPE_BURST, area, SINCE, UNTIL, 0.9)
    truths = truth_of(PLANT, [fault], START, START + DAY)
    event = f"pipe-burst at {area} from 2026-03-03T00:00:00Z"
    lines = tuple(
        Truth("pipe-burst", PLANT.identity(tag), SINCE, UNTIL, 0.9, EXPLAINS[FaultKind.PIPE_BURST], event)
        for tag in affected(WORKS, fault)
    )
    everybody = tuple(asset.device.identity for asset in PLANT.assets)
    assert truths == GroundTruth(lines, Watched(START, START + DAY, everybody))
    path = tmp_path_factory.mktemp("truth") / "truth.jsonl"
    write_truth(path, truths)
    assert read_truth(path) == truths
    assert '"from": "2026-03-03T00:00:00+00:00"' in path.read_text("utf-8")
