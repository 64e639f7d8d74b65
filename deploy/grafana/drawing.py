# ruff: noqa: INP001  # part of a program, in no package
"""How a dashboard is drawn: tables of panels in, Grafana's JSON out.

What a panel shows is an entry of a table in fleet.py or service.py; what Grafana needs beyond it is made here, once,
for all of them: variables, links, marks, thresholds, legends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    ScaleDistribution,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

#: The one chosen at the top, so that a dashboard can be imported into any Grafana.
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
#: The processes chosen at the top.
CHOSEN: Final = 'job=~"$job", instance=~"$instance"'


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and the name of its series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """What a panel shows, and what an operator should make of it.

    Attributes:
        title, description, unit: as Grafana shows them; the unit by Grafana's own name for it.
        queries: what is drawn.
        kind: how it is drawn.
        steps: values from which it changes its colour, ascending; a fall that is bad starts from red.
        most: upper end of the axis, None for what the values reach.
        width: of 24 columns.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["stat", "lines", "stack", "heatmap"] = "lines"
    steps: tuple[tuple[float, str], ...] = ()
    most: float | None = None
    width: int = 8


@dataclass(frozen=True, slots=True)
class Mark:
    """Moments that are marked across all panels.

    Attributes:
        name: shown at the top, where the marks can be switched off.
        expr: where it has a value above zero, there is a mark; with `at_value` the values are the times, in ms.
        title, text: of the mark; labels as {{label}}.
        color: Grafana's name for it.
    """

    name: str
    expr: str
    title: str
    text: str
    color: str
    at_value: bool = False


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard: rows of panels, by title.

    Attributes:
        uid: last part of its address in Grafana.
        other: titles of the dashboards to link to, by uid.
    """

    uid: str
    title: str
    description: str
    rows: Mapping[str, tuple[Panel, ...]]
    other: Mapping[str, str]


MARKS: Final = (
    Mark(
        "Restarts",
        f"process_start_time_seconds{{{CHOSEN}}} * 1000",
        "har-stream started",
        "{{instance}}",
        "purple",
        at_value=True,
    ),
    Mark("Reconnects", f"changes(har_reconnects_total{{{CHOSEN}}}[1m])", "reconnected", "{{instance}}", "orange"),
    Mark(
        "Alerts",
        f'ALERTS{{alertname=~"HarStream.+", alertstate="firing", {CHOSEN}}}',
        "{{alertname}}",
        "{{severity}}, {{instance}}",
        "red",
    ),
)


def total(metric: str, *, by: str = "", where: str = "") -> str:
    """Sum over all chosen processes, by one label where it is named."""
    return f"{_sum(by)}({metric}{{{_chosen(where)}}})"


def rate(metric: str, *, by: str = "", where: str = "") -> str:
    """Increase per second; over all chosen processes, by one label where it is named."""
    return f"{_sum(by)}(rate({metric}{{{_chosen(where)}}}[$__rate_interval]))"


def increase(metric: str, *, over: str = "$__rate_interval", by: str = "") -> str:
    """Increase over an interval, likewise."""
    return f"{_sum(by)}(increase({metric}{{{CHOSEN}}}[{over}]))"


def quantile(share: float, histogram: str, *, by: str = "") -> str:
    """A quantile of what a histogram counted lately."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', by=', '.join(filter(None, ('le', by))))})"


def quantiles(histogram: str, *shares: float, name: str = "") -> tuple[Query, ...]:
    """A line each for some quantiles."""
    return tuple(Query(quantile(share, histogram), f"{name}p{100 * share:g}") for share in shares)


def buckets(histogram: str) -> tuple[Query, ...]:
    """What a heat map is drawn from: counts by bucket."""
    return (Query(increase(f"{histogram}_bucket", by="le"), "{{le}}"),)


def _sum(by: str) -> str:
    return f"sum by ({by}) " if by else "sum"


def _chosen(where: str) -> str:
    return ", ".join(filter(None, (where, CHOSEN)))


def build(board: Board) -> str:
    """The dashboard as the JSON document that Grafana provisions, with a newline at its end."""
    drawn = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(["har-stream", "mqtt"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("10s")
        .time("now-30m", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for name, label, query in (
        ("job", "Job", "label_values(har_connected, job)"),
        ("instance", "Process", 'label_values(har_connected{job=~"$job"}, instance)'),
    ):
        drawn = drawn.with_variable(
            dashboard.QueryVariable(name)
            .label(label)
            .query(query)
            .datasource(SOURCE)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)  # noqa: FBT003  # the builder's own signature
            .include_all(True)  # noqa: FBT003
            .all_value(".*")
        )
    for uid, title in board.other.items():
        drawn = drawn.link(
            dashboard.DashboardLink(title)
            .type(DashboardLinkType.LINK)
            .icon("dashboard")
            .tooltip(f"{title}, of the same processes and time")
            .url(f"/d/{uid}")
            .include_vars(True)  # noqa: FBT003
            .keep_time(True)  # noqa: FBT003
        )
    for mark in MARKS:
        drawn = drawn.annotation(
            dashboard.AnnotationQuery().name(mark.name).datasource(SOURCE).expr(mark.expr).icon_color(mark.color)
        )
    number = 0
    for title, panels in board.rows.items():
        number += 1
        drawn = drawn.with_row(dashboard.Row(title).id(number))
        for panel in panels:
            number += 1
            drawn = drawn.with_panel(_draw(panel).id(number))
    document = json.loads(json.dumps(drawn.build(), cls=JSONEncoder))
    # What Prometheus' annotations have beyond those of all sources, which is all that the builder knows of.
    for annotation, mark in zip(document["annotations"]["list"], MARKS, strict=True):
        annotation |= {"titleFormat": mark.title, "textFormat": mark.text, "useValueForTime": mark.at_value}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _draw(panel: Panel) -> stat.Panel | timeseries.Panel | heatmap.Panel:
    drawn: stat.Panel | timeseries.Panel | heatmap.Panel
    if panel.kind == "stat":
        drawn = _number(named=bool(panel.queries[0].legend))
    elif panel.kind == "heatmap":
        drawn = _heatmap(panel.unit)
    else:
        drawn = _lines(stacked=panel.kind == "stack", limits=bool(panel.steps))
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).datasource(SOURCE)
        if panel.kind == "heatmap":
            target = target.format(PromQueryFormat.HEATMAP)
        drawn = drawn.with_target(target.instant() if panel.kind == "stat" else target.range())
    drawn = drawn.title(panel.title).description(panel.description).datasource(SOURCE).unit(panel.unit)
    if panel.most is not None:
        drawn = drawn.max(panel.most)
    drawn = drawn.thresholds(_thresholds(panel.steps))
    return drawn.span(panel.width).height(4 if panel.kind == "stat" else 8)


def _number(*, named: bool) -> stat.Panel:
    newest = common.ReduceDataOptions().calcs(["lastNotNull"])
    drawn = stat.Panel().color_mode(BigValueColorMode.VALUE).graph_mode(BigValueGraphMode.NONE).reduce_options(newest)
    return drawn.text_mode(BigValueTextMode.NAME) if named else drawn


def _heatmap(unit: str) -> heatmap.Panel:
    return (
        heatmap.Panel()
        .calculate(False)  # noqa: FBT003  # Prometheus' buckets are the rows
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(64))
        # Empty cells stay empty.
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .cell_values(heatmap.CellValues().unit("short"))
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .scale_distribution(common.ScaleDistributionConfig().type(ScaleDistribution.LINEAR))
        .show_legend()
        .show_y_histogram()
    )


def _lines(*, stacked: bool, limits: bool) -> timeseries.Panel:
    lines = (
        timeseries.Panel()
        .min(0)
        .line_width(1)
        .fill_opacity(30 if stacked else 10)
        .show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)  # noqa: FBT003
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if limits:
        lines = lines.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    return lines.stacking(common.StackingConfig().mode(StackingMode.NORMAL)) if stacked else lines


def _thresholds(steps: Sequence[tuple[float, str]]) -> dashboard.ThresholdsConfig:
    base = "red" if steps and steps[0][1] == "green" else "green"
    levels = [Threshold(value=None, color=base), *(Threshold(value=value, color=color) for value, color in steps)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(levels)
