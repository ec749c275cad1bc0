"""Fits the relevance evaluators: pairs that belong together and pairs that do not.

python -m agents.cooperation.knowledge_fit

Pairs come from the training material of the shipped models: a question with its right answer,
with another domain's answer, with another question's answer where the domain has several.
Printed: the coefficients for :mod:`agents.cooperation.knowledge`, and how the outcomes fall on the
half that was kept back.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence

import msgspec
import numpy as np

from agents.cooperation.knowledge import (
    CORRECT,
    INCORRECT,
    Evaluator,
    evaluate,
    signals,
)
from capabilities.embedding.static import shipped

Pair = tuple[str, str, bool]
SEED = 20_260
PER_DOMAIN = 600
STEPS, RATE, RIDGE = 4000, 0.5, 1e-3
SURE = 0.95  # of the pairs above ``upper`` belong together, of those below ``lower`` do not


def answer_pairs(rng: random.Random, count: int = PER_DOMAIN) -> list[Pair]:
    """Questions with answers of experts."""
    from capabilities.slm.training import air_quality, arithmetic, traffic, vitals

    by_domain: dict[str, list[tuple[str, str]]] = {}
    for module in (arithmetic, air_quality, vitals, traffic):
        rows = by_domain.setdefault(module.__name__, [])
        while len(rows) < count:
            example = module.held_out_example(rng)
            if example.category != "decline":
                rows.append((example.question, example.answer))
    by_domain["topics"] = topic_rows(rng, count)
    pairs: list[Pair] = []
    domains = list(by_domain)
    for domain, rows in by_domain.items():
        others = [other for other in domains if other != domain]
        for question, answer in rows:
            pairs.append((question, answer, True))
            pairs.append((question, rng.choice(by_domain[rng.choice(others)])[1], False))
    return pairs


def topic_rows(rng: random.Random, count: int) -> list[tuple[str, str]]:
    """Questions about the mesh with their answers."""
    from capabilities.slm.training import general

    topics = general.load_topics()
    rows = []
    for _ in range(count):
        topic = rng.choice(topics)
        example = general.topic_example(rng, topic, held_out=False)
        rows.append((example.question, rng.choice(topic.answers)))
    return rows


def passage_pairs(rng: random.Random, count: int = 4 * PER_DOMAIN) -> list[Pair]:
    """Questions about the mesh with passages made of answers; wrong ones are of other topics."""
    from capabilities.slm.training import general

    topics = [t for t in general.load_topics() if t.nouns and t.answers]
    pairs: list[Pair] = []
    for _ in range(count):
        topic = rng.choice(topics)
        question = general.topic_example(rng, topic, held_out=rng.random() < 0.5).question
        pairs.append((question, " ".join(topic.answers), True))
        other = rng.choice([t for t in topics if t is not topic])
        pairs.append((question, " ".join(other.answers), False))
    return pairs


def fit(pairs: Sequence[Pair]) -> Evaluator:
    """Coefficients by gradient descent, then thresholds by their share of pairs."""
    rows, right = _features(pairs), np.array([ok for _, _, ok in pairs], float)
    weights = np.zeros(4)
    for _ in range(STEPS):
        probability = 1 / (1 + np.exp(-(rows @ weights)))
        weights -= RATE * (rows.T @ (probability - right) / len(rows) + RIDGE * weights)
    scores = 1 / (1 + np.exp(-(rows @ weights)))
    steps = np.arange(0.02, 0.99, 0.01)
    upper = next((t for t in steps if right[scores >= t].mean() >= SURE), 0.98)
    lower = next((t for t in steps[::-1] if (1 - right[scores < t]).mean() >= SURE), 0.02)
    bias, cosine, support, figures = (round(float(w), 3) for w in weights)
    return Evaluator(
        bias=bias,
        cosine=cosine,
        support=support,
        figures=figures,
        upper=round(float(max(upper, lower)), 2),
        lower=round(float(min(upper, lower)), 2),
    )


def outcomes(pairs: Sequence[Pair], evaluator: Evaluator) -> dict[str, float]:
    """How pairs that were kept back fall: shares of the right and of the wrong."""
    embedder = shipped()
    asked, said = embedder.embed([p[0] for p in pairs]), embedder.embed([p[1] for p in pairs])
    cosines = (asked * said).sum(1)
    found = [
        (evaluate(q, text, float(c), evaluator).outcome, ok)
        for (q, text, ok), c in zip(pairs, cosines, strict=True)
    ]
    of_right = [outcome for outcome, ok in found if ok]
    of_wrong = [outcome for outcome, ok in found if not ok]
    return {
        "right_taken": of_right.count(CORRECT) / len(of_right),
        "right_discarded": of_right.count(INCORRECT) / len(of_right),
        "wrong_taken": of_wrong.count(CORRECT) / len(of_wrong),
        "wrong_discarded": of_wrong.count(INCORRECT) / len(of_wrong),
    }


def _features(pairs: Sequence[Pair]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    embedder = shipped()
    asked, said = embedder.embed([p[0] for p in pairs]), embedder.embed([p[1] for p in pairs])
    cosines = (asked * said).sum(1)
    shared = [signals(question, text) for question, text, _ in pairs]
    return np.array([[1.0, float(c), s, f] for c, (s, f) in zip(cosines, shared, strict=True)])


def main() -> None:
    """Fit both, print them."""
    for name, make in (("ANSWERS", answer_pairs), ("PASSAGES", passage_pairs)):
        rng = random.Random(SEED)
        pairs = make(rng)
        rng.shuffle(pairs)
        half = len(pairs) // 2
        fitted = fit(pairs[:half])
        fields = ", ".join(f"{k}={v}" for k, v in msgspec.structs.asdict(fitted).items())
        told = ", ".join(f"{k} {v:.3f}" for k, v in outcomes(pairs[half:], fitted).items())
        sys.stdout.write(f"{name} = Evaluator({fields})\n  kept back: {told}\n")


if __name__ == "__main__":
    main()
