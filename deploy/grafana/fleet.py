# ruff: noqa: INP001  # part of a program, in no package
"""What the watches send and what is recognised of it: for whoever looks after the fleet."""

from __future__ import annotations

from typing import Final

from drawing import CHOSEN, Board, Panel, Query, buckets, increase, quantile, quantiles, rate, total

#: Watches in an activity, but for unknown.
KNOWN: Final = total("har_active_devices", where='activity!="unknown"')

NOW: Final = (
    Panel("Watches", "Watches followed.", "short", (Query(total("har_devices")),), "stat", width=3),
    Panel(
        "In an activity",
        "Share of the watches whose activity is known: neither silent, nor just begun, nor unknown.",
        "percentunit",
        (Query(f"{KNOWN} / clamp_min({total('har_devices')}, 1)"),),
        "stat",
        steps=((0.3, "yellow"), (0.6, "green")),
        width=3,
    ),
    Panel("Readings", "Readings accepted.", "rps", (Query(rate("har_readings_total")),), "stat", width=3),
    Panel(
        "Delay",
        "99 of 100 events are published within this time of the arrival of the message that led to them.",
        "s",
        (Query(quantile(0.99, "har_end_to_end_seconds")),),
        "stat",
        steps=((0.05, "yellow"), (0.1, "red")),
        width=3,
    ),
    Panel(
        "Lag",
        "Half of the activities are told within this time of the motion that showed them, by the watches' own clocks.",
        "s",
        (Query(quantile(0.5, "har_lag_seconds")),),
        "stat",
        steps=((5, "yellow"), (60, "red")),
        width=3,
    ),
    Panel(
        "Refused",
        "Share of messages that could not be used; by reason below.",
        "percentunit",
        (Query(f"{rate('har_rejects_total')} / {rate('har_messages_total')}"),),
        "stat",
        steps=((0.001, "yellow"), (0.01, "red")),
        width=3,
    ),
    Panel(
        "Dropped messages",
        "Messages dropped unread in the time shown, for want of room in the queue or at a stop.",
        "short",
        (Query(increase("har_dropped_messages_total", over="$__range")),),
        "stat",
        steps=((1, "red"),),
        width=3,
    ),
    Panel(
        "Alerts",
        "Firing alerts of har-stream; Alerting lists them, docs/runbook.md says what to do.",
        "short",
        (Query(f'count(ALERTS{{alertname=~"HarStream.+", alertstate="firing", {CHOSEN}}}) or vector(0)'),),
        "stat",
        steps=((1, "red"),),
        width=3,
    ),
)

ACTIVITIES: Final = (
    Panel(
        "Watches by activity",
        "What the watches are doing. A shift towards unknown means data unlike the model's training: placement, units, "
        "another device; towards groups such as still, a model that is torn. Below the number of watches followed by "
        "those that are silent or have just begun.",
        "short",
        (Query(f"{total('har_active_devices', by='activity')} > 0", "{{activity}}"),),
        "stack",
        width=16,
    ),
    Panel(
        "Followed and sending",
        "Followed, and those among them in an activity or unknown. What is between the two sends nothing at present.",
        "short",
        (
            Query(total("har_devices"), "followed"),
            Query(total("har_active_devices"), "sending"),
        ),
    ),
    Panel(
        "Activities begun",
        "Bouts that started. Many more than the watches explain: they change to and fro.",
        "cps",
        (Query(rate("har_events_total", by="activity", where='type="start"'), "{{activity}}"),),
        "stack",
        width=6,
    ),
    Panel(
        "Windows",
        "Classified, and those that the model cannot take: the watch lacks a sensor or is too slow.",
        "cps",
        (
            Query(rate("har_windows_total"), "classified"),
            Query(rate("har_partial_windows_total"), "of these without an optional sensor"),
            Query(rate("har_unfit_windows_total", by="reason"), "{{reason}}"),
        ),
        width=6,
    ),
    Panel(
        "Watches unlike the training data",
        "Units, axes, rates and more that the model did not learn from; each watch and finding counts once.",
        "short",
        (Query(increase("har_unlike_training_total", by="finding"), "{{finding}}"),),
        "stack",
        width=6,
    ),
    Panel(
        "Forgotten watches",
        "Age: nothing was heard for long. Capacity: others needed the place.",
        "short",
        (Query(increase("har_evictions_total", by="reason"), "{{reason}}"),),
        "stack",
        width=6,
    ),
)

LATENCY: Final = (
    Panel(
        "Message to event, heat map",
        "Events by the time from the arrival of a message to the publication of what it led to. A band that rises: "
        "load. A second band above: a broker that is slow to acknowledge, or pauses.",
        "s",
        buckets("har_end_to_end_seconds"),
        "heatmap",
        width=12,
    ),
    Panel(
        "Motion to activity, heat map",
        "Activities by the time from the end of the window that showed them, by the watch's clock, to their being "
        "recognised here: the watch's batches, the network, and what the broker kept meanwhile. A recording replayed "
        "with its old times shows at the upper end.",
        "s",
        buckets("har_lag_seconds"),
        "heatmap",
        width=12,
    ),
    Panel(
        "Message to event",
        "The same as quantiles.",
        "s",
        quantiles("har_end_to_end_seconds", 0.5, 0.95, 0.99),
        steps=((0.1, "red"),),
        width=12,
    ),
    Panel(
        "Motion to activity",
        "The same as quantiles.",
        "s",
        quantiles("har_lag_seconds", 0.5, 0.95),
        steps=((60, "red"),),
        width=12,
    ),
)

QUALITY: Final = (
    Panel(
        "Refused messages by reason",
        "Each was dropped and the stream went on; docs/limits.md lists the reasons, the log shows an example.",
        "mps",
        (Query(rate("har_rejects_total", by="reason"), "{{reason}}"),),
        "stack",
    ),
    Panel(
        "Refused share",
        "Of all messages; one in a hundred for minutes is an alert.",
        "percentunit",
        (Query(f"{rate('har_rejects_total')} / {rate('har_messages_total')}", "refused"),),
        steps=((0.01, "red"),),
    ),
    Panel(
        "Gaps",
        "Gap: a hole too long to bridge, filters and windows began anew. Missing: messages that the senders counted "
        "and that never arrived. Back: a watch's clock was set back.",
        "cps",
        (
            Query(rate("har_gaps_total"), "gaps"),
            Query(rate("har_missing_messages_total"), "missing messages"),
            Query(rate("har_clock_jumps_total"), "clocks set back"),
        ),
    ),
    Panel(
        "Interpolated samples",
        "Grid samples inside holes short enough to bridge, as a share of the readings.",
        "percentunit",
        (Query(f"{rate('har_interpolated_samples_total')} / {rate('har_readings_total')}", "interpolated"),),
        steps=((0.05, "yellow"),),
    ),
    Panel(
        "Readings that took no place",
        "Late: their place on the grid had passed. Duplicate: it was taken. A sender that repeats or reorders.",
        "percentunit",
        (
            Query(f"{rate('har_late_readings_total')} / {rate('har_readings_total')}", "late"),
            Query(f"{rate('har_duplicate_readings_total')} / {rate('har_readings_total')}", "duplicate"),
        ),
        steps=((0.01, "red"),),
    ),
    Panel(
        "Lost on the way",
        "Overload: the queue was full, and activities may be missed. Broker: dropped by Mosquitto from full "
        "queues, of all its clients.",
        "mps",
        (
            Query(rate("har_dropped_messages_total", by="reason"), "{{reason}}"),
            Query(f"sum(clamp_min(deriv(har_broker_dropped_messages{{{CHOSEN}}}[$__rate_interval]), 0))", "broker"),
        ),
    ),
)

SATURATION: Final = (
    Panel(
        "Worker's core",
        "Share of one core that the thread of each process takes which receives, recognises and publishes. It cannot "
        "pass 1; from about 0.8 on events come late.",
        "percentunit",
        (Query(f"rate(har_loop_cpu_seconds_total{{{CHOSEN}}}[$__rate_interval])", "{{instance}}"),),
        steps=((0.7, "yellow"), (0.85, "red")),
        most=1,
    ),
    Panel(
        "How full",
        "Of what is bounded, the fullest process: bytes that wait for the worker (queue_bytes), watches followed "
        "(max_watches), events that wait for the broker (10,000), messages not acknowledged yet (20,000).",
        "percentunit",
        (
            Query(f"max(har_queue_bytes{{{CHOSEN}}} / har_queue_limit_bytes{{{CHOSEN}}})", "queue"),
            Query(f"max(har_devices{{{CHOSEN}}} / har_devices_limit{{{CHOSEN}}})", "watches"),
            Query(f"max(har_outbox_events{{{CHOSEN}}}) / 10000", "events to publish"),
            Query(f"max(har_unacknowledged_messages{{{CHOSEN}}}) / 20000", "not acknowledged"),
        ),
        steps=((0.5, "yellow"), (0.9, "red")),
        most=1,
    ),
    Panel(
        "Messages",
        "Received from the broker, refused ones included.",
        "mps",
        (Query(rate("har_messages_total", by="instance"), "{{instance}}"),),
        "stack",
    ),
)

FLEET: Final = Board(
    uid="har-stream-fleet",
    title="har-stream: Fleet",
    description="The watches: what they send, what they do, how soon it is known, and how much more would fit.",
    rows={
        "Now": NOW,
        "Activities": ACTIVITIES,
        "Latency": LATENCY,
        "Quality of the data": QUALITY,
        "Saturation": SATURATION,
    },
    other={"har-stream-service": "Service"},
)
