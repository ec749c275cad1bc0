"""Routers send to the strong model what the weak one gets wrong and the strong one right."""

from __future__ import annotations

import random

import pytest

from agents.classifier.regression import TooFewExamples
from agents.classifier.routing import Neighbours, Past, Router, SimilarityWeighted, apgr
from capabilities.embedding.static import shipped

EASY = ["what colour is the {}", "name a big {}", "is a {} an animal", "how do you spell {}"]
HARD = ["prove the theorem about {} integrals", "derive the differential equation of a {}",
        "why does the {} tensor vanish", "integrate the {} over the sphere"]  # fmt: skip
THINGS = ["dog", "house", "river", "lamp", "spoon", "cloud", "stone", "boat", "horse", "tree"]


def made(things: list[str]) -> list[Past]:
    easy = [Past(text=f.format(t), weak=1.0, strong=1.0) for f in EASY for t in things]
    hard = [Past(text=f.format(t), weak=0.0, strong=1.0) for f in HARD for t in things]
    return [*easy, *hard]


PAST, NEW = made(THINGS[:7]), made(THINGS[7:])
TEXTS = [one.text for one in NEW]


@pytest.mark.parametrize("kind", ["similarity", "neighbours", "router"])
def test_hard_questions_score_above_easy_ones(kind: str) -> None:
    scores = {
        "similarity": lambda: SimilarityWeighted(PAST, shipped()).scores(TEXTS),
        "neighbours": lambda: Neighbours(PAST, shipped()).scores(TEXTS),
        "router": lambda: Router.fit(PAST, embedder=shipped()).scores(TEXTS),
    }[kind]()
    assert min(scores[len(NEW) // 2 :]) > max(scores[: len(NEW) // 2])


def test_a_threshold_sends_the_wanted_share() -> None:
    router = Router.fit(PAST, embedder=shipped())
    threshold = router.threshold(0.5, TEXTS)
    sent = [router.needs_strong(text, threshold) for text in TEXTS]
    assert sum(sent) == len(sent) // 2
    assert all(sent[len(sent) // 2 :])


def test_without_texts_the_threshold_is_of_the_questions_it_was_fitted_on() -> None:
    router = Router.fit(PAST, embedder=shipped())
    assert router.threshold(1.0) <= router.threshold(0.0)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        Router.fit(PAST, embedder=shipped()).threshold(share)


@pytest.mark.parametrize(
    "fit", [lambda p: Router.fit(p, embedder=shipped()), lambda p: SimilarityWeighted(p, shipped())]
)
def test_a_handful_of_questions_is_refused(fit: object) -> None:
    with pytest.raises(TooFewExamples):
        fit(PAST[:5])  # type: ignore[operator]


def test_the_gap_recovered_is_half_by_chance_and_more_in_the_right_order() -> None:
    weak, strong = [1.0] * 500 + [0.0] * 500, [1.0] * 1000
    rng = random.Random(2)
    chance = [rng.random() for _ in weak]
    assert apgr(chance, weak, strong) == pytest.approx(0.5, abs=0.03)
    assert apgr([1 - w for w in weak], weak, strong) > 0.74
    assert apgr(weak, weak, strong) < 0.26


def test_no_gap_is_refused() -> None:
    with pytest.raises(ValueError, match="no better"):
        apgr([0.1, 0.2], [1.0, 1.0], [1.0, 1.0])


def test_an_empty_text_has_a_score() -> None:
    assert Router.fit(PAST, embedder=shipped()).scores([""]).shape == (1,)
