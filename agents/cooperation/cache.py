"""When an answer that is remembered may stand for a new one: thresholds, and what must be equal.

Source: VELO's semantic cache of edge servers, in the form of thresholds that learn from feedback.
Above ``upper`` an answer is used again; between ``lower`` and ``upper`` it goes into the prompt
as an example; below, it is left alone. A cosine knows nothing of numbers: "48 * 27" and
"48 * 28" are neighbours. So reuse also asks that numbers, units, operations, negations,
opposites and named things are the same in both questions, whatever the cosine says.
"""

from __future__ import annotations

import msgspec

from agents.cooperation.cache_facts import Facts, about, difference

REUSE = "reuse"
CONTEXT = "context"
NOTHING = "nothing"

FALSE_HIT_STEP = 0.01
CONFIRMED_STEP = 0.005
CONFIRMED_EVERY = 50  # hits without a complaint before the threshold comes down a step
PINNING_WORDS = 2  # equal words that pin a question down: one is asked about in many ways
MOST_UPPER = 0.995  # above it, only the same words would hit


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """Cosines with the question that is remembered, and how good an answer is kept.

    ``upper`` holds where the words alone decide. Where two or more equal numbers pin a question
    down, or the words that it is about are the same, it may be ``pinned`` lower. The defaults
    are measured on the shipped embedder (``benchmarks.cooperation``, ``cache.sweep``): lower
    ones take one question of words alone for another. Higher asks the mesh more often.
    ``quality`` is a calibrated probability of being right.
    """

    upper: float = 0.85
    pinned: float = 0.3
    lower: float = 0.5
    quality: float = 0.7


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """Where the upper threshold stands now, and the hits confirmed since it last moved."""

    upper: float
    confirmed: int = 0

    def false_hit(self) -> Tuning:
        """Somebody said that a reused answer was wrong."""
        return Tuning(upper=min(MOST_UPPER, self.upper + FALSE_HIT_STEP))

    def confirmed_hit(self, least: float) -> Tuning:
        """A reused answer was right; never below ``least``."""
        count = self.confirmed + 1
        if count < CONFIRMED_EVERY:
            return Tuning(upper=self.upper, confirmed=count)
        return Tuning(upper=max(least, self.upper - CONFIRMED_STEP))


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is remembered, as far as reuse depends on it."""

    cosine: float
    facts: Facts
    fresh: bool = True
    allowed: bool = True
    quality: float = 1.0


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """``action`` is reuse, context or nothing; ``why`` one plain sentence."""

    action: str
    score: float
    threshold: float
    why: str


def decide(asked: Facts, known: Known, upper: float, thresholds: Thresholds) -> Decision:
    """Whether the answer of ``known`` may stand for an answer to ``asked``."""

    needed = upper
    if _pinned(asked, known.facts):
        needed = max(thresholds.lower, upper - thresholds.pinned)

    def said(action: str, why: str) -> Decision:
        return Decision(action=action, score=known.cosine, threshold=needed, why=why)

    if not known.allowed:
        return said(NOTHING, "it was learnt under other access rights")
    if not known.fresh:
        return said(NOTHING, "what is known has expired")
    if known.quality < thresholds.quality:
        return said(NOTHING, f"what is known is not sure enough ({known.quality:.2f})")
    if known.cosine < thresholds.lower:
        return said(NOTHING, "nothing like it is known")
    other = difference(asked, known.facts)
    if other:
        return said(CONTEXT, f"something like it is known, but {other}")
    if known.cosine < needed:
        return said(CONTEXT, "something like it is known, which may help as an example")
    return said(REUSE, "the same question was answered before")


def _pinned(asked: Facts, known: Facts) -> bool:
    """Whether more than a cosine says that both ask for one thing."""
    words = about(asked)
    return asked.numbers >= 2 or (len(words) >= PINNING_WORDS and words == about(known))
