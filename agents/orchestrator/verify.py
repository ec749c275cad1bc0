"""Whether what came back is an answer: whole, within bounds, good enough by the gap detector."""

from __future__ import annotations

import msgspec

from agents.classifier.gap import ACCEPT, Draft, Verdict
from capabilities.messages import Delta, Done, Event
from mesh.core.errors import CapabilityFailed

MAX_ANSWER_CHARS = 256 * 1024  # per step: a peer that never stops must not fill this node
MAX_PIECES = 65_536


class Assembly:
    """A streamed answer as it arrives; the visible text and the count of its tokens."""

    def __init__(self) -> None:
        self.tokens = 0
        self.chars = 0
        self.done: Done | None = None
        self._pieces: list[str] = []
        self._count = 0

    @property
    def visible(self) -> str:
        """The text so far without the scratchpad."""
        return "".join(self._pieces)

    @property
    def heard(self) -> bool:
        """Whether anything has come."""
        return self._count > 0 or self.done is not None

    def take(self, event: Event) -> None:
        """One event; raises :class:`CapabilityFailed` when the stream leaves its bounds."""
        if self.done is not None:
            raise CapabilityFailed("the node went on after the end of its answer")
        if isinstance(event, Done):
            if len(event.text) > MAX_ANSWER_CHARS:
                raise CapabilityFailed("the answer is over its size limit")
            self.done = event
            return
        self._add(event)

    def _add(self, delta: Delta) -> None:
        self.chars += len(delta.text)
        self.tokens += max(0, delta.tokens)
        self._count += 1
        if self.chars > MAX_ANSWER_CHARS or self._count > MAX_PIECES:
            raise CapabilityFailed("the answer is over its size limit")
        if not delta.thinking:
            self._pieces.append(delta.text)

    def whole(self) -> Answer:
        """The answer; raises :class:`CapabilityFailed` when its end never came."""
        if self.done is None:
            raise CapabilityFailed("the stream ended before the answer was whole")
        if self.done.finish == "cancelled":
            raise CapabilityFailed("the node stopped before the answer was whole")
        return Answer(
            text=(self.done.text or self.visible).strip(),
            done=self.done,
            tokens=self.done.usage.completion_tokens or self.tokens,
        )


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer of one node, not judged yet."""

    text: str
    done: Done
    tokens: int


def drafted(answer: Answer, *, question: str, expert: bool, file_sha256: str = "") -> Draft:
    """A whole answer as the gap detector sees it. ``file_sha256`` is of the model's file, as its
    node advertises it."""
    return Draft(
        text=answer.text,
        finish=answer.done.finish,
        evidence=answer.done.evidence,
        model=answer.done.model,
        expert=expert,
        question=question,
        file_sha256=file_sha256,
    )


def better(first: Verdict, second: Verdict) -> bool:
    """Whether the second verdict is the one to keep."""
    if (first.action == ACCEPT) != (second.action == ACCEPT):
        return second.action == ACCEPT
    return second.confidence > first.confidence
