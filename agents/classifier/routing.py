"""Before any model answers: does this question need the stronger one?

Three routers learn from past questions on which a weak and a strong model were graded:

- :class:`SimilarityWeighted`: RouteLLM's (Ong et al. 2024), which trains nothing. Past winners
  count by how alike their question is.
- :class:`Neighbours`: the mean gain of the nearest questions.
- :class:`Router`: the neighbours beside a linear head on the embedding and the shape of the text
  (after HybridLLM, Ding et al. 2024), which foresees what the strong model would gain. The
  default.

A score above a threshold goes to the strong model; :meth:`Router.threshold` finds the one for a
wanted share.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from agents.classifier.regression import Floats, TooFewExamples, ridge_fit

MIN_EXAMPLES = 20
DECAY = 50.0  # of the head over 256 dimensions: a few thousand noisy outcomes teach little
SHAPE_SCALE = 0.1  # shape features beside an embedding of length one
NEIGHBOURS = 50
SHARPNESS = 10.0  # neighbours weigh exp(this times their cosine)
PAST_CHARS = 2000
_WORD = re.compile(r"\w+")


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """A question and how right the weak and the strong model were, 0 to 1."""

    text: str
    weak: float
    strong: float


class Embeds(Protocol):
    """What makes vectors of sentences: rows of length one."""

    def embed(self, texts: Sequence[str]) -> Any:
        """Rows of shape (texts, dimensions)."""


class SimilarityWeighted:
    """P(strong wins) of a Bradley-Terry model over past winners, each weighing
    10 * 10 ** (cosine / greatest cosine). With two contestants the weighted share of wins, ties
    counted half, is its solution."""

    def __init__(self, past: Sequence[Past], embedder: Embeds) -> None:
        _check(past)
        self._embedder = embedder
        self._rows = _vectors(embedder, [one.text for one in past])
        self._wins = np.array([0.5 + 0.5 * np.sign(one.strong - one.weak) for one in past])

    def scores(self, texts: Sequence[str]) -> Floats:
        """Per text the probability that the strong model wins."""
        alike = _vectors(self._embedder, texts) @ self._rows.T
        best = np.maximum(alike.max(axis=1, keepdims=True), 1e-6)
        weights = 10.0 * 10.0 ** (alike / best)
        out: Floats = (weights @ self._wins) / weights.sum(axis=1)
        return out


class Neighbours:
    """The mean of what the strong model gained on the nearest past questions."""

    def __init__(self, past: Sequence[Past], embedder: Embeds, *, count: int = NEIGHBOURS) -> None:
        _check(past)
        self._embedder = embedder
        self._rows = _vectors(embedder, [one.text for one in past])
        self._gains = np.array([one.strong - one.weak for one in past])
        self._count = min(count, len(past))

    def scores(self, texts: Sequence[str]) -> Floats:
        """Per text the expected gain, -1 to 1."""
        return self.near(_vectors(self._embedder, texts))

    def near(self, vectors: Floats) -> Floats:
        """As :meth:`scores`, for embeddings."""
        alike = vectors @ self._rows.T
        nearest = np.argpartition(-alike, self._count - 1, axis=1)[:, : self._count]
        cosines = np.take_along_axis(alike, nearest, axis=1)
        weights = np.exp(SHARPNESS * (cosines - cosines.max(axis=1, keepdims=True)))
        out: Floats = (weights * self._gains[nearest]).sum(axis=1) / weights.sum(axis=1)
        return out


class Router:
    """How much the strong model is expected to gain on a question."""

    def __init__(
        self, neighbours: Neighbours, weights: Floats, bias: float, scale: Floats, embedder: Embeds
    ) -> None:
        self._neighbours, self._weights, self._bias = neighbours, weights, bias
        self._scale, self._embedder = scale, embedder
        self._own: Floats = np.zeros(0)

    @classmethod
    def fit(cls, past: Sequence[Past], *, embedder: Embeds) -> Router:
        """Learn from graded questions; raises :class:`TooFewExamples` under MIN_EXAMPLES."""
        _check(past)
        texts = [one.text for one in past]
        vectors = _vectors(embedder, texts)
        shapes = np.array([shape(text) for text in texts])
        scale = np.stack([shapes.mean(axis=0), np.maximum(shapes.std(axis=0), 1e-6)])
        gains = np.array([one.strong - one.weak for one in past])
        weights, bias = ridge_fit(_joined(vectors, shapes, scale), gains, decay=DECAY)
        router = cls(Neighbours(past, embedder), weights, bias, scale, embedder)
        router._own = np.sort(router.scores(texts))
        return router

    def scores(self, texts: Sequence[str]) -> Floats:
        """Per text; higher needs the strong model more."""
        vectors = _vectors(self._embedder, texts)
        shapes = np.array([shape(text) for text in texts]).reshape(len(texts), -1)
        head = _joined(vectors, shapes, self._scale) @ self._weights + self._bias
        out: Floats = head + self._neighbours.near(vectors)
        return out

    def threshold(self, share: float, texts: Sequence[str] = ()) -> float:
        """The score from which on this share of ``texts`` (better than the questions fitted on,
        which are its own neighbours) goes to the strong model."""
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share is {share}, it is 0 to 1")
        scores = self.scores(texts) if texts else self._own
        return float(np.quantile(scores, 1.0 - share))

    def needs_strong(self, text: str, threshold: float) -> bool:
        """Whether the question goes to the strong model."""
        return bool(self.scores([text])[0] >= threshold)


def shape(text: str) -> list[float]:
    """What the look of a text says of its difficulty: length, lines, digits, capitals, signs."""
    size = max(1, len(text))
    lines = text.split("\n")
    words = _WORD.findall(text)
    return [
        math.log1p(len(text)),
        math.log1p(len(words)),
        sum(character.isdigit() for character in text) / size,
        float(len(lines)),
        sum(character.isupper() for character in text) / size,
        float("$" in text or "=" in text),
        float(" not " in text.lower() or "except" in text.lower()),
        float("_" in text),
        math.log1p(max((len(line) for line in lines[1:]), default=0)),
        sum(map(len, words)) / max(1, len(words)),
    ]


def apgr(scores: Sequence[float], weak: Sequence[float], strong: Sequence[float]) -> float:
    """The average performance gap recovered (Ong et al. 2024): the accuracy between the weak
    model's (0) and the strong one's (1), averaged over every share sent to the strong one, the
    highest scores first. Raises ValueError when the strong model is no better."""
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    below = np.asarray(weak, dtype=np.float64)[order]
    above = np.asarray(strong, dtype=np.float64)[order]
    gap = above.sum() - below.sum()
    if gap <= 0:
        raise ValueError("the strong model is no better than the weak one here")
    gained = np.concatenate([[0.0], np.cumsum(above - below)])
    return float((gained / gap).mean())


def _joined(vectors: Floats, shapes: Floats, scale: Floats) -> Floats:
    return np.hstack([vectors, SHAPE_SCALE * (shapes - scale[0]) / scale[1]])


def _vectors(embedder: Embeds, texts: Sequence[str]) -> Floats:
    return np.asarray(embedder.embed([text[:PAST_CHARS] for text in texts]), dtype=np.float64)


def _check(past: Sequence[Past]) -> None:
    if len(past) < MIN_EXAMPLES:
        raise TooFewExamples(
            f"{len(past)} graded questions are too few for a router",
            hint=f"grade at least {MIN_EXAMPLES}",
        )
