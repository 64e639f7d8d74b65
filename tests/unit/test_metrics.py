"""Names, label sets and cost of the instruments."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from streamer.activities import ACTIVITIES
from streamer.errors import RejectReason
from streamer.metrics import Metrics


def instruments() -> Metrics:
    return Metrics(activities=ACTIVITIES, model="demo", model_digest="0123456789abcdef")


def families(metrics: Metrics) -> dict[str, Metric]:
    text = generate_latest(metrics.registry).decode()
    parsed: Iterable[Metric] = text_string_to_metric_families(text)
    return {family.name: family for family in parsed}


def test_names_say_noun_and_unit() -> None:
    names = [name for name in families(instruments()) if not re.match(r"process_|python_", name)]
    assert all(re.fullmatch(r"har(_[a-z]+)+", name) for name in names), names
    assert {"har_messages", "har_stage_seconds", "har_end_to_end_seconds", "har_queue_bytes", "har_model_info"} <= set(
        names
    )


def test_process_figures_are_shown() -> None:
    assert {"process_resident_memory_bytes", "process_cpu_seconds"} <= families(instruments()).keys()


def test_every_series_exists_from_the_start() -> None:
    found = families(instruments())
    assert {sample.labels["reason"] for sample in found["har_rejects"].samples} == set(RejectReason)
    assert all(sample.value == 0 for sample in found["har_rejects"].samples if sample.name.endswith("_total"))
    events = {(sample.labels["type"], sample.labels["activity"]) for sample in found["har_events"].samples}
    assert events == {
        (kind, activity) for kind in ("start", "end", "state", "window") for activity in (*ACTIVITIES, "unknown")
    }


def test_labels_come_from_closed_sets() -> None:
    labels = {
        label
        for name, family in families(instruments()).items()
        if name.startswith("har_")
        for sample in family.samples
        for label in sample.labels
    }
    assert labels == {"kind", "reason", "stage", "status", "type", "activity", "le", "name", "digest", "finding"}


def test_counts_reach_the_registry() -> None:
    metrics = instruments()
    metrics.rejects[RejectReason.CBOR].inc(3)
    metrics.stage_seconds["classify"].observe(0.004)
    metrics.dropped_messages["overload"].inc()
    metrics.evictions["age"].inc()
    metrics.events["end", "unknown"].inc()
    metrics.devices.set(200)
    value = metrics.registry.get_sample_value
    assert value("har_rejects_total", {"reason": "cbor"}) == 3
    assert value("har_stage_seconds_sum", {"stage": "classify"}) == 0.004
    assert value("har_stage_seconds_bucket", {"stage": "classify", "le": "0.0025"}) == 0
    assert value("har_stage_seconds_bucket", {"stage": "classify", "le": "0.005"}) == 1
    assert value("har_dropped_messages_total", {"reason": "overload"}) == 1
    assert value("har_evictions_total", {"reason": "age"}) == 1
    assert value("har_events_total", {"type": "end", "activity": "unknown"}) == 1
    assert value("har_devices") == 200
    assert value("har_model_info", {"name": "demo", "digest": "0123456789abcdef"}) == 1


def test_what_is_looked_up_is_as_it_is_when_asked() -> None:
    metrics = instruments()
    value = metrics.registry.get_sample_value
    before_s, cpu_s = time.thread_time(), value("har_loop_cpu_seconds_total")
    assert cpu_s is not None
    assert before_s <= cpu_s <= time.thread_time()
    assert value("har_active_devices", {"activity": "walking"}) == 0
    metrics.looked_up.watches_by_activity = lambda: {"walking": 7}
    assert value("har_active_devices", {"activity": "walking"}) == 7
    assert value("har_active_devices", {"activity": "unknown"}) == 0


def test_two_services_in_a_process_do_not_share_counts() -> None:
    one, other = instruments(), instruments()
    one.messages.inc()
    assert other.registry.get_sample_value("har_messages_total") == 0


def test_promtool_finds_no_fault(promtool: Path) -> None:
    text = generate_latest(instruments().registry)
    har_only = b"\n".join(line for line in text.splitlines() if b"har_" in line and b"_created" not in line) + b"\n"
    checked = subprocess.run([promtool, "check", "metrics"], input=har_only, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")
