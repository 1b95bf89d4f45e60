"""One pump (ISA-101 level 3): does it run where it should, how well, and what will fail first?"""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from dashboards import pump_queries as sql
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
    named,
    on_the_right,
    place,
    points,
)
from dashboards.query import BEARING_NORMAL, BEARING_SAFE, FLOW_UNIT, PRESSURE_UNIT, Query

UID = "headworks-pump"
_NOTHING = "No good readings in this time range."


def build() -> Dashboard:
    """The dashboard; the same one at every call."""
    board = (
        variables.board(
            UID,
            "Pump",
            "One pump in detail (ISA-101 level 3): its operating point, efficiency, condition and duty. Dashed lines "
            "are limits, by the nameplate where it has them. Beyond three days trends are hourly means.",
            ["isa-101-level-3"],
        )
        .variables(
            [
                variables.data_source(),
                variables.sites(),
                variables.areas(),
                variables.asset("pump"),
                *variables.hidden(),
            ]
        )
        .annotations(variables.alarms(ASSET_DEVICES))
    )
    for panel in (*_now(), *_hydraulics(), *_condition(), *_drive()):
        board = board.with_panel(panel)
    return board.build()


def _now() -> list[Builder[Panel]]:
    return [
        nameplate(1, (0, 0, 24, 3), sql.NAMEPLATE, ["Rated flow", "Rated head", "Rated power", "Rated speed"]),
        place(
            counts(),
            2,
            (0, 3, 24, 4),
            "Now",
            "The newest value of each quantity, whatever its age; “As of” is the newest sample's time. Normal: near "
            "the nameplate while it runs. To do: what is blue or purple has passed a limit; see its trend below.",
            Query(sql.NOW),
            nothing="This pump has not reported yet.",
        )
        .override_by_name("Running", named({"0": "stands still", "1": "runs"}))
        .override_by_name("Speed", in_unit("suffix: rpm", 0))
        .override_by_name("Flow", measured_in("Flow", FLOW_UNIT))
        .override_by_name("Suction", measured_in("Suction", PRESSURE_UNIT))
        .override_by_name("Discharge", measured_in("Discharge", PRESSURE_UNIT))
        .override_by_name("Power", in_unit("suffix: kW", 1))
        .override_by_name("Current", in_unit("suffix: A", 1))
        .override_by_name(
            "Vibration", [*in_unit("suffix: mm/s", 1), *coloured(((None, PALE), (5.1, LOOK), (8.5, ACT)))]
        )
        .override_by_name(
            "Bearing", [*in_unit("celsius", 0), *coloured(((None, PALE), (BEARING_NORMAL, LOOK), (BEARING_SAFE, ACT)))]
        )
        .override_by_name("As of", in_unit("dateTimeFromNow")),
        alarms(3, (0, 7, 24, 6)),
    ]


def _hydraulics() -> list[Builder[Panel]]:
    return [
        place(
            points("Flow", "Head, m", FLOW_UNIT),
            4,
            (0, 13, 12, 11),
            "Operating point",
            "Head over flow: hourly means while the pump turns, moved to rated speed by the affinity laws, on its "
            "curve through shut-off and rated point (without a shut-off head on the nameplate that is taken as 4/3 "
            "of the rated). Normal: on the curve, at 70–120 % of rated flow. To do: points below the curve mean "
            "wear, air or a blocked suction; far left means throttled, far right means too little counter-pressure.",
            Query(sql.OPERATING_POINT),
            nothing="No curve: the nameplate lacks rated flow, head or speed.",
        )
        .override_by_name("Curve", curve(GREY))
        .override_by_name("Rated", in_unit("suffix: m", 1)),
        place(
            history("percent").axis_soft_min(0),
            5,
            (12, 13, 12, 11),
            "Efficiency",
            "Hydraulic power over electrical power, of pump and motor together, by the hour; and the energy a cubic "
            "metre takes. Normal: level, 50–80 % by size. To do: a decline over months is wear of impeller and "
            "rings; a step is a changed operating point.",
            Query(sql.EFFICIENCY, "time_series"),
            nothing="No hour in this time range in which the pump delivered, or no power is reported.",
        ).override_by_name("kWh per m³", on_the_right("suffix: kWh/m³", 3)),
        place(
            history("none").axis_label(FLOW_UNIT),
            6,
            (0, 24, 12, 8),
            "Flow",
            "Flow with the preferred operating region, 70–120 % of the best (else the rated) flow, valid at rated "
            "speed. Normal: between the lines, or below both at lower speed. To do: long runs far outside shorten "
            "the life of seal and bearings; change speed or the number of pumps at work.",
            Query(sql.FLOW, "time_series"),
            nothing=_NOTHING,
        )
        .override_by_name("70 % of rated", limit_line(GREY))
        .override_by_name("120 % of rated", limit_line(GREY)),
        place(
            history("none").axis_label(PRESSURE_UNIT),
            7,
            (12, 24, 12, 8),
            "Suction and discharge pressure",
            "Gauge pressures at the flanges, with 90 % of the nominal pressure. Normal: suction level, discharge "
            "with demand. To do: a falling suction is a strainer or the source; a discharge above the line endangers "
            "the pipe.",
            Query(sql.PRESSURES, "time_series"),
            nothing=_NOTHING,
        ).override_by_name("90 % of PN", limit_line(ACT)),
        place(
            history("suffix: m"),
            8,
            (0, 32, 12, 8),
            "NPSH",
            "Net positive suction head available at the flange while the pump runs, without velocity head (on the safe "
            "side), beside what the nameplate requires. Normal: at least 1.1 times the required. To do: below it the "
            "pump cavitates: raise the source level, clear the strainer, or slow down.",
            Query(sql.NPSH, "time_series"),
            nothing="The pump did not run, or reports no suction pressure.",
        )
        .override_by_name("NPSH required", limit_line(LOOK))
        .override_by_name("Alarm below", limit_line(ACT)),
    ]


def _condition() -> list[Builder[Panel]]:
    return [
        place(
            history("suffix: mm/s").axis_soft_min(0),
            9,
            (12, 32, 12, 8),
            "Vibration",
            "Vibration velocity on the bearing housing, RMS, with the zones of ISO 10816-7 category II (limits "
            "differ above 200 kW). Normal: zones A and B. To do: in zone C plan a check of alignment, bearings and "
            "cavitation; in zone D stop the pump if the process allows.",
            Query(sql.VIBRATION, "time_series"),
            nothing=_NOTHING,
        )
        .override_by_name("Zone B from", limit_line(GREY))
        .override_by_name("Zone C from", limit_line(LOOK))
        .override_by_name("Zone D from", limit_line(ACT)),
        place(
            history("celsius"),
            10,
            (0, 40, 12, 8),
            "Temperatures",
            "Bearing metal, motor winding and medium, as far as they are reported. Normal: bearing up to "
            f"{BEARING_NORMAL} °C, steady two hours after a start. To do: above {BEARING_SAFE} °C change over to the "
            "stand-by pump and check the lubrication.",
            Query(sql.TEMPERATURES, "time_series"),
            nothing=_NOTHING,
        ).override_by_name("Bearing alarm", limit_line(ACT)),
        place(
            days("none").decimals(1),
            11,
            (12, 40, 12, 8),
            "Running hours and starts",
            "Hours at work and starts by day (UTC); the days at both ends are not whole. Beyond three days starts "
            "are a lower bound, one an hour at most. Normal: few starts, wear shared among the pumps of a station. "
            "To do: many starts point to a level band that is too narrow or a check valve that leaks.",
            Query(sql.DUTY, "time_series"),
            nothing="The pump does not report whether it runs.",
        ),
    ]


def _drive() -> list[Builder[Panel]]:
    return [
        place(
            history("suffix: kW").axis_soft_min(0),
            12,
            (0, 48, 8, 8),
            "Power",
            "Electrical power drawn, with the service limit of 115 % of rated. Normal: follows flow and speed. To "
            "do: more power at the same flow is friction or a rubbing impeller; less is air, dry running or a broken "
            "shaft.",
            Query(sql.POWER, "time_series"),
            nothing=_NOTHING,
        ).override_by_name("115 % of rated", limit_line(ACT)),
        place(
            history("amp").axis_soft_min(0),
            13,
            (8, 48, 8, 8),
            "Current",
            "Motor current, mean of the phases, with 110 % of the rated current where the nameplate has it. Normal: "
            "below the line, as level as the flow. To do: above it check voltage and load before the motor protection "
            "trips.",
            Query(sql.CURRENT, "time_series"),
            nothing=_NOTHING,
        ).override_by_name("110 % of rated", limit_line(ACT)),
        place(
            history("suffix: rpm").axis_soft_min(0),
            14,
            (16, 48, 8, 8),
            "Speed",
            "Shaft speed, with the rated speed. Normal: one speed, or the drive's slow changes with demand. To do: a "
            "speed that hunts wears the drive; damp its controller.",
            Query(sql.SPEED, "time_series"),
            nothing=_NOTHING,
        ).override_by_name("Rated", limit_line(GREY)),
    ]
