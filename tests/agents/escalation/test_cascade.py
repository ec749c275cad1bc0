"""Thresholds fitted on a log: within the budget, better than either end, hopeless left alone."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.escalation.cascade import Cascade
from agents.escalation.fitting import (
    LogInvalid,
    Question,
    Stage,
    evaluate,
    fit,
)

CLOUD_COST = 0.01


def log(count: int, seed: int, *, stages: int = 3) -> list[Question]:
    """Questions of three kinds: easy (all are right), needy (only the cloud is), hopeless
    (nobody is). Scores tell easy from the rest, and hopeless a little from needy."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        kind = rng.choices(["easy", "needy", "hopeless"], [0.5, 0.3, 0.2])[0]
        mean = {"easy": 0.85, "needy": 0.5, "hopeless": 0.15}[kind]
        answers = []
        for _ in range(stages - 1):
            score = min(1.0, max(0.0, rng.gauss(mean, 0.1)))
            right = kind == "easy" and rng.random() < 0.95
            answers.append(Stage(score=score, correct=float(right)))
        right = kind != "hopeless" and rng.random() < 0.97
        answers.append(Stage(correct=float(right), cost=CLOUD_COST))
        made.append(Question(stages=answers))
    return made


def test_a_fitted_cascade_is_nearly_as_right_as_the_cloud_at_a_part_of_its_cost() -> None:
    cascade = fit(log(800, 1), budget=0.4 * CLOUD_COST)
    found = evaluate(cascade, log(800, 2))
    assert found.accuracy > found.always_cloud - 0.03
    assert found.cost < 0.45 * found.always_cloud_cost
    assert found.alone < found.accuracy - 0.2


def test_hopeless_questions_are_not_escalated() -> None:
    found = evaluate(fit(log(800, 1), budget=0.4 * CLOUD_COST), log(800, 2))
    assert found.hopeless_share > 0.1
    assert found.cloud_share < 0.45  # half of them are not easy


@pytest.mark.parametrize("budget", [0.0, 0.001, 0.003])
def test_the_mean_cost_on_the_log_stays_within_the_budget(budget: float) -> None:
    graded = log(400, 3)
    assert evaluate(fit(graded, budget), graded).cost <= budget * (1 + 1e-9)


def test_more_budget_is_never_less_right_on_the_log() -> None:
    graded = log(300, 4)
    right = [evaluate(fit(graded, b), graded).accuracy for b in (0.0, 0.001, 0.002, 0.005)]
    assert right == sorted(right)
    assert right[0] < right[-1]


def test_the_thresholds_are_the_best_of_all_candidates() -> None:
    graded = log(60, 5, stages=2)
    cascade = fit(graded, 0.002)
    best = evaluate(cascade, graded).accuracy
    for threshold in [q.stages[0].score for q in graded]:
        other = Cascade(
            thresholds=[threshold], gains=cascade.gains, budget=0.002, questions=len(graded)
        )
        found = evaluate(other, graded)
        # Candidates are twenty quantiles; a threshold between two may be right once more.
        assert found.cost > 0.002 or found.accuracy <= best + 2 / len(graded)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(0, 0.02))
def test_any_log_gives_a_cascade_within_its_budget(seed: int, budget: float) -> None:
    rng = random.Random(seed)
    graded = [
        Question(
            stages=[
                Stage(score=rng.random(), correct=float(rng.random() < 0.5)),
                Stage(correct=float(rng.random() < 0.5), cost=rng.random() * 0.02),
            ]
        )
        for _ in range(30)
    ]
    cascade = fit(graded, budget)
    assert evaluate(cascade, graded).cost <= budget * (1 + 1e-9)
    assert all(-1 <= gain <= 1 for gain in cascade.gains)


def test_bad_logs_are_refused_with_the_line() -> None:
    good = log(40, 6)
    with pytest.raises(LogInvalid, match="too few"):
        fit(good[:5], 1.0)
    with pytest.raises(LogInvalid, match="line 41"):
        fit([*good, Question(stages=[Stage(correct=1.0)])], 1.0)
    with pytest.raises(LogInvalid, match="line 41"):
        fit([*good, Question(stages=[Stage(correct=2.0)] * 3)], 1.0)
    for bad in itertools.repeat(Question(stages=[Stage(correct=1.0, cost=1.0)] * 2), 1):
        with pytest.raises(LogInvalid, match="first stage alone"):
            fit([bad] * 30, 0.5)
