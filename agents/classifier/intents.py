"""An intent classifier of one's own: trained in seconds from labelled sentences, no torch.

    classifier = IntentClassifier.fit(texts, labels, embedder=static.shipped())
    classifier.classify("play something slow")      # probabilities, the unsureness beside them

A sentence is its embedding beside hashed words, word pieces and pairs; a softmax regression
weighs them. The embedding brings what words mean, the rest what they are spelt like.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import msgspec
import numpy as np

from agents.classifier.paraphrase import Paraphraser, aggregate, reword
from agents.classifier.regression import Rows, TooFewExamples, softmax, softmax_fit

HASH_WIDTH = 2048
MAX_CHARS = 600
# The best of seven choices on a fifth of CLINC150's training part, fitted on the other four; the
# others lose 0.3 points at most.
ROUNDS, RATE, DECAY = 6, 0.03, 1e-2
WEIGHTS = {"word": 1.0, "piece": 0.5, "pair": 0.7}
_WORD = re.compile(r"[^\W\d_]+|\d+")


class Embeds(Protocol):
    """What makes vectors of sentences: rows of length one."""

    def embed(self, texts: Sequence[str]) -> Any:
        """Rows of shape (texts, dimensions)."""


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """The likeliest intent. ``probability`` is its share; ``unsure`` ranks what fits no intent
    (1 - probability); ``asked`` counts the wordings that were looked at."""

    label: str
    probability: float
    unsure: float
    asked: int = 1


class IntentClassifier:
    """Sentences to the labels of its own training."""

    def __init__(self, labels: Sequence[str], weights: Rows, bias: Rows, embedder: Embeds) -> None:
        self.labels = tuple(labels)
        self._weights, self._bias, self._embedder = weights, bias, embedder

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        embedder: Embeds,
        seed: int = 0,
    ) -> IntentClassifier:
        """Train on labelled texts; raises :class:`TooFewExamples` when there is no choice."""
        if len(texts) != len(labels):
            raise TooFewExamples(f"{len(texts)} texts have {len(labels)} labels")
        names = sorted(set(labels))
        if len(names) < 2:
            raise TooFewExamples(
                f"{len(names)} different labels leave nothing to learn", hint="give at least two"
            )
        place = {name: number for number, name in enumerate(names)}
        numbers = np.array([place[label] for label in labels], dtype=np.int64)
        weights, bias = softmax_fit(
            rows_of(texts, embedder), numbers, len(names), rounds=max(ROUNDS, 4000 // len(texts)),
            rate=RATE, decay=DECAY, seed=seed,
        )  # fmt: skip
        return cls(names, weights, bias, embedder)

    def probabilities(self, texts: Sequence[str]) -> Rows:
        """Shape (texts, labels); each row adds up to one."""
        return softmax(rows_of(texts, self._embedder) @ self._weights + self._bias)

    def classify(
        self,
        text: str,
        *,
        below: float = 0.0,
        paraphrase: Paraphraser = reword,
    ) -> Intent:
        """The likeliest intent; when its probability is under ``below`` other wordings of the
        text are asked too, and all are weighed by confidence (PAG)."""
        (own,) = self.probabilities([text])
        asked = 1
        if own.max() < below:
            others = [other for other in paraphrase(text) if other != text]
            if others:
                rows = self.probabilities([text, *others])
                own, asked = np.array(aggregate(rows.tolist())), len(rows)
        best = int(own.argmax())
        sure = float(own[best])
        return Intent(label=self.labels[best], probability=sure, unsure=1.0 - sure, asked=asked)


def rows_of(texts: Sequence[str], embedder: Embeds) -> Rows:
    """What the regression sees: embeddings beside hashed features of length one."""
    lexical = np.zeros((len(texts), HASH_WIDTH), np.float32)
    for row, text in zip(lexical, texts, strict=True):
        for name, value in _features(text).items():
            code = zlib.crc32(name.encode())
            # The sign bit keeps collisions from adding up (Weinberger et al. 2009).
            row[code % HASH_WIDTH] += value if code & 0x80000000 else -value
    norms = np.linalg.norm(lexical, axis=1, keepdims=True)
    lexical /= np.maximum(norms, np.float32(1e-9))
    vectors = np.asarray(embedder.embed(list(texts)), dtype=np.float32)
    return np.hstack([vectors, lexical])


def _features(text: str) -> dict[str, float]:
    words = _WORD.findall(text[:MAX_CHARS].lower().replace("'", ""))
    found: dict[str, float] = {}
    for word in words:
        found[f"w {word}"] = WEIGHTS["word"]
        framed = f"^{word}$"
        for size in (3, 4):
            for start in range(max(1, len(framed) - size + 1)):
                found[f"p {framed[start : start + size]}"] = WEIGHTS["piece"]
    for before, after in pairwise(["^", *words, "$"]):
        found[f"b {before} {after}"] = WEIGHTS["pair"]
    return found
