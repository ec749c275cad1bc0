"""One text of many findings, and what it lacks in plain words."""

from __future__ import annotations

from agents.orchestrator.aggregate import missing_of, nodes_of, text_of
from agents.views import StepView


def step(number: int, text: str = "", **changes: object) -> StepView:
    values: dict[str, object] = {
        "id": number,
        "name": "knowledge.gpt/arithmetic",
        "node": f"n{number}",
        "question": f"question {number}",
        "status": "ok",
        "text": text,
        "confidence": 0.9,
        **changes,
    }
    return StepView(**values)  # type: ignore[arg-type]


FAILED = step(2, status="failed", error="nobody offers it", node="", confidence=-1.0)


def test_one_step_speaks_for_itself() -> None:
    assert text_of([step(1, "line one\nline two")]) == "line one\nline two"


def test_several_steps_get_a_line_each() -> None:
    assert text_of([step(1, "7"), step(2, "a\nb")]) == "7\na b"


def test_a_step_that_failed_says_so_on_its_line() -> None:
    assert text_of([step(1, "7"), FAILED]) == "7\nquestion 2: Nobody offers it."


def test_a_single_step_that_failed_is_told_as_a_sentence() -> None:
    assert text_of([FAILED]) == "Nobody offers it."


def test_nothing_is_missing_from_a_whole_answer() -> None:
    assert missing_of([step(1, "7"), step(2, "8")], 0.3) == []


def test_what_failed_or_is_unsure_is_missing() -> None:
    lines = missing_of([step(1, "7", confidence=0.1), FAILED], 0.3)
    assert "unsure" in lines[0]
    assert lines[1] == "'question 2': Nobody offers it."


def test_nodes_are_those_whose_answers_count_each_once() -> None:
    assert nodes_of([step(1, "7"), FAILED, step(3, "8", node="n1")]) == ["n1"]
