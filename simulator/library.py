"""What the command `simulator` does, for use from Python."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from simulator.datasets.location import data_root
from simulator.replay import Format, Pacer, Progress, replay
from simulator.session import Broker, open_session
from simulator.sources import DATA_SETS, Selection, Split, load
from simulator.synthetic import synthetic_watches
from simulator.watches import fleet, in_time_order
from streamer.recording import Recording

#: Messages hold half a second of readings, as those of watches do.
_BATCH_S = 0.5


def read_recordings(
    source: str | os.PathLike[str],
    *,
    subject: str | None = None,
    split: Split | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> list[Recording]:
    """The recordings of a data set by its name, or of a file: CSV, JSON lines, Parquet or .npz.

    Args:
        source: one of uci-har, hapt, fitbit, wisdm-watch, or a path.
        subject: one person of a data set, None for all.
        split: the published train or test part of uci-har and hapt, None for both.
        folder: where the data sets are, None for HAR_DATA_DIR or the user's cache folder.

    Raises:
        RecordingError: it is missing or not in its form.
        ConfigError: the selection does not fit the source.
    """
    root = data_root() if folder is None else Path(folder)
    name = os.fspath(source)
    found = load(name if name in DATA_SETS else str(Path(name)), root, Selection(subject, split))
    return [watch for watch in found if isinstance(watch, Recording)]


def synthetic_recordings(
    seconds: float, *, devices: int = 1, activities: Sequence[str] = (), rate_hz: int = 50, seed: int = 0
) -> list[Recording]:
    """Labelled recordings of made-up watches at the wrist, whose wearers change what they do about once a minute.

    Args:
        seconds: of each.
        devices: how many.
        activities: what their wearers do, empty for what the default model recognises.
        rate_hz: readings per second, a divisor of 10^9.
        seed: the same seed gives the same motion at the same rate.

    Raises:
        ConfigError: an activity without a profile, or another rate.
    """
    watches = synthetic_watches(devices, seed=seed, rate_hz=rate_hz, playlist=activities)
    return [watch.recording(seconds) for watch in watches]


def replay_recordings(
    recordings: Sequence[Recording],
    *,
    broker: Broker | None = None,
    speed: float | None = 1.0,
    start_ns: int | None = None,
    payload_format: Format = "cbor",
) -> Progress:
    """Send recordings to a broker as live watches would; return when every har-stream there has processed them.

    Captures leave in their own messages. Not to be called in a running event loop.

    Args:
        recordings: one watch each.
        broker: where, as whom; None for localhost:1883.
        speed: times real time, None for as fast as it is processed.
        start_ns: where the first reading is moved to, None to leave times as recorded.
        payload_format: of the messages; numbers travel in full precision in both.

    Raises:
        BrokerError: there is no broker, or a service does not answer.
    """
    watches = fleet(recordings, devices=None, start_ns=start_ns)
    progress = Progress(devices=len(watches))

    async def send() -> None:
        async with open_session(broker or Broker("localhost")) as session:
            await replay(
                session,
                in_time_order(watches, None, batch_s=_BATCH_S),
                Pacer(speed),
                progress,
                start_ns=min(watch.first_due_ns for watch in watches),
                payload_format=payload_format,
            )

    asyncio.run(send())
    return progress
