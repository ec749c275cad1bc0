"""How much work a question is: steps, length of the answer, how hard for a small model.

The first estimate is by features of the text alone. It caps the tokens that are asked for and
tells allocation which steps are light; a trained head takes its place behind the same values.
"""

from __future__ import annotations

import re
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
