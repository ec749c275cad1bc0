"""Intents on CLINC150: a user's own intent classifier, what fits none, and asking again (PAG)."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

from agents.classifier.intents import IntentClassifier
from agents.classifier.regression import auroc
from capabilities.embedding.static import shipped

UNSURE_BELOW = 0.8  # a text less sure is asked again in other words
RESAMPLES = 2000
MISSING = "--intents FILE (clinc150_train_val.json) is not given"


def measure(path: Path | None, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """``intent`` and ``oos``; null with the reason without the file. Its sentences are read,
    never kept."""
    if path is None:
        empty = {"accuracy": None, "pag_error_reduction": None, "missing": MISSING}
        return empty, {"auroc": None, "missing": MISSING}
    data = json.loads(path.read_text(encoding="utf-8"))
    train, held = data["train"], data["val"]
    began = time.perf_counter()
    classifier = IntentClassifier.fit(
        [t for t, _ in train], [label for _, label in train], embedder=shipped()
    )
    fit_s = time.perf_counter() - began
    began = time.perf_counter()
    own = [classifier.classify(text) for text, _ in held]
    each_us = (time.perf_counter() - began) / len(held) * 1e6
    again = [classifier.classify(text, below=UNSURE_BELOW) for text, _ in held]
    outside = [classifier.classify(text).unsure for text, _ in data["oos_val"]]
    wrong = [intent.label != label for intent, (_, label) in zip(own, held, strict=True)]
    still = [intent.label != label for intent, (_, label) in zip(again, held, strict=True)]
    low, high = interval(wrong, still, seed)
    intent = {
        "accuracy": round(1 - sum(wrong) / len(wrong), 4),
        "accuracy_with_pag": round(1 - sum(still) / len(still), 4),
        "pag_error_reduction": round(reduction(wrong, still), 4),
        "pag_error_reduction_95": [round(low, 4), round(high, 4)],
        "asked_again_share": round(sum(i.asked > 1 for i in again) / len(again), 4),
        "train": len(train),
        "validation": len(held),
        "fit_s": round(fit_s, 1),
        "us_per_text": round(each_us, 1),
    }
    oos = {
        "auroc": round(auroc(outside, [i.unsure for i in own]), 4),
        "outside": len(outside),
        "inside": len(own),
    }
    return intent, oos


def reduction(before: list[bool], after: list[bool]) -> float:
    """The share of errors that are gone; 0 when there were none."""
    return 1 - sum(after) / sum(before) if any(before) else 0.0


def interval(before: list[bool], after: list[bool], seed: int) -> tuple[float, float]:
    """The middle 95 % of :func:`reduction` over resampled texts (paired bootstrap)."""
    chance = random.Random(seed)
    pairs = [pair for pair in zip(before, after, strict=True) if any(pair)]
    share = len(pairs) / len(before)
    found = []
    for _ in range(RESAMPLES):
        # Texts that are right both ways change nothing but the number of the others.
        count = max(1, _binomial(chance, len(before), share))
        drawn = [chance.choice(pairs) for _ in range(count)] if pairs else [(False, False)]
        found.append(reduction([b for b, _ in drawn], [a for _, a in drawn]))
    found.sort()
    return found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES) - 1]


def _binomial(chance: random.Random, count: int, share: float) -> int:
    """Draws of a binomial by its normal limit: counts are in the hundreds here."""
    return round(chance.gauss(count * share, (count * share * (1 - share)) ** 0.5))
