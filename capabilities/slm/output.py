"""From token pieces to the text that a person sees: characters, stop strings, thinking; pure."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field

from capabilities.messages import Delta, TokenLogprob


def held_back(text: str, stops: list[str]) -> int:
    """How many characters at the end of ``text`` could be the beginning of a stop string."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    for size in range(min(longest, len(text)), 0, -1):
        tail = text[-size:]
        if any(stop.startswith(tail) for stop in stops):
            return size
    return 0


@dataclass(slots=True)
class TextStream:
    """Assembles one answer.

    A token may end in the middle of a UTF-8 character, and a stop string may be spread over
    tokens: what is not certain yet is held back and counted in the next Delta. Spans between
    thinking markers are emitted as thinking, never searched for stop strings and not part of
    ``text``.
    """

    stops: list[str] = field(default_factory=list)
    thinking: bool = False
    stopped: bool = False
    _visible: list[str] = field(default_factory=list)
    _pending: str = ""
    _tokens: int = 0
    _logprobs: list[TokenLogprob] = field(default_factory=list)
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )

    def __post_init__(self) -> None:
        self.stops = [stop for stop in self.stops if stop]

    @property
    def text(self) -> str:
        """The visible answer so far."""
        return "".join(self._visible)

    def push(self, piece: bytes, logprob: TokenLogprob | None = None) -> list[Delta]:
        """Add one token's bytes; sets ``stopped`` when a stop string is complete."""
        self._tokens += 1
        if logprob is not None:
            self._logprobs.append(logprob)
        self._pending += self._decoder.decode(piece)
        if self.thinking or not self.stops:
            return self._emit(len(self._pending))
        found = [at for stop in self.stops if (at := self._pending.find(stop)) >= 0]
        if found:
            self.stopped = True
            deltas = self._emit(min(found))
            self._pending = ""
            return deltas
        return self._emit(len(self._pending) - held_back(self._pending, self.stops))

    def mark(self, *, thinking: bool) -> list[Delta]:
        """A thinking span begins or ends here; what was held back belongs to the span before."""
        deltas = self.flush()
        self.thinking = thinking
        return deltas

    def flush(self) -> list[Delta]:
        """The answer or span is over: emit what was held back, drop half a character."""
        self._decoder.reset()
        return self._emit(len(self._pending))

    def _emit(self, size: int) -> list[Delta]:
        if size <= 0:
            return []
        text, self._pending = self._pending[:size], self._pending[size:]
        delta = Delta(
            text=text, thinking=self.thinking, tokens=self._tokens, logprobs=self._logprobs
        )
        if not self.thinking:
            self._visible.append(text)
        self._tokens, self._logprobs = 0, []
        return [delta]
