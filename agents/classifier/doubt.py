"""What speaks for and against a draft, as numbers, and a fitted curve over them. Pure Python.

The signals: the model's token evidence of the visible text and of its scratchpad (LogTokU's
epistemic and aleatoric uncertainty among them, Ma et al. 2025), whether a second draft says the
same, whether the answer uses the numbers of the question, how alike question and answer are, and
how often the model was right on the nearest questions that were graded (SKR, Wang et al. 2023).
A logistic curve weighs them and an isotonic step makes the result a frequency;
``python -m agents.classifier.training.gap`` fits both per model.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right

import msgspec

from capabilities.messages import Evidence

LOWEST = 1e-6
SMALLEST_DOUBT = 1e-4  # of a mean log-probability, before its logarithm is taken
MOST_SPREADS = 6.0  # from its mean that a signal may pull: one stray value must not decide
_NUMBER = re.compile(r"\d+(?:\.\d+)?")

EVIDENCE = (
    "mean_logprob", "log_min_probability", "log_mean_doubt", "epistemic", "aleatoric",
    "log_working_min_probability", "log_working_mean_doubt", "working_epistemic",
    "working_aleatoric",
)  # fmt: skip
CLAIMS = (
    "numbers_supported", "all_numbers_supported", "numbers_unused", "first_number_unused",
    "last_number_unused",
)  # fmt: skip
SECOND, LIKENESS, KNOWN = "second_draft_agrees", "question_answer_likeness", "known"
SIGNALS = (*EVIDENCE, *CLAIMS, SECOND, LIKENESS, KNOWN)
# What costs something to find out. A curve that weighs one of these is for drafts that have it;
# that nothing like the question was ever graded (KNOWN) is no reason against a curve.
DEAR = frozenset({SECOND, LIKENESS})


class Signal(msgspec.Struct, frozen=True):
    """One signal's weight, after its mean is taken off and it is divided by its spread. A draft
    that lacks the signal is taken to have the mean."""

    weight: float
    mean: float
    spread: float


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Fitted on ``questions`` graded answers of one model (``file_sha256`` says of which file).

    ``scores`` and ``shares`` are the knots of the isotonic step, both rising.
    """

    model: str
    signals: dict[str, Signal]
    bias: float
    scores: list[float] = []
    shares: list[float] = []
    questions: int = 0
    file_sha256: str = ""
    made_by: str = ""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.signals) - set(SIGNALS))
        if unknown:
            raise ValueError(f"no such signal: {', '.join(unknown)}")
        if any(signal.spread <= 0 for signal in self.signals.values()):
            raise ValueError("a spread must be above 0")
        if len(self.scores) != len(self.shares) or self.scores != sorted(self.scores):
            raise ValueError("the knots must rise and be as many as their shares")

    @property
    def needs(self) -> frozenset[str]:
        """The dear signals that a draft must have to be judged by this curve."""
        return DEAR & self.signals.keys()

    def score(self, found: dict[str, float]) -> float:
        """The logistic curve's probability, before the isotonic step."""
        logit = self.bias
        for name, signal in self.signals.items():
            value = found.get(name)
            if value is not None and math.isfinite(value):
                spreads = (value - signal.mean) / signal.spread
                logit += signal.weight * min(MOST_SPREADS, max(-MOST_SPREADS, spreads))
        return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, logit))))

    def probability(self, found: dict[str, float]) -> float:
        """The estimated probability of being right."""
        score = self.score(found)
        if not self.scores:
            return score
        right = bisect_right(self.scores, score)
        if right == 0:
            return self.shares[0]
        if right == len(self.scores):
            return self.shares[-1]
        low, high = self.scores[right - 1], self.scores[right]
        part = (score - low) / (high - low) if high > low else 1.0
        return self.shares[right - 1] + part * (self.shares[right] - self.shares[right - 1])


def signals(
    evidence: Evidence,
    *,
    question: str = "",
    answer: str = "",
    second: str | None = None,
    likeness: float | None = None,
    known: float | None = None,
) -> dict[str, float]:
    """All that is known of a draft; what was not given is left out.

    A peer may claim any evidence: each number is clamped to what the quantity can be.
    """
    mean = _clamped(evidence.mean_logprob, -20.0, 0.0)
    working = _clamped(evidence.working_mean_logprob, -20.0, 0.0)
    found = {
        "mean_logprob": mean,
        "log_min_probability": math.log(_clamped(evidence.min_probability, LOWEST, 1.0)),
        "log_mean_doubt": math.log(SMALLEST_DOUBT - mean),
        "epistemic": _clamped(evidence.epistemic, 0.0, 1.0),
        "aleatoric": _clamped(evidence.aleatoric, 0.0, 50.0),
        "log_working_min_probability": math.log(
            _clamped(evidence.working_min_probability, LOWEST, 1.0)
        ),
        "log_working_mean_doubt": math.log(SMALLEST_DOUBT - working),
        "working_epistemic": _clamped(evidence.working_epistemic, 0.0, 1.0),
        "working_aleatoric": _clamped(evidence.working_aleatoric, 0.0, 50.0),
    }
    if question and answer:
        found |= _claims(question, answer)
    if second is not None:
        found[SECOND] = float(second.strip() == answer.strip())
    if likeness is not None:
        found[LIKENESS] = _clamped(likeness, -1.0, 1.0)
    if known is not None:
        found[KNOWN] = _clamped(known, 0.0, 1.0)
    return found


def _claims(question: str, answer: str) -> dict[str, float]:
    """Whether the answer, up to its result, speaks of the numbers that were asked about."""
    asked = _NUMBER.findall(question)
    used = _NUMBER.findall(answer.partition("=")[0])
    given, spoken = set(asked), set(used)
    supported = [number for number in used if number in given]
    return {
        "numbers_supported": len(supported) / len(used) if used else 1.0,
        "all_numbers_supported": float(len(supported) == len(used)),
        "numbers_unused": float(min(8, sum(number not in spoken for number in asked))),
        "first_number_unused": float(bool(asked) and asked[0] not in spoken),
        "last_number_unused": float(bool(asked) and asked[-1] not in spoken),
    }


def _clamped(value: float, low: float, high: float) -> float:
    return low if math.isnan(value) else min(high, max(low, value))
