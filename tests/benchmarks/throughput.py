"""Row 11: recorded data as fast as it goes, over MQTT and from files."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
#: Seconds for the day, by the form of the file.
_MOST_S: Final = {"csv": 20.0, "npz": 10.0, "parquet": 10.0}


def throughput_row(effort: Effort) -> Row:
    """Replay of a whole data set through broker and recognizer, and a day of readings from a file."""
    notes: list[str] = []
    replayed = None
    if find(data_root(), DATA_SETS[_DATA_SET]) is None:
        notes.append(f"no replay: data set {_DATA_SET} is not in {data_root()}; set HAR_DATA_DIR")
    else:
        replayed = _replayed_per_s(effort)
    with tempfile.TemporaryDirectory() as folder:
        files, readings = _write_day(Path(folder))
        classify_s = {kind: _classify_s(file, effort) for kind, file in files.items()}
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
            *(
                Figure(
                    name=f"har-stream classify, {readings} readings from {kind}",
                    value=took_s,
                    unit="s",
                    target=_MOST_S[kind],
                )
                for kind, took_s in classify_s.items()
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


def _write_day(folder: Path) -> tuple[dict[str, Path], int]:
    """A day of one watch in every form of file; its readings."""
    (stream,) = synthetic_watches(1, rate_hz=_RATE_HZ)[0].recording(_HOUR_S).streams
    acc, gyro = stream.acc, stream.gyro
    if acc is None or gyro is None:
        raise RuntimeError("synthetic watches have both sensors")
    hours = _DAY_S // _HOUR_S
    t_ns = int(stream.t_ns[0]) + np.arange(hours * len(acc)) * (1_000_000_000 // _RATE_HZ)
    # As many digits as a text has.
    hour = np.round(np.hstack([acc, gyro]), 4)
    values = np.tile(hour, (hours, 1))
    files = {kind: folder / f"day.{kind}" for kind in _MOST_S}
    columns = [f"{sensor}_{axis}" for sensor in ("acc", "gyro") for axis in "xyz"]
    texts = [",".join(f"{value:.4f}" for value in row) for row in hour.tolist()]
    with files["csv"].open("w", encoding="utf-8") as file:
        file.write(f"t_ns,{','.join(columns)}\n")
        file.writelines(f"{t},{text}\n" for t, text in zip(t_ns.tolist(), texts * hours, strict=True))
    np.savez(files["npz"], t_ns=t_ns, acc=values[:, :3], gyro=values[:, 3:])
    table = pa.table({"t_ns": t_ns} | {name: values[:, i].copy() for i, name in enumerate(columns)})
    pq.write_table(table, files["parquet"])
    return files, len(t_ns)


def _classify_s(path: Path, effort: Effort) -> float:
    """Wall time of the whole command."""
    begin_s = time.monotonic()
    command = [str(BIN / "har-stream"), "classify", str(path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        proc.pin(process.pid, effort.cores.service)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}")
    return time.monotonic() - begin_s
