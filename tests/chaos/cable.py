"""The cable between a service and its broker, to be cut: a TCP proxy that can fall silent without hanging up.

service ──▶ Cable ──▶ broker        `stall`: nothing passes, nobody is told; `heal`: it passes again;
        ◀──       ◀──               `cut`: both ends are reset, and what was on the way is gone
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Literal

from tests.servers import HOST

Direction = Literal["to_broker", "to_service"]
DIRECTIONS: Final[tuple[Direction, ...]] = ("to_broker", "to_service")
_CHUNK: Final = 1 << 16
_TURN_S: Final = 0.01


class Cable:
    """A proxy on loopback, in a thread of its own.

    State: the open connections, and the directions in which nothing passes.
    """

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._listener = socket.create_server((HOST, 0))
        self._listener.settimeout(_TURN_S)
        self.port: Final[int] = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._stalled: frozenset[Direction] = frozenset()
        self._wires: list[_Wire] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="cable", daemon=True)
        self._thread.start()

    def stall(self, directions: Iterable[Direction] = DIRECTIONS) -> None:
        """Let nothing more pass; new connections are accepted and hear nothing."""
        with self._lock:
            self._stalled = frozenset(directions)

    def heal(self) -> None:
        """Let pass again, what was held back included."""
        with self._lock:
            self._stalled = frozenset()

    def cut(self) -> None:
        """Reset every connection, and let new ones pass."""
        with self._lock:
            self._stalled = frozenset()
            for wire in self._wires:
                wire.reset()
            self._wires.clear()

    def close(self) -> None:
        """Cut, and stop."""
        self._closing = True
        self._thread.join()
        self.cut()
        self._listener.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._closing:
                # A stalled wire is not watched, or its waiting bytes would keep the thread turning.
                ready = selector.select(_TURN_S)
                with self._lock:
                    if any(key.fileobj is self._listener for key, _ in ready):
                        self._accept()
                    self._wires = [wire for wire in self._wires if wire.carry(self._stalled)]
                    self._watch(selector)

    def _watch(self, selector: selectors.BaseSelector) -> None:
        wanted = {end for wire in self._wires for end in wire.readable(self._stalled)}
        watched = [key.fileobj for key in list(selector.get_map().values()) if key.fileobj is not self._listener]
        for end in watched:
            if end not in wanted:
                selector.unregister(end)
        for end in wanted.difference(watched):
            selector.register(end, selectors.EVENT_READ)

    def _accept(self) -> None:
        with suppress(OSError):
            service, _ = self._listener.accept()
            try:
                broker = socket.create_connection((HOST, self._broker_port), timeout=1)
            except OSError:
                _reset(service)
                return
            self._wires.append(_Wire(service, broker))


class _Wire:
    """One connection through the cable.

    State: what was read at one end and not yet taken by the other.
    """

    def __init__(self, service: socket.socket, broker: socket.socket) -> None:
        self._ends: dict[Direction, tuple[socket.socket, socket.socket]] = {
            "to_broker": (service, broker),
            "to_service": (broker, service),
        }
        self._on_the_way: dict[Direction, bytearray] = {direction: bytearray() for direction in DIRECTIONS}
        for end in (service, broker):
            end.settimeout(0)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def readable(self, stalled: frozenset[Direction]) -> list[socket.socket]:
        """The ends worth watching."""
        return [
            self._ends[direction][0]
            for direction in DIRECTIONS
            if direction not in stalled and not self._on_the_way[direction]
        ]

    def carry(self, stalled: frozenset[Direction]) -> bool:
        """Move what can be moved; whether the wire still stands."""
        for direction in DIRECTIONS:
            if direction in stalled:
                continue
            source, target = self._ends[direction]
            waiting = self._on_the_way[direction]
            try:
                if not waiting:
                    with suppress(BlockingIOError):
                        data = source.recv(_CHUNK)
                        if not data:
                            self._close()
                            return False
                        waiting += data
                with suppress(BlockingIOError):
                    del waiting[: target.send(waiting) if waiting else 0]
            except OSError:
                self.reset()
                return False
        return True

    def reset(self) -> None:
        """Hang up on both ends at once."""
        for end in self._ends["to_broker"]:
            _reset(end)

    def _close(self) -> None:
        for end in self._ends["to_broker"]:
            end.close()


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        # Linger for no time: a reset instead of an orderly end.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
