"""How the three programs end: every mistake is one line on standard error, which names what was given.

Exit status 0: done or stopped as told, 1: something failed, 2: something given is wrong, 130: interrupted.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from streamer.errors import ConfigError, HarError, nearest
from streamer.logs import speaks_json

_INTERRUPTED = 130


def run(app: typer.Typer, program: str) -> NoReturn:
    """Run a program's command line and exit; `--version` alone is answered for each of them here."""
    if sys.argv[1:] == ["--version"]:
        from importlib.metadata import version  # noqa: PLC0415 - takes a while to import

        print(f"{program} {version('har-stream')}")  # noqa: T201 # a command line prints
        sys.exit(0)
    try:
        status = app(prog_name=program, standalone_mode=False)
    except HarError as error:
        fail(program, str(error), status=2 if isinstance(error, ConfigError) else 1)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_INTERRUPTED)
    except Exception as error:
        # Wrong usage: typer's own classes for it have moved between its releases, what they can do has not.
        if not hasattr(error, "format_message"):
            raise
        text = _usage(error, sys.argv[1:])
        if not text.strip() or "\n" in text:  # help for a command line without a command
            if text.strip():
                print(text, file=sys.stderr)  # noqa: T201 # a command line prints
            sys.exit(2)
        fail(program, f"{text}; see {_command(error) or program} --help", status=2)
    sys.exit(status if isinstance(status, int) else 0)


def say(program: str, message: str) -> None:
    """Tell people something, besides what is printed."""
    if speaks_json():
        logging.getLogger(program).info("%s", message)
    else:
        print(f"{program}: {message}", file=sys.stderr, flush=True)  # noqa: T201 # a command line prints


def fail(program: str, message: str, *, status: int) -> NoReturn:
    """Say what is wrong and exit."""
    if speaks_json():
        logging.getLogger(program).critical("%s", message)
    else:
        print(f"{program}: {message}", file=sys.stderr)  # noqa: T201 # a command line prints
    sys.exit(status)


def _usage(error: Exception, arguments: Sequence[str]) -> str:
    """What is wrong, with the value that was given, which typer leaves out."""
    text = str(getattr(error, "format_message")())  # noqa: B009 # duck-typed, see above
    parameter = getattr(error, "param", None)
    given = {name: _value_of(name, arguments) for name in getattr(parameter, "opts", ())}
    # An option that isn't given may have its value from the environment.
    variable = getattr(parameter, "envvar", None)
    if isinstance(variable, str):
        given[variable] = os.environ.get(variable)
    for name, value in given.items():
        if value is not None:
            reason = str(getattr(error, "message", text)).removeprefix("Value error, ").rstrip(".")
            for theirs, ours in (("Input should be a ", "expected a "), ("Input should be ", "expected a number ")):
                reason = reason.replace(theirs, ours)
            return f"{name} is {value!r}; {reason}{nearest(value, _choices(reason))}"
    return text.removeprefix("Invalid value: ").rstrip(".")


def _value_of(name: str, arguments: Sequence[str]) -> str | None:
    """The value given for an option, the last one where it is repeated; None when it isn't given by this name.

    >>> _value_of("--port", ["--port", "1", "--port=2"])
    '2'
    """
    given = [after for argument, after in itertools.pairwise(arguments) if argument == name]
    given += [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{name}=")]
    return given[-1] if given else None


def _choices(reason: str) -> list[str]:
    """The values of which one was expected, as far as the reason names them.

    >>> _choices("'jsn' is not one of 'json', 'cbor'")
    ['json', 'cbor']
    """
    return re.findall(r"'([^']*)'", reason.partition(" not one of ")[2])


def _command(error: Exception) -> str | None:
    command = getattr(getattr(error, "ctx", None), "command_path", None)
    return command if isinstance(command, str) else None
