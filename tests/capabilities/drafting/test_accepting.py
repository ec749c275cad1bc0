"""Drafts change how fast an answer comes, never what it says."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.drafting.accepting import (
    distribution,
    draw,
    expected_tokens,
    greedy,
    residual,
    sampled,
)
from capabilities.segments.choosing import Sampling

weights = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6)


def spread(raw: list[float], first: int = 0) -> dict[int, float]:
    return {first + i: value / sum(raw) for i, value in enumerate(raw)}


def row(best: int) -> list[tuple[int, float]]:
    return [(best, -0.1), (best + 1, -3.0)]


def test_greedy_keeps_the_beginning_that_the_checking_model_would_have_said() -> None:
    rows = [row(1), row(2), row(3), row(4)]
    assert greedy([1, 2, 3], rows) == greedy([1, 2, 3], rows)
    assert (greedy([1, 2, 3], rows).count, greedy([1, 2, 3], rows).next) == (3, 4)
    assert (greedy([1, 9, 3], rows).count, greedy([1, 9, 3], rows).next) == (1, 2)
    assert (greedy([], rows).count, greedy([], rows).next) == (0, 1)


@given(weights, weights, st.integers(0, 4))
def test_the_residual_is_a_distribution_over_tokens_of_the_checking_model(
    p_raw: list[float], q_raw: list[float], shift: int
) -> None:
    p, q = spread(p_raw), spread(q_raw, shift)
    left = residual(p, q)
    assert set(left) <= set(p)
    assert math.isclose(sum(left.values()), 1.0)


@pytest.mark.parametrize("length", [1, 3])
def test_sampled_tokens_are_distributed_as_the_checking_model_alone_would_say_them(
    length: int,
) -> None:
    """Chi-square with 4 degrees of freedom; 18.5 is passed by chance once in a thousand."""
    p = {0: 0.5, 1: 0.25, 2: 0.15, 3: 0.07, 4: 0.03}
    q = {0: 0.2, 1: 0.5, 5: 0.3}
    rng, seen, trials = random.Random(7), Counter[int](), 20_000
    for _ in range(trials):
        draft = [draw(q, rng) for _ in range(length)]
        accepted = sampled(draft, [q] * length, [p] * (length + 1), rng)
        first = draft[0] if accepted.count else accepted.next
        seen[first] += 1
    assert set(seen) <= set(p)
    chi = sum((seen[t] - trials * share) ** 2 / (trials * share) for t, share in p.items())
    assert chi < 18.5


def test_at_temperature_zero_sampling_is_greedy() -> None:
    pairs = [(7, -0.2), (3, -1.9)]
    assert distribution(pairs, Sampling()) == {7: 1.0}
    accepted = sampled([7], [{7: 1.0}], [{7: 1.0}, {3: 1.0}], random.Random(0))
    assert (accepted.count, accepted.next) == (1, 3)


def test_a_token_that_was_not_drawn_from_what_is_claimed_does_not_stand() -> None:
    accepted = sampled([9], [{1: 1.0}], [{9: 1.0}, {9: 1.0}], random.Random(0))
    assert (accepted.count, accepted.next) == (0, 9)


def test_expected_tokens_follow_the_rate() -> None:
    assert expected_tokens(0.0, 4) == 1.0
    assert expected_tokens(1.0, 4) == 5.0
    assert math.isclose(expected_tokens(0.5, 2), 1.75)
