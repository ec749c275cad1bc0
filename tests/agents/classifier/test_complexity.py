"""How much work a question is, as far as its text tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.classifier.complexity import (
    CALCULATION_TOKENS,
    MOST_STEPS,
    MOST_TOKENS,
    FeatureComplexity,
    HeadWeights,
    counts,
)
from agents.classifier.shipped import head_complexity

ESTIMATE = FeatureComplexity().estimate


def test_a_calculation_gets_room_for_its_working() -> None:
    assert ESTIMATE("What is 1234 + 5678?").answer_tokens == CALCULATION_TOKENS


def test_longer_numbers_are_harder() -> None:
    assert ESTIMATE("1234 + 5678").difficulty > ESTIMATE("1 + 2").difficulty


def test_an_explanation_is_longer_than_a_fact() -> None:
    assert ESTIMATE("explain gossip").answer_tokens > ESTIMATE("who is there").answer_tokens


@given(st.text(max_size=500))
def test_difficulty_stays_on_its_scale(text: str) -> None:
    assert 0.0 <= ESTIMATE(text).difficulty <= 1.0


@pytest.mark.parametrize(
    ("question", "steps"),
    [
        ("What is 48 * 27?", 1),
        ("who are you", 1),
        ("What is 48 * 27 and what is 12 + 30?", 2),
        ("add 3 and 4, then multiply the result by 5", 2),
        ("what is gossip, how busy is this machine and what is 7 * 8?", 3),
    ],
)
def test_the_head_counts_the_steps_of_a_question(question: str, steps: int) -> None:
    assert head_complexity().steps_of(question) == steps


def test_a_plan_that_is_there_is_not_counted_down() -> None:
    assert head_complexity().estimate("who are you", steps=4).steps == 4


@given(st.text(max_size=700))
def test_the_head_stays_within_its_bounds_whatever_the_text(text: str) -> None:
    found = head_complexity().estimate(text)
    assert 1 <= found.steps <= MOST_STEPS
    assert 0 < found.answer_tokens <= MOST_TOKENS


def test_weights_that_do_not_fit_the_features_are_refused() -> None:
    with pytest.raises(ValueError, match="wide"):
        HeadWeights([[0.0]], [0.0], [0.0] * len(counts("")), 0.0)
