"""How much work a question is, as far as its text tells."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.classifier.complexity import CALCULATION_TOKENS, FeatureComplexity

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
