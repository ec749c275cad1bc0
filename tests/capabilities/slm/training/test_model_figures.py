"""The judges of `benchmarks.models`: what counts as right, and what is null."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training is an optional extra")
pytest.importorskip("llama_cpp")

from benchmarks import _models_arithmetic, _models_exits, _models_general
from benchmarks._greedy import Greedy
from capabilities.slm.training import arithmetic, plans
from capabilities.slm.training import train as command
from capabilities.slm.training.chat import Example


@pytest.mark.parametrize(
    ("answer", "value"),
    [("3 * 4 = 12", 12.0), ("7 / 3 = 2.33 (rounded)", 2.33), ("12", None), ("a = b", None),
     ("3 - 8 = -5", -5.0), ("", None)],
)  # fmt: skip
def test_a_number_is_read_after_the_last_equals_sign(answer: str, value: float | None) -> None:
    assert _models_arithmetic.value_of(answer) == value


def test_a_rounded_quotient_counts_a_wrong_one_does_not() -> None:
    assert _models_arithmetic.same_number(7 / 3, "7 / 3 = 2.33 (rounded)")
    assert not _models_arithmetic.same_number(7 / 3, "7 / 3 = 2.34")
    assert not _models_arithmetic.same_number(2.0, "I only do arithmetic.")


def test_the_published_questions_are_counted_by_their_number(tmp_path: Path) -> None:
    file = tmp_path / "questions.json"
    items = [{"id": i, "original_text": f"What is {i} + 1?", "ans": i + 1.0} for i in range(6)]
    file.write_text(json.dumps(items))

    def ask(examples: object) -> list[str]:
        """A fake that knows sums of one and no story."""
        answers = []
        for example in examples:  # type: ignore[attr-defined]
            found = re.fullmatch(r"What is (\d) \+ 1\?", example.question)
            answers.append(f"{found[1]} + 1 = {int(found[1]) + 1}" if found else "?")
        return answers

    figures, raw = _models_arithmetic.measure(ask, 4, 1, file)
    assert figures["mawps"] == 1.0
    assert figures["mawps_questions"] == 4
    assert figures["word_problems"] == 0.0
    assert {row["part"] for row in raw} >= {"exact", "story", "mawps"}
    figures, _ = _models_arithmetic.measure(ask, 2, 1, None)
    assert figures["mawps"] is None
    assert "mawps" in figures["missing"]


def test_a_perfect_answerer_scores_one_everywhere() -> None:
    def ask(examples: object) -> list[str]:
        return [example.answer for example in examples]  # type: ignore[attr-defined]

    figures, _ = _models_general.measure(
        ask, lambda text: len(text) // 3, ("plan", "extract"), 12, 3
    )
    assert figures["plan_valid"] == figures["plan_right"] == figures["extract"] == 1.0
    assert figures["reword"] is None
    assert "reword" in figures["missing"]


def test_a_plan_is_judged_by_its_meaning() -> None:
    example = plans.example(random.Random(1), held_out=True)
    steps = json.loads(example.answer)
    assert _models_general.is_right(example, json.dumps(steps, indent=2))
    steps["steps"][0]["name"] = "knowledge.gpt/elsewhere"
    assert not _models_general.is_right(example, json.dumps(steps))
    assert not _models_general.is_right(example, example.answer[:-1])
    assert (
        _models_general.plan_of('{"steps": [{"id": 1, "question": "x", "depends": [2]}]}') is None
    )
    assert _models_general.plan_of("[1]") is None


def test_exact_cases_are_whole_numbers_and_held_out() -> None:
    for example in _models_arithmetic.exact_cases(random.Random(2), 50):
        assert example.category in arithmetic.INTEGER_CATEGORIES
        assert "." not in example.answer


def test_exits_of_a_shipped_model_are_measured(tmp_path: Path) -> None:
    output = tmp_path / "general.gguf"
    command.main(["general", "--smoke", "--folder", str(tmp_path), "--output", str(output)])
    loaded = Greedy(output)
    try:
        figures = _models_exits.measure(
            output, output.with_suffix(".exits.gguf"), loaded, count=2, seed=1
        )
    finally:
        loaded.close()
    assert set(figures) == {"1", "2"}
    for exit_ in figures.values():
        assert 0.0 <= exit_["confident_share"] <= 1.0
        assert 0.0 <= exit_["agreement"] <= 1.0


def test_a_chat_is_asked_with_its_earlier_turns() -> None:
    example = Example("and now?", "x", system="Be exact.", history=(("hi", "Hello."),))
    assert [turn["role"] for turn in _models_exits.messages(example)] == [
        "system", "user", "assistant", "user",
    ]  # fmt: skip
