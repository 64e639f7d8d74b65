"""The one vocabulary of activities, over all bundles, events and metrics; and how an activity of one's own is named.

Activities form a tree. A model tells its leaves; where none of them is sure enough, the group around those in doubt is
told instead: `eating` rather than the wrong one of four dishes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
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

#: Groups and what is in them, a group before those within it. `still` is at rest but for what the hands do at a table;
#: `moving` keeps legs, trunk or arms going. A group below these two is here because models take its activities for one
#: another: docs/explanation/groups.md counts how often. `stairs` is a label of models that do not tell up from down.
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "moving": (
        *("on_foot", "jumping", "squats", "sit_ups", "kicking", "catching", "dribbling"),
        *("brushing_teeth", "clapping", "folding_clothes"),
    ),
    "on_foot": ("walking", "stairs", "running"),
    "stairs": ("walking_upstairs", "walking_downstairs"),
    "still": ("sitting", "standing", "lying", "desk_work", "eating_or_drinking"),
    "desk_work": ("typing", "writing"),
    "eating_or_drinking": ("eating", "drinking"),
    "eating": ("eating_soup", "eating_chips", "eating_pasta", "eating_sandwich"),
}
_GROUP_OF: Final = {member: group for group, members in GROUPS.items() for member in members}


def groups_around(activity: str, labels: Collection[str], placed: Mapping[str, str]) -> tuple[str, ...]:
    """Groups around an activity or a group, the widest first; none for what has no place in the tree.

    Args:
        activity: its name.
        labels: of the model that tells it: a name among these is an activity there and no group.
        placed: groups of labels that have no place in the tree, or another one.

    >>> groups_around("eating_soup", ("eating_soup", "waving"), {})
    ('still', 'eating_or_drinking', 'eating')
    >>> groups_around("waving", ("eating_soup", "waving"), {"waving": "moving"})
    ('moving',)
    """
    found: list[str] = []
    group = placed.get(activity) or _GROUP_OF.get(activity)
    while group is not None:
        if group not in labels:
            found.append(group)
        group = _GROUP_OF.get(group)
    return tuple(reversed(found))


def groups_of(labels: Sequence[str], placed: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Groups that say something of a model's labels: each with the places of its labels, two at least and not all.

    Args:
        labels: the model's.
        placed: as for `groups_around`.

    >>> groups_of(("walking", "stairs", "sitting", "standing", "clapping"), {})
    {'moving': (0, 1, 4), 'on_foot': (0, 1), 'still': (2, 3)}
    """
    paths = [groups_around(label, labels, placed) for label in labels]
    # Of two groups with the same labels the narrower one says more: it comes later.
    by_members = {tuple(i for i, above in enumerate(paths) if group in above): group for group in GROUPS}
    return {group: members for members, group in by_members.items() if 1 < len(members) < len(labels)}


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
