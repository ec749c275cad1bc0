"""What the orchestrator needs of a shared memory; an agent that keeps one implements it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from agents.port import Offer, Task
from capabilities.messages import Message

REUSE = "reuse"
CONTEXT = "context"
NOTHING = "nothing"


class Recall(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a question. ``action`` is reuse (``text`` answers it), context
    (``examples`` may help a model) or nothing. ``quality`` is a probability of being right."""

    action: str = NOTHING
    score: float = 0.0
    threshold: float = 1.0
    why: str = "nothing like it is known"
    text: str = ""
    source: str = ""
    model: str = ""
    quality: float = 0.0
    entry: int = 0
    citations: tuple[str, ...] = ()
    examples: tuple[Message, ...] = ()


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted answer of another node, or of the cloud."""

    question: str
    text: str
    name: str
    node: bytes
    node_name: str
    model: str = ""
    quality: float = 0.0
    took_s: float = 0.0


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a finding bears on its question: correct, ambiguous or incorrect."""

    outcome: str
    score: float
    threshold: float
    why: str


class Integrated(msgspec.Struct, frozen=True, kw_only=True):
    """A finding worked into this node's own answer. ``how`` is one sentence for the trace."""

    text: str
    how: str
    by_model: str = ""


class Memory(Protocol):
    """A node's shared memory. Nothing here raises: one that fails is one that knows nothing."""

    async def recall(self, question: str, name: str, task: Task) -> Recall:
        """What is known here, or by nodes that share what they know."""

    async def check(self, finding: Finding) -> Check:
        """Whether what came back is about what was asked."""

    async def integrate(self, finding: Finding, task: Task) -> Integrated:
        """The finding read by this node's own model, where that can read; else as it is."""

    async def learn(self, finding: Finding, check: Check, task: Task) -> str:
        """Keep it if it is good enough; what was done, as one sentence."""

    def doubt(self, node: bytes, name: str) -> None:
        """An answer of this node for this name did not do."""

    def ranked(self, name: str, offers: Sequence[Offer]) -> list[Offer]:
        """The same offers, those that are trusted for this name first; otherwise as they were."""
