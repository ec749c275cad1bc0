"""The latest requests of this node with everything that happened on their way, for replay."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

MAX_TRACES = 64
MAX_EVENTS = 512  # of one request; deltas of one step in a row are one event
MIN_PREFIX = 4  # characters of an id that name it


class TraceRecord(msgspec.Struct, kw_only=True):
    """One request: what was asked, its events with the seconds since its beginning, its end.

    ``answer`` is the answer as the verb gave it, empty while it runs or when it failed.
    """

    trace: str
    verb: str
    question: str
    at: float  # wall time
    events: list[tuple[float, Any]] = []
    answer: Any = None
    error: str = ""
    elapsed_s: float = -1.0  # -1 while it runs
    dropped: int = 0

    def note(self, at_s: float, event: Any) -> None:
        """Keep an event; pieces of text in a row are joined."""
        if self.events and _joins(self.events[-1][1], event):
            began, last = self.events[-1]
            self.events[-1] = (began, {**last, "text": last["text"] + event["text"]})
        elif len(self.events) < MAX_EVENTS:
            self.events.append((round(at_s, 4), event))
        else:
            self.dropped += 1

    def line(self) -> dict[str, Any]:
        """The request without its events."""
        return {
            "trace": self.trace,
            "verb": self.verb,
            "question": self.question[:200],
            "at": self.at,
            "elapsed_s": self.elapsed_s,
            "error": self.error,
        }


class TraceBook:
    """Requests by trace id; the oldest go first."""

    def __init__(self, size: int = MAX_TRACES) -> None:
        self._size = size
        self._records: OrderedDict[str, TraceRecord] = OrderedDict()

    def open(self, record: TraceRecord) -> TraceRecord:
        """Keep a request from its beginning on."""
        self._records[record.trace] = record
        while len(self._records) > self._size:
            self._records.popitem(last=False)
        return record

    def find(self, trace: str) -> TraceRecord | None:
        """The request whose id begins so, the latest of several; None if there is none."""
        if len(trace) < MIN_PREFIX:
            return None
        return next(
            (r for id_, r in reversed(self._records.items()) if id_.startswith(trace)), None
        )

    def latest(self, count: int) -> list[TraceRecord]:
        """The newest first."""
        return list(reversed(self._records.values()))[: max(0, count)]


def _joins(last: Any, event: Any) -> bool:
    both = isinstance(last, dict) and isinstance(event, dict)
    return (
        both
        and last.get("type") == event.get("type") == "delta"
        and all(last.get(key) == event.get(key) for key in ("step", "thinking", "by"))
    )
