# ruff: noqa: INP001  # a program of its own, in no package
"""The Grafana dashboard of har-stream as code: `python deploy/grafana/dashboard.py` writes dashboards/har-stream.json.

A panel is one entry of the table below; what Grafana needs beyond it is made here, once, for all of them. Past
400 lines, most of them that table.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

OUTPUT: Final = Path(__file__).resolve().parent / "dashboards" / "har-stream.json"
#: Named in provisioning/datasources/prometheus.yaml.
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="prometheus")
#: The processes chosen at the top of the dashboard.
CHOSEN: Final = 'instance=~"$instance"'


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
        steps: values from which it turns yellow and red, ascending; a fall that is bad starts from red.
        width: of 24 columns.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["stat", "lines", "stack", "heatmap"] = "lines"
    steps: tuple[tuple[float, str], ...] = ()
    width: int = 8


def _total(metric: str) -> str:
    return f"sum({metric}{{{CHOSEN}}})"


def _rate(metric: str, *, by: str = "", where: str = "") -> str:
    """Increase per second; over all chosen processes, by one label where it is named."""
    grouped = f"sum by ({by}) " if by else "sum"
    return f"{grouped}(rate({metric}{{{','.join(filter(None, (CHOSEN, where)))}}}[$__rate_interval]))"


def _quantile(share: float, histogram: str) -> str:
    return f"histogram_quantile({share}, {_rate(f'{histogram}_bucket', by='le')})"


def _quantiles(histogram: str, *shares: float) -> tuple[Query, ...]:
    return tuple(Query(_quantile(share, histogram), f"p{100 * share:g}") for share in shares)


ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Now": (
        Panel(
            "Connected",
            "Whether every chosen process is subscribed at its broker.",
            "bool_yes_no",
            (Query(f"min(har_connected{{{CHOSEN}}})"),),
            kind="stat",
            steps=((1, "green"),),
            width=3,
        ),
        Panel(
            "Alerts",
            "Firing alerts of har-stream; Alerting lists them with their runbooks.",
            "none",
            (Query('count(ALERTS{alertname=~"HarStream.*", alertstate="firing"}) or vector(0)'),),
            kind="stat",
            steps=((1, "red"),),
            width=3,
        ),
        Panel("Watches", "Watches followed.", "none", (Query(_total("har_devices")),), kind="stat", width=3),
        Panel("Readings", "Readings accepted.", "rps", (Query(_rate("har_readings_total")),), kind="stat", width=3),
        Panel(
            "Delay",
            "99 of 100 events are published within this time of the arrival of the message that led to them.",
            "s",
            (Query(_quantile(0.99, "har_end_to_end_seconds")),),
            kind="stat",
            steps=((0.05, "yellow"), (0.1, "red")),
            width=3,
        ),
        Panel(
            "Refused",
            "Share of messages that could not be used; by reason below.",
            "percentunit",
            (Query(f"{_rate('har_rejects_total')} / {_rate('har_messages_total')}"),),
            kind="stat",
            steps=((0.001, "yellow"), (0.01, "red")),
            width=3,
        ),
        Panel(
            "Dropped messages",
            "Messages dropped unread in the time shown, for want of room in the queue or at a stop.",
            "none",
            (Query(f"sum(increase(har_dropped_messages_total{{{CHOSEN}}}[$__range]))"),),
            kind="stat",
            steps=((1, "red"),),
            width=3,
        ),
        Panel(
            "Model",
            "The bundle in use, with its digest.",
            "none",
            (Query(f"count by (name, digest) (har_model_info{{{CHOSEN}}})", "{{name}} {{digest}}"),),
            kind="stat",
            width=3,
        ),
    ),
    "Input": (
        Panel(
            "Messages",
            "Received from the broker, refused ones included.",
            "mps",
            (Query(_rate("har_messages_total", by="instance"), "{{instance}}"),),
        ),
        Panel("Bytes", "Payload received.", "Bps", (Query(_rate("har_message_bytes_total"), "payload"),)),
        Panel(
            "Readings that took no place",
            "Late: their place on the grid had passed. Duplicate: it was taken. A sender that repeats or reorders.",
            "rps",
            (
                Query(_rate("har_late_readings_total"), "late"),
                Query(_rate("har_duplicate_readings_total"), "duplicate"),
            ),
        ),
        Panel(
            "Refused messages by reason",
            "Each was dropped and the stream went on; the log shows an example.",
            "mps",
            (Query(_rate("har_rejects_total", by="reason"), "{{reason}}"),),
            kind="stack",
        ),
        Panel(
            "Holes",
            "Gap: too long to bridge, filters and windows began anew. Interpolated: grid samples inside shorter ones. "
            "Missing: messages that the senders counted and that never arrived. Back: a watch's clock was set back.",
            "cps",
            (
                Query(_rate("har_gaps_total"), "gaps"),
                Query(_rate("har_interpolated_samples_total"), "interpolated"),
                Query(_rate("har_missing_messages_total"), "missing messages"),
                Query(_rate("har_clock_jumps_total"), "clocks set back"),
            ),
        ),
        Panel(
            "Dropped",
            "Overload: the queue was full, and activities may be missed. Broker: dropped by Mosquitto from full "
            "queues, of all its clients. Refused events: the broker's access list does not let them through.",
            "mps",
            (
                Query(_rate("har_dropped_messages_total", by="reason"), "{{reason}}"),
                Query(f"sum(deriv(har_broker_dropped_messages{{{CHOSEN}}}[$__rate_interval]))", "broker"),
                Query(_rate("har_refused_events_total"), "refused events"),
            ),
        ),
    ),
    "Recognition": (
        Panel(
            "Bouts begun, by activity",
            "A shift towards unknown means data unlike the model's training: placement, units, another device.",
            "cps",
            (Query(_rate("har_events_total", by="activity", where='type="start"'), "{{activity}}"),),
            kind="stack",
        ),
        Panel(
            "Events by type",
            "Published events.",
            "cps",
            (Query(_rate("har_events_total", by="type"), "{{type}}"),),
        ),
        Panel(
            "Windows",
            "Classified, and those that the model cannot take: the watch lacks a sensor or is too slow.",
            "cps",
            (
                Query(_rate("har_windows_total"), "classified"),
                Query(_rate("har_unfit_windows_total", by="reason"), "{{reason}}"),
            ),
        ),
    ),
    "Delay": (
        Panel(
            "Message to event",
            "From the arrival of a message to the publication of the event that it led to.",
            "s",
            _quantiles("har_end_to_end_seconds", 0.5, 0.95, 0.99),
        ),
        Panel(
            "Message to event, distribution",
            "The same, by bucket.",
            "s",
            (Query(_rate("har_end_to_end_seconds_bucket", by="le"), "{{le}}"),),
            kind="heatmap",
        ),
        Panel(
            "Busy, by stage",
            "Seconds of work per second, that is cores; the sum cannot pass 1.",
            "percentunit",
            (Query(_rate("har_stage_seconds_sum", by="stage"), "{{stage}}"),),
            kind="stack",
            steps=((0.7, "yellow"), (0.9, "red")),
        ),
        Panel(
            "Waiting messages",
            "Bursts are fine; what does not drain ends in drops.",
            "none",
            (Query(f"har_queue_messages{{{CHOSEN}}}", "{{instance}}"),),
        ),
        Panel(
            "Waiting bytes",
            "Bounded by queue_bytes; the oldest message goes first.",
            "bytes",
            (Query(f"har_queue_bytes{{{CHOSEN}}}", "{{instance}}"),),
        ),
        Panel(
            "Messages per call, windows per model run",
            "Larger under load: that is how the service keeps up.",
            "none",
            (
                Query(_quantile(0.95, "har_call_messages"), "messages p95"),
                Query(_quantile(0.95, "har_run_windows"), "windows p95"),
            ),
        ),
    ),
    "State": (
        Panel(
            "Not acknowledged",
            "Messages worked off whose record is not on the disk yet, or whose events the broker has not taken. At "
            "20,000 it sends no others.",
            "none",
            (
                Query(f"har_unacknowledged_messages{{{CHOSEN}}}", "messages {{instance}}"),
                Query(f"har_outbox_events{{{CHOSEN}}}", "events to publish {{instance}}"),
            ),
        ),
        Panel(
            "Journal",
            "Payload behind the last snapshot, which a restart works off again; a snapshot sets it back.",
            "bytes",
            (Query(f"har_journal_bytes{{{CHOSEN}}}", "{{instance}}"),),
        ),
        Panel(
            "Time to disk",
            "99 of 100 writes of the journal take no longer; messages are acknowledged behind them.",
            "s",
            (Query(_quantile(0.99, "har_journal_seconds"), "journal p99"),),
        ),
        Panel(
            "Busy writing",
            "Seconds of writing per second: records as they come, and snapshots of all watches now and then.",
            "percentunit",
            (
                Query(_rate("har_journal_seconds_sum"), "journal"),
                Query(_rate("har_snapshot_seconds_sum"), "snapshots"),
            ),
            kind="stack",
        ),
        Panel(
            "Set aside and left",
            "Dead letters: refused messages kept in a file. Left: messages that the broker keeps, for want of room.",
            "mps",
            (
                Query(_rate("har_dead_letters_total"), "dead letters"),
                Query(_rate("har_left_messages_total"), "left with the broker"),
            ),
        ),
        Panel(
            "Trouble",
            "Failing: 1 while the state cannot be written. Lost sessions: the broker forgot what it had queued.",
            "none",
            (
                Query(f"max(har_state_failing{{{CHOSEN}}})", "state failing"),
                Query(f"sum(increase(har_lost_sessions_total{{{CHOSEN}}}[$__rate_interval]))", "lost sessions"),
            ),
        ),
    ),
    "Process": (
        Panel(
            "CPU",
            "Cores in use.",
            "percentunit",
            (Query(_rate("process_cpu_seconds_total", by="instance"), "{{instance}}"),),
        ),
        Panel(
            "Memory",
            "Resident; flat at a steady number of watches.",
            "bytes",
            (Query(f"process_resident_memory_bytes{{{CHOSEN}}}", "{{instance}}"),),
        ),
        Panel(
            "Reconnects and forgotten watches",
            "Age: nothing was heard for long. Capacity: others needed the place.",
            "none",
            (
                Query(f"sum(increase(har_reconnects_total{{{CHOSEN}}}[$__rate_interval]))", "reconnects"),
                Query(
                    f"sum by (reason) (increase(har_evictions_total{{{CHOSEN}}}[$__rate_interval]))",
                    "forgotten: {{reason}}",
                ),
            ),
        ),
    ),
}


def build() -> str:
    """The dashboard as the JSON document that Grafana provisions, with a newline at its end."""
    board = (
        dashboard.Dashboard("har-stream")
        .uid("har-stream")
        .description("What arrives, what is recognised, how fast, and at what cost.")
        .tags(["har-stream", "mqtt"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("10s")
        .time("now-30m", "now")
        .with_variable(
            dashboard.QueryVariable("instance")
            .label("Process")
            .query("label_values(har_connected, instance)")
            .datasource(SOURCE)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)  # noqa: FBT003  # the builder's own signature
            .include_all(True)  # noqa: FBT003
            .all_value(".*")
        )
    )
    number = 0
    for title, panels in ROWS.items():
        number += 1
        board = board.with_row(dashboard.Row(title).id(number))
        for panel in panels:
            number += 1
            board = board.with_panel(_draw(panel).id(number))
    return json.dumps(board.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _draw(panel: Panel) -> stat.Panel | timeseries.Panel | heatmap.Panel:
    drawn: stat.Panel | timeseries.Panel | heatmap.Panel
    if panel.kind == "stat":
        newest = common.ReduceDataOptions().calcs(["lastNotNull"])
        drawn = (
            stat.Panel().color_mode(BigValueColorMode.VALUE).graph_mode(BigValueGraphMode.NONE).reduce_options(newest)
        )
        if panel.queries[0].legend:
            drawn = drawn.text_mode(BigValueTextMode.NAME)
    elif panel.kind == "heatmap":
        colors = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues")
        drawn = heatmap.Panel().color(colors).y_axis(heatmap.YAxisConfig().unit(panel.unit))
    else:
        drawn = _lines(stacked=panel.kind == "stack")
    for letter, query in zip("ABCDEF", panel.queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).datasource(SOURCE)
        if panel.kind == "heatmap":
            target = target.format(PromQueryFormat.HEATMAP)
        drawn = drawn.with_target(target.instant() if panel.kind == "stat" else target.range())
    drawn = drawn.title(panel.title).description(panel.description).datasource(SOURCE).unit(panel.unit)
    base = "red" if panel.steps and panel.steps[0][1] == "green" else "green"
    steps = [Threshold(value=None, color=base), *(Threshold(value=value, color=color) for value, color in panel.steps)]
    drawn = drawn.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    return drawn.span(panel.width).height(4 if panel.kind == "stat" else 8)


def _lines(*, stacked: bool) -> timeseries.Panel:
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
    return lines.stacking(common.StackingConfig().mode(StackingMode.NORMAL)) if stacked else lines


if __name__ == "__main__":
    OUTPUT.write_text(build(), encoding="utf-8")
