"""The figures of the specialists: a right category counts, a wrong one and silence do not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

pytest.importorskip("tokenizers")

from benchmarks._models_specialists import SPECIALISTS, measure
from capabilities.slm.training.chat import Example


def right(examples: Sequence[Example]) -> list[str]:
    return [example.answer for example in examples]


def silent(examples: Sequence[Example]) -> list[str]:
    return [""] * len(examples)


@pytest.mark.parametrize("name", sorted(SPECIALISTS))
def test_answers_by_the_standard_score_one_and_silence_nothing(name: str) -> None:
    key = SPECIALISTS[name].figure
    figures, raw = measure(name, right, 60, seed=1)
    assert (figures[key], figures["whole_answer"], figures["declines"]) == (1.0, 1.0, 1.0)
    assert len(raw) == figures["questions"] + figures["declined_questions"] == 120
    figures, _ = measure(name, silent, 60, seed=1)
    assert (figures[key], figures["whole_answer"], figures["declines"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", sorted(SPECIALISTS))
def test_a_right_category_counts_though_its_advice_is_wrong(name: str) -> None:
    def half_right(examples: Sequence[Example]) -> list[str]:
        return [example.answer + " And more." for example in examples]

    figures, _ = measure(name, half_right, 60, seed=1)
    assert figures[SPECIALISTS[name].figure] == 1.0
    assert figures["whole_answer"] == 0.0


@pytest.mark.parametrize("name", sorted(SPECIALISTS))
def test_a_declined_question_does_not_count_as_judged(name: str) -> None:
    def declines(examples: Sequence[Example]) -> list[str]:
        return [SPECIALISTS[name].declining[0]] * len(examples)

    figures, _ = measure(name, declines, 60, seed=1)
    assert figures[SPECIALISTS[name].figure] == 0.0
    assert figures["declines"] == 1.0
    assert 0.0 < figures["declines_with_the_reason"] < 1.0
