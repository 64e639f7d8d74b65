"""Arrays from an .npz archive of NumPy: nothing is unpickled, and nothing allocated that the file does not hold."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

#: Kinds of numbers and text; not objects, which would have to be unpickled, nor records.
_KINDS: Final = frozenset("biufSU")
_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    MemoryError,  # of the parser of array headers
    NotImplementedError,  # a compression or encryption that nobody uses
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,  # encrypted
    SyntaxError,
    TypeError,
    UnicodeError,
    Warning,
)


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
        with zipfile.ZipFile(file) as archive, warnings.catch_warnings():
            warnings.simplefilter("error")
            members = [(name, info) for name in names if (info := archive.NameToInfo.get(f"{name}.npy")) is not None]
            total = sum(info.file_size for _, info in members)
            if most_bytes is not None and total > most_bytes:
                raise ValueError(f"{total} bytes; expected at most {most_bytes}")
            return {name: _array(name, archive, info) for name, info in members}
    except _BROKEN as error:
        raise ValueError(" ".join(str(error).split())[:200] or type(error).__name__) from error


def _array(name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version == (1, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
        elif version == (2, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(member)
        else:
            raise ValueError(f"{name}: version {version} of the format; expected 1.0 or 2.0")
        if dtype.kind not in _KINDS:
            raise ValueError(f"{name} is {dtype!s:.50}; expected numbers or text")
        expected = prod(shape) * dtype.itemsize
        found = info.file_size - member.tell()
        if expected != found or min(shape, default=0) < 0 or dtype.itemsize == 0:
            raise ValueError(f"{name} has {found} bytes; expected {expected!s:.30} for its shape")
        content = member.read()
        if len(content) != expected:
            raise ValueError(f"{name} is cut short")
        return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")
