# ruff: noqa: INP001  # part of a program, in no package
"""How the processes fare: for whoever runs them."""

from __future__ import annotations

from typing import Final

from drawing import CHOSEN, Board, Panel, Query, increase, quantile, rate, total

NOW: Final = (
    Panel(
        "Connected",
        "Whether every chosen process is subscribed at its broker.",
        "bool_yes_no",
        (Query(f"min(har_connected{{{CHOSEN}}})"),),
        "stat",
        steps=((1, "green"),),
        width=3,
    ),
    Panel(
        "State",
        "Whether a process cannot write its state; nothing is acknowledged until it can.",
        "bool_yes_no",
        (Query(f"1 - max(har_state_failing{{{CHOSEN}}})"),),
        "stat",
        steps=((1, "green"),),
        width=3,
    ),
    Panel(
        "Running for",
        "Time since the start of the process that was started last.",
        "s",
        (Query(f"time() - max(process_start_time_seconds{{{CHOSEN}}})"),),
        "stat",
        width=3,
    ),
    Panel(
        "Worker's core",
        "Share of one core that the busiest process's worker takes.",
        "percentunit",
        (Query(f"max(rate(har_loop_cpu_seconds_total{{{CHOSEN}}}[$__rate_interval]))"),),
        "stat",
        steps=((0.7, "yellow"), (0.85, "red")),
        width=3,
    ),
    Panel(
        "Memory",
        "Resident, of the largest process.",
        "bytes",
        (Query(f"max(process_resident_memory_bytes{{{CHOSEN}}})"),),
        "stat",
        width=3,
    ),
    Panel(
        "Reconnects",
        "Connections after the first, in the time shown.",
        "short",
        (Query(increase("har_reconnects_total", over="$__range")),),
        "stat",
        steps=((5, "yellow"), (20, "red")),
        width=3,
    ),
    Panel(
        "Model",
        "The bundle in use, with its digest.",
        "none",
        (Query(f"count by (name, digest) (har_model_info{{{CHOSEN}}})", "{{name}} {{digest}}"),),
        "stat",
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

STAGES: Final = (
    Panel(
        "Busy, by stage",
        "Seconds per second in each stage. All but publish, which waits for the broker's answer, are work of one "
        "thread, so that their sum cannot pass 1.",
        "percentunit",
        (Query(rate("har_stage_seconds_sum", by="stage"), "{{stage}}"),),
        "stack",
        steps=((0.7, "yellow"), (0.85, "red")),
        width=12,
    ),
    Panel(
        "Time per call, by stage",
        "95 of 100 calls take no longer in the stage. A stage that grows with the others even: more work at once.",
        "s",
        (Query(quantile(0.95, "har_stage_seconds", by="stage"), "{{stage}}"),),
        width=12,
    ),
    Panel(
        "Messages per call, windows per model run",
        "Larger under load: that is how the service keeps up.",
        "short",
        (
            Query(quantile(0.95, "har_call_messages"), "messages p95"),
            Query(quantile(0.95, "har_run_windows"), "windows p95"),
        ),
    ),
    Panel("Bytes", "Payload received.", "Bps", (Query(rate("har_message_bytes_total"), "payload"),)),
    Panel(
        "Events by type",
        "Published events.",
        "cps",
        (Query(rate("har_events_total", by="type"), "{{type}}"),),
    ),
)

QUEUES: Final = (
    Panel(
        "Waiting messages",
        "Bursts are fine; what does not drain ends in drops, or in messages left with the broker.",
        "short",
        (Query(f"har_queue_messages{{{CHOSEN}}}", "{{instance}}"),),
    ),
    Panel(
        "Waiting bytes",
        "Bounded by queue_bytes; past it the oldest message of QoS 0 goes, and messages of QoS 1 are left.",
        "bytes",
        (
            Query(f"har_queue_bytes{{{CHOSEN}}}", "{{instance}}"),
            Query(f"min(har_queue_limit_bytes{{{CHOSEN}}})", "limit"),
        ),
    ),
    Panel(
        "Not acknowledged",
        "Messages worked off whose record is not on the disk yet, or whose events the broker has not taken. At "
        "20,000 it sends no others.",
        "short",
        (
            Query(f"har_unacknowledged_messages{{{CHOSEN}}}", "messages {{instance}}"),
            Query(f"har_outbox_events{{{CHOSEN}}}", "events to publish {{instance}}"),
        ),
        steps=((10_000, "yellow"), (20_000, "red")),
    ),
)

BROKER: Final = (
    Panel(
        "Subscribed",
        "1 while the process is subscribed at its broker.",
        "short",
        (Query(f"har_connected{{{CHOSEN}}}", "{{instance}}"),),
        most=1,
    ),
    Panel(
        "Reconnects and lost sessions",
        "Lost: the broker no longer had the session, and what was queued in it.",
        "short",
        (
            Query(increase("har_reconnects_total"), "reconnects"),
            Query(increase("har_lost_sessions_total"), "lost sessions"),
        ),
    ),
    Panel(
        "Dropped, left, refused",
        "Overload: dropped from the full queue. Left: kept by the broker, for want of room here. Refused: events that "
        "the broker's access list does not let through.",
        "mps",
        (
            Query(rate("har_dropped_messages_total", by="reason"), "{{reason}}"),
            Query(rate("har_left_messages_total"), "left with the broker"),
            Query(rate("har_refused_events_total"), "refused events"),
        ),
    ),
)

INTERFACES: Final = (
    Panel(
        "Pushes over HTTP",
        "Messages pushed to /ingest, by the answer's status: 202 queued, 401 wrong token, 429 too many of one device, "
        "503 no room.",
        "mps",
        (Query(rate("har_pushes_total", by="status"), "{{status}}"),),
        "stack",
        width=12,
    ),
    Panel(
        "Home Assistant",
        "Documents published for it, by kind: a watch's discovery, health and removal; ignored are those found at "
        "the broker that nobody here writes.",
        "cps",
        (Query(rate("har_home_assistant_documents_total", by="kind"), "{{kind}}"),),
        "stack",
        width=12,
    ),
)

STATE: Final = (
    Panel(
        "Journal",
        "Payload behind the last snapshot, which a restart works off again; a snapshot sets it back.",
        "bytes",
        (Query(f"har_journal_bytes{{{CHOSEN}}}", "{{instance}}"),),
    ),
    Panel(
        "Time to disk",
        "95 and 99 of 100 writes of the journal take no longer; messages are acknowledged behind them.",
        "s",
        (
            Query(quantile(0.95, "har_journal_seconds"), "journal p95"),
            Query(quantile(0.99, "har_journal_seconds"), "journal p99"),
        ),
    ),
    Panel(
        "Busy writing",
        "Seconds of writing per second: records as they come, and snapshots of all watches now and then.",
        "percentunit",
        (
            Query(rate("har_journal_seconds_sum"), "journal"),
            Query(rate("har_snapshot_seconds_sum"), "snapshots"),
        ),
        "stack",
    ),
    Panel(
        "Snapshots",
        "Taken and written.",
        "short",
        (Query(increase("har_snapshot_seconds_count"), "snapshots"),),
    ),
    Panel(
        "Dead letters",
        "Refused messages that were kept in a file of the state's folder.",
        "mps",
        (Query(rate("har_dead_letters_total"), "dead letters"),),
    ),
    Panel(
        "State failing",
        "1 while the state cannot be written: the disk is full, or gone.",
        "short",
        (Query(f"har_state_failing{{{CHOSEN}}}", "{{instance}}"),),
        steps=((1, "red"),),
        most=1,
    ),
)

PROCESS: Final = (
    Panel(
        "CPU",
        "Cores in use: by the whole process, and by the one thread that receives, recognises and publishes. The rest "
        "is the journal's.",
        "percentunit",
        (
            Query(f"rate(process_cpu_seconds_total{{{CHOSEN}}}[$__rate_interval])", "{{instance}}"),
            Query(f"rate(har_loop_cpu_seconds_total{{{CHOSEN}}}[$__rate_interval])", "worker of {{instance}}"),
        ),
    ),
    Panel(
        "Resident memory",
        "Flat at a steady number of watches.",
        "bytes",
        (Query(f"process_resident_memory_bytes{{{CHOSEN}}}", "{{instance}}"),),
    ),
    Panel(
        "Open files",
        "Descriptors as a share of what the process may have: connections, journal, snapshots.",
        "percentunit",
        (Query(f"process_open_fds{{{CHOSEN}}} / process_max_fds{{{CHOSEN}}}", "{{instance}}"),),
        steps=((0.8, "red"),),
        most=1,
    ),
    Panel(
        "Garbage collections",
        "Runs of Python's collector by generation; each of the oldest stops all else for a moment.",
        "cps",
        (Query(rate("python_gc_collections_total", by="generation"), "generation {{generation}}"),),
    ),
    Panel(
        "Watches by process",
        "Followed by each; with several workers the names are shared out evenly.",
        "short",
        (Query(total("har_devices", by="instance"), "{{instance}}"),),
    ),
)

SERVICE: Final = Board(
    uid="har-stream-service",
    title="har-stream: Service",
    description="The processes: their work, queues, broker, state and use of the machine.",
    rows={
        "Now": NOW,
        "Work": STAGES,
        "Queues": QUEUES,
        "Broker": BROKER,
        "Other interfaces": INTERFACES,
        "State": STATE,
        "Process": PROCESS,
    },
    other={"har-stream-fleet": "Fleet"},
)
