"""The colour of each activity, the same as on the live page: its list of hues is read, not repeated."""

from __future__ import annotations

import math
import re
from functools import cache
from importlib.resources import files
from typing import Final

#: Of time of which nothing is told or known.
NOTHING: Final = "#d9d9de"
UNKNOWN_COLOUR: Final = "#8f9099"
#: Wrong time.
WRONG: Final = "#c8102e"
#: Ink and lines.
INK: Final = "#20222b"
FAINT: Final = "#9a9ba3"
#: One series, two series.
FIRST: Final = "#0d7f74"
SECOND: Final = "#d9822b"

_LIST: Final = re.compile(r"^const (HUES|GROUP_HUES) = \{(.*?)^\};", re.DOTALL | re.MULTILINE)
_HUE: Final = re.compile(r"\b([a-z][a-z0-9_]*): \[(\d+), ([01])\]")
#: Lightness by tone, and chroma of activities and of groups, on a light ground.
_LIGHTNESS: Final = (0.58, 0.68)
_CHROMA: Final = {"HUES": 0.155, "GROUP_HUES": 0.06}


@cache
def hues() -> dict[str, tuple[int, int, float]]:
    """Hue in degrees, tone and chroma of each activity and group that the live page lists."""
    page = files("streamer.live").joinpath("page/palette.js").read_text(encoding="utf-8")
    return {
        name: (int(hue), int(tone), _CHROMA[which])
        for which, listed in _LIST.findall(page)
        for name, hue, tone in _HUE.findall(listed)
    }


def colour_of(activity: str) -> str:
    """#rrggbb of an activity or a group, as the live page shows it on a light ground."""
    if activity == "unknown":
        return UNKNOWN_COLOUR
    found = hues().get(activity)
    if found is None:
        number = 0
        for letter in activity:
            number = (number * 31 + ord(letter)) & 0xFFFFFFFF
        found = (number % 360, number & 1, _CHROMA["HUES"])
    hue, tone, chroma = found
    return oklch(_LIGHTNESS[tone], chroma, hue)


def oklch(lightness: float, chroma: float, hue: float) -> str:
    """#rrggbb of a colour in OKLCH; what sRGB cannot show is cut off by channel, as Chromium does.

    Source: B. Ottosson, A perceptual color space for image processing, 2020.

    >>> oklch(1.0, 0.0, 0.0), oklch(0.62796, 0.25768, 29.234)
    ('#ffffff', '#ff0000')
    """
    linear = (min(max(value, 0.0), 1.0) for value in _linear_srgb(lightness, chroma, hue))
    return "#" + "".join(f"{round(255 * _gamma(value)):02x}" for value in linear)


def _linear_srgb(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _gamma(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
