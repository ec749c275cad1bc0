"""The plan of each decode step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.slm.batching import NO_SLOT, Batcher
from capabilities.slm.errors import ContextFull
from mesh.core.errors import Rejected


def batcher(**changes: int) -> Batcher:
    sizes = {
        "slots": 2,
        "cells": 100,
        "sequence": 60,
        "batch": 16,
        "chunk": 4,
        "max_waiting": 3,
    }
    return Batcher(**{**sizes, **changes})


def advance(it: Batcher) -> dict[int, int]:
    """One step; how many tokens each request got."""
    shares = it.plan()
    for share in shares:
        it.done(share)
    return {share.job.key: share.count for share in shares}


def test_a_long_prompt_goes_in_by_pieces_and_only_its_end_samples() -> None:
    it = batcher()
    it.submit(1, 20, 5)
    it.join()
    (share,) = it.plan()
    assert (share.position, share.count, share.samples) == (0, 16, False)
    it.done(share)
    (share,) = it.plan()
    assert (share.position, share.count, share.samples) == (16, 4, True)
    it.done(share)
    (share,) = it.plan()
    assert (share.position, share.count, share.samples) == (20, 1, True)


def test_a_long_prompt_does_not_stall_who_generates() -> None:
    it = batcher()
    it.submit(1, 4, 20)
    it.join()
    advance(it)
    it.submit(2, 40, 5)
    it.join()
    for _ in range(10):
        assert advance(it) == {1: 1, 2: 4}  # the chunk bounds what the newcomer takes
    assert advance(it) == {1: 1, 2: 1}


def test_prompts_of_one_priority_share_and_a_higher_one_goes_first() -> None:
    it = batcher(slots=3)
    it.submit(1, 30, 2)
    it.submit(2, 4, 2)
    it.join()
    assert advance(it) == {1: 12, 2: 4}
    it = batcher(slots=3)
    it.submit(1, 30, 2)
    it.submit(2, 30, 2, priority=1)
    it.join()
    assert advance(it) == {2: 16}


def test_the_highest_priority_joins_first_and_then_who_came_first() -> None:
    it = batcher(slots=1)
    for key, priority in ((1, 0), (2, 0), (3, 5)):
        it.submit(key, 4, 4, priority=priority)
    order = []
    for _ in range(3):
        (job,) = it.join()
        order.append(job.key)
        it.leave(job.key)
    assert order == [3, 1, 2]


def test_who_has_few_running_comes_before_who_has_many() -> None:
    it = batcher(slots=2, max_waiting=9)
    for key in range(3):
        it.submit(key, 4, 4, owner="greedy")
    it.submit(9, 4, 4, owner="modest")
    assert [job.key for job in it.join()] == [0, 9]


def test_the_earliest_deadline_comes_first_and_patience_is_not_punished() -> None:
    it = batcher(slots=1, max_waiting=9)
    it.submit(1, 4, 4)
    it.submit(2, 4, 4, deadline=90.0)
    it.submit(3, 4, 4, deadline=60.0)
    order = []
    for _ in range(3):
        (job,) = it.join()
        order.append(job.key)
        it.leave(job.key)
    assert order == [3, 2, 1]


def test_whoever_waits_long_enough_outranks_the_important() -> None:
    it = batcher(slots=1, max_waiting=9)
    it.submit(1, 4, 4, now=0.0)
    it.submit(2, 4, 4, priority=2, now=25.0)
    it.submit(3, 4, 4, priority=3, now=39.0)
    first = it.next(29.0)
    assert first is not None
    assert first.key == 3
    last = it.next(40.0)
    assert last is not None
    assert last.key == 1


def test_cells_that_are_shared_are_free_for_others() -> None:
    it = batcher(slots=2)
    it.submit(1, 40, 20)
    it.submit(2, 40, 20)
    (job,) = it.join()
    it.share(job, 30)
    assert [job.key for job in it.join()] == [2]
    assert it.used == 90
    it.leave(1)
    assert it.used == 60


def test_a_request_waits_until_the_context_holds_its_longest_answer() -> None:
    it = batcher(slots=3)
    it.submit(1, 40, 20)
    it.submit(2, 40, 20)
    it.submit(3, 1, 1)
    assert [job.key for job in it.join()] == [1]  # 3 does not overtake 2
    it.leave(1)
    assert [job.key for job in it.join()] == [2, 3]


def test_a_prompt_that_never_fits_is_refused_with_both_sizes() -> None:
    with pytest.raises(ContextFull, match="60 tokens and the context holds 60"):
        batcher().submit(1, 60, 1)


def test_an_answer_is_shortened_to_the_context() -> None:
    assert batcher().submit(1, 50, 400).answer == 10


def test_a_full_line_refuses() -> None:
    it = batcher()
    for key in range(3):
        it.submit(key, 4, 4)
    with pytest.raises(Rejected):
        it.submit(9, 4, 4)


def test_deadlines_end_waiting_and_running_requests() -> None:
    it = batcher(slots=1)
    it.submit(1, 4, 4, deadline=10.0)
    it.join()
    it.submit(2, 4, 4, deadline=5.0)
    assert it.expired(4.0) == []
    assert it.expired(5.0) == [2]
    assert sorted(it.expired(10.0)) == [1, 2]


def test_leaving_frees_the_slot_and_leaving_twice_is_harmless() -> None:
    it = batcher(slots=1)
    it.submit(1, 4, 4)
    it.submit(2, 4, 4)
    it.join()
    assert it.leave(2) == NO_SLOT
    assert it.leave(1) == 0
    assert it.leave(1) == NO_SLOT
    it.submit(3, 4, 4)
    assert [job.key for job in it.join()] == [3]


@given(
    st.lists(
        st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2), st.booleans()),
        max_size=30,
    )
)
def test_no_step_and_no_context_is_ever_overfull_and_everybody_is_served(
    requests: list[tuple[int, int, int, bool]],
) -> None:
    it = batcher(slots=3, max_waiting=100)
    left = {}
    for key, (prompt, answer, priority, quits) in enumerate(requests):
        try:
            left[key] = (it.submit(key, prompt, answer, priority=priority), quits)
        except ContextFull:
            assert prompt >= 60
    for _ in range(10_000):
        it.join()
        shares = it.plan()
        if not shares:
            break
        assert sum(share.count for share in shares) <= it.batch
        assert len({share.job.slot for share in shares}) == len(shares) <= it.slots
        assert sum(job.position for job in it.jobs()) <= it.cells
        for share in shares:
            it.done(share)
            job, quits = left[share.job.key]
            if job.generated >= job.answer or (quits and job.generating):
                it.leave(job.key)
                del left[job.key]
    assert not left
    assert it.running == it.waiting == 0
