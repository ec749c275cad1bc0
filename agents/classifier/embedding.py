"""Relevance by meaning beside words: the n-gram classifier, moved by embeddings.

What a name advertises (description, examples) and questions that it answered well before are
embedded once; how near a question comes to the nearest of them moves the n-gram classifier's
odds. Successes are kept as vectors, not as words, and are bounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from agents.classifier.catalogue import KnownName
from agents.classifier.paraphrase import aggregate, reword
from agents.classifier.relevance import Relevance, RelevanceClassifier, Scored

STRENGTH = 8.0  # of a cosine in the logit; with NEAR chosen on the training questions
NEAR = 0.35  # a cosine from which on likeness speaks for a name
UNSURE_BELOW = 0.5  # the likeliest outcome's probability under which other wordings are asked
REWORDINGS = 3  # each costs as much as the question itself
MAX_SUCCESSES, MAX_NAMES = 16, 64  # 256 numbers of four bytes each: a megabyte
TINY = 1e-9


class Embeds(Protocol):
    """What makes vectors of sentences: rows of length one."""

    def embed(self, texts: Sequence[str]) -> Any:
        """Rows of shape (texts, dimensions)."""


class EmbeddingClassifier:
    """A relevance classifier (:class:`RelevanceClassifier`) over another one."""

    blocking = False  # a fraction of a millisecond beside the words

    def __init__(
        self,
        words: RelevanceClassifier,
        embedder: Embeds,
        *,
        strength: float = STRENGTH,
        near: float = NEAR,
        unsure_below: float = UNSURE_BELOW,
    ) -> None:
        self._words, self._embedder = words, embedder
        self._strength, self._near, self._unsure = strength, near, unsure_below
        self._successes: dict[str, list[Any]] = {}
        self._said = lru_cache(maxsize=512)(self._embed_known)

    def succeeded(self, question: str, name: str) -> None:
        """Remember that ``name`` answered the question well; the oldest is forgotten."""
        rows = self._successes.pop(name, [])
        rows.append(self._embedder.embed([question])[0])
        self._successes[name] = rows[-MAX_SUCCESSES:]
        while len(self._successes) > MAX_NAMES:
            del self._successes[next(iter(self._successes))]

    def classify(self, question: str, names: Sequence[KnownName]) -> Relevance:
        """See :class:`RelevanceClassifier`; unsure questions are asked in other words too."""
        own = self._odds(question, names)
        if max(own) < self._unsure:
            others = reword(question)[:REWORDINGS]
            own = aggregate([own, *(self._odds(other, names) for other in others)])
        ranked = sorted(
            (Scored(known.name, odd) for known, odd in zip(names, own, strict=False)),
            key=lambda scored: (-scored.probability, scored.name),
        )
        return Relevance(
            ranked=tuple(ranked), out_of_scope=own[-1], method="n-grams, head and embeddings"
        )

    def _odds(self, question: str, names: Sequence[KnownName]) -> list[float]:
        """Probabilities of the names, then of none."""
        seen = self._words.classify(question, names)
        chance = {scored.name: scored.probability for scored in seen.ranked}
        vector = self._embedder.embed([question])[0]
        logits = []
        for known in names:
            rows = self._said(known)
            like = float((rows @ vector).max()) if len(rows) else 0.0
            for row in self._successes.get(known.name, ()):
                like = max(like, float(row @ vector))
            moved = self._strength * (like - self._near) if like > 0 else 0.0
            logits.append(math.log(max(TINY, chance[known.name])) + moved)
        logits.append(math.log(max(TINY, seen.out_of_scope)))
        top = max(logits)
        odds = [math.exp(logit - top) for logit in logits]
        total = sum(odds)
        return [odd / total for odd in odds]

    def _embed_known(self, known: KnownName) -> Any:
        texts = [*known.examples, f"{known.domain} {known.description}".strip()]
        rows = self._embedder.embed([text for text in texts if text])
        return np.asarray(rows, dtype=np.float32)
