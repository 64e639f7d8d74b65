"""`har-stream`: arguments, output and exit statuses.

0 done or stopped as told, 1 the broker could not be used (with --exit-on-failure), 2 something given is wrong.
"""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, get_args, get_origin, get_type_hints

import msgspec
import typer

from streamer.commandline import fail, run, say
from streamer.completion import Offer, bundles, one_of
from streamer.config import DEFAULT_MODEL, EMBEDDED, Settings, choices, load_settings
from streamer.errors import ConfigError, HarError
from streamer.logs import log_to_stderr, speaks_json

# What takes long to import is imported by the commands that need it: --help must be instant.

app = typer.Typer(add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None)
#: Of the log, for people.
_LINE: Final = "%(asctime)s %(levelname)s %(message)s"
_CONFIG_HELP: Final = "TOML file with settings; the command line and HAR_STREAM_* in the environment win over it."


def main() -> NoReturn:
    """Entry point of `har-stream`."""
    run(app, "har-stream")


def _run(ctx: typer.Context, config: Path | None, **options: Any) -> None:
    """Recognize human activities in watches' motion readings that come over MQTT."""
    given = {name: value for name, value in options.items() if value is not None and value != ()}
    if ctx.invoked_subcommand is not None:
        refused = [f"--{name.replace('_', '-')}" for name in given] + (["--config"] if config else [])
        if refused:
            raise typer.BadParameter(
                f"{', '.join(refused)} would be ignored by {ctx.invoked_subcommand}; "
                f"expected options behind the subcommand: har-stream {ctx.invoked_subcommand} --help"
            )
        return
    settings = load_settings(given, file=config)
    log_to_stderr(settings.log_format, text=_LINE)
    from streamer.mqtt.tls import tls_context

    # What can be told at once is told before the model is loaded.
    settings.password()
    settings.ingest_token()
    if settings.broker == EMBEDDED:
        settings.embedded_account()
    tls_context(tls=settings.tls, ca=settings.tls_ca, certificate=settings.tls_cert, key=settings.tls_key)
    if settings.workers > 1:
        from streamer.workers import run_workers

        run_workers(settings, _run_worker)
    else:
        _run_worker(settings, 0)


def _run_worker(settings: Settings, worker: int) -> None:
    """One process's whole life; several workers each begin here."""
    log_to_stderr(settings.log_format, text=_LINE)
    # Imports make objects that stay: to look for garbage among them took a tenth of a start, and more ever after.
    gc.disable()
    from streamer.runner import run_service

    gc.freeze()
    gc.enable()
    try:
        run_service(settings, worker=worker)
    except HarError as error:
        if settings.workers == 1:
            raise
        fail(f"har-stream worker {worker}", str(error), status=2 if isinstance(error, ConfigError) else 1)
    except Exception:
        if not speaks_json():
            raise
        # The process that a worker is would write a traceback.
        sys.excepthook(*sys.exc_info())
        sys.exit(1)


def _with_settings(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each setting: name, type, bounds and help stand in Settings alone.

    The command's own options, keyword-only, come first.
    """
    hints = get_type_hints(function, include_extras=True)
    own = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    parameters = [
        inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
        inspect.Parameter(
            "config",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[Path | None, typer.Option(help=_CONFIG_HELP)],
        ),
        *own,
    ]
    for field in msgspec.structs.fields(Settings):
        description, default = _description(field.type), field.default
        shown = "" if default is None or default is False else f"  [default: {_shown(default)}]"
        kind, metavar = _option_type(field.type)
        option = typer.Option(
            help=f"{description}{shown}", show_default=False, metavar=metavar, autocompletion=_offer(field)
        )
        parameters.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[kind, option],
            )
        )
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    return function


def _offer(field: msgspec.structs.FieldInfo) -> Offer | None:
    """What a shell offers for a setting's value; None for names of files, and whatever only the user knows."""
    if field.name == "model":
        return bundles
    if field.name == "broker":
        return one_of([EMBEDDED, "localhost"])
    names = choices(field.type)
    return one_of(names) if names else None


def _description(annotation: Any) -> str:
    return str(annotation.__metadata__[-1].description)


def _shown(default: object) -> str:
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _option_type(annotation: Any) -> tuple[Any, str | None]:
    """What typer makes of a setting's option, None when it isn't given; and what help calls its value.

    Text, but for flags: the settings themselves say what they take, in the same words for every source.
    """
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    members = [member for member in get_args(annotation) if member is not type(None)]
    if get_origin(annotation) is Literal:
        return str | None, f"[{'|'.join(map(str, members))}]"
    if get_origin(annotation) is tuple:
        return list[str] | None, "FILTER"
    if members:
        return _option_type(members[0])
    if annotation is bool:
        return bool | None, None
    return str | None, {int: "INTEGER", float: "NUMBER"}.get(annotation, "TEXT")


app.callback(invoke_without_command=True)(_with_settings(_run))


@app.command()
def classify(
    file: Annotated[Path, typer.Argument(help="Recording as CSV, JSON lines, Parquet or .npz.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Option(
            help=f"Shipped bundle's name or a bundle's folder.  [default: {DEFAULT_MODEL}]", autocompletion=bundles
        ),
    ] = None,
    output: Annotated[Literal["text", "json"], typer.Option(help="What to print.")] = "text",
    publish: Annotated[
        Literal["changes", "windows"], typer.Option(help="Show changes of activity, or every window too.")
    ] = "changes",
    explain: Annotated[
        bool, typer.Option("--explain", help="Also say in what the readings are unlike the model's training data.")
    ] = False,
) -> None:
    """Run the recognizer over a recording, without a broker."""
    from streamer.activities import UNKNOWN
    from streamer.bundle import find_bundle, load_bundle
    from streamer.offline import classify_recordings
    from streamer.output import printer
    from streamer.recording import read_recordings

    show = printer(output)
    recordings = read_recordings(file)
    # From the same sources as the service's.
    bundle = load_bundle(find_bundle(load_settings({} if model is None else {"model": model}).model))
    recognised = False
    for event in classify_recordings(recordings, bundle, every_window=publish == "windows"):
        show(event)
        recognised |= event.activity != UNKNOWN
    if explain:
        from streamer.explanation import explain as explanation_of
        from streamer.explanation import print_explanations

        told = (explanation_of(recording, bundle.manifest) for recording in recordings)
        print_explanations(told, as_json=output == "json")
    elif not recognised:
        say("har-stream", "nothing was recognised; --explain says in what the readings are unlike the training data")


def _doctor(
    ctx: typer.Context,
    config: Path | None,
    *,
    listen: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds to wait for readings.", metavar="SECONDS")
    ] = 10.0,
    queue: Annotated[
        bool, typer.Option("--queue/--no-queue", help="Measure, by 1500 short messages, what the broker keeps.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="One JSON document instead of lines.")] = False,
    **options: Any,
) -> None:
    """Find out why nothing comes: broker, rights, readings, model. Takes the service's options; status 1: a fault."""
    given = {name: value for name, value in options.items() if value is not None and value != ()}
    settings = load_settings(given, file=config)
    from streamer.doctor.examination import examine
    from streamer.doctor.report import Listening, print_json, print_lines

    listening = Listening()
    findings = examine(settings, listen_s=listen, queue=queue, tell=listening.tell)
    try:
        good = print_json(settings, findings) if json else print_lines(settings, findings, listening)
    finally:
        listening.clear()
    ctx.exit(0 if good else 1)


app.command(name="doctor")(_with_settings(_doctor))
