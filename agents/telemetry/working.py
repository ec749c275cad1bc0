"""What this node is working on for others and for itself, as its status record tells it.

A task is named by the first characters of its trace, so that whoever asked finds it again and
nobody else learns what it is about. Progress is messages sent against the most that were asked
for: a lower bound, and 1 only when it is over.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator

MAX_TOLD = 8  # tasks in a status record: with 21 bytes each they leave its 400 bytes alone
ID_CHARS = 8
MOST = 0.99  # of a task that is not over


class Piece:
    """One call being served."""

    def __init__(self, trace: str, expected: int) -> None:
        self.id = trace[:ID_CHARS]
        self._expected = max(1, expected)
        self.sent = 0

    @property
    def progress(self) -> float:
        """0 to 1."""
        return round(min(MOST, self.sent / self._expected), 2)


class Working:
    """The calls that this node serves now."""

    def __init__(self) -> None:
        self._pieces: OrderedDict[int, Piece] = OrderedDict()

    def told(self) -> tuple[tuple[str, float], ...]:
        """The oldest tasks with their progress, as a status record holds them; several calls of
        one task count as its slowest."""
        found: dict[str, float] = {}
        for piece in self._pieces.values():
            found[piece.id] = min(piece.progress, found.get(piece.id, 1.0))
        return tuple(list(found.items())[:MAX_TOLD])

    def through(
        self, trace: str, expected: int, answer: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """The answer, counted as it goes by; closing this closes it."""
        return _Counted(answer, self, Piece(trace, expected))

    def begin(self, piece: Piece) -> None:
        """A call is served from now on."""
        self._pieces[id(piece)] = piece

    def end(self, piece: Piece) -> None:
        """It is over; ending twice does nothing."""
        self._pieces.pop(id(piece), None)


class _Counted(AsyncIterator[bytes]):
    def __init__(self, source: AsyncIterator[bytes], working: Working, piece: Piece) -> None:
        self._source, self._working, self._piece = source, working, piece
        working.begin(piece)

    async def __anext__(self) -> bytes:
        try:
            message = await anext(self._source)
        except BaseException:
            self._working.end(self._piece)
            raise
        self._piece.sent += 1
        return message

    async def aclose(self) -> None:
        """Stop counting, and close what is counted."""
        self._working.end(self._piece)
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()
