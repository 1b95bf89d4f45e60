"""EPANET behind our plain arrays: closed forms, faults between steps, and errors that name file and line."""

from __future__ import annotations

from math import pi, sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("epanet", reason="owa-epanet has no wheel for this Python")

from devices.model import HOUR, MINUTE
from simulators.curves import BAR_PER_METRE
from simulators.epanet import EpanetError, LinkKind, Network
from simulators.injection import Injection
from simulators.site import load_site
from simulators.site_view import observe_site

SMALL = """[TITLE]
A pump, a valve, a tank.
[JUNCTIONS]
 A 0 0
 B 0 0
 C 0 {demand}
[RESERVOIRS]
 R 20
[TANKS]
 T {tank} 2 0 4 10 0
[PIPES]
 P1 R A 10 500 140 0 Open
 P2 C T {length} {diameter} 130 0 {status}
[PUMPS]
 PU A B HEAD CURVE
[VALVES]
 V B C 150 TCV 5
[CURVES]
 CURVE 100 40
[PATTERNS]
 day 1 1 1 1 1 1 2 2 2 2 2 2
[OPTIONS]
 Units {units}
 Headloss H-W
 Pattern {pattern}
[TIMES]
 Pattern Timestep 1:00
[END]
"""


def write(folder: Path, **words: object) -> Path:
    values: dict[str, object] = {
        "demand": 80, "tank": 200, "length": 100, "diameter": 200, "status": "Closed", "units": "CMH",
        "pattern": "none",
    }  # fmt: skip
    path = folder / "small.inp"
    path.write_text(SMALL.format(**{**values, **words}).replace(" Pattern none\n", ""), "utf-8")
    return path


def test_a_pump_and_a_valve_are_those_of_the_closed_forms(tmp_path: Path) -> None:
    with Network(write(tmp_path)) as network:
        assert network.kinds == (LinkKind.PIPE, LinkKind.PIPE, LinkKind.PUMP, LinkKind.VALVE)
        network.set_conductance("V", 100.0)
        now = network.step()
    q = 80.0
    a, b, c, _, _ = now.pressure
    assert now.flow[2] == pytest.approx(q, abs=0.01)
    # EPANET's one-point curve: 4/3 of the head without flow, less a third at the rated flow.
    assert now.loss[2] == pytest.approx(40.0 * (4 / 3 - (q / 100) ** 2 / 3), rel=1e-3)
    assert b - a == pytest.approx(now.loss[2] * BAR_PER_METRE, rel=1e-3)
    assert b - c == pytest.approx((q / 100.0) ** 2, rel=2e-3)  # Q = Kv·√ΔP
    assert now.power[2] == pytest.approx(998.2 * 9.80665 * q / 3600 * now.loss[2] / 0.75 / 1000, rel=5e-3)
    assert not now.doubtful


def test_friction_is_that_of_hazen_and_williams(tmp_path: Path) -> None:
    with Network(write(tmp_path, demand=0, tank=30, status="Open", length=500)) as network:
        now = network.step()
    q = now.flow[1] / 3600.0
    head = 10.667 * 500.0 * (q / 130.0) ** 1.852 / 0.2**4.871
    assert now.loss[1] == pytest.approx(head, rel=2e-3)


@settings(max_examples=15)
@given(speed=st.floats(0.75, 1.0), demand=st.floats(5.0, 70.0))
def test_pumps_follow_the_affinity_laws(tmp_path_factory: pytest.TempPathFactory, speed: float, demand: float) -> None:
    with Network(write(tmp_path_factory.mktemp("n"), demand=demand)) as network:
        network.set_speed("PU", speed)
        now = network.step()
    head = 40.0 * (speed**2 * 4 / 3 - (demand / 100.0) ** 2 / 3)
    assert now.loss[2] == pytest.approx(head, rel=5e-3)


@settings(max_examples=20)
@given(leak=st.floats(0.0, 30.0), extra=st.floats(0.0, 30.0), factor=st.floats(0.5, 1.2))
def test_what_flows_in_flows_out(
    tmp_path_factory: pytest.TempPathFactory, leak: float, extra: float, factor: float
) -> None:
    with Network(write(tmp_path_factory.mktemp("n"), demand=40)) as network:
        network.set_emitter("C", leak)
        network.set_demand("C", factor, extra)
        now = network.step()
    c = network.node["C"]
    assert now.demand.sum() == pytest.approx(0.0, abs=0.05)
    assert now.leak[c] == pytest.approx(leak * sqrt(max(now.pressure[c], 0.0)), rel=0.02, abs=0.05)
    assert now.demand[c] - now.leak[c] == pytest.approx(40.0 * factor + extra, abs=0.05)


def test_tanks_keep_their_balance_and_patterns_their_hour(tmp_path: Path) -> None:
    path = write(tmp_path, demand=0, tank=22, status="Open")
    with Network(path, step=MINUTE) as network:
        tank = network.node["T"]
        first = network.step()
        filled, flow = 0.0, first.flow[1]
        for _ in range(30):
            filled += flow / 60.0
            now = network.step()
            flow = now.flow[1]
    assert (now.head[tank] - first.head[tank]) * pi * 25.0 == pytest.approx(filled, rel=1e-3)
    with Network(write(tmp_path, demand=10, pattern="day"), begins=7 * HOUR) as later:
        assert later.step().demand[later.node["C"]] == pytest.approx(20.0, rel=1e-3)


def test_a_step_is_the_same_whatever_lies_between(tmp_path: Path) -> None:
    """A tank that runs full makes EPANET step in between; ours stay where they are."""
    with Network(write(tmp_path, demand=5, tank=22, status="Open"), step=5 * MINUTE) as network:
        levels = [network.step().head[network.node["T"]] for _ in range(60)]
    assert max(levels) == pytest.approx(26.0, abs=1e-3)
    assert np.all(np.diff(levels) > -1e-6)


def test_units_of_the_file_do_not_matter(tmp_path: Path) -> None:
    """A file in US units: gallons, feet, inches."""
    text = SMALL.format(
        demand=352.23, tank=656.2, length=328.1, diameter=7.874, status="Closed", units="GPM", pattern="none"
    ).replace(" Pattern none\n", "")
    text = text.replace(" R 20", " R 65.617").replace("CURVE 100 40", "CURVE 440.29 131.23")
    text = text.replace("P1 R A 10 500", "P1 R A 32.81 19.685").replace("V B C 150", "V B C 5.9055")
    (tmp_path / "us.inp").write_text(text, "utf-8")
    with Network(write(tmp_path)) as metric, Network(tmp_path / "us.inp") as american:
        one, other = metric.step(), american.step()
    assert other.pressure[:3] == pytest.approx(one.pressure[:3], rel=1e-3)
    assert other.flow == pytest.approx(one.flow, rel=1e-3, abs=1e-3)


def test_a_pump_against_a_shut_valve_has_its_shut_off_head(tmp_path: Path) -> None:
    with Network(write(tmp_path)) as network:
        network.set_conductance("V", 0.0)
        now = network.step()
        assert now.flow[2] == pytest.approx(0.0, abs=0.1)
        assert now.loss[2] == pytest.approx(40.0 * 4 / 3, rel=1e-3)
        assert now.demand[network.node["C"]] == pytest.approx(0.0, abs=0.1)
        network.set_conductance("V", 100.0)
        assert network.step().flow[2] == pytest.approx(80.0, abs=0.1)


def test_errors_name_file_line_and_code(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(
        path.read_text("utf-8").replace("P2 C T", "P2 C X").replace("CURVE 100 40", "CURVE abc 40"), "utf-8"
    )
    with pytest.raises(EpanetError) as error:
        Network(path)
    assert str(error.value).splitlines() == [
        f"{path}:13: undefined node X in [PIPES] section (‘P2 C X 100 200 130 0 Closed’) [EPANET error 203]",
        f"{path}:19: illegal numeric value abc in [CURVES] section (‘CURVE abc 40’) [EPANET error 202]",
    ]
    (tmp_path / "none.inp").write_text("[TITLE]\nnothing\n[END]\n", "utf-8")
    with pytest.raises(EpanetError, match=r"none\.inp: .*EPANET error 22\d"):
        Network(tmp_path / "none.inp")
    with pytest.raises(FileNotFoundError):
        Network(tmp_path / "absent.inp")


def test_what_is_not_in_the_network_is_said(tmp_path: Path) -> None:
    with Network(write(tmp_path)) as network:
        with pytest.raises(EpanetError, match="no link ‘X’"):
            network.set_closed("X", closed=True)
        with pytest.raises(EpanetError, match="‘P1’ is a pipe"):
            network.set_speed("P1", 1.0)
        with pytest.raises(EpanetError, match="tank or a reservoir"):
            network.set_emitter("T", 1.0)
        with pytest.raises(EpanetError, match="no node ‘X’"):
            network.set_demand("X")
    network.close()  # a second time does no harm


LOOP = """[JUNCTIONS]
 A 0 0
 B 0 100
[RESERVOIRS]
 R 50
[PIPES]
 P0 R A 1 1000 140 0 Open
 P1 A B 1000 200 130 0 Open
 P2 A B 1500 150 110 0 Open
[OPTIONS]
 Units CMH
 Headloss H-W
[END]
"""


def test_a_loop_shares_its_flow_as_the_closed_form_says(tmp_path: Path) -> None:
    """Hardy Cross: both ways lose the same head, so flows are as the resistances to the power of -1/1.852."""
    (tmp_path / "loop.inp").write_text(LOOP, "utf-8")
    with Network(tmp_path / "loop.inp") as network:
        now = network.step()
    one, two = ((c**1.852 * d**4.871 / length) ** (1 / 1.852) for length, d, c in ((1000, 0.2, 130), (1500, 0.15, 110)))
    assert now.flow[1] == pytest.approx(100.0 * one / (one + two), rel=1e-3)
    assert now.flow[1] + now.flow[2] == pytest.approx(100.0, abs=0.01)
    assert now.loss[1] == pytest.approx(now.loss[2], rel=1e-3)


EVERYTHING = """[TITLE]
What hydraulics programs write, section by section
[JUNCTIONS]
;ID  Elev  Demand  Pattern
 J1  10    0       ;
 J2  5     20      DAY   ;a comment
 J3  5     0
 J4  0     10
 J5  0     5
 J6  0     5
 J7  5     0
[RESERVOIRS]
 R1  60    HEADS
[TANKS]
;ID  Elev  Init  Min  Max  Diam  MinVol  VolCurve  Overflow
 T1  40    3     0.5  6    5     0       VOLUME    YES
[PIPES]
 P1  R1  J1  500  300  0.1  0  Open
 P2  J1  T1  200  200  0.1  0.5  CV
 P3  J4  J5  100  100  0.2  0  Closed
 P4  J2  J7  100  200  0.1  0  Open
[PUMPS]
 U1  J3  J4  POWER 5 SPEED 1.0
[VALVES]
 V1  J1  J2  150  PRV  20   0
 V2  J7  J3  150  FCV  60   0.2
 V3  J4  J6  100  GPV  LOSS 0
 V4  J1  J5  100  PSV  40   0
 V5  J6  J5  100  TCV  12   0
[DEMANDS]
 J4  6  DAY  ;domestic
 J4  4
[STATUS]
 V5  CLOSED
[PATTERNS]
 DAY  0.5 0.5 1.5
 DAY  1.5 1.0 1.0
 HEADS  1.0 1.02
[CURVES]
 VOLUME 0 0
 VOLUME 3 60
 VOLUME 6 140
 LOSS 0 0
 LOSS 50 4
[CONTROLS]
 LINK P3 OPEN AT TIME 2
 LINK V5 OPEN IF NODE T1 ABOVE 5.5
[RULES]
RULE one
IF TANK T1 LEVEL BELOW 1
AND SYSTEM CLOCKTIME >= 6 AM
THEN PUMP U1 SETTING IS 0.8
ELSE PUMP U1 SETTING IS 1.0
PRIORITY 2
[ENERGY]
 Global Efficiency 70
 Global Price 0.1
[EMITTERS]
 J6 0.2
[QUALITY]
 J1 0.5
[SOURCES]
 R1 CONCEN 1.0
[REACTIONS]
 Order Bulk 1
 Global Bulk -0.5
[MIXING]
 T1 MIXED
[REPORT]
 Status No
 Summary No
[TIMES]
 Duration 24:00
 Hydraulic Timestep 1:00
 Pattern Timestep 1:00
 Pattern Start 0:00
 Start ClockTime 12 am
[OPTIONS]
 Units LPS
 Headloss D-W
 Specific Gravity 0.98
 Viscosity 1.0
 Trials 80
 Accuracy 0.0001
 Unbalanced Continue 10
 Demand Multiplier 1.1
 Emitter Exponent 0.5
 Quality Chlorine mg/L
[COORDINATES]
 J1 1.0 2.0
[VERTICES]
 P1 1.5 2.5
[LABELS]
 1.0 1.0 "Works"
[TAGS]
 NODE J1 hydrant
[BACKDROP]
 DIMENSIONS 0 0 10 10
[END]
"""


def test_a_file_of_every_section_and_kind_of_link_is_run_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "everything.inp"
    path.write_text(EVERYTHING, "utf-8")
    with Network(path) as network:
        states = [network.step() for _ in range(3 * 60)]
        node, link = network.node, network.link
        assert network.kinds[link["P2"]] is LinkKind.CHECK_PIPE
        assert {network.kinds[link[f"V{n}"]] for n in range(1, 6)} == {LinkKind.VALVE}
        first, last = states[0], states[-1]
        assert all(np.isfinite(one.pressure).all() and np.isfinite(one.flow).all() for one in states)
        # L/s have become m³/h: 20 of base, 1.1 of multiplier, 0.5 of pattern; then 1.5 two hours later.
        assert first.demand[node["J2"]] == pytest.approx(20 * 1.1 * 0.5 * 3.6, rel=1e-3)
        assert last.demand[node["J2"]] == pytest.approx(20 * 1.1 * 1.5 * 3.6, rel=1e-3)
        assert last.pressure[node["T1"]] > first.pressure[node["T1"]], "the tank fills by its volume curve"
        assert first.closed[link["P3"]] == 1
        assert last.closed[link["P3"]] == 0, "a control of the file has opened it"
        for one in states:
            balance = np.zeros(len(network.nodes))
            np.add.at(balance, network.ends, one.flow)
            np.add.at(balance, network.begins, -one.flow)
            for name in network.junctions:
                at = node[name]
                assert balance[at] == pytest.approx(one.demand[at], abs=0.05), name


def test_a_site_may_stand_on_any_such_file(tmp_path: Path) -> None:
    (tmp_path / "everything.inp").write_text(EVERYTHING, "utf-8")
    document = tmp_path / "mine.yaml"
    document.write_text(
        "site: Mine\nnetwork: everything.inp\ndevices:\n"
        "  - {tag: P, profile: centrifugal-pump, link: U1, design: {rated_flow: 70, rated_head: 9, rated_power: 5}}\n"
        "  - {tag: V-5, profile: control-valve, link: V5, design: {kv: 100, dn: 100, stroke_time: 30}}\n"
        '  - {tag: "L-{name}", profile: flow-pressure-logger, node: "J?"}\n'
        "controls:\n  - {on: [V-5], opening: 50}\n",
        "utf-8",
    )
    site = load_site(document)
    burst = Injection("burst", "J5", 2 * HOUR, 4 * HOUR)
    seen, healthy = (observe_site(site, 1, faults, HOUR, 5 * HOUR) for faults in ([burst], []))
    assert len(seen.values) == 9
    lost = healthy.values["L-J5"]["pressure"] - seen.values["L-J5"]["pressure"]
    assert lost[:60].max() == 0
    assert lost[70:170].min() > 10_000, "Pa"
