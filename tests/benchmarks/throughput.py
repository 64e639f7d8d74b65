"""Row 11: recorded data as fast as it goes, over MQTT and from files."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from simulator.datasets.location import data_root, find
from simulator.sources import DATA_SETS
from simulator.synthetic import synthetic_watches
from tests.benchmarks import proc
from tests.benchmarks.figures import Effort, Figure, Row
from tests.benchmarks.stand import broker, service
from tests.programs import BIN

_DATA_SET: Final = "hapt"
_READINGS_PER_S: Final = 400_000
_RATE_HZ: Final = 50
_DAY_S: Final = 86_400
#: Motion of the day: an hour, over and over.
_HOUR_S: Final = 3_600
_MOST_CSV_S: Final = 20.0


def throughput_row(effort: Effort) -> Row:
    """Replay of a whole data set through broker and recognizer, and a day of readings from a file."""
    notes: list[str] = []
    replayed = None
    if find(data_root(), DATA_SETS[_DATA_SET]) is None:
        notes.append(f"no replay: data set {_DATA_SET} is not in {data_root()}; set HAR_DATA_DIR")
    else:
        replayed = _replayed_per_s(effort)
    with tempfile.TemporaryDirectory() as folder:
        day = Path(folder) / "day.csv"
        readings = _write_day(day)
        csv_s = _classify_s(day, effort)
    return Row(
        number=11,
        title="recorded data at full speed",
        figures=[
            Figure(
                name=f"simulator replay {_DATA_SET} --speed max, whole data set",
                value=replayed,
                unit="readings/s",
                target=_READINGS_PER_S,
                better="higher",
            ),
            Figure(
                name=f"har-stream classify, {readings} readings from CSV", value=csv_s, unit="s", target=_MOST_CSV_S
            ),
        ],
        notes=notes,
    )


def _replayed_per_s(effort: Effort) -> float:
    with broker(effort.cores) as mosquitto, service(mosquitto, effort.cores, "--model", "uci-har-cnn", "--qos", "0"):
        command = [str(BIN / "simulator"), "replay", _DATA_SET, "--speed", "max", "--summary", "json"]
        command += ["--broker", mosquitto.host, "--port", str(mosquitto.port)]
        command += ["--format", "cbor", "--qos", "0", "--batch", "500"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    summary = json.loads(done.stdout)
    if not summary["processed"]:
        raise RuntimeError("the service has not processed the whole data set")
    return float(summary["readings"] / summary["seconds"])


def _write_day(path: Path) -> int:
    """A day of one watch as CSV; its readings."""
    (stream,) = synthetic_watches(1, rate_hz=_RATE_HZ)[0].recording(_HOUR_S).streams
    acc, gyro = stream.acc, stream.gyro
    if acc is None or gyro is None:
        raise RuntimeError("synthetic watches have both sensors")
    values = [",".join(f"{value:.4f}" for value in row) for row in np.hstack([acc, gyro]).tolist()]
    period_ns = 1_000_000_000 // _RATE_HZ
    with path.open("w", encoding="utf-8") as file:
        file.write("t_ns,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z\n")
        for hour in range(_DAY_S // _HOUR_S):
            start_ns = int(stream.t_ns[0]) + hour * _HOUR_S * 1_000_000_000
            file.writelines(f"{start_ns + i * period_ns},{text}\n" for i, text in enumerate(values))
    return len(values) * (_DAY_S // _HOUR_S)


def _classify_s(path: Path, effort: Effort) -> float:
    """Wall time of the whole command."""
    begin_s = time.monotonic()
    command = [str(BIN / "har-stream"), "classify", str(path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        proc.pin(process.pid, effort.cores.service)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}")
    return time.monotonic() - begin_s
