"""The log on standard error: lines for people, or one JSON object a line for programs.

    {"time": "2026-11-20T16:33:56.125Z", "level": "warning", "logger": "streamer.service", "message": "..."}

and with them `exception` and `stack`, where there is one, as text, and whatever a library's record carries besides.

With JSON nothing else is written to standard error: warnings, exceptions that nobody caught, of any thread, and the
line with which a program ends are entries as well. Only a command line or a setting that cannot be used is told in
plain text, for it may be the one that chooses the format.
"""

from __future__ import annotations

import logging
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal

import msgspec

LogFormat = Literal["text", "json"]
#: The simulator has no settings; its environment says which format.
SIMULATOR_LOG_FORMAT: Final = "SIMULATOR_LOG_FORMAT"

#: What every record has; anything else was added by whoever logged it.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_logger: Final = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The entry; its own keys win over what a record carries besides."""
        at = datetime.fromtimestamp(record.created, UTC)
        entry = {
            "time": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            entry["exception"] = record.exc_text
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        return _encoded({**extra, **entry})


def log_to_stderr(log_format: LogFormat, *, level: int = logging.INFO, text: str = "%(message)s") -> None:
    """Write the log to standard error, and with JSON everything else that goes there.

    Args:
        log_format: of it.
        level: the least that is written.
        text: a line for people, of `logging`'s fields.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if log_format == "json" else logging.Formatter(text, "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler])
    # The MQTT clients repeat in the log what the session raises.
    for client in ("mqtt", "gmqtt"):
        logging.getLogger(client).setLevel(logging.CRITICAL)
    if log_format == "json":
        logging.captureWarnings(True)  # noqa: FBT003 - the library's
        sys.excepthook = _log_uncaught
        threading.excepthook = _log_uncaught_of_thread
        sys.unraisablehook = _log_unraisable


def speaks_json() -> bool:
    """Whether standard error is for programs."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    _logger.critical("ended by an exception that nobody caught: %r", error, exc_info=(kind, error, traceback))


def _log_uncaught_of_thread(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is not None:
        caught = (what.exc_type, what.exc_value, what.exc_traceback)
        name = "?" if what.thread is None else what.thread.name
        _logger.critical("thread %s: ended by an exception that nobody caught", name, exc_info=caught)


def _log_unraisable(what: sys.UnraisableHookArgs) -> None:
    caught = None if what.exc_value is None else (what.exc_type, what.exc_value, what.exc_traceback)
    _logger.error("%s: %r", what.err_msg or "exception ignored in", what.object, exc_info=caught)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 # whoever logs wrong must not end the program, nor write a traceback here
        return f"{record.msg!r} % {record.args!r}: {error!r}"


def _encoded(entry: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(entry, enc_hook=repr).decode()
    except (TypeError, ValueError, RecursionError):
        # Keys that are no text, surrogates, or a ring of references: such an entry is told with what it is made of.
        told = {key: ascii(value) if not isinstance(value, (int, float)) else value for key, value in entry.items()}
        return msgspec.json.encode(told, enc_hook=repr).decode()
