"""One way in which readings are unlike those that a model learned from."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

#: A label of har_unlike_training_total; docs/how-to/unlike-training.md explains each.
Kind = Literal[
    "timestamps",  # in another unit, shared by several readings, or given when readings were sent
    "feed_rate",  # too slow for the model, or another than the one declared
    "holes",  # readings are missing
    "sensor_missing",  # one that the model needs
    "frozen",  # a sensor that never changes
    "dead_axis",  # an axis that never changes
    "acceleration_in_g",  # where m/s² is expected
    "acceleration_scale",  # of another factor
    "gravity_missing",  # acceleration without gravity
    "gyroscope_in_degrees",  # where rad/s is expected
    "axes_disagree",  # accelerometer and gyroscope do not turn together
    "orientation",  # gravity points where it never did in training
    "saturated",  # values pile up at the end of a sensor's range
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong, in three parts that make one sentence.

    Attributes:
        kind: for programs.
        seen: what the readings are like, with the value.
        expected: what the model's training data had, or what har-stream expects of any feed.
        advice: what to do.
        figures: the values, under names with their units.
    """

    kind: Kind
    seen: str
    expected: str
    advice: str
    figures: dict[str, float]

    @property
    def sentence(self) -> str:
        """All of it.

        >>> Finding(kind="dead_axis", seen="acc_y never changes", expected="all three axes move", advice="send it",
        ...         figures={}).sentence
        'acc_y never changes; all three axes move: send it'
        """
        return f"{self.seen}; {self.expected}: {self.advice}"
