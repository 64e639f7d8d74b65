"""The one vocabulary of activities, over all bundles, events and metrics; and how an activity of one's own is named."""

from __future__ import annotations

import re
from typing import Final

from streamer.errors import ConfigError

UNKNOWN: Final = "unknown"

#: What an activity may be called: snake_case, short enough for a metric and a log line.
NAME: Final = re.compile(r"(?!unknown$)(?=.{1,40}$)[a-z][a-z0-9]*(?:_[a-z0-9]+)*")

#: Every label a shipped bundle may use. A new model extends the list, never renames within it.
ACTIVITIES: Final[tuple[str, ...]] = (
    "walking",
    "walking_upstairs",
    "walking_downstairs",
    "stairs",
    "running",
    "sitting",
    "standing",
    "lying",
    "jumping",
    "squats",
    "sit_ups",
    "typing",
    "writing",
    "brushing_teeth",
    "eating_soup",
    "eating_chips",
    "eating_pasta",
    "eating_sandwich",
    "drinking",
    "kicking",
    "catching",
    "dribbling",
    "clapping",
    "folding_clothes",
)


def check_activity(name: str, *, where: str) -> str:
    """The name itself, when an activity may be called so.

    Args:
        name: what somebody calls an activity.
        where: the beginning of the message.

    Raises:
        ConfigError: it is not snake_case; the message names what it would be there.

    >>> check_activity("climbing_trees", where="--label")
    'climbing_trees'
    """
    if not NAME.fullmatch(name):
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:40].strip("_")
        meant = f"; did you mean {plain}?" if NAME.fullmatch(plain) else ""
        raise ConfigError(
            f"{where} {name!r:.60} is no name of an activity; "
            f"expected up to 40 of a-z 0-9 _, a letter first, and not {UNKNOWN}{meant}"
        )
    return name
