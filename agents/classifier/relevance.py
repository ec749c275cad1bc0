"""Which advertised name a question belongs to, with a probability; "none of them" is one.

Two things speak. *Likeness*: words, word pieces and shape of the question against what the
store says of each name (description, domain, examples), with weights that were learnt over
many domains and belong to none; so a new name is usable at once. *A head*, trained on the
well-known domains. Both are weighed in one conditional logit over the names and "none"
(McFadden 1974), so that the probabilities of names that come and go still add up to one.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import msgspec

from agents.classifier import features
from agents.classifier.catalogue import KnownName
from agents.classifier.features import Text, cosine
from mesh.core.errors import ConfigError

MAX_SUCCESSES, MAX_SUCCESSFUL = 8, 64  # questions of a name, names: some kilobytes each
NONE = ""  # the label of "no name fits" in the head
_ALIKE = (
    "example_words",
    "example_words_second",
    "example_pieces",
    "content_known",
    "content_any",
    "pieces_known",
    "description_pieces",
    "domain_said",
    "shape_agrees",
    "shape_differs",
    "no_content",
)
# A name that the head was trained on leans on the head, a new one on what it advertises alone:
# the same features with weights of their own.
LIKENESS = (*_ALIKE, "head", *(f"new_{name}" for name in _ALIKE), "new")
NOTHING = ("bias", "head", "calculation", "content_words", "best_known", "no_content")


class Scored(msgspec.Struct, frozen=True):
    """A name with the probability that the question belongs to it."""

    name: str
    probability: float


class Relevance(msgspec.Struct, frozen=True, kw_only=True):
    """All names, most likely first; with ``out_of_scope`` they add up to one."""

    ranked: tuple[Scored, ...]
    out_of_scope: float
    method: str

    @property
    def best(self) -> Scored:
        """The most likely name; an empty name with probability 0 when there is none."""
        return self.ranked[0] if self.ranked else Scored("", 0.0)


class RelevanceClassifier(Protocol):
    """A relevance classifier, chosen by name in the configuration."""

    @property
    def blocking(self) -> bool:
        """Whether it takes so long (over some milliseconds) that it must leave the loop."""

    def classify(self, question: str, names: Sequence[KnownName]) -> Relevance:
        """The probabilities of ``names`` for the question. Must not do I/O when called."""


class Weights(msgspec.Struct, frozen=True):
    """What was learnt: made by ``python -m agents.classifier.training.train``.

    ``head`` maps a name ("" for none) to base64 of HASH_WIDTH signed bytes, to be multiplied
    by ``scale``; the logits' biases are in ``bias``.
    """

    labels: list[str]
    head: list[str]
    scale: float
    bias: list[float]
    likeness: dict[str, float]
    nothing: dict[str, float]
    temperature: float
    made_by: str = ""


class Head:
    """A linear softmax over hashed features; pure Python, about 0.1 ms a question."""

    def __init__(self, weights: Weights) -> None:
        self.labels = weights.labels
        self._bias = weights.bias
        self._rows = [memoryview(base64.b64decode(row)).cast("b") for row in weights.head]
        if any(len(row) != features.HASH_WIDTH for row in self._rows):
            raise ConfigError(
                "the weights of the relevance classifier do not fit its features",
                hint="run python -m agents.classifier.training.train",
            )
        self._scale = weights.scale

    def log_probabilities(self, question: str) -> dict[str, float]:
        """The log of the probability of each label the head was trained on."""
        found = features.hashed(question)
        logits = [
            bias + self._scale * sum(row[index] * value for index, value in found)
            for row, bias in zip(self._rows, self._bias, strict=True)
        ]
        top = max(logits)
        total = math.log(sum(math.exp(logit - top) for logit in logits)) + top
        return {
            label: max(-8.0, logit - total)
            for label, logit in zip(self.labels, logits, strict=True)
        }


class NgramClassifier:
    """The first classifier: likeness by n-grams and a trained head. No embedder, no model call."""

    blocking = False

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._head = Head(weights)
        self._successes: dict[str, tuple[Text, ...]] = {}

    def succeeded(self, question: str, name: str) -> None:
        """Remember that ``name`` answered the question well; the oldest is forgotten."""
        rows = self._successes.pop(name, ())
        self._successes[name] = (*rows, features.read(question))[-MAX_SUCCESSES:]
        while len(self._successes) > MAX_SUCCESSFUL:
            del self._successes[next(iter(self._successes))]

    def classify(self, question: str, names: Sequence[KnownName]) -> Relevance:
        """See :class:`RelevanceClassifier`; about a millisecond for ten names."""
        head = self._head.log_probabilities(question)
        seen = features.read(question)
        rows = [likeness(seen, known, head, self._successes.get(known.name, ())) for known in names]
        utilities = [_dot(self._weights.likeness, LIKENESS, row) for row in rows]
        none = _dot(self._weights.nothing, NOTHING, nothing(seen, rows, head))
        everything = [*utilities, none]
        top = max(everything)
        heat = self._weights.temperature
        odds = [math.exp((value - top) / heat) for value in everything]
        total = sum(odds)
        ranked = sorted(
            (Scored(known.name, odd / total) for known, odd in zip(names, odds, strict=False)),
            key=lambda scored: (-scored.probability, scored.name),
        )
        return Relevance(
            ranked=tuple(ranked), out_of_scope=odds[-1] / total, method="n-gram likeness and head"
        )


def likeness(
    seen: Text, known: KnownName, head: dict[str, float], successes: Sequence[Text] = ()
) -> tuple[float, ...]:
    """How a question resembles what is said of a name, and what it answered well before: the
    values of :data:`LIKENESS`."""
    profile = _profile(known)
    examples = (*profile.examples, *successes)
    by_words = sorted((cosine(seen.words, text.words) for text in examples), reverse=True)
    by_pieces = max((cosine(seen.pieces, text.pieces) for text in examples), default=0.0)
    content = seen.content
    shape = max((text.calculation for text in profile.examples), default=0.0)
    counts = seen.calculation >= 0.5
    shared = content & profile.vocabulary
    alike = (
        by_words[0] if by_words else 0.0,
        by_words[1] if len(by_words) > 1 else 0.0,
        by_pieces,
        len(shared) / len(content) if content else 0.0,
        1.0 if shared else 0.0,
        sum(value for key, value in seen.pieces.items() if key in profile.pieces)
        / (sum(seen.pieces.values()) or 1.0),
        cosine(seen.pieces, profile.description.pieces),
        1.0 if content & profile.domain else 0.0,
        1.0 if counts and shape >= 0.5 else 0.0,
        1.0 if counts != (shape >= 0.5) else 0.0,
        1.0 if not content else 0.0,
    )
    silent = (0.0,) * len(alike)
    if known.name in head:
        return (*alike, head[known.name], *silent, 0.0)
    return (*silent, 0.0, *alike, 1.0)


def nothing(
    seen: Text, rows: Sequence[tuple[float, ...]], head: dict[str, float]
) -> tuple[float, ...]:
    """What speaks for "no name fits": the values of :data:`NOTHING`."""
    known, new = LIKENESS.index("pieces_known"), LIKENESS.index("new_pieces_known")
    best = max((row[known] + row[new] for row in rows), default=0.0)
    return (
        1.0,
        head.get(NONE, 0.0),
        1.0 if seen.calculation >= 0.5 else 0.0,
        min(8, len(seen.content)) / 8,
        best,
        1.0 if not seen.content else 0.0,
    )


class _Profile(msgspec.Struct, frozen=True):
    examples: tuple[Text, ...]
    description: Text
    vocabulary: frozenset[str]
    pieces: frozenset[str]
    domain: frozenset[str]


@lru_cache(maxsize=512)
def _profile(known: KnownName) -> _Profile:
    examples = tuple(features.read(text) for text in known.examples)
    segments = known.name.split("/", 1)[-1].replace("/", " ").replace("_", " ").replace("-", " ")
    domain = features.read(f"{known.domain.replace('_', ' ')} {segments}")
    description = features.read(f"{known.description} {known.domain} {segments}")
    texts = (*examples, description)
    return _Profile(
        examples=examples,
        description=description,
        vocabulary=frozenset().union(*(text.content for text in texts)),
        pieces=frozenset().union(*(text.pieces for text in texts)),
        domain=domain.content,
    )


def _dot(weights: dict[str, float], names: Sequence[str], values: Sequence[float]) -> float:
    return sum(weights.get(name, 0.0) * value for name, value in zip(names, values, strict=True))
