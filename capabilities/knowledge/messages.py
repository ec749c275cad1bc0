"""What a call to ``knowledge.gpt/<domain>/cache`` carries: a question, and what is known of it."""

from __future__ import annotations

import msgspec

from capabilities.embedding.space import Space
from capabilities.knowledge.entry import Citation

CACHE = "cache"  # the last segment of such a name
KIND = "cache"  # of the served name: it answers with entries and not in words
MAX_QUESTION_CHARS = 4096
MAX_ENTRIES = 4  # of one answer: the nearest decides, the others may help as examples


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for what is known of a question. ``space``: of the asker's vectors; entries of a
    node with another embedder are compared again anyway, so it only ranks."""

    question: str
    space: Space | None = None
    limit: int = MAX_ENTRIES


class KnownAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One entry as it travels: a claim of the node that sends it (law 3)."""

    question: str
    text: str
    source: str
    name: str = ""
    model: str = ""
    quality: float = 0.0
    created: float = 0.0
    left_s: float = 0.0  # until it expires; 0: never. Clocks differ, so no point in time
    saved_s: float = 0.0
    citations: tuple[Citation, ...] = ()


class KnownAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """What the asker may see, nearest first."""

    entries: tuple[KnownAnswer, ...] = ()


def cache_name(domain: str) -> str:
    """The name that answers of a domain are shared under."""
    return f"knowledge.gpt/{domain}/{CACHE}"
