"""What an ONNX file asks for, read before a runtime is handed it: operator sets and files outside.

Only what bears on trust is read of the protocol buffer; what the operators mean is the runtime's business.

Source: onnx/onnx.proto of ONNX 1.16, field numbers; protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

#: Operator sets whose operators are ONNX's own, by the names that files give it.
STANDARD_DOMAINS: Final = frozenset({"", "ai.onnx"})

_MESSAGE, _VARINT = 2, 0
#: Fields that lead to a tensor: of a model, graph, node, attribute, sparse tensor, function.
_MODEL: Final = {7: "graph", 25: "function"}
_INSIDE: Final = {
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "tensor": {},
}
_OPSET_IMPORT: Final = 8
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
#: Graphs in attributes of nodes of graphs: far more than any model needs.
_MAX_DEPTH: Final = 64


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a model needs besides itself.

    Attributes:
        opsets: version by domain of operators; "" is ONNX's own.
        external_data: whether a tensor's values stand in a file of their own.
    """

    opsets: dict[str, int]
    external_data: bool


def requirements(model: bytes) -> Requirements:
    """What a serialized ModelProto asks for.

    Raises:
        ValueError: it is no protocol buffer.
    """
    opsets: dict[str, int] = {}
    external = False
    waiting: list[tuple[str, memoryview, int]] = []
    for number, value in _fields(memoryview(model)):
        if number == _OPSET_IMPORT and not isinstance(value, int):
            stated = dict(_fields(value))
            domain, version = stated.get(1, memoryview(b"")), stated.get(2, 0)
            if isinstance(domain, int) or not isinstance(version, int):
                raise ValueError("an operator set is no name with a version")
            opsets[bytes(domain).decode()] = version
        elif number in _MODEL and not isinstance(value, int):
            waiting.append((_MODEL[number], value, 0))
    while waiting:
        kind, content, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError("graphs are nested too deeply")
        for number, value in _fields(content):
            if kind == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value == 1)):
                external = True
            elif number in _INSIDE[kind] and not isinstance(value, int):
                waiting.append((_INSIDE[kind][number], value, depth + 1))
    return Requirements(opsets, external)


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field: an integer, or the bytes of anything longer."""
    at, end = 0, len(content)
    while at < end:
        key, at = _varint(content, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            integer, at = _varint(content, at)
            yield number, integer
            continue
        if wire_type == _MESSAGE:
            length, at = _varint(content, at)
        elif wire_type in {1, 5}:
            length = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if length > end - at:
            raise ValueError("it is cut short")
        yield number, content[at : at + length]
        at += length


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            raise ValueError("it is cut short")
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number has too many bytes")
