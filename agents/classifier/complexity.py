"""How much work a question is: steps, length of the answer, how hard for a small model.

One estimate is by features of the text alone; a head trained on data with known outcomes takes
its place behind the same values. They cap the tokens that are asked for and tell allocation which
steps are light.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import msgspec

from agents.classifier import features

# Room for the written-out working of the longest sum that the embedded model is trained on.
CALCULATION_TOKENS = 320
SHORT_ANSWER_TOKENS = 128
LONG_ANSWER_TOKENS = 384

_LONG = re.compile(r"\b(?:explain|describe|essay|story|poem|summar|compare|detail|write)", re.I)
_REASON = re.compile(r"\b(?:why|how does|how do|because|prove|compare|difference)\b", re.I)


class Complexity(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate. ``difficulty`` is 0 (looks up) to 1 (reasons at length)."""

    steps: int
    answer_tokens: int
    difficulty: float


class ComplexityClassifier(Protocol):
    """A complexity classifier, chosen by name in the configuration."""

    def estimate(self, question: str, *, steps: int = 1) -> Complexity:
        """The work in one question of a plan with that many steps. Must not do I/O."""


class FeatureComplexity:
    """Counts numbers, digits and words that ask for length or reasons."""

    def estimate(self, question: str, *, steps: int = 1) -> Complexity:
        """See :class:`ComplexityClassifier`."""
        seen = features.read(question)
        if seen.calculation >= 0.5:
            digits = sum(character.isdigit() for character in question)
            hard = min(1.0, digits / 12)
            return Complexity(steps=steps, answer_tokens=CALCULATION_TOKENS, difficulty=hard)
        long = bool(_LONG.search(question))
        reasons = bool(_REASON.search(question))
        words = min(1.0, len(seen.content) / 40)
        return Complexity(
            steps=steps,
            answer_tokens=LONG_ANSWER_TOKENS if long else SHORT_ANSWER_TOKENS,
            difficulty=min(1.0, 0.2 + 0.3 * long + 0.3 * reasons + 0.4 * words),
        )


# What the head sees. Counts are over the whole text, so they stay few and can be read.
HASHED = 256  # columns of hashed pairs of words
MOST_STEPS = 5
_PIECES = re.compile(r"[a-z]+|\d+|[^\sa-z\d]")
_CONNECTORS = ("and", "then", "after", "also", "plus", "next", "finally", "both", "afterwards")
_ASKING = (
    "what", "how", "who", "where", "when", "why", "which", "tell", "explain", "give", "show",
    "find", "is", "are", "add", "subtract", "multiply", "divide", "double", "take",
)  # fmt: skip
_MARKS = ",;.?:"
_BACK = ("result", "that", "it", "answer", "them", "this")
ROOM = 1.5  # times the expected tokens are asked for: a cut answer is worth nothing
LEAST_TOKENS, MOST_TOKENS = 32, 1024


class HeadWeights(msgspec.Struct, frozen=True):
    """What ``python -m agents.classifier.training.complexity`` fitted: rows of :func:`counts`
    and hashed pairs, one per number of steps from 1, and one for the logarithm of the tokens."""

    steps: list[list[float]]
    steps_bias: list[float]
    tokens: list[float]
    tokens_bias: float
    made_by: str = ""

    def __post_init__(self) -> None:
        wide = len(counts("")) + HASHED
        rows = [*self.steps, self.tokens]
        if any(len(row) != wide for row in rows) or len(self.steps) != len(self.steps_bias):
            raise ValueError(f"the rows of the complexity head are not {wide} wide")


class HeadComplexity:
    """Steps, tokens and difficulty by the trained head; pure Python, under a millisecond."""

    def __init__(self, weights: HeadWeights) -> None:
        self._weights = weights

    def steps_of(self, question: str) -> int:
        """How many steps the question asks for, 1 to MOST_STEPS."""
        row = sparse(question)
        scores = [
            bias + sum(weights[at] * value for at, value in row)
            for weights, bias in zip(self._weights.steps, self._weights.steps_bias, strict=True)
        ]
        return 1 + scores.index(max(scores))

    def tokens_of(self, question: str) -> float:
        """The tokens that the answer is expected to take, its scratchpad included."""
        row = sparse(question)
        log = self._weights.tokens_bias + sum(self._weights.tokens[at] * v for at, v in row)
        return math.exp(min(12.0, max(0.0, log)))

    def estimate(self, question: str, *, steps: int = 1) -> Complexity:
        """See :class:`ComplexityClassifier`. ``steps`` is of the plan that there already is."""
        plain = FeatureComplexity().estimate(question, steps=steps)
        room = math.ceil(ROOM * self.tokens_of(question))
        # The head has only seen short answers: what asks for length keeps its room, and so does
        # a calculation, which is worth nothing without its end.
        return Complexity(
            steps=max(steps, self.steps_of(question)),
            answer_tokens=max(LEAST_TOKENS, min(MOST_TOKENS, max(room, plain.answer_tokens))),
            difficulty=plain.difficulty,
        )


def counts(question: str) -> list[float]:
    """Connectors, words that ask, marks, numbers and length, each in a place of its own."""
    pieces = _PIECES.findall(question[: features.MAX_CHARS].lower())
    words = sum(piece.isalpha() for piece in pieces)
    named: Sequence[str] = (*_CONNECTORS, *_ASKING, *_MARKS, *_BACK)
    asking = sum(piece in _ASKING for piece in pieces)
    numbers = sum(piece.isdigit() for piece in pieces)
    return [
        *(min(3.0, float(pieces.count(name))) / 2 for name in named),
        min(6.0, asking) / 3,
        min(6.0, numbers) / 3,
        min(4.0, len(re.findall(r"(?:^|\s)\d\.\s", question))) / 2,
        math.log1p(words) / 3,
        features.read(question).calculation,
    ]


def sparse(question: str) -> list[tuple[int, float]]:
    """:func:`counts` and hashed pairs of words as (place, value)."""
    first = counts(question)
    row = {at: value for at, value in enumerate(first) if value}
    tokens = ["^", *features.read(question).tokens, "$"]
    share = 2.0 / math.sqrt(len(tokens))
    for before, after in pairwise(tokens):
        code = zlib.crc32(f"{before} {after}".encode())
        at = len(first) + code % HASHED
        row[at] = row.get(at, 0.0) + (share if code & 0x80000000 else -share)
    return sorted(row.items())
