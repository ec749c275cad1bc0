"""Rewording keeps the wish; several opinions become one, the surest heard most."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.classifier.paraphrase import MAX_WORDINGS, aggregate, reword


def test_politeness_comes_off_and_the_wish_stays() -> None:
    assert "turn on the lamp" in reword("hey, could you please turn on the lamp for me, thanks")


def test_words_give_way_to_their_like() -> None:
    assert "find a job" not in reword("find a job")
    assert "look for a job" in reword("find a job")


@given(st.text(max_size=200))
def test_any_text_has_few_other_wordings_and_never_itself(text: str) -> None:
    found = reword(text)
    assert len(found) <= MAX_WORDINGS
    assert text not in found
    assert all(one.strip() for one in found)


def test_the_surer_opinion_weighs_more() -> None:
    first, second = aggregate([[0.9, 0.1], [0.4, 0.6]])
    assert first > second
    assert first == pytest.approx((0.9 * 0.9 + 0.6 * 0.4) / 1.5)


def test_one_opinion_is_itself() -> None:
    assert aggregate([[0.25, 0.75]]) == [0.25, 0.75]


def test_no_opinion_is_refused() -> None:
    with pytest.raises(ValueError, match="no opinions"):
        aggregate([])


def test_opinions_on_different_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        aggregate([[0.5, 0.5], [1.0]])
