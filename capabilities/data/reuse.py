"""What a peer makes of embeddings that it received, without computing one. Pure.

Vectors meet only in one space (:class:`~capabilities.embedding.space.Space`): a cosine between two
of different models is a number without a meaning, so it is refused instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from capabilities.data.messages import Embedding
from capabilities.embedding.space import Space
from mesh.core.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

MAX_LABELS = 256  # labels come from peers
DIVERSITY = 0.5  # of a selection: equal weight for being central and for being new


class Label(NamedTuple):
    """What an embedding is nearest to. ``cosine`` is to that label, ``margin`` how much nearer
    it is than the next; with one label the margin is the cosine."""

    label: str
    cosine: float
    margin: float


class Centroids:
    """Labelled means of unit vectors in one space; the nearest one names an embedding.

    ``counters``: learnt, classified, and refused for another space.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.counters: Counter[str] = Counter()
        self._sums: dict[str, Floats] = {}

    @property
    def labels(self) -> list[str]:
        """What it tells apart."""
        return sorted(self._sums)

    def learn(self, embedding: Embedding) -> None:
        """Take a labelled embedding into the mean of its label.

        Raises :class:`SpaceMismatch`, and :class:`ConfigError` without a label or with one too
        many.
        """
        row = self._row(embedding)
        if not embedding.label:
            raise ConfigError("an embedding without a label teaches nothing")
        if embedding.label not in self._sums and len(self._sums) >= MAX_LABELS:
            raise ConfigError(f"at most {MAX_LABELS} labels are told apart")
        known = self._sums.get(embedding.label)
        self._sums[embedding.label] = row if known is None else known + row
        self.counters["learnt"] += 1

    def classify(self, embedding: Embedding) -> Label:
        """The nearest label; raises :class:`SpaceMismatch`, or :class:`ConfigError` before
        anything was learnt."""
        row = self._row(embedding)
        if not self._sums:
            raise ConfigError("no label was learnt yet")
        near = sorted(
            ((float(row @ _unit(mean)), label) for label, mean in self._sums.items()), reverse=True
        )
        best = near[0]
        self.counters["classified"] += 1
        return Label(best[1], best[0], best[0] - near[1][0] if near[1:] else best[0])

    def _row(self, embedding: Embedding) -> Floats:
        try:
            self.space.require(embedding.space)
        except Exception:
            self.counters["refused"] += 1
            raise
        return _unit(np.frombuffer(embedding.data, "<f4").astype(np.float32))


def summarise(embeddings: Sequence[Embedding], count: int) -> list[int]:
    """The places of at most ``count`` embeddings that stand for all, the most central first.

    Each next one is the most central that is least like those already taken (maximal marginal
    relevance, Carbonell and Goldstein 1998). Raises :class:`SpaceMismatch` when they are not all
    of one space.
    """
    if not embeddings:
        return []
    for embedding in embeddings[1:]:
        embeddings[0].space.require(embedding.space)
    rows = np.stack([_unit(np.frombuffer(e.data, "<f4").astype(np.float32)) for e in embeddings])
    central = rows @ _unit(rows.mean(axis=0))
    taken: list[int] = []
    while len(taken) < min(count, len(rows)):
        score = central.copy()
        if taken:
            score = (1 - DIVERSITY) * central - DIVERSITY * (rows @ rows[taken].T).max(axis=1)
            score[taken] = -np.inf
        taken.append(int(score.argmax()))
    return taken


def _unit(row: Floats) -> Floats:
    length = float(np.linalg.norm(row))
    unit: Floats = row / length if length > 0 else row
    return unit
