"""The working of calculations: every line of a scratchpad holds, whatever is calculated."""

from __future__ import annotations

import ast
import random
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.slm.training import stories
from capabilities.slm.training.expressions import (
    exact_value,
    numbers,
    sample_expression,
    solve,
    write,
)
from capabilities.slm.training.working import OutOfRange, as_text, work

quotients = st.tuples(st.integers(0, 9999).map(str), st.just("/"), st.integers(1, 99).map(str))
signed = st.integers(-99, 99).map(str)


def decimals(low: int, high: int) -> st.SearchStrategy[str]:
    return st.tuples(st.integers(low, high), st.sampled_from((1, 10, 100))).map(
        lambda pair: as_text(Fraction(*pair))
    )


@given(quotients)
def test_a_quotient_is_right_to_two_decimals_and_says_when_it_is_rounded(
    task: tuple[str, str, str],
) -> None:
    solved, exact = solve(task), exact_value(task)
    assert abs(Fraction(solved.value) - exact) <= Fraction(1, 200)
    assert solved.rounded == (Fraction(solved.value) != exact)


@given(quotients)
def test_every_step_of_a_long_division_takes_the_most_that_fits(task: tuple[str, str, str]) -> None:
    text, divisor = solve(task).scratchpad, int(task[2])
    for count, multiple in re.findall(r"([1-9]):(\d{3})", text):
        assert int(count) * divisor == int(multiple)
    for current, count, taken in re.findall(r"[wxyzuvt](\d{3})q(\d)(\d{3})?", text):
        assert 0 <= int(current) - int(count) * divisor < divisor
        assert int(taken or 0) == int(count) * divisor


@given(decimals(0, 9999), st.sampled_from("+-"), decimals(0, 9999))
def test_sums_of_decimals_are_exact_or_refused(left: str, operation: str, right: str) -> None:
    try:
        value = work(left, operation, right).value
    except OutOfRange:
        assert max(Fraction(left), Fraction(right)) * 100 > 9999
        return
    assert value == exact_value((left, operation, right))


@given(signed, st.sampled_from("+-*"), signed)
def test_signs_are_settled_first(left: str, operation: str, right: str) -> None:
    assert work(left, operation, right).value == exact_value((left, operation, right))


@pytest.mark.parametrize(
    ("left", "operation", "right"),
    [
        ("10000", "+", "1"),
        ("123", "*", "12"),
        ("5", "/", "0"),
        ("5", "/", "123"),
        ("1", "+", "0.001"),
    ],
)
def test_what_the_columns_have_no_room_for_is_refused(
    left: str, operation: str, right: str
) -> None:
    with pytest.raises(OutOfRange):
        work(left, operation, right)


def arithmetic_of(text: str) -> Fraction:
    """The value of a written calculation by Python's own reading of it."""

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant):
            return Fraction(str(node.value))
        if isinstance(node, ast.UnaryOp):
            return -value(node.operand)
        assert isinstance(node, ast.BinOp)
        left, right = value(node.left), value(node.right)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        return left * right if isinstance(node.op, ast.Mult) else left / right

    return value(ast.parse(text, mode="eval").body)


def test_brackets_stand_where_they_are_needed_and_each_restated_line_has_the_same_value() -> None:
    rng = random.Random(9)
    for _ in range(500):
        expression = sample_expression(rng)
        value = exact_value(expression)
        assert arithmetic_of(write(expression)) == value
        assert arithmetic_of(write(expression, spaces=True)) == value
        solved = solve(expression)
        if not solved.rounded:
            for line in solved.scratchpad.splitlines():
                if line.startswith("="):
                    assert arithmetic_of(line[1:]) == value, solved.scratchpad


def test_a_story_tells_every_number_of_its_calculation_and_leaves_no_gap() -> None:
    rng = random.Random(4)
    for i in range(1500):
        text, expression = stories.story(rng, held_out=i % 2 == 0)
        assert not re.search(r"[@()|]", text), text
        assert not re.search(r"(?<![\w'])[xyzw](?!\w)", text), text
        told = re.findall(r"\d+(?:\.\d+)?", text)
        for number in numbers(expression):
            told.remove(number)  # each as often as it is calculated with
        assert exact_value(expression) > 0


def test_no_story_is_both_trained_on_and_held_out() -> None:
    kinds = stories.load_kinds()
    trained = {story for kind in kinds for story in kind.stories}
    for kind in kinds:
        assert kind.stories
        assert kind.held_out
        assert not trained & set(kind.held_out)


def test_no_way_to_tell_a_story_is_written_twice_and_each_tells_the_numbers_of_its_kind() -> None:
    written = [story for kind in stories.load_kinds() for story in kind.stories]
    assert len(set(written)) == len(written)
    for kind in stories.load_kinds():
        for pattern in kind.stories:
            letters = set(re.findall(r"(?<![\w@'])([xyzw])(?!\w)", pattern))
            assert letters == set(numbers(kind.form)), pattern


def test_only_stories_to_train_on_are_framed() -> None:
    def closed(*, held_out: bool) -> int:
        rng = random.Random(5)
        told = (stories.story(rng, held_out=held_out)[0].lower() for _ in range(600))
        return sum("think" in text or "tell me the" in text for text in told)

    assert closed(held_out=False) > 0
    assert closed(held_out=True) == 0
