"""One valve (ISA-101 level 3): does it go where it is told, does it close tight, and does it cavitate?"""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from dashboards import valve_queries as sql
from dashboards import variables
from dashboards.assets import ASSET_DEVICES, alarms, nameplate
from dashboards.panels import (
    ACT,
    GREY,
    LOOK,
    PALE,
    coloured,
    counts,
    curve,
    days,
    history,
    in_unit,
    limit_line,
    measured_in,
    place,
    points,
)
from dashboards.query import FLOW_UNIT, PRESSURE_UNIT, Query

UID = "headworks-valve"
_NOTHING = "No good readings in this time range."


def build() -> Dashboard:
    """The dashboard; the same one at every call."""
    board = (
        variables.board(
            UID,
            "Valve",
            "One valve in detail (ISA-101 level 3): its travel, tightness, capacity and cavitation. Dashed lines are "
            "limits, by the nameplate where it has them. Beyond three days trends are hourly means.",
            ["isa-101-level-3"],
        )
        .variables(
            [
                variables.data_source(),
                variables.sites(),
                variables.areas(),
                variables.asset("valve"),
                *variables.hidden(),
            ]
        )
        .annotations(variables.alarms(ASSET_DEVICES))
    )
    for panel in (*_now(), *_travel(), *_flow()):
        board = board.with_panel(panel)
    return board.build()


def _now() -> list[Builder[Panel]]:
    return [
        nameplate(1, (0, 0, 24, 3), sql.NAMEPLATE, ["DN", "PN", "Kv", "Stroke time"]),
        place(
            counts(),
            2,
            (0, 3, 14, 4),
            "Now",
            "The newest value of each quantity, whatever its age; “As of” is the newest sample's time. Normal: "
            "position and command within 5 %. To do: where they differ for longer than a stroke, see the travel "
            "below.",
            Query(sql.NOW),
            nothing="This valve has not reported yet.",
        )
        .override_by_name("Position", in_unit("percent", 1))
        .override_by_name("Command", in_unit("percent", 1))
        .override_by_name("Inlet", measured_in("Inlet", PRESSURE_UNIT))
        .override_by_name("Outlet", measured_in("Outlet", PRESSURE_UNIT))
        .override_by_name("Flow", measured_in("Flow", FLOW_UNIT))
        .override_by_name("Torque", in_unit("suffix: Nm", 1))
        .override_by_name("As of", in_unit("dateTimeFromNow")),
        place(
            counts(),
            3,
            (14, 3, 10, 4),
            "Seat",
            "How much of the time range the valve was closed (command and position at most 0.5 %), what flowed "
            "meanwhile, also as a share of its rated capacity, and how fast the outlet pressure rose. Normal: class II "
            "lets 0.5 % pass, III 0.1 %, IV 0.01 % (FCI 70-2). To do: above its class the seat passes: flush it, then "
            "check the closing torque, then lap or replace it.",
            Query(sql.SEAT),
            nothing="No good readings of position, flow and pressure in this time range.",
        )
        .override_by_name("Time closed", in_unit("percent", 0))
        .override_by_name("Flow while closed", measured_in("Flow while closed", FLOW_UNIT))
        .override_by_name(
            "Of rated capacity", [*in_unit("percent", 2), *coloured(((None, PALE), (0.1, LOOK), (0.5, ACT)))]
        )
        .override_by_name("Downstream rise", measured_in("Downstream rise", f"{PRESSURE_UNIT}/h")),
        alarms(4, (0, 7, 24, 6)),
    ]


def _travel() -> list[Builder[Panel]]:
    return [
        place(
            history("percent"),
            5,
            (0, 13, 12, 8),
            "Position and command",
            "Stem position and what it was told, 0 % closed, 100 % open. Normal: one line on the other. To do: steps "
            "that come late are friction; a position that stays away is a stuck stem, a lost supply or a bent rod.",
            Query(sql.POSITION, "time_series"),
            nothing=_NOTHING,
        ).override_by_name("Command", limit_line(GREY)),
        place(
            history("percent"),
            6,
            (12, 13, 12, 8),
            "Travel deviation",
            "Position less command. Normal: within 5 % but for the moment of a stroke. To do: a constant offset is the "
            "calibration of the positioner; one that grows with the step is friction at the packing.",
            Query(sql.DEVIATION, "time_series"),
            nothing=_NOTHING,
        )
        .override_by_name("Alarm above", limit_line(ACT))
        .override_by_name("Alarm below", limit_line(ACT)),
        place(
            history("suffix: Nm").axis_soft_min(0),
            7,
            (0, 21, 8, 8),
            "Torque",
            "Torque at the stem, with 150 % of the breakaway torque of the acceptance where the nameplate has it. "
            "Normal: level over months. To do: a slow rise is the packing or deposits; a peak at the seat is "
            "something jammed.",
            Query(sql.TORQUE, "time_series"),
            nothing=_NOTHING,
        ).override_by_name("150 % of breakaway", limit_line(ACT)),
        place(
            history("s").axis_soft_min(0),
            8,
            (8, 21, 8, 8),
            "Stroke time",
            "Duration of the last full stroke where the actuator reports it, with the rated one and 125 % of it. "
            "Normal: near the rated. To do: above 125 % look for friction or a weak supply; it also grows before an "
            "actuator fails.",
            Query(sql.STROKE, "time_series"),
            nothing="The actuator does not report stroke times, and the nameplate has none.",
        )
        .override_by_name("Rated", limit_line(GREY))
        .override_by_name("125 % of rated", limit_line(LOOK)),
        place(
            days("none").decimals(2),
            9,
            (16, 21, 8, 8),
            "Cycles",
            "Travel by day (UTC) in full cycles of 200 %, as the samples show it, and the actuator's own count where "
            "it has one. Normal: a few a day. To do: many small movements wear packing and gear: widen the deadband "
            "of what commands the valve.",
            Query(sql.CYCLES, "time_series"),
            nothing=_NOTHING,
        ),
    ]


def _flow() -> list[Builder[Panel]]:
    return [
        place(
            points("Position", "Kv, m³/h"),
            10,
            (0, 29, 12, 10),
            "Kv over position",
            "The flow coefficient estimated from flow and pressures, by the hour, beside a linear and an equal "
            "percentage (1:50) characteristic through the catalogue's Kv. Normal: all points on one curve, the valve's "
            "own. To do: points that fall below it over time are clogging; above it, erosion of the trim.",
            Query(sql.CHARACTERISTIC),
            nothing="No Kv on the nameplate, and no flow with a pressure drop in this time range.",
        )
        .override_by_name("Linear", curve(GREY))
        .override_by_name("Equal percentage", curve(PALE)),
        place(
            history("suffix: m³/h").axis_soft_min(0),
            11,
            (12, 29, 12, 10),
            "Kv",
            "Flow over the square root of the pressure drop, by the hour, where there is a drop of at least 0.1 bar; "
            "the dashed line is the catalogue's value when fully open. Normal: follows the position, never above the "
            "line. To do: above it, check the meters; compare with the panel beside.",
            Query(sql.KV, "time_series"),
            nothing="No flow with a pressure drop in this time range.",
        ).override_by_name("Kv, fully open", limit_line(GREY)),
        place(
            history("none").decimals(2).axis_soft_min(0),
            12,
            (0, 39, 8, 8),
            "Cavitation index",
            "σ = (p1 − pv) / (p1 − p2), cut at 20. Normal: above 2. To do: near 2 most valves are heard to cavitate; "
            "below 1/FL² (FL 0.9 unless the nameplate says otherwise) the flow is choked and the trim erodes: take "
            "the drop in two steps, or use an anti-cavitation trim.",
            Query(sql.CAVITATION, "time_series"),
            nothing="There was no pressure drop in this time range.",
        )
        .override_by_name("Look below", limit_line(LOOK))
        .override_by_name("Choked below", limit_line(ACT)),
        place(
            history("none").axis_label(PRESSURE_UNIT),
            13,
            (8, 39, 8, 8),
            "Inlet and outlet pressure",
            "Gauge pressures on both sides, with 90 % of the nominal pressure. Normal: the outlet steady, the inlet "
            "with the network. To do: an outlet that follows the inlet is a valve that does not control.",
            Query(sql.PRESSURES, "time_series"),
            nothing=_NOTHING,
        ).override_by_name("90 % of PN", limit_line(ACT)),
        place(
            history("none").axis_label(FLOW_UNIT),
            14,
            (16, 39, 8, 8),
            "Flow",
            "Flow through the valve. Normal: the rhythm of demand; zero while closed. To do: flow at night that rises "
            "from day to day is a leak behind the valve.",
            Query(sql.FLOW, "time_series"),
            nothing=_NOTHING,
        ),
    ]
