"""How much work a question is: steps, length of the answer, how hard for a small model.

One estimate is by features of the text alone; a head trained on data with known outcomes takes
its place behind the same values. They cap the tokens that are asked for and tell allocation which
steps are light.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
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


# What the head sees: how a text falls into clauses, never what it is about.
MOST_STEPS = 5
_PIECES = re.compile(r"[a-z]+|\d+|[^\sa-z\d]")
_STARTS = frozenset(
    [
        "what",
        "whats",
        "how",
        "who",
        "where",
        "when",
        "why",
        "which",
        "tell",
        "explain",
        "give",
        "show",
        "find",
        "are",
        "were",
        "does",
        "did",
        "can",
        "could",
        "will",
        "add",
        "subtract",
        "multiply",
        "divide",
        "double",
        "triple",
        "halve",
        "take",
        "bring",
        "put",
        "make",
        "write",
        "list",
        "name",
        "compute",
        "calculate",
        "work",
        "describe",
        "summarize",
        "summarise",
        "sum",
        "remove",
        "read",
        "check",
        "look",
        "compare",
        "let",
        "report",
        "count",
        "square",
        "increase",
        "decrease",
        "fetch",
        "get",
        "draw",
        "hello",
    ]
)
_JOINS = frozenset(
    [
        "and",
        "then",
        "also",
        "plus",
        "besides",
        "next",
        "finally",
        "afterwards",
        "moreover",
        "too",
        "well",
        "after",
        "later",
        "with",
        "as",
    ]
)
_POLITE = frozenset(("please", "it", "hello", "hi", "ok", "hey"))
_BACK = frozenset(("result", "both", "them", "that", "it", "two"))
_MARKS = frozenset(",;.?:!")
_BETWEEN = re.compile(
    r"(?:[,;.?:!]|\b(?:and|then|also|plus|besides|next|finally|afterwards|moreover|as well as"
    r"|after that|\d+\.)(?!\w))(?:\s|[,;.?:!]|\b(?:and|then|also|plus|besides|next|finally"
    r"|afterwards|when you have it)\b)*"
)
_HEAD = re.compile(
    r"^(?:please |hello |hi |hey |ok )*(?:i want|do i|is it|is there|is my|my |are |"
    + "|".join(sorted(_STARTS))
    + r")\b|\d+ .*\d|how (?:much|many|good|is|were)"
)
ROOM = 1.5  # times the expected tokens are asked for: a cut answer is worth nothing
LEAST_TOKENS, MOST_TOKENS = 32, 1024


class HeadWeights(msgspec.Struct, frozen=True):
    """What ``python -m agents.classifier.training.complexity`` fitted: weights of
    :func:`counts`, one row per number of steps from 1, and one for the logarithm of the tokens."""

    steps: list[list[float]]
    steps_bias: list[float]
    tokens: list[float]
    tokens_bias: float
    made_by: str = ""

    def __post_init__(self) -> None:
        wide = len(counts(""))
        rows = [*self.steps, self.tokens]
        if any(len(row) != wide for row in rows) or len(self.steps) != len(self.steps_bias):
            raise ValueError(f"the rows of the complexity head are not {wide} wide")


class HeadComplexity:
    """Steps, tokens and difficulty by the trained head; pure Python, under a millisecond."""

    def __init__(self, weights: HeadWeights) -> None:
        self._weights = weights

    def steps_of(self, question: str) -> int:
        """How many steps the question asks for, 1 to MOST_STEPS."""
        row = counts(question)
        scores = [
            bias + sum(map(operator.mul, weights, row))
            for weights, bias in zip(self._weights.steps, self._weights.steps_bias, strict=True)
        ]
        return 1 + scores.index(max(scores))

    def tokens_of(self, question: str) -> float:
        """The tokens that the answer is expected to take, its scratchpad included."""
        row = counts(question)
        log = self._weights.tokens_bias + sum(map(operator.mul, self._weights.tokens, row))
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
    """How a text falls into clauses: words that begin one, marks, connectors, numbers, length."""
    text = question[: features.MAX_CHARS].lower()
    pieces = _PIECES.findall(text)
    begun = _begun(pieces)
    marks = sum(piece in _MARKS for piece in pieces[:-1])
    joins = sum(piece in _JOINS for piece in pieces)
    numbers = sum(piece.isdigit() for piece in pieces)
    digits = sum(len(piece) for piece in pieces if piece.isdigit())
    parts = [part.strip() for part in _BETWEEN.split(text) if part and len(part.split()) >= 2]
    heads = sum(bool(_HEAD.search(part)) for part in parts)
    long = sum(len(part.split()) >= 3 for part in parts)
    values = [
        begun, min(begun, 5) ** 2 / 5, sum(piece in _STARTS for piece in pieces), marks, joins,
        numbers, sum(piece in _BACK for piece in pieces), math.log1p(len(pieces)), begun == 1,
        begun == 2, begun >= 3, joins == 0, marks == 0, numbers > 2, numbers > 4,
        pieces.count("and"), pieces.count("then"), marks * joins / 4, min(begun, joins + marks + 1),
        len(parts), heads, heads == 1, heads == 2, heads == 3, heads >= 4, long,
        min(digits, 16) / 4, features.read(question).calculation,
    ]  # fmt: skip
    # A long text may hold hundreds of marks: past a dozen they say nothing more.
    return [min(12.0, float(value)) for value in values]


def _begun(pieces: Sequence[str]) -> int:
    """Words that begin a clause where one may begin, at least three pieces apart."""
    begun, last, previous = 0, -9, ""
    for at, piece in enumerate(pieces):
        free = not previous.isalpha() or previous in _JOINS or previous in _POLITE
        if piece in _STARTS and free and at - last > 2:
            begun, last = begun + 1, at
        previous = piece
    return begun
