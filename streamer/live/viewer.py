"""What one viewer has been told, and what the next frame has to tell."""

from __future__ import annotations

from typing import Final

from streamer.live.board import Board
from streamer.live.documents import Frame
from streamer.live.survey import Query
from streamer.live.traces import Piece, SensorTrace

_MS: Final = 1_000_000
#: Rows change slowly to the eye; traces move.
_ROWS_NS: Final = 500_000_000
_PAGE_NS: Final = 1_000_000_000


class Viewer:
    """One stream of frames.

    State: the page as the viewer has it, and how far it has been told of each watch.
    """

    def __init__(self, board: Board, query: Query) -> None:
        self._board = board
        self._query = query
        self._page: list[str] | None = None
        self._page_ns = self._rows_ns = 0
        #: By watch: version of its bouts, and the numbers of its traces' latest pieces.
        self._bouts: dict[str, int] = {}
        self._acc: dict[str, int] = {}
        self._gyro: dict[str, int] = {}
        self._windows = 0
        self._detail_bouts = -1

    def frame(self, now_ns: int, unready: str | None) -> Frame:
        """What is new since the frame before; a frame that is left out costs the viewer nothing but its time."""
        frame = Frame(now=now_ns // _MS)
        if not 0 <= now_ns - self._page_ns < _PAGE_NS:
            self._page_ns = now_ns
            self._turn_page(frame, now_ns, unready)
        shown = [*(self._page or ())]
        if self._query.watch:
            shown.append(self._query.watch)
        if not 0 <= now_ns - self._rows_ns < _ROWS_NS:
            self._rows_ns = now_ns
            self._tell_rows(frame, now_ns)
        for device_id in shown:
            traces = self._board.traces.of(device_id)
            if traces is not None:
                _tell_pieces(frame.acc, self._acc, device_id, traces.acc)
                _tell_pieces(frame.gyro, self._gyro, device_id, traces.gyro)
        return frame

    def _turn_page(self, frame: Frame, now_ns: int, unready: str | None) -> None:
        """Who is on the page, and who is looked at."""
        survey = self._board.survey(now_ns)
        page = survey.page(self._query, self._board.labels)
        frame.fleet = self._board.fleet(survey, page, unready)
        if page.devices != self._page:
            self._page = frame.page = page.devices
            for told in (self._bouts, self._acc, self._gyro):
                for gone in told.keys() - {*page.devices, self._query.watch}:
                    del told[gone]
        looked_at = [*page.devices, self._query.watch] if self._query.watch else page.devices
        self._board.traces.look_at([name for name in looked_at if self._board.is_followed(name)], now_ns)

    def _tell_rows(self, frame: Frame, now_ns: int) -> None:
        frame.rows = self._board.rows(self._page or (), now_ns)
        for row in frame.rows:
            version = self._board.history.version(row.name)
            if self._bouts.get(row.name) != version:
                self._bouts[row.name] = version
                frame.bouts[row.name] = self._board.bouts(row.name, row.newest)
        if self._query.watch:
            self._tell_detail(frame, now_ns)

    def _tell_detail(self, frame: Frame, now_ns: int) -> None:
        device_id = self._query.watch
        version = self._board.history.version(device_id)
        frame.watch = self._board.detail(
            device_id, now_ns, windows_from=self._windows, with_bouts=version != self._detail_bouts
        )
        self._detail_bouts = version
        traces = self._board.traces.of(device_id)
        self._windows = 0 if traces is None else traces.windows.count


def _tell_pieces(into: dict[str, list[Piece]], told: dict[str, int], device_id: str, trace: SensorTrace) -> None:
    # Numbers begin anew where the watch was not looked at for a while.
    number = told.get(device_id, 0)
    if trace.pieces and trace.pieces[-1].number < number:
        number = 0
    pieces = trace.since(number)
    if pieces:
        told[device_id] = pieces[-1].number
        into[device_id] = pieces
