"""Queries as Grafana's PostgreSQL data source takes them, and the SQL fragments that several dashboards share.

Rules for the SQL, which `tests/unit/test_dashboards.py` checks: no comments (Grafana versions differ in what they do to
them), no parentheses inside a macro, variables only as `${name:sqlstring}`, series ordered by `time`. The text is the
same on TimescaleDB and on plain PostgreSQL: `time_bucket(interval, timestamptz)` is all it uses of the extension.
"""

from __future__ import annotations

from typing import Literal

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef

PLUGIN = "grafana-postgresql-datasource"
"""The data source's plug-in id since Grafana 10."""

DATA_SOURCE = DataSourceRef(type_val=PLUGIN, uid="${datasource}")
"""The data source chosen at the top of the dashboard, so that the JSON can be imported anywhere."""

SITE = """translate(COALESCE(NULLIF(d.site, ''), '(no site)'), '"$', '”＄')"""
"""A device's site as it is shown and chosen. Grafana's `sqlstring` spoils a double quote and its macro engine may take
a dollar sign for a macro, so neither gets into a value."""

IN_SITES = f"{SITE} IN (${{site:sqlstring}})"

AREA = """translate(COALESCE(NULLIF(d.area, ''), '(no area)'), '"$', '”＄')"""

IN_AREAS = f"{AREA} IN (${{area:sqlstring}})"

ASSET = "${asset:sqlstring}::integer"
"""The registry's number of the chosen device; 0 where there is none to choose."""

AssetKind = Literal["pump", "valve"]
"""The kinds of device that have a dashboard of their own."""

LONG = "$__timeTo()::timestamptz - $__timeFrom()::timestamptz > interval '8 days'"
"""Whether days are drawn in place of hours: a month of a thousand devices by the hour is more than a second's work. Of
constants only, so that the planner drops the branch not taken."""

LAST_DAY = "GREATEST($__timeFrom()::timestamptz, $__timeTo()::timestamptz - interval '26 hours')"
"""From when on single uplinks are counted: there is no aggregate of them, and a day of a thousand devices is what can
be read in a fifth of a second."""

PRESSURE = "${pressure_unit:sqlstring}::double precision"
"""How many of the unit of pressure that the chosen site reads are one bar, in which pressures are stored."""

FLOW = "${flow_unit:sqlstring}::double precision"
"""The same of flows, which are stored in m³/h."""

PRESSURE_UNIT = "${pressure_unit:text}"
"""The unit's name, for names of columns and axes. Grafana replaces variables there, but not in a field's unit."""

FLOW_UNIT = "${flow_unit:text}"

FACTORS = {
    **dict.fromkeys(("pressure", "pressure_max", "pressure_min", "suction_pressure", "outlet_pressure"), PRESSURE),
    "flow": FLOW,
}
"""By metric, what to multiply a stored value by to show it; every other metric is shown as it is stored."""

BEARING_NORMAL, BEARING_SAFE = 71, 82
"""°C of a bearing up to which it is as it should be, and up to which it takes no harm, by makers' manuals; the shipped
rule `bearing-temperature-high` calls above the second. API 610 limits the metal to 93 °C."""

ASSET_COLUMNS = """d.device_id::text AS "Asset", d.identity AS "Device",
       CASE d.kind WHEN 'meter' THEN 'site' ELSE d.kind END AS "Board\""""
"""What the links of a row that is about one asset need: its number, its identity for the console, and the dashboard
that shows it. A meter has none of its own: its site's."""

TAG = "COALESCE(NULLIF(d.tag, ''), d.identity)"

Format = Literal["table", "time_series"]


class PostgresQuery(Dataquery):
    """The query model of the PostgreSQL data source, for which the SDK has none."""

    def __init__(self, sql: str, result_format: Format, ref_id: str) -> None:
        self.sql = sql.strip()
        self.result_format = result_format
        self.ref_id = ref_id

    def to_json(self) -> dict[str, object]:
        """The fields that Grafana's query editor writes for a query in code mode."""
        return {
            "refId": self.ref_id,
            "datasource": DATA_SOURCE,
            "editorMode": "code",
            "rawQuery": True,
            "rawSql": self.sql,
            "format": self.result_format,
        }


class Query(Builder[Dataquery]):
    """Builds a `PostgresQuery`, as the SDK's panels take builders."""

    def __init__(self, sql: str, result_format: Format = "table", ref_id: str = "A") -> None:
        self._query = PostgresQuery(sql, result_format, ref_id)

    def build(self) -> Dataquery:
        """The query itself."""
        return self._query
