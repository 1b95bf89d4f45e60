"""The SQL of the pump dashboard, one constant a panel; formulas are those of `alerts/physics.py`, in SQL.

S608 is off for this file: what is put together here are fragments of our own; values come through Grafana's variables.
"""

# ruff: noqa: S608

from __future__ import annotations

from dashboards.history import design, history, latest, limit, nameplate, pivoted, series
from dashboards.query import ASSET, BEARING_SAFE
from dashboards.query import FLOW as SHOWN_FLOW

NAMEPLATE = nameplate(
    {
        "Rated flow": "rated_flow",
        "Rated head": "rated_head",
        "Rated power": "rated_power",
        "Rated speed": "rated_speed",
    }
)

NOW = latest(
    {
        "Running": "running",
        "Speed": "speed",
        "Flow": "flow",
        "Suction": "suction_pressure",
        "Discharge": "pressure",
        "Power": "power",
        "Current": "current",
        "Vibration": "vibration",
        "Bearing": "bearing_temperature",
    }
)

# 1 bar of water at 20 °C is 10.21 m. The velocity head is left out, as everywhere here.
_METRES = 10.21
_HEAD = f"{_METRES} * (p.pressure - p.suction_pressure)"
_TURNS = f"p.flow > 0.02 * {design('rated_flow')} AND p.speed > 0.2 * {design('rated_speed')}"
"""Standing still, or with the valve shut, a pump has no operating point."""

# Measured points are moved to rated speed by the affinity laws (Q ~ n, H ~ n²), so that one curve serves all speeds.
# Without a shut-off head on the nameplate it is taken as 4/3 of the rated head, EPANET's curve through one point.
_SHUTOFF = f"COALESCE({design('shutoff_head')}, 4.0 / 3.0 * {design('rated_head')})"

OPERATING_POINT = f"""
WITH {pivoted("flow", "pressure", "suction_pressure", "speed")},
points AS (
    SELECT p.flow * {design("rated_speed")} / p.speed AS flow,
           {_HEAD} * ({design("rated_speed")} / p.speed) ^ 2 AS head,
           time_bucket(interval '1 hour', p.at) AS hour
    FROM p CROSS JOIN device d
    WHERE d.device_id = {ASSET} AND {_TURNS}
)
SELECT share.q * {design("rated_flow")} * {SHOWN_FLOW} AS "Flow",
       {_SHUTOFF} - ({_SHUTOFF} - {design("rated_head")}) * share.q ^ 2 AS "Curve",
       NULL::double precision AS "Measured", NULL::double precision AS "Rated"
FROM device d CROSS JOIN (SELECT i / 20.0::double precision AS q FROM generate_series(0, 30) AS g(i)) share
WHERE d.device_id = {ASSET} AND d.design ? 'rated_flow' AND d.design ? 'rated_head'
UNION ALL
SELECT avg(flow) * {SHOWN_FLOW}, NULL, avg(head), NULL FROM points GROUP BY hour
UNION ALL
SELECT {design("rated_flow")} * {SHOWN_FLOW}, NULL, NULL, {design("rated_head")} FROM device d
WHERE d.device_id = {ASSET} AND d.design ? 'rated_flow' AND d.design ? 'rated_head'
ORDER BY 2, 1
"""

# Water horsepower over electrical power: of pump and motor together. Below a tenth of rated flow the quotient of two
# small numbers says nothing.
EFFICIENCY = f"""
WITH {pivoted("flow", "pressure", "suction_pressure", "power")}
SELECT time_bucket(interval '1 hour', p.at) AS "time",
       100 * sum(p.flow * (p.pressure - p.suction_pressure)) / 36 / NULLIF(sum(p.power), 0) AS "Pump and motor",
       sum(p.power) / NULLIF(sum(p.flow), 0) AS "kWh per m³"
FROM p CROSS JOIN device d
WHERE d.device_id = {ASSET} AND p.power > 0.05 * {design("rated_power")} AND p.flow > 0.1 * {design("rated_flow")}
GROUP BY 1
ORDER BY 1
"""

# Vapour pressure in bar by Antoine's equation for water, 1 to 99 °C, to half a percent. Where no temperature is
# reported 20 °C are taken.
NPSH = f"""
WITH {pivoted("suction_pressure", "running", "temperature")},
vapour AS (
    SELECT 10 ^ (8.07131 - 1730.63 / (233.426 + COALESCE(avg(temperature), 20))) * 0.00133322 AS bar FROM p
)
SELECT p.at AS "time", 'NPSH available' AS metric, {_METRES} * (p.suction_pressure + 1.01325 - vapour.bar) AS value
FROM p CROSS JOIN vapour
WHERE p.suction_pressure IS NOT NULL AND COALESCE(p.running, 1) > 0
UNION ALL
{limit("NPSH required", design("npsh_required"))}
UNION ALL
{limit("Alarm below", f"1.1 * {design('npsh_required')}")}
ORDER BY 1, 2
"""

_BIG = f"COALESCE({design('rated_power')}, 0) > 200"

# ISO 10816-7 category II (domain default), mm/s RMS; up to 200 kW and above.
VIBRATION = series(
    {"vibration": "Vibration"},
    limit("Zone B from", f"CASE WHEN {_BIG} THEN 4.2 ELSE 3.2 END"),
    limit("Zone C from", f"CASE WHEN {_BIG} THEN 6.1 ELSE 5.1 END"),
    limit("Zone D from", f"CASE WHEN {_BIG} THEN 9.5 ELSE 8.5 END"),
)

TEMPERATURES = series(
    {
        "bearing_temperature": "Bearing",
        "motor_temperature": "Winding",
        "temperature": "Medium",
    },
    limit("Bearing alarm", str(BEARING_SAFE)),
)

PRESSURES = series(
    {"suction_pressure": "Suction", "pressure": "Discharge"},
    limit("90 % of PN", f"0.9 * {design('pn')}"),
)

FLOW = series(
    {"flow": "Flow"},
    limit("70 % of rated", f"0.7 * COALESCE({design('bep_flow')}, {design('rated_flow')})"),
    limit("120 % of rated", f"1.2 * COALESCE({design('bep_flow')}, {design('rated_flow')})"),
)

POWER = series(
    {"power": "Power"},
    limit("115 % of rated", f"1.15 * {design('rated_power')}"),
)

CURRENT = series(
    {"current": "Current"},
    limit("110 % of rated", f"1.1 * {design('rated_current')}"),
)

SPEED = series(
    {"speed": "Speed"},
    limit("Rated", design("rated_speed")),
)

# A start is a sample at work after one at rest. Of hours the aggregate tells less: one that knows both counts as one
# start, so beyond three days the number is a lower bound.
DUTY = f"""
WITH h AS ({history("running")}),
hours AS (
    SELECT time_bucket(interval '1 hour', at) AS hour, avg(value) AS share,
           count(*) FILTER (WHERE started) AS starts, min(value) AS lowest, max(value) AS highest
    FROM (SELECT at, value, value > 0.5 AND lag(value) OVER (ORDER BY at) <= 0.5 AS started FROM h) s
    GROUP BY 1
)
SELECT time_bucket(interval '1 day', hour) AS "time", sum(share) AS "Running hours",
       sum(CASE WHEN starts > 0 THEN starts WHEN lowest = highest AND lowest > 0 AND lowest < 1 THEN 1 ELSE 0 END
          )::double precision AS "Starts"
FROM hours
GROUP BY 1
ORDER BY 1
"""
