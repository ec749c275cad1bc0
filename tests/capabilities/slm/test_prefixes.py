"""What the prefix tree decides, against a model of the memory that it decides about."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from capabilities.slm.prefixes import Copy, Drop, Hold, Op, PrefixTree

SLOT = 0


class Memory:
    """Sequences of cells, as llama.cpp keeps them: a cell lives while a sequence has it."""

    def __init__(self) -> None:
        self.sequences: dict[int, dict[int, tuple[int, ...]]] = {}

    def compute(self, tokens: Sequence[int], slot: int) -> None:
        """What a decode leaves: each cell stands for all tokens up to it."""
        cells = self.sequences.setdefault(slot, {})
        for at in range(len(tokens)):
            cells.setdefault(at, tuple(tokens[: at + 1]))

    def apply(self, ops: list[Op]) -> None:
        for op in ops:
            if isinstance(op, Copy):
                source = self.sequences[op.source]
                target = self.sequences.setdefault(op.target, {})
                for at in range(op.begin, op.end):
                    assert at not in target
                    target[at] = source[at]
            else:
                cells = self.sequences[op.seat]
                for at in range(op.begin, op.end):
                    del cells[at]


def tree(seats: int = 8, max_tokens: int = 100) -> tuple[PrefixTree, Memory]:
    return PrefixTree(range(1, seats + 1), max_tokens), Memory()


def serve(it: PrefixTree, memory: Memory, tokens: list[int], label: str = "me") -> tuple[int, Hold]:
    """A request from its match to its store; how many tokens it did not have to compute."""
    hold = it.match(label, tokens[:-1])
    cached = hold.length
    memory.sequences[SLOT] = {}
    memory.apply(it.copies(hold, SLOT))
    memory.compute(tokens, SLOT)
    assert memory.sequences[SLOT] == {at: tuple(tokens[: at + 1]) for at in range(len(tokens))}
    ops, _ = it.store(hold, tokens, SLOT)
    memory.apply(ops)
    return cached, hold


def finish(it: PrefixTree, memory: Memory, tokens: list[int], label: str = "me") -> int:
    cached, hold = serve(it, memory, tokens, label)
    it.release(hold)
    return cached


def test_a_shared_beginning_is_computed_once() -> None:
    it, memory = tree()
    assert finish(it, memory, [1, 2, 3, 4]) == 0
    assert finish(it, memory, [1, 2, 3, 9, 9]) == 3
    assert finish(it, memory, [1, 2, 7]) == 2
    assert it.tokens == 4 + 2 + 1


def test_the_same_prompt_leaves_one_token_to_compute() -> None:
    it, memory = tree()
    finish(it, memory, [1, 2, 3])
    assert finish(it, memory, [1, 2, 3]) == 2


def test_a_line_that_changes_near_the_end_keeps_what_is_before_it() -> None:
    it, memory = tree()
    system = list(range(40))
    finish(it, memory, [*system, 100, 50, 51])
    assert finish(it, memory, [*system, 101, 50, 51]) == 40


def test_nothing_is_found_under_another_label() -> None:
    it, memory = tree()
    finish(it, memory, [1, 2, 3, 4], "alice")
    assert finish(it, memory, [1, 2, 3, 4], "bob") == 0
    assert finish(it, memory, [1, 2, 3, 4], "alice") == 3


def test_the_least_recently_used_ending_goes_first() -> None:
    it, memory = tree(max_tokens=9)
    finish(it, memory, [1, 2, 3])
    finish(it, memory, [4, 5, 6])
    finish(it, memory, [1, 2, 3])
    finish(it, memory, [7, 8, 9, 10])
    assert it.tokens <= 9
    assert finish(it, memory, [1, 2, 3]) == 2
    assert finish(it, memory, [4, 5, 6]) == 0


def test_what_a_request_stands_on_is_never_evicted() -> None:
    it, memory = tree(max_tokens=6)
    _, hold = serve(it, memory, [1, 2, 3])
    memory.apply(it.evict(100))
    assert it.tokens == 3
    it.release(hold)
    memory.apply(it.evict(100))
    assert it.tokens == 0
    assert all(not cells for seat, cells in memory.sequences.items() if seat != SLOT)


def test_a_prompt_longer_than_the_bound_keeps_its_beginning() -> None:
    it, memory = tree(max_tokens=5)
    finish(it, memory, list(range(12)))
    assert it.tokens == 5
    assert finish(it, memory, list(range(12))) == 5


def test_without_seats_or_tokens_nothing_is_kept() -> None:
    for it in (PrefixTree([], 100), PrefixTree([1], 0)):
        memory = Memory()
        assert finish(it, memory, [1, 2, 3]) == 0
        assert finish(it, memory, [1, 2, 3]) == 0


def test_a_label_can_be_forgotten() -> None:
    it, memory = tree()
    finish(it, memory, [1, 2, 3, 4], "alice")
    finish(it, memory, [1, 2, 5], "alice")
    finish(it, memory, [1, 2], "bob")
    ops = it.forget("alice")
    memory.apply(ops)
    assert all(isinstance(op, Drop) for op in ops)
    assert it.labels() == ["bob"]
    assert it.tokens == 2


prompts = st.lists(st.integers(0, 2), min_size=1, max_size=12)


@given(
    st.lists(
        st.tuples(prompts, st.sampled_from(["alice", "bob"]), st.integers(0, 3), st.integers(0, 9)),
        max_size=40,
    ),
    st.integers(1, 6),
    st.integers(1, 40),
)
def test_whatever_comes_each_request_stands_on_its_own_tokens_and_the_bounds_hold(
    requests: list[tuple[list[int], str, int, int]], seats: int, max_tokens: int
) -> None:
    it, memory = tree(seats, max_tokens)
    held: list[Hold] = []
    for tokens, label, keep, evict in requests:
        _, hold = serve(it, memory, tokens, label)
        held.append(hold)
        while len(held) > keep:
            it.release(held.pop(0))
        memory.apply(it.evict(evict))
        stored = {seat: cells for seat, cells in memory.sequences.items() if seat != SLOT}
        assert sum(map(len, stored.values())) == it.tokens <= max_tokens
        assert sum(1 for cells in stored.values() if cells) <= seats
    for hold in held:
        it.release(hold)
    memory.apply(it.evict(10**6))
    assert it.tokens == 0
    assert it.labels() == []
