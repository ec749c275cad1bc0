"""Before any draft: is this the kind of question that the model is known to get right?

SKR (Wang et al. 2023): a bounded memory of embeddings of graded questions per model; the nearest
vote, and each counts by its likeness. Nothing is remembered of the words themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.classifier.gap import Draft, EvidenceGap, Verdict

MAX_GRADED = 512  # per model; 256 numbers of 4 bytes each: half a megabyte
MAX_MODELS = 16
NEAREST = 10
LEAST_LIKENESS = 0.3  # a question farther than this says nothing about another
PRIOR_WEIGHT = 1.0  # votes of "I cannot say": one distant neighbour must not decide
SURE = 0.7  # from here on a question counts as known, as SKR has it

Vector = NDArray[np.float32]


class Graded:
    """Which questions a model was seen to answer rightly; the oldest leave when it is full."""

    def __init__(self, *, size: int = MAX_GRADED, nearest: int = NEAREST) -> None:
        if size < 1 or nearest < 1:
            raise ValueError("size and nearest must be at least 1")
        self._size, self._nearest = size, nearest
        self._rows: dict[str, Vector] = {}
        self._right: dict[str, NDArray[np.float32]] = {}
        self._count: dict[str, int] = {}

    def add(self, model: str, vector: Any, *, right: bool) -> None:
        """Remember one graded question by its embedding, a row of length one."""
        row = np.asarray(vector, dtype=np.float32)
        if row.ndim != 1 or not np.isfinite(row).all():
            raise ValueError("an embedding is one row of finite numbers")
        rows = self._rows.get(model)
        if rows is None:
            while len(self._rows) >= MAX_MODELS:
                self._forget(next(iter(self._rows)))
            rows = self._rows[model] = np.zeros((self._size, len(row)), np.float32)
            self._right[model] = np.zeros(self._size, np.float32)
            self._count[model] = 0
        if rows.shape[1] != len(row):
            raise ValueError(f"{len(row)} dimensions, the memory holds {rows.shape[1]}")
        at = self._count[model] % self._size
        rows[at], self._right[model][at] = row, float(right)
        self._count[model] += 1

    def known(self, model: str, vector: Any) -> float | None:
        """The share of the nearest graded questions that were right, drawn towards a half when
        they are few or far; None when nothing near was ever graded."""
        filled = min(self._count.get(model, 0), self._size)
        if not filled:
            return None
        row = np.asarray(vector, dtype=np.float32)
        if row.shape != self._rows[model].shape[1:]:
            return None
        alike = self._rows[model][:filled] @ row
        nearest = np.argsort(-alike, kind="stable")[: self._nearest]
        weights = np.where(alike[nearest] >= LEAST_LIKENESS, alike[nearest], 0.0)
        if not weights.any():
            return None
        votes = float(weights @ self._right[model][nearest]) + PRIOR_WEIGHT / 2
        return votes / (float(weights.sum()) + PRIOR_WEIGHT)

    def _forget(self, model: str) -> None:
        for kept in (self._rows, self._right, self._count):
            kept.pop(model, None)


class Embeds(Protocol):
    """What makes vectors of sentences: rows of length one."""

    def embed(self, texts: Sequence[str]) -> Any:
        """Rows of shape (texts, dimensions)."""


class LearningGap:
    """A gap detector (:class:`~agents.classifier.gap.GapDetector`) that also goes by likeness,
    and by which questions each model was seen to get right or wrong."""

    def __init__(self, words: EvidenceGap, embedder: Embeds, memory: Graded | None = None) -> None:
        self._words, self._embedder, self._memory = words, embedder, memory or Graded()

    def judge(self, draft: Draft, floor: float) -> Verdict:
        """See :class:`~agents.classifier.gap.GapDetector`."""
        if draft.question and draft.text.strip():
            asked, said = self._embedder.embed([draft.question, draft.text])
            draft = msgspec.structs.replace(
                draft, likeness=float(asked @ said), known=self._memory.known(draft.model, asked)
            )
        return self._words.judge(draft, floor)

    def graded(self, model: str, question: str, *, right: bool) -> None:
        """This model answered the question rightly, or did not."""
        self._memory.add(model, self._embedder.embed([question])[0], right=right)

    def foreseen(self, model: str, question: str) -> float | None:
        """How probably the model will get it right, before it is asked; None: nothing like it
        was ever graded."""
        return self._memory.known(model, self._embedder.embed([question])[0])
