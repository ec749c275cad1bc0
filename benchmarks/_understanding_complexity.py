"""How many steps a question asks for, against plans that are known; held-out parts and words."""

from __future__ import annotations

import random
import statistics
from typing import Any

from agents.classifier.complexity import ComplexityClassifier, FeatureComplexity
from agents.classifier.shipped import head_complexity
from agents.classifier.training.complexity import compound, lengths, single

QUESTIONS, ASKED = 1000, 200


def measure(seed: int, *, quick: bool) -> dict[str, Any]:
    """``complexity``: the head; ``one_step`` is what calling everything one step scores."""
    rng = random.Random(seed)
    count = QUESTIONS // 5 if quick else QUESTIONS
    asked = compound(rng, count, held_out=True) + single(rng, count // 2, held_out=True)
    head = head_complexity()
    missed = [abs(head.steps_of(one.text) - one.steps) for one in asked]
    measured = lengths(seed + 1, ASKED // 5 if quick else ASKED)
    return {
        "mae_steps": round(statistics.fmean(missed), 4),
        "accuracy": round(sum(miss == 0 for miss in missed) / len(missed), 4),
        "one_step": {
            "mae_steps": round(statistics.fmean(one.steps - 1 for one in asked), 4),
            "accuracy": round(sum(one.steps == 1 for one in asked) / len(asked), 4),
        },
        "questions": len(asked),
        "tokens_error_ratio": round(
            statistics.median(
                abs(head.tokens_of(text) - tokens) / max(1, tokens) for text, tokens in measured
            ),
            4,
        ),
        "cut_share": _cut(head, measured),
        "cut_share_features": _cut(FeatureComplexity(), measured),
    }


def _cut(classifier: ComplexityClassifier, measured: list[tuple[str, int]]) -> float:
    """Answers that would not have had the room that they took."""
    return round(
        sum(classifier.estimate(text).answer_tokens < tokens for text, tokens in measured)
        / len(measured),
        4,
    )
