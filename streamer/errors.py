"""The exceptions of har-stream.

    HarError
    ├── ConfigError      a setting, bundle or file is wrong: refuse to start, exit status 2
    │   ├── BundleError      a model bundle is missing, damaged or not readable by this release
    │   └── RecordingError   a recording or data set is missing or not in its documented form
    └── PayloadError     a message from outside is unusable: count by reason, drop, go on

A message names the thing, the value and what was expected, in one line.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class HarError(Exception):
    """Root of every exception that har-stream raises on purpose."""


class ConfigError(HarError):
    """What the operator supplied cannot be used; the message says what to change."""


class BundleError(ConfigError):
    """A model bundle cannot be trusted or understood."""


class RecordingError(ConfigError):
    """A recording or a data set cannot be found or read."""


#: Letters with which a name has to begin to be meant, and names that one may mean.
_LEAST_BEGINNING: Final = 2
_MOST_MEANT: Final = 3


def nearest(name: str, names: Iterable[str], *, alike: float = 0.6) -> str:
    """The end of a message about an unknown name: which known one may be meant; empty when none is near.

    Args:
        name: the unknown one.
        names: those that are known.
        alike: how near, from 0 for anything to 1 for the same.

    >>> nearest("prot", ["port", "qos"])
    '; did you mean port?'
    >>> nearest("uci", ["uci-har-cnn", "uci-har-lstm", "fitbit-cnn"])
    '; did you mean uci-har-cnn or uci-har-lstm?'
    >>> nearest("colour", ["port", "qos"])
    ''
    """
    import difflib  # noqa: PLC0415 - needed only where something is wrong

    known, meant = list(names), name.lower()
    found = difflib.get_close_matches(meant, known, n=1, cutoff=alike)
    if not found and len(meant) >= _LEAST_BEGINNING:
        found = [one for one in known if one.startswith(meant)][:_MOST_MEANT]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def one_line(text: object, most: int = 200) -> str:
    r"""What somebody else says, fit to stand in a message of one line: cut, and without unprintable characters.

    >>> one_line("no such\n  field `a\x1bb`")
    'no such field `a?b`'
    """
    line = " ".join(str(text)[: 2 * most].split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:most]


class RejectReason(StrEnum):
    """The closed set of reasons for which a message is dropped; a metric label."""

    TOPIC = "topic"
    DEVICE_NAME = "device_name"
    DEVICE_MISMATCH = "device_mismatch"
    OVERSIZE = "oversize"
    FORMAT = "format"
    JSON = "json"
    CBOR = "cbor"
    SCHEMA = "schema"
    SHAPE = "shape"
    NON_FINITE = "non_finite"
    VALUE_RANGE = "value_range"
    TIME_RANGE = "time_range"
    FUTURE = "future"
    CAPACITY = "capacity"
    SENSORS = "sensors"
    UNITS = "units"
    SIGN = "sign"
    GRAVITY = "gravity"


class PayloadError(HarError):
    """One message is unusable.

    Attributes:
        reason: which member of the closed set it is counted under.
    """

    def __init__(self, reason: RejectReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
