"""What went wrong, one line each, for people."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger("gossamer.mesh")

KEPT = 200  # lines kept for `gossamer status`; the counters keep the totals
REPEAT_S = 10.0  # the same line is told once in so long: a flood is one line


class Troubles:
    """The latest lines, and when each was last told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.listeners: list[Callable[[str], None]] = []
        self._seen: dict[str, float] = {}

    def tell(self, sentence: str, at: float) -> None:
        """Log and keep a line, unless it was told just now; ``at`` in monotonic seconds."""
        if at - self._seen.get(sentence, float("-inf")) < REPEAT_S:
            return
        if len(self._seen) >= 4 * KEPT:
            self._seen.clear()
        self._seen[sentence] = at
        self.lines.append(sentence)
        del self.lines[:-KEPT]
        log.warning("%s", sentence)
        for listener in self.listeners:
            listener(sentence)
