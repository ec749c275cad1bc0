"""A plan is a graph without cycles, of at most eight steps; results go in as text."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agents.orchestrator.plan import (
    MAX_STEPS,
    Plan,
    PlanRefused,
    Step,
    checked,
    critical_first,
    filled,
    path_lengths,
    result_of,
)


def plan(*depends: tuple[int, ...]) -> Plan:
    steps = tuple(
        Step(id=n, question=f"q{n}", depends=parents) for n, parents in enumerate(depends, 1)
    )
    return Plan(steps=steps, method="test")


def test_a_graph_without_cycles_passes() -> None:
    good = plan((), (), (1, 2), (3,))
    assert checked(good) is good


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (plan((2,), (1,)), "wait for each other"),
        (plan((), (3,), (4,), (2,)), "wait for each other"),
        (plan((1,)), "waits for itself"),
        (plan((), (7,)), "not there"),
        (plan(*[()] * (MAX_STEPS + 1)), "at most 8"),
        (plan(), "without a step"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_reason(bad: Plan, why: str) -> None:
    with pytest.raises(PlanRefused) as caught:
        checked(bad)
    assert why in caught.value.message


def test_two_steps_of_one_number_are_refused() -> None:
    twice = Plan(steps=(Step(id=1, question="a"), Step(id=1, question="b")), method="test")
    with pytest.raises(PlanRefused):
        checked(twice)


def test_the_longest_path_goes_first() -> None:
    deep = plan((), (), (2,), (3,))
    assert path_lengths(deep) == {1: 1, 2: 3, 3: 2, 4: 1}
    assert critical_first(deep, [1, 2]) == [2, 1]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("48 * 27 = 1296", "1296"),
        ("3 - 10 = -7", "-7"),
        ("3 + 4 = 7.", "7"),
        ("42", "42"),
        ("a = 5 apples", "5"),
        ("pm25 (ug/m3) = 163, steady, by dongsi.", "163"),
        ("people = 12,500, rising", "12,500"),
        ("A mesh has no leader.", '"A mesh has no leader."'),
        ('He said "no"', "\"He said 'no'\""),
    ],
)
def test_a_result_is_the_number_after_the_last_equals_sign_or_the_text(
    text: str, result: str
) -> None:
    assert result_of(text) == result


def test_only_the_holes_of_parents_are_filled() -> None:
    step = Step(id=3, question="add {1} to {2}", depends=(1,))
    assert filled(step, {1: "2 + 2 = 4"}) == "add 4 to {2}"


def test_braces_in_a_question_that_depends_on_nothing_stay() -> None:
    assert filled(Step(id=1, question="what is {1}"), {}) == "what is {1}"


def test_the_graph_library_is_not_loaded_for_plans_without_dependence() -> None:
    code = (
        "import sys\n"
        "from agents.orchestrator.orchestrator import make_parts\n"
        "from agents.orchestrator.plan import path_lengths\n"
        "parts = make_parts()\n"
        "path_lengths(parts.planner.plan('What is 3 + 4 and what is 5 * 6?'))\n"
        "print('networkx' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
