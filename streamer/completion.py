"""What a shell offers for an option's or an argument's value.

Run at each press of Tab: what takes long to import is imported where it is needed. Where nothing is offered, shells
complete names of files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

Offer = Callable[[str], list[str]]


def one_of(names: Iterable[str]) -> Offer:
    """Offers names that begin like what has been typed.

    >>> one_of(["text", "json", "none"])("j")
    ['json']
    """
    known = list(names)
    return lambda incomplete: [name for name in known if name.startswith(incomplete)]


def bundles(incomplete: str) -> list[str]:
    """Offers the shipped bundles; a folder with one is completed as a file."""
    from streamer.bundle import shipped_bundles  # noqa: PLC0415 - numpy takes a tenth of a second

    return one_of(shipped_bundles())(incomplete)
