"""The arithmetic data: right scratchpads, steps that hold, and evaluation never trained on."""

from __future__ import annotations

import random
import re

from hypothesis import given
from hypothesis import strategies as st

from capabilities.slm.training import arithmetic
from capabilities.slm.training.arithmetic import Task, scratchpad
from capabilities.slm.training.wordings import HELD_OUT, TRAINING

sums = st.builds(Task, st.integers(0, 9999), st.sampled_from("+-"), st.integers(0, 9999))
products = st.builds(Task, st.integers(0, 99), st.just("*"), st.integers(0, 99))


def result_of(text: str) -> int:
    """What the scratchpad itself says: the digits after `r`, negative if it swapped."""
    digits = int(text.rpartition("r")[2])
    return -digits if "s" in text else digits


@given(sums | products)
def test_the_scratchpad_ends_in_the_answer(task: Task) -> None:
    assert result_of(scratchpad(task)) == task.value
    assert task.answer.endswith(f" = {task.value}")


@given(sums | products)
def test_every_equation_of_the_scratchpad_holds(task: Task) -> None:
    text = scratchpad(task)
    for x, y, carry, total in re.findall(r"[a-d](\d)\+(\d)\+(\d)=(\d\d)", text):
        assert int(x) + int(y) + int(carry) == int(total)
    for x, y, borrow, next_borrow, digit in re.findall(r"[a-d](\d)-(\d)-(\d)=(\d)(\d)", text):
        assert int(x) - int(y) - int(borrow) == int(digit) - 10 * int(next_borrow)
    for x, y, product in re.findall(r"[e-h](\d)\*(\d)=(\d\d)", text):
        assert int(x) * int(y) == int(product)
    for first, second, total in re.findall(r"=(\d\d)\+(\d)=(\d\d)", text):
        assert int(first) + int(second) == int(total)


@given(sums | products)
def test_the_scratchpad_opens_with_the_task_as_asked(task: Task) -> None:
    assert scratchpad(task).startswith(f"{task.left}{task.operation}{task.right}\n")


def test_the_scratchpad_of_the_card() -> None:
    assert scratchpad(Task(1234, "+", 567)) == (
        "1234+567\n1234+0567\na4+7+0=11b3+6+1=10c2+5+1=08d1+0+0=01r01801"
    )
    assert scratchpad(Task(12, "-", 345)) == (
        "12-345\n0012-0345\n0=00<3s0345-0012\na5-2-0=03b4-1-0=03c3-0-0=03d0-0-0=00r00333"
    )
    assert scratchpad(Task(48, "*", 27)) == (
        "48*27\n48*27\ne8*7=56f4*7=28+5=33g8*2=16h4*2=08+1=09\n0336+0960\n"
        "a6+0+0=06b3+6+0=09c3+9+0=12d0+0+1=01r01296"
    )


def tasks_of(question: str, answer: str) -> Task | None:
    found = re.fullmatch(r"(\d+) ([-+*]) (\d+) = -?\d+", answer)
    return Task(int(found[1]), found[2], int(found[3])) if found else None


def test_no_held_out_pair_is_trained_on_in_either_order() -> None:
    rng = random.Random(11)
    trained = set()
    for _ in range(20_000):
        example = arithmetic.sample(rng)
        task = tasks_of(example.question, example.answer)
        if task:
            assert not task.held_out
            trained.add(frozenset((task.left, task.right)))
    for _ in range(2_000):
        example = arithmetic.held_out_example(rng)
        task = tasks_of(example.question, example.answer)
        if task:
            assert task.held_out
            assert task.held_out == Task(task.right, task.operation, task.left).held_out
            assert frozenset((task.left, task.right)) not in trained


def test_held_out_wordings_are_not_among_the_trained_ones() -> None:
    for operation in "+-*":
        assert not set(HELD_OUT[operation]) & set(TRAINING[operation])


SWAPPING = re.compile(
    r"5 (less than|subtracted|taken)|(subtract|take|deduct|remove)( the number)? 5|when 5"
)


def test_a_difference_names_its_operands_in_the_order_its_wording_means() -> None:
    for wording in TRAINING["-"] + HELD_OUT["-"]:
        text = wording.format(a=9, b=5)
        first = re.findall(r"\d", text)[0]
        swaps = SWAPPING.search(text) and not text.startswith("from 9")
        assert first == ("5" if swaps else "9"), text


def test_the_held_out_share_is_about_a_tenth() -> None:
    rng = random.Random(3)
    tasks = [arithmetic.sample_task(rng, hard=False) for _ in range(5_000)]
    share = sum(task.held_out for task in tasks) / len(tasks)
    assert 0.07 < share < 0.13


def test_the_evaluation_covers_every_category() -> None:
    rng = random.Random(4)
    seen = {arithmetic.held_out_any(rng).category for _ in range(400)}
    assert seen == set(arithmetic.CATEGORIES)
