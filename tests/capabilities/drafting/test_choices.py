"""How long drafts are, and what they are made of."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.drafting.accepting import expected_tokens
from capabilities.drafting.lengths import LENGTHS, Lengths
from capabilities.drafting.ngrams import lookup
from capabilities.drafting.tree import Growing, Node, leaves, longest, trimmed


def play(
    rate: float,
    draft_s: float,
    trip_s: float,
    check_s: float,
    rounds: int = 400,
    lengths: Lengths | None = None,
) -> Lengths:
    """Rounds with a drafter that is right so often, over such a link."""
    rng, lengths = random.Random(3), lengths or Lengths()
    for _ in range(rounds):
        length = lengths.choose()
        stands = 0
        while stands < length and rng.random() < rate:
            stands += 1
        seconds = length * draft_s + (trip_s if length else 0.0) + check_s
        lengths.learn(length, stands + 1, seconds)
    return lengths


def speed(length: int, rate: float, draft_s: float, trip_s: float, check_s: float) -> float:
    """Tokens per second, by the formula."""
    seconds = length * draft_s + (trip_s if length else 0.0) + check_s
    return expected_tokens(rate, length) / seconds


@pytest.mark.parametrize(
    ("rate", "draft_s", "trip_s", "check_s"),
    [
        (0.9, 0.004, 0.0, 0.037),  # a good drafter beside its checker
        (0.9, 0.004, 0.2, 0.037),  # a long link
        (0.1, 0.02, 0.05, 0.037),  # a bad drafter: not at all
        (0.7, 0.01, 0.002, 0.037),
    ],
)
def test_the_length_that_pays_is_found(
    rate: float, draft_s: float, trip_s: float, check_s: float
) -> None:
    learnt = play(rate, draft_s, trip_s, check_s)
    by_formula = {n: speed(n, rate, draft_s, trip_s, check_s) for n in LENGTHS}
    assert by_formula[learnt.best] > 0.9 * max(by_formula.values())


def test_lengths_that_cannot_win_are_hardly_tried() -> None:
    """An answer has some dozens of tokens: none to spare for six lengths in turn."""
    far = (0.6, 0.02, 0.2, 0.037)
    learnt = play(*far, rounds=12)
    drafted = sum(arm.rounds for length, arm in learnt.arms.items() if length)
    assert learnt.best == 0
    assert learnt.alone
    assert drafted < 3.0
    assert sum(not arm.rounds for arm in learnt.arms.values()) >= 2


def test_a_link_that_becomes_fast_is_noticed() -> None:
    lengths = play(0.9, 0.004, 0.3, 0.037, rounds=60)
    assert lengths.best == 0
    lengths = play(0.9, 0.004, 0.0, 0.037, rounds=200, lengths=lengths)
    assert lengths.best > 1
    assert not lengths.alone


def test_what_followed_the_same_words_before_is_drafted() -> None:
    text = [1, 2, 3, 4, 5, 9, 9, 2, 3]
    assert lookup(text, 3) == [4, 5, 9]
    assert lookup([1, 2, 3], 4) == []
    assert lookup([], 4) == []


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 6))
def test_a_draft_of_the_text_itself_is_a_piece_of_it(tokens: list[int], length: int) -> None:
    found = lookup(tokens, length)
    assert len(found) <= length
    joined = [tokens[i : i + len(found)] for i in range(len(tokens))]
    assert not found or found in joined


def rows(rng: random.Random, count: int, width: int = 3) -> list[list[tuple[int, float]]]:
    made = []
    for _ in range(count):
        raw = sorted((rng.random() for _ in range(width)), reverse=True)
        total = sum(raw) + 0.2
        made.append([(i, math.log(value / total)) for i, value in enumerate(raw)])
    return made


@given(st.integers(0, 1000))
def test_a_tree_holds_every_parent_and_its_heaviest_nodes(seed: int) -> None:
    rng = random.Random(seed)
    growing = Growing(nodes_most=8, depth_most=5, threshold=0.1)
    frontier = growing.begin(rows(rng, 1)[0])
    while frontier:
        frontier = growing.extend(rows(rng, len(frontier)))
    tree = growing.tree()
    assert 0 < len(tree) <= 8
    for index, node in enumerate(tree):
        assert node.parent < index
        parent = tree[node.parent] if node.parent >= 0 else None
        assert node.depth == (parent.depth + 1 if parent else 0)
        assert parent is None or node.weight <= parent.weight
    lightest = min(node.weight for node in tree)
    assert sum(node.weight > lightest for node in growing.nodes) <= 8
    assert sorted({i for path in leaves(tree) for i in path}) == list(range(len(tree)))


def test_a_tree_that_is_trimmed_loses_its_lightest_ends_and_stays_a_tree() -> None:
    tree = [Node(5, -1, 0, 0.6), Node(6, -1, 0, 0.3), Node(7, 1, 1, 0.2), Node(8, 0, 1, 0.5)]
    assert trimmed(tree, 2) == tree
    assert trimmed(tree, 1) == [Node(5, -1, 0, 0.6), Node(8, 0, 1, 0.5)]
    assert trimmed([], 4) == []


def test_the_checking_model_takes_its_own_path_through_the_tree() -> None:
    tree = [Node(5, -1, 0, 0.6), Node(6, -1, 0, 0.3), Node(7, 1, 1, 0.2), Node(8, 0, 1, 0.1)]

    def best(token: int) -> list[tuple[int, float]]:
        return [(token, -0.1)]

    after = [best(1), best(7), best(2), best(3)]
    assert longest(tree, best(6), after) == ([1, 2], 2)
    assert longest(tree, best(9), after) == ([], 9)
    assert longest(tree, best(5), after) == ([0], 1)
