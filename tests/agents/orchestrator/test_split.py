"""Parts of a question become steps; the inside of a calculation never does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.orchestrator.plan import MAX_STEPS, PlanRefused
from agents.orchestrator.split import RulePlanner


def steps(question: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(step.question, step.depends) for step in RulePlanner().plan(question).steps]


def texts(question: str) -> list[str]:
    return [text for text, _ in steps(question)]


@pytest.mark.parametrize(
    "question",
    [
        "What is 48 * 27?",
        "What is the sum of 3 and 4?",
        "add 12 and 30",
        "subtract 17 from 90 and 3 from 10",
        "tell me about gossip and membership",
        "tell me who you are and what you can do",
        "What is the difference between 3 + 4 and 5 * 6?",
        "what is 12 plus 13 plus 14",
        "What is 1,200 + 34?",
        "what is 3.5 + 2?",
        "take 12 and subtract 5",
        "I have 3 apples. I buy 4 more. How many do I have?",
        "What is gossip? How does it work?",
        "What do gossip and certificates have in common, and how do they differ?",
        "are nodes and names the same thing?",
        "explain how gossip works and how nodes join",
        "What is the product of 6 and 7? Thanks!",
        "Hello. What is 3 + 4?",
        "what is the sum of forty-eight and twenty-seven",
        "",
    ],
)
def test_one_question_stays_one(question: str) -> None:
    assert texts(question) == [question]


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        ("What is 48*27 and what is 12+30?", ["What is 48*27", "what is 12+30?"]),
        ("What is 3+4; what is 5*6?", ["What is 3+4", "what is 5*6?"]),
        ("What is 3+4? What is 5*6?", ["What is 3+4?", "What is 5*6?"]),
        ("What is 48 * 27 and 12 + 30?", ["What is 48 * 27", "What is 12 + 30?"]),
        ("12+30; 7*8", ["12+30", "7*8"]),
        ("What is 3+4, 5*6 and 7-2?", ["What is 3+4", "What is 5*6", "What is 7-2?"]),
        ("add 12 and 30 and multiply 4 by 5", ["add 12 and 30", "multiply 4 by 5"]),
        (
            "What is the sum of 3 and 4 and the product of 5 and 6?",
            ["What is the sum of 3 and 4", "What is the product of 5 and 6?"],
        ),
        (
            "how busy is this machine and what is 7 times 8?",
            ["how busy is this machine", "what is 7 times 8?"],
        ),
        ("Who are you and what can you do?", ["Who are you", "what can you do?"]),
        (
            "Can you calculate 4 * 4 and tell me what gossip is?",
            ["Can you calculate 4 * 4", "tell me what gossip is?"],
        ),
        (
            "forty-eight times twenty-seven and three plus four",
            ["forty-eight times twenty-seven", "three plus four"],
        ),
    ],
)
def test_independent_parts_become_steps_that_wait_for_nobody(
    question: str, parts: list[str]
) -> None:
    assert steps(question) == [(part, ()) for part in parts]


@pytest.mark.parametrize(
    ("question", "last"),
    [
        ("add 3 and 4 and then add 5 to it", "add 5 to {1}"),
        ("What is 12 + 30, then multiply the result by 3", "multiply {1} by 3"),
        ("What is 4*5 and add 3", "add 3 to {1}"),
        ("What is 12 + 30? Multiply it by 2.", "Multiply {1} by 2."),
        ("What is 3 + 4? Then double it.", "multiply {1} by 2."),
        ("What is 20 - 5 and then subtract 7", "subtract 7 from {1}"),
        ("multiply 12 by 3, add 5", "add 5 to {1}"),
        ("what is 8 times 9 and then what is that minus 2", "what is {1} minus 2"),
        ("Add 12 and 30. Subtract 5 from the result.", "Subtract 5 from {1}."),
    ],
)
def test_a_part_that_builds_on_the_result_waits_for_it(question: str, last: str) -> None:
    assert steps(question)[-1] == (last, (1,))


def test_a_part_may_build_on_two_results() -> None:
    assert steps("What is 3 + 4 and what is 5 * 6, and then add both results") == [
        ("What is 3 + 4", ()),
        ("what is 5 * 6", ()),
        ("add {1} and {2}", (1, 2)),
    ]


def test_more_parts_than_a_plan_takes_are_refused() -> None:
    with pytest.raises(PlanRefused):
        RulePlanner().plan(", ".join(f"{n}+{n}" for n in range(MAX_STEPS + 1)))


PIECES = st.sampled_from(
    [
        *("what is", "48 * 27", "and", "then", ",", ";", "?", ".", "add 5", "to it", "the result"),
        *("how do nodes join", "the sum of", "3", "multiply", "both", "hello", "tell me", "\n"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=14).map(" ".join))
def test_whatever_is_asked_the_plan_can_be_run_or_is_refused(question: str) -> None:
    try:
        plan = RulePlanner().plan(question)
    except PlanRefused:
        return
    assert all(parent < step.id for step in plan.steps for parent in step.depends)
    for step in plan.steps:
        assert all(f"{{{parent}}}" in step.question for parent in step.depends)
