"""Law 5: every decision leaves a line, and one id holds a request's lines together.

A line says what was decided by which rule, on which inputs, with which score against which
threshold, and what was done. Lines are plain values: they travel in the answer as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

TRACE_BYTES = 16
MAX_LINES = 512  # a request of 8 steps leaves about 80; above this a rule is looping
MAX_INPUT_CHARS = 200  # a question is quoted in its lines, a document is not


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One decision. ``at_s`` is seconds since the question was asked.

    ``score`` and ``threshold`` are 0 where a rule has none; ``step`` is 0 for the request.
    """

    rule: str
    action: str
    inputs: dict[str, object] = {}
    score: float = 0.0
    threshold: float = 0.0
    step: int = 0
    at_s: float = 0.0


class Trace:
    """The lines of one request, bounded; what does not fit is counted in ``dropped``."""

    def __init__(self, trace_id: bytes) -> None:
        self.id = trace_id
        self.dropped = 0
        self._lines: list[Decision] = []

    def note(
        self,
        rule: str,
        action: str,
        *,
        inputs: Mapping[str, object] | None = None,
        score: float = 0.0,
        threshold: float = 0.0,
        step: int = 0,
        at_s: float = 0.0,
    ) -> None:
        """Leave one line."""
        if len(self._lines) >= MAX_LINES:
            self.dropped += 1
            return
        self._lines.append(
            Decision(
                rule=rule,
                action=action,
                inputs={key: _short(value) for key, value in (inputs or {}).items()},
                score=round(score, 4),
                threshold=threshold,
                step=step,
                at_s=round(at_s, 4),
            )
        )

    @property
    def lines(self) -> tuple[Decision, ...]:
        """What was decided so far, in order."""
        return tuple(self._lines)

    def as_dicts(self) -> list[dict[str, object]]:
        """The lines as plain values; the last one tells of lines that did not fit."""
        plain: list[dict[str, object]] = [msgspec.to_builtins(line) for line in self._lines]
        if self.dropped:
            plain.append({"rule": "trace.full", "action": f"dropped {self.dropped} lines"})
        return plain


def _short(value: object) -> object:
    if isinstance(value, str) and len(value) > MAX_INPUT_CHARS:
        return value[: MAX_INPUT_CHARS - 1] + "…"
    if isinstance(value, float):
        return round(value, 4)
    return value
