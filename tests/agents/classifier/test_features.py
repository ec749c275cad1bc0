"""What is seen of a text: numbers are one word, shape tells a calculation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.classifier import features


def test_no_number_is_remembered() -> None:
    assert features.read("What is 48 * 27?") == features.read("what is 7 * 8")


@pytest.mark.parametrize(
    "text",
    [
        "7 * 8",
        "forty-eight times twenty-seven",
        "what's 12-5",
        "3 x 4",
        "12 divided by 4",
        "seven plus 3",
        "9 \u00d7 9",
        "15 minus six",
    ],
)
def test_number_operator_number_is_a_calculation(text: str) -> None:
    assert features.read(text).calculation == 1.0


@pytest.mark.parametrize("text", ["add 12 and 30", "the sum of 3 and 4", "subtract 17 from 90"])
def test_a_spoken_operator_with_two_numbers_is_nearly_one(text: str) -> None:
    assert features.read(text).calculation == 0.5


@pytest.mark.parametrize(
    "text", ["what happened in 1914", "room 12 is cold", "who are you", "a well-known e-mail", ""]
)
def test_other_texts_are_none(text: str) -> None:
    assert features.read(text).calculation == 0.0


def test_a_spoken_number_with_a_hyphen_is_one_number() -> None:
    assert features.read("forty-eight").tokens == (features.NUMBER,)


@given(st.text(max_size=2000))
def test_any_text_can_be_read(text: str) -> None:
    seen = features.read(text)
    assert 0.0 <= features.cosine(seen.words, seen.words) <= 1.0 + 1e-9
    assert all(0 <= index < features.HASH_WIDTH for index, _ in features.hashed(text))
