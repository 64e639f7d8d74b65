"""Arrays from an .npz archive of NumPy: nothing is unpickled, and nothing allocated that the file does not hold."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from math import prod
from typing import IO, Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from streamer.errors import one_line

#: Kinds of numbers and text; not objects, which would have to be unpickled, nor records.
_KINDS: Final = frozenset("biufSU")
_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    NotImplementedError,  # a compression or encryption that nobody uses
    OSError,
    OverflowError,
    RuntimeError,  # encrypted
    TypeError,
    UnicodeError,
)
#: How NumPy writes an array's header. Its own reader evaluates a Python expression and falls over many that are none.
_HEADER: Final = re.compile(
    rb"\{'descr': '([<>|]?[a-zA-Z][0-9]{0,9})', 'fortran_order': (True|False), "
    rb"'shape': \(([0-9]{0,19}(?:, ?[0-9]{1,19})*),?\), ?\}\s*"
)
_LONGEST_HEADER: Final = 10_000


def read_npz(file: BinaryIO, names: Sequence[str], *, most_bytes: int | None = None) -> Mapping[str, NDArray[Any]]:
    """The arrays of these names, as far as the archive has them.

    Args:
        file: seekable.
        names: which arrays; others are not looked at.
        most_bytes: that they may have together once decompressed.

    Raises:
        ValueError: it is no such archive, or an array is damaged, too large or of another kind than numbers and text.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = [(name, info) for name in names if (info := archive.NameToInfo.get(f"{name}.npy")) is not None]
            total = sum(info.file_size for _, info in members)
            if most_bytes is not None and total > most_bytes:
                raise ValueError(f"{total} bytes; expected at most {most_bytes}")
            return {name: _array(name, archive, info) for name, info in members}
    except _BROKEN as error:
        raise ValueError(one_line(error) or type(error).__name__) from error


def _array(name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as member:
        shape, fortran_order, dtype = _header(name, member)
        if dtype.kind not in _KINDS:
            raise ValueError(f"{name} is {dtype}; expected numbers or text")
        expected = prod(shape) * dtype.itemsize
        found = info.file_size - member.tell()
        if expected != found or dtype.itemsize == 0:
            raise ValueError(f"{name} has {found} bytes; expected {expected!s:.30} for its shape")
        content = member.read()
        if len(content) != expected:
            raise ValueError(f"{name} is cut short")
        return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")


def _header(name: str, member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of the array whose values follow."""
    magic = member.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:] not in {b"\x01\x00", b"\x02\x00", b"\x03\x00"}:
        raise ValueError(f"{name} is no array of NumPy's versions 1 to 3")
    length = int.from_bytes(member.read(2 if magic[6] == 1 else 4), "little")
    stated = _HEADER.fullmatch(member.read(min(length, _LONGEST_HEADER)))
    if stated is None:
        raise ValueError(f"{name} is no plain array of numbers or text")
    descr, order, shape = stated.groups()
    return tuple(int(n) for n in shape.split(b",") if n.strip()), order == b"True", np.dtype(descr.decode())
