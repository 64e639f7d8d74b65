"""The command `simulator`; heavy imports wait until a subcommand needs them, so that --help is instant."""

from __future__ import annotations

import json
import logging
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from streamer.activities import ACTIVITIES
from streamer.commandline import fail, run, say
from streamer.completion import bundles, one_of
from streamer.errors import ConfigError, nearest
from streamer.logs import SIMULATOR_LOG_FORMAT, log_to_stderr

app = typer.Typer(
    help="Replay data sets, recordings and synthetic motion over MQTT, as watches would send them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_INTERRUPTED: Final = 130


class Split(StrEnum):
    """The published split by subject."""

    TRAIN = "train"
    TEST = "test"


class PayloadFormat(StrEnum):
    """How readings are written."""

    JSON = "json"
    CBOR = "cbor"


class LoadFormat(StrEnum):
    """How a load's readings are written."""

    CBOR = "cbor"
    JSON = "json"
    SINGLE = "single"


class Published(StrEnum):
    """What the service publishes."""

    CHANGES = "changes"
    WINDOWS = "windows"


class Summary(StrEnum):
    """How the summary is printed."""

    TEXT = "text"
    JSON = "json"


def _sources(incomplete: str) -> list[str]:
    """Offered on Tab; a recording is completed as a file."""
    from simulator.sources import NAMES

    return one_of(NAMES)(incomplete)


def _data_sets(incomplete: str) -> list[str]:
    from simulator.sources import DATA_SETS

    return one_of(DATA_SETS)(incomplete)


def _subjects(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offered on Tab: the people of the data set that is named before."""
    from simulator.sources import SUBJECTS

    # An option that still lacks its value keeps what stands before it from being parsed.
    named = [ctx.params.get("source"), *ctx.args]
    return one_of(next((SUBJECTS[name] for name in named if name in SUBJECTS), ()))(incomplete)


def _labels(incomplete: str) -> list[str]:
    from streamer.activities import ACTIVITIES

    return one_of(ACTIVITIES)(incomplete)


def _faults(incomplete: str) -> list[str]:
    from simulator.faults import FAULTS

    return one_of(FAULTS)(incomplete)


BrokerHost = Annotated[str, typer.Option(envvar="SIMULATOR_BROKER", help="MQTT broker's host")]
BrokerPort = Annotated[int, typer.Option(envvar="SIMULATOR_PORT", min=1, max=65535, help="and port")]
Username = Annotated[str | None, typer.Option(help="user name at the broker")]
PasswordFile = Annotated[
    Path | None, typer.Option(help="file that holds the password; SIMULATOR_PASSWORD may hold it, too")
]
Tls = Annotated[bool, typer.Option("--tls", help="connect by TLS, verifying the broker's certificate")]
TlsCa = Annotated[str | None, typer.Option(help="CA certificates (PEM) to verify with; implies TLS")]
TlsCert = Annotated[str | None, typer.Option(help="client certificate (PEM); implies TLS")]
TlsKey = Annotated[str | None, typer.Option(help="client certificate's key (PEM)")]


@app.command()
def sources() -> None:
    """List what can be replayed, where its data was found, and how to get what is missing."""
    from simulator.datasets.location import data_root
    from simulator.sources import descriptions

    for name, what, where in descriptions(data_root()):
        print(f"{name:12} {what}\n{'':12} {where}")


@app.command()
def download(
    source: Annotated[str, typer.Argument(help="uci-har, hapt or wisdm-watch", autocompletion=_data_sets)],
) -> None:
    """Fetch a data set from its publisher into HAR_DATA_DIR or the user's cache folder."""
    from simulator.datasets.location import data_root
    from simulator.download import download as fetch
    from simulator.progress import of_download
    from simulator.sources import DATA_SETS

    if source not in DATA_SETS:
        raise ConfigError(f"source {source!r}: expected one of {', '.join(DATA_SETS)}{nearest(source, DATA_SETS)}")
    with of_download(source) as show:
        place = fetch(DATA_SETS[source], data_root(), on_progress=show)
    print(f"{source}: {place}")


@app.command()
def replay(
    source: Annotated[
        str,
        typer.Argument(
            help="uci-har, hapt, fitbit, wisdm-watch, synthetic, or a file: CSV, JSON lines, Parquet, .npz",
            autocompletion=_sources,
        ),
    ],
    broker: BrokerHost = "localhost",
    port: BrokerPort = 1883,
    username: Username = None,
    password_file: PasswordFile = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    subject: Annotated[
        str | None, typer.Option(help="only this person of a data set", autocompletion=_subjects)
    ] = None,
    split: Annotated[Split | None, typer.Option(help="only this part of uci-har or hapt")] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="how many watches; recordings are repeated under further names")
    ] = None,
    speed: Annotated[str, typer.Option(help="times real time, or max", autocompletion=one_of(["1", "max"]))] = "1",
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000, help="readings per message; by default those of half a second, of five at --speed max"
        ),
    ] = None,
    payload_format: Annotated[PayloadFormat, typer.Option("--format", help="of the payload")] = PayloadFormat.JSON,
    qos: Annotated[int, typer.Option(min=0, max=1, help="MQTT quality of service")] = 1,
    start: Annotated[
        str,
        typer.Option(
            help="keep times as recorded, or move the first reading to now or to an ISO 8601 time",
            autocompletion=one_of(["now", "recorded"]),
        ),
    ] = "recorded",
    duration: Annotated[float | None, typer.Option(min=0, help="seconds of recorded time to replay")] = None,
    preroll: Annotated[
        float, typer.Option(min=0, help="seconds of recorded time sent at once; --start now then means their end")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="of synthetic motion and faults")] = 0,
    rate: Annotated[int, typer.Option(min=1, max=1000, help="readings per second of synthetic watches")] = 50,
    activity: Annotated[
        list[str] | None,
        typer.Option(
            help="what synthetic watches do; may be repeated; by default what the default model recognises",
            autocompletion=one_of((*ACTIVITIES, "waving")),
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="what the watch is called, in place of its own name")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="jitter[=SECONDS], drop[=SHARE], duplicate[=SHARE] or reorder[=SHARE]; may be repeated",
            autocompletion=_faults,
        ),
    ] = None,
    summary: Annotated[Summary, typer.Option(help="form of the summary on standard output")] = Summary.TEXT,
) -> None:
    """Send a source's readings as live watches would, and return when the service has processed them."""
    from simulator.command import ReplayOptions, run_replay
    from simulator.session import Broker, read_password
    from streamer.mqtt.tls import tls_context

    progress = run_replay(
        ReplayOptions(
            source=source,
            broker=Broker(
                broker,
                port,
                username,
                read_password(password_file),
                1 if qos else 0,
                tls_context(tls=tls, ca=tls_ca, certificate=tls_cert, key=tls_key),
            ),
            subject=subject,
            split=None if split is None else split.value,
            devices=devices,
            speed=speed,
            batch=batch,
            payload_format=payload_format.value,
            start=start,
            duration_s=duration,
            preroll_s=preroll,
            seed=seed,
            rate_hz=rate,
            activities=tuple(activity or ()),
            name=name,
            faults=tuple(fault or ()),
        )
    )
    if summary is Summary.JSON:
        print(json.dumps({"source": source, **progress.summary()}))
    else:
        print(", ".join(f"{name} {value}" for name, value in progress.summary().items()))
    if progress.interrupted:
        raise typer.Exit(_INTERRUPTED)


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="file to write: .jsonl, .csv or .parquet", show_default=False)],
    label: Annotated[
        str | None, typer.Option(help="what the wearers do, such as walking; written with it", autocompletion=_labels)
    ] = None,
    device: Annotated[list[str] | None, typer.Option(help="only this watch; may be repeated")] = None,
    duration: Annotated[
        float | None, typer.Option(min=0.1, help="seconds after which to end; without it, Ctrl-C does")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a file that is there")] = False,
    topic: Annotated[
        list[str] | None, typer.Option(help="filter of readings; may be repeated; by default those of har-stream")
    ] = None,
    broker: BrokerHost = "localhost",
    port: BrokerPort = 1883,
    username: Username = None,
    password_file: PasswordFile = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    qos: Annotated[int, typer.Option(min=0, max=1, help="MQTT quality of service")] = 1,
    summary: Annotated[Summary, typer.Option(help="form of the summary on standard output")] = Summary.TEXT,
) -> None:
    """Write what watches send into a file, to be replayed, classified or learned from.

    The file is whole at every moment: .jsonl and .csv grow message by message, and are on the disk a second later.
    Parquet is made at the end; until then its messages stand in OUT.jsonl, which is what a crash leaves.
    """
    from simulator.recording_command import RecordOptions, describe, run_record
    from simulator.session import Broker, read_password
    from streamer.mqtt.tls import tls_context
    from streamer.wire import topics

    captured, place = run_record(
        RecordOptions(
            broker=Broker(
                broker,
                port,
                username,
                read_password(password_file),
                1 if qos else 0,
                tls_context(tls=tls, ca=tls_ca, certificate=tls_cert, key=tls_key),
            ),
            out=out,
            label=label,
            devices=tuple(device or ()),
            filters=tuple(topic or topics.DEFAULT_FILTERS),
            duration_s=duration,
            force=force,
        )
    )
    if summary is Summary.JSON:
        print(json.dumps({"file": str(place), **captured.summary()}))
    else:
        print("\n".join(describe(captured, place)))


@app.command()
def load(
    devices: Annotated[int, typer.Option(min=1, max=999_999, help="how many watches")],
    duration: Annotated[float, typer.Option(min=1, max=86_400, help="seconds of sending")],
    rate: Annotated[int, typer.Option(min=1, max=1000, help="readings per second of each watch")] = 50,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="readings per message")] = 50,
    payload_format: Annotated[
        LoadFormat, typer.Option("--format", help="of the payload; single: JSON with one reading per message")
    ] = LoadFormat.CBOR,
    broker: BrokerHost = "localhost",
    port: BrokerPort = 1883,
    username: Username = None,
    password_file: PasswordFile = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    qos: Annotated[int, typer.Option(min=0, max=1, help="MQTT quality of service of readings")] = 0,
    publish: Annotated[
        Published, typer.Option(help="the service's --publish: which events to wait for")
    ] = Published.CHANGES,
    model: Annotated[str | None, typer.Option(help="the service's --model", autocompletion=bundles)] = None,
    lateness: Annotated[float, typer.Option(min=0, max=60, help="the service's --lateness")] = 0.1,
    warmup: Annotated[
        float, typer.Option(min=0, help="seconds in the beginning whose latency does not count; watches join within 5")
    ] = 5.0,
    seed: Annotated[int, typer.Option(min=0, help="of the motion")] = 0,
    summary: Annotated[Summary, typer.Option(help="form of the report on standard output")] = Summary.TEXT,
) -> None:
    """Send as many watches as asked for, and report rate, latency and losses of a service's events."""
    from simulator.load import LoadOptions, run_load
    from simulator.session import Broker, read_password
    from streamer.config import DEFAULT_MODEL
    from streamer.mqtt.tls import tls_context

    report = run_load(
        Broker(
            broker,
            port,
            username,
            read_password(password_file),
            1 if qos else 0,
            tls_context(tls=tls, ca=tls_ca, certificate=tls_cert, key=tls_key),
        ),
        LoadOptions(
            devices=devices,
            duration_s=duration,
            rate_hz=rate,
            batch=batch,
            payload_format=payload_format.value,
            published=publish.value,
            model=model or DEFAULT_MODEL,
            lateness_s=lateness,
            warmup_s=warmup,
            seed=seed,
        ),
    )
    if summary is Summary.JSON:
        print(json.dumps(report.summary()))
    else:
        print("\n".join(f"{name:24}{value}" for name, value in report.summary().items()))
    if report.lost == report.expected > 0:
        say("simulator", f"no event came; is a service running at this broker with --publish {publish.value}?")
    if report.interrupted:
        raise typer.Exit(_INTERRUPTED)


def main() -> NoReturn:
    """Entry point of `simulator`."""
    log_format = os.environ.get(SIMULATOR_LOG_FORMAT) or "text"
    if log_format not in {"text", "json"}:
        fail("simulator", f"environment: {SIMULATOR_LOG_FORMAT} is {log_format!r}; expected text or json", status=2)
    if log_format == "json":
        log_to_stderr("json")
    else:
        log_to_stderr("text", level=logging.WARNING, text="simulator: %(message)s")
    run(app, "simulator")
