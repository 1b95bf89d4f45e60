"""What every panel of ours has in common: place, id, description, data source, and the colours of ISA-101.

Colour says “abnormal” and nothing else. Grey is normal. The alarm priorities have three colours that nothing else uses,
and always stand beside their name; what deserves a look without being an alarm is blue, what deserves action is purple.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import geomap, stat, table, timeseries, xychart
from grafana_foundation_sdk.builders.common import (
    FrameGeometrySource,
    MapLayerOptions,
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import geomap as map_models
from grafana_foundation_sdk.models import xychart as xy
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.dashboard import (
    DynamicConfigValue,
    FieldColorModeId,
    GridPos,
    Threshold,
    ThresholdsConfig,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)

from dashboards.query import DATA_SOURCE, Query

GREY = "#8A8F98"
PALE = "#D5D8DC"
SLATE = "#52616F"
HIGH = "#C4162A"
MEDIUM = "#E8710A"
LOW = "#F2CC0C"
LOOK = "#3D71D9"
ACT = "#8F3BB8"

Steps = Sequence[tuple[float | None, str]]
"""Threshold steps as (from this value on, colour); the first has None for “from the start”."""

DAY_GAP = 25 * 3_600_000
"""Milliseconds without a value that are a gap where a trend may be of days."""

NORMAL: Steps = ((None, PALE),)


class _Panel(Protocol):
    """The methods that all panel builders of the SDK share, as far as we use them."""

    def id(self, id_val: int, /) -> Self: ...
    def title(self, title: str, /) -> Self: ...
    def description(self, description: str, /) -> Self: ...
    def datasource(self, datasource: DataSourceRef, /) -> Self: ...
    def grid_pos(self, grid_pos: GridPos, /) -> Self: ...
    def with_target(self, target: Builder[Dataquery], /) -> Self: ...
    def no_value(self, no_value: str, /) -> Self: ...
    def thresholds(self, thresholds: Builder[ThresholdsConfig], /) -> Self: ...


P = TypeVar("P", bound=_Panel)


def place(
    panel: P,
    panel_id: int,
    at: tuple[int, int, int, int],
    title: str,
    description: str,
    query: Query,
    *,
    nothing: str,
) -> P:
    """Give a panel what each must have; `at` is (x, y, width, height) in grid cells, the grid is 24 wide.

    `nothing` is shown instead of “No data” where the query returns no row: say why that may be so. The id and the place
    are explicit, as the SDK sets no ids and lays panels out beyond the grid.
    """
    x, y, width, height = at
    return (
        panel.id(panel_id)
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .grid_pos(GridPos(x=x, y=y, w=width, h=height))
        .with_target(query)
        .no_value(nothing)
        .thresholds(thresholds(NORMAL))
    )


def thresholds(steps: Steps) -> builders.ThresholdsConfig:
    """Absolute thresholds."""
    return (
        builders.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=color) for value, color in steps])
    )


def counts() -> stat.Panel:
    """Big numbers of one row, one a column, with their names, on pale grey unless a threshold says otherwise.

    The colour is the ground, not the digits: yellow digits on the light theme could not be read.
    """
    return (
        stat.Panel()
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))  # noqa: FBT003
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME)
        .color_mode(common.BigValueColorMode.BACKGROUND_SOLID)
        .graph_mode(common.BigValueGraphMode.NONE)
        .orientation(common.VizOrientation.VERTICAL)
        .unit("none")
    )


def rows() -> table.Panel:
    """A table with small rows."""
    return table.Panel().cell_height(common.TableCellHeight.SM).filterable(True)  # noqa: FBT003


def trend(unit: str) -> timeseries.Panel:
    """Lines in shades of one quiet colour, so that an alarm's annotation is the only strong one."""
    return (
        timeseries.Panel()
        .unit(unit)
        .color_scheme(builders.FieldColor().mode(FieldColorModeId.SHADES).fixed_color(SLATE))
        .line_width(1)
        .fill_opacity(0)
        .show_points(common.VisibilityMode.AUTO)
        .span_nulls(False)  # noqa: FBT003
        # Hourly data: a gap of more than two hours is a gap, not a line across it.
        .insert_nulls(2 * 3_600_000)
        .legend(
            VizLegendOptions()
            .show_legend(True)  # noqa: FBT003
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull"])
        )
        .tooltip(VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    )


def bars(unit: str) -> timeseries.Panel:
    """Hourly counts, stacked."""
    return (
        trend(unit)
        .draw_style(common.GraphDrawStyle.BARS)
        .fill_opacity(60)
        .line_width(0)
        .show_points(common.VisibilityMode.NEVER)
        .axis_soft_min(0)
        .bar_alignment(common.BarAlignment.AFTER)
    )


def history(unit: str) -> timeseries.Panel:
    """Lines of one asset: its metrics need not share their times, so a line goes on for up to two hours."""
    return trend(unit).span_nulls(2 * 3_600_000)


def days(unit: str) -> timeseries.Panel:
    """One bar a day and series, side by side."""
    return bars(unit).insert_nulls(False).stacking(StackingConfig().mode(common.StackingMode.NONE))  # noqa: FBT003


def points(x: str, y: str, unit: str = "") -> xychart.Panel:
    """Points over the first column (in `unit`), one series a further column."""
    return (
        xychart.Panel()
        .mapping(xy.SeriesMapping.AUTO)
        .show(xy.XYShowMode.POINTS)
        .point_size(xychart.XychartFieldConfigPointSize().fixed(5))
        .color_scheme(builders.FieldColor().mode(FieldColorModeId.FIXED).fixed_color(SLATE))
        .axis_label(y)
        .decimals(1)
        .legend(
            VizLegendOptions()
            .show_legend(True)  # noqa: FBT003
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .calcs([])
        )
        .tooltip(VizTooltipOptions().mode(common.TooltipDisplayMode.SINGLE).sort(common.SortOrder.NONE))
        .override_by_name(x, [DynamicConfigValue(id_val="custom.axisLabel", value=f"{x}, {unit}" if unit else x)])
    )


def atlas(layer: str, colour: str, size: str) -> geomap.Panel:
    """A map with a marker a row of “Latitude” and “Longitude”: coloured by the thresholds of one column,
    sized by another. The map beneath is Grafana's own default, which its administrator chooses."""
    style = {
        "size": {"field": size, "fixed": 8, "min": 7, "max": 18},
        "color": {"field": colour, "fixed": GREY},
        "opacity": 0.9,
        "symbol": {"mode": "fixed", "fixed": "img/icons/marker/circle.svg"},
        "symbolAlign": {"horizontal": "center", "vertical": "center"},
    }
    where = (
        FrameGeometrySource().mode(common.FrameGeometrySourceMode.COORDS).latitude("Latitude").longitude("Longitude")
    )
    markers = (
        MapLayerOptions()
        .type("markers")
        .name(layer)
        .config({"style": style, "showLegend": False})
        .location(where)
        .tooltip(True)  # noqa: FBT003
    )
    return (
        geomap.Panel()
        .basemap(MapLayerOptions().type("default").name("Basemap"))
        .layers([markers])
        .view(geomap.MapViewConfig().id("fit").all_layers(True).padding(20).max_zoom(12))  # noqa: FBT003
        .controls(geomap.ControlsOptions().show_zoom(True).mouse_wheel_zoom(False).show_attribution(True))  # noqa: FBT003
        .tooltip(geomap.TooltipOptions().mode(map_models.TooltipMode.DETAILS))
        .color_scheme(builders.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .unit("none")
    )


# Field overrides: each returns properties for `override_by_name`.


def in_unit(unit: str, decimals: int | None = None) -> list[DynamicConfigValue]:
    """Show a column in a unit."""
    properties = [DynamicConfigValue(id_val="unit", value=unit)]
    if decimals is not None:
        properties.append(DynamicConfigValue(id_val="decimals", value=decimals))
    return properties


def measured_in(name: str, unit: str) -> list[DynamicConfigValue]:
    """Show a column with the unit in its name, where sites choose the unit (`query.PRESSURE_UNIT`)."""
    return [DynamicConfigValue(id_val="displayName", value=f"{name}, {unit}")]


def wide(pixels: int) -> list[DynamicConfigValue]:
    """Fix a column's width."""
    return [DynamicConfigValue(id_val="custom.width", value=pixels)]


def coloured(steps: Steps) -> list[DynamicConfigValue]:
    """Colour a number by thresholds: the ground of a stat, the bar of a gauge."""
    return [
        DynamicConfigValue(id_val="thresholds", value=thresholds(steps).build()),
        DynamicConfigValue(id_val="color", value={"mode": FieldColorModeId.THRESHOLDS}),
    ]


def badge(steps: Steps) -> list[DynamicConfigValue]:
    """Fill a table cell with its threshold's colour; the first step is left unfilled, as it is normal."""
    normal, *rest = steps
    clear: Steps = ((normal[0], "transparent"), *rest)
    return [*coloured(clear), _cell("color-background", mode="basic")]


def words(meaning: Mapping[str, tuple[str, str]]) -> list[DynamicConfigValue]:
    """Show texts by other words, each as (word, colour) on a filled cell; "transparent" for what is normal."""
    options = {
        value: ValueMappingResult(text=word, color=color, index=index)
        for index, (value, (word, color)) in enumerate(meaning.items())
    }
    return [
        DynamicConfigValue(id_val="mappings", value=[ValueMap(options=options)]),
        _cell("color-background", mode="basic"),
    ]


def gauge(steps: Steps, minimum: float, maximum: float) -> list[DynamicConfigValue]:
    """Show a number as a bar within its range, as an analog indicator says more than digits."""
    return [
        *coloured(steps),
        DynamicConfigValue(id_val="min", value=minimum),
        DynamicConfigValue(id_val="max", value=maximum),
        _cell("gauge", mode="basic", valueDisplayMode="text"),
    ]


def named(meaning: Mapping[str, str]) -> list[DynamicConfigValue]:
    """Show numbers by words, on the same ground as the rest."""
    options = {
        value: ValueMappingResult(text=word, color=PALE, index=index)
        for index, (value, word) in enumerate(meaning.items())
    }
    return [DynamicConfigValue(id_val="mappings", value=[ValueMap(options=options)])]


def value_words(meaning: Mapping[str, str]) -> ValueMap:
    """Numbers by words, without a colour: that is left to the thresholds."""
    return ValueMap(
        options={
            value: ValueMappingResult(text=word, index=index) for index, (value, word) in enumerate(meaning.items())
        }
    )


def plain_numbers() -> list[DynamicConfigValue]:
    """A column to which the panel's words do not apply."""
    return [DynamicConfigValue(id_val="mappings", value=[])]


def changed(look: float, act: float) -> list[DynamicConfigValue]:
    """A difference in percent, filled where it is large in either direction."""
    steps: Steps = ((None, ACT), (-act, LOOK), (-look, "transparent"), (look, LOOK), (act, ACT))
    return [*in_unit("percent", 0), *coloured(steps), _cell("color-background", mode="basic")]


def hidden() -> list[DynamicConfigValue]:
    """A column that only links need."""
    return [DynamicConfigValue(id_val="custom.hidden", value=True)]


def limit_line(colour: str) -> list[DynamicConfigValue]:
    """A series of two points as a dashed line from edge to edge, without points."""
    return [
        DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour}),
        DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]}),
        DynamicConfigValue(id_val="custom.spanNulls", value=True),
        DynamicConfigValue(id_val="custom.insertNulls", value=False),
        DynamicConfigValue(id_val="custom.showPoints", value="never"),
    ]


def curve(colour: str) -> list[DynamicConfigValue]:
    """A series of an XY chart as a line."""
    return [
        DynamicConfigValue(id_val="custom.show", value="lines"),
        DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour}),
    ]


def band_edge(lower: str | None = None) -> list[DynamicConfigValue]:
    """An edge of a grey band: no line of its own; the upper one is filled down to the `lower`."""
    edge = [
        DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": GREY}),
        DynamicConfigValue(id_val="custom.lineWidth", value=0),
        DynamicConfigValue(id_val="custom.showPoints", value="never"),
    ]
    if lower is not None:
        edge += [
            DynamicConfigValue(id_val="custom.fillBelowTo", value=lower),
            DynamicConfigValue(id_val="custom.fillOpacity", value=25),
        ]
    return edge


def on_the_right(unit: str, decimals: int) -> list[DynamicConfigValue]:
    """A series with an axis of its own."""
    return [*in_unit(unit, decimals), DynamicConfigValue(id_val="custom.axisPlacement", value="right")]


def link(title: str, url: str) -> list[DynamicConfigValue]:
    """Make a cell a link."""
    return links((title, url))


def links(*targets: tuple[str, str]) -> list[DynamicConfigValue]:
    """Make a cell a menu of links; what is not a dashboard of ours opens in a tab of its own."""
    return [
        DynamicConfigValue(
            id_val="links",
            value=[{"title": title, "url": url, "targetBlank": not url.startswith("/d/")} for title, url in targets],
        )
    ]


def _cell(kind: str, **options: str) -> DynamicConfigValue:
    return DynamicConfigValue(id_val="custom.cellOptions", value={"type": kind, **options})
