"""The SQL of the valve dashboard, one constant a panel; formulas are those of IEC 60534-2-1, as in `alerts/physics.py`.

S608 is off for this file: what is put together here are fragments of our own; values come through Grafana's variables.
"""

# ruff: noqa: S608

from __future__ import annotations

from dashboards.history import design, history, latest, limit, nameplate, pivoted, series
from dashboards.query import ASSET, PRESSURE
from dashboards.query import FLOW as SHOWN_FLOW

NAMEPLATE = nameplate({"DN": "dn", "PN": "pn", "Kv": "kv", "Stroke time": "stroke_time"})

NOW = latest(
    {
        "Position": "position",
        "Command": "position_command",
        "Inlet": "pressure",
        "Outlet": "outlet_pressure",
        "Flow": "flow",
        "Torque": "torque",
    }
)

POSITION = series({"position": "Position", "position_command": "Command"})

DEVIATION = f"""
WITH {pivoted("position", "position_command")}
SELECT p.at AS "time", 'Deviation' AS metric, p.position - p.position_command AS value
FROM p WHERE p.position IS NOT NULL AND p.position_command IS NOT NULL
UNION ALL
{limit("Alarm above", "5")}
UNION ALL
{limit("Alarm below", "-5")}
ORDER BY 1, 2
"""

TORQUE = series(
    {"torque": "Torque"},
    limit("150 % of breakaway", f"1.5 * {design('breakaway_torque')}"),
)

STROKE = series(
    {"stroke_time": "Last stroke"},
    limit("Rated", design("stroke_time")),
    limit("125 % of rated", f"1.25 * {design('stroke_time')}"),
)

# The counter where the device has one; else what the stem was seen to travel, in full strokes (200 % of travel: there
# and back). Movements within 1 % are noise of the position sensor.
CYCLES = f"""
WITH h AS ({history("position", "cycles")}),
steps AS (
    SELECT h.at, h.name, h.value - lag(h.value) OVER (PARTITION BY h.name ORDER BY h.at) AS step FROM h
)
SELECT time_bucket(interval '1 day', at) AS "time",
       (sum(abs(step)) FILTER (WHERE name = 'position' AND abs(step) > 1) / 200)::double precision AS "Travel",
       sum(step) FILTER (WHERE name = 'cycles' AND step > 0) AS "Counted"
FROM steps
GROUP BY 1
ORDER BY 1
"""

# Closed: commanded and seen at no more than half a percent. The classes of FCI 70-2 are shares of the rated capacity,
# which at the pressure drop of the moment is Kv √Δp.
SEAT = f"""
WITH {pivoted("position", "position_command", "flow", "pressure", "outlet_pressure")},
closed AS (
    SELECT p.at, p.flow, p.outlet_pressure,
           {design("kv")} * sqrt(GREATEST(p.pressure - p.outlet_pressure, 0)) AS capacity
    FROM p CROSS JOIN device d
    WHERE d.device_id = {ASSET} AND p.position_command <= 0.5 AND p.position <= 0.5
)
SELECT (100.0 * count(c.at) / NULLIF((SELECT count(position) FROM p), 0))::double precision AS "Time closed",
       COALESCE(avg(GREATEST(c.flow, 0)), 0) * {SHOWN_FLOW} AS "Flow while closed",
       COALESCE(100 * avg(GREATEST(c.flow, 0)) / NULLIF(avg(c.capacity), 0), 0) AS "Of rated capacity",
       COALESCE(regr_slope(c.outlet_pressure, EXTRACT(epoch FROM c.at)::double precision) * 3600, 0) * {PRESSURE}
           AS "Downstream rise"
FROM closed c
HAVING EXISTS (SELECT FROM p)
"""

# Choked from Δp ≥ FL² (p1 - FF pv), which is σ ≤ 1 / FL² but for a fraction of the vapour pressure. FL 0.9 is a globe
# valve's; the vapour pressure is that of water at 20 °C, in bar.
_VAPOUR = 0.0234
_FL = f"COALESCE({design('recovery')}, 0.9)"
_DROP = "(p.pressure - p.outlet_pressure)"

KV = f"""
WITH {pivoted("position", "flow", "pressure", "outlet_pressure")}
SELECT time_bucket(interval '1 hour', p.at) AS "time", 'Estimated' AS metric,
       (sum(p.flow) / sum(sqrt({_DROP})))::double precision AS value
FROM p WHERE {_DROP} > 0.1 AND p.position > 5 AND p.flow IS NOT NULL
GROUP BY 1
UNION ALL
{limit("Kv, fully open", design("kv"))}
ORDER BY 1, 2
"""

CHARACTERISTIC = f"""
WITH {pivoted("position", "flow", "pressure", "outlet_pressure")}
SELECT open.x AS "Position", {design("kv")} * open.x / 100 AS "Linear",
       {design("kv")} * 50 ^ (open.x / 100 - 1) AS "Equal percentage", NULL::double precision AS "Estimated"
FROM device d CROSS JOIN (SELECT 5.0::double precision * i AS x FROM generate_series(0, 20) AS g(i)) open
WHERE d.device_id = {ASSET} AND d.design ? 'kv'
UNION ALL
SELECT avg(p.position), NULL, NULL, (sum(p.flow) / sum(sqrt({_DROP})))::double precision
FROM p WHERE {_DROP} > 0.1 AND p.position > 5 AND p.flow IS NOT NULL
GROUP BY time_bucket(interval '1 hour', p.at)
ORDER BY 2, 1
"""

CAVITATION = f"""
WITH {pivoted("pressure", "outlet_pressure")}
SELECT p.at AS "time", 'σ' AS metric,
       LEAST((p.pressure + 1.01325 - {_VAPOUR}) / {_DROP}, 20)::double precision AS value
FROM p WHERE {_DROP} > 0.05
UNION ALL
{limit("Choked below", f"1 / {_FL} ^ 2")}
UNION ALL
{limit("Look below", "2")}
ORDER BY 1, 2
"""

PRESSURES = series(
    {"pressure": "Inlet", "outlet_pressure": "Outlet"},
    limit("90 % of PN", f"0.9 * {design('pn')}"),
)

FLOW = series({"flow": "Flow"})
