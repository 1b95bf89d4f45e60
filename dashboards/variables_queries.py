"""The SQL of variables and alarm annotations; `dashboards.variables` says where they stand.

S608 is off for this file: what is put together here are fragments of our own; values come through Grafana's variables.
"""

# ruff: noqa: S608

from __future__ import annotations

from typing import Literal

from dashboards.query import AREA, IN_AREAS, IN_SITES, SITE, TAG, AssetKind
from devices.alarm import Priority

# Each gives at least one row: "All" of nothing would make `IN ()`, which is not SQL, and a single-valued variable
# without a value would make a comparison with an empty text.

SITES = f"""
SELECT DISTINCT {SITE} AS __text, {SITE} AS __value FROM device d
UNION
SELECT '(no site)', '(no site)' WHERE NOT EXISTS (SELECT FROM device)
ORDER BY 1
"""

AREAS = f"""
SELECT DISTINCT {AREA} AS __text, {AREA} AS __value FROM device d WHERE {IN_SITES}
UNION
SELECT '(no area)', '(no area)' WHERE NOT EXISTS (SELECT FROM device d WHERE {IN_SITES})
ORDER BY 1
"""


CONSOLE = """
SELECT 'console' AS __text, COALESCE(
    (SELECT p.console_url FROM platform_instance p ORDER BY p.seen_at DESC LIMIT 1), 'http://127.0.0.1:8080') AS __value
"""


def unit(quantity: Literal["pressure", "flow"]) -> str:
    """One row: the unit that all chosen sites read; where they differ, or none was said, the one that is stored. The
    value is how many of it are one of that."""
    return f"""
SELECT u.unit AS __text, u.factor::text AS __value
FROM (
    SELECT CASE WHEN count(DISTINCT COALESCE(s.{quantity}_unit, '')) = 1 THEN min(s.{quantity}_unit) END AS unit
    FROM (SELECT DISTINCT d.site FROM device d WHERE {IN_SITES}) d LEFT JOIN site s ON s.site = d.site
) c JOIN display_unit u ON u.quantity = '{quantity}' AND (u.unit = c.unit OR u.factor = 1)
ORDER BY (u.unit = c.unit) DESC NULLS LAST
LIMIT 1
"""


def assets(kind: AssetKind) -> str:
    """The active devices of a kind, by tag; the value is the registry's number."""
    where = f"d.kind = '{kind}' AND d.status = 'active' AND {IN_SITES} AND {IN_AREAS}"
    return f"""
SELECT {TAG} AS __text, d.device_id::text AS __value FROM device d WHERE {where}
UNION ALL
SELECT '(no {kind})', '0' WHERE NOT EXISTS (SELECT FROM device d WHERE {where})
ORDER BY 1, 2
"""


def alarm_annotations(priority: Priority, where: str) -> str:
    """The alarms of one priority that were active within the time range, as regions; the newest 200."""
    return f"""
SELECT a.raised_at AS "time", a.cleared_at AS timeend,
       '{priority.upper()} · ' || {TAG} || ' · ' || a.message AS text,
       a.priority || ',' || a.rule AS tags
FROM alarm a JOIN device d ON d.device_id = a.device_id
WHERE NOT a.retracted AND a.priority = '{priority}'
  AND a.raised_at <= $__timeTo()::timestamptz
  AND (a.cleared_at IS NULL OR a.cleared_at >= $__timeFrom()::timestamptz) AND {where}
ORDER BY a.raised_at DESC
LIMIT 200
"""
