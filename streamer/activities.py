"""The one vocabulary of activities, over all bundles, events and metrics."""

from __future__ import annotations

from typing import Final

UNKNOWN: Final = "unknown"

#: Every label a bundle may use. snake_case; a new model extends the list, never renames within it.
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
