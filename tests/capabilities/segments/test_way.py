"""Uploads, and whether the other half is asked: decided from what was measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.segments.choosing import Sampling, choose, confidence, probabilities, uniform
from capabilities.segments.switching import ALONE, TOGETHER, Rules, Switch
from capabilities.segments.uploading import Uploads

WIDTH = 2


def block(first: int, count: int) -> np.ndarray:
    return np.repeat(np.arange(first, first + count, dtype=np.float32)[:, None], WIDTH, 1)


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 7), st.integers(0, 5))
def test_every_row_is_sent_once_and_in_order(adds: list[int], most: int, lost: int) -> None:
    uploads, sent, end = Uploads(WIDTH), [], 0
    for count in adds:
        uploads.add(block(end, count))
        end += count
        while (piece := uploads.next(most)) is not None:
            position, rows = piece
            assert position == len(sent)
            sent += rows[:, 0].tolist()
            uploads.have(len(sent))
    assert sent == list(range(end))
    assert uploads.backlog == 0
    if end:
        back = min(lost, end)
        uploads.again(back)
        position, rows = uploads.next(10**6) or (end, block(0, 0))
        assert (position, len(rows)) == (back, end - back)


def test_rows_beyond_the_room_are_forgotten_and_it_is_known() -> None:
    uploads = Uploads(WIDTH, max_bytes=4 * WIDTH * 2)
    for at in range(6):
        uploads.add(block(at, 1))
    assert uploads.begin == 2
    assert uploads.torn
    assert uploads.next(10) is None
    uploads.rebuilt(block(0, 6))
    assert not uploads.torn
    assert (uploads.next(10) or (9, None))[0] == 0


def test_two_failures_lead_to_going_alone_and_a_probe_back() -> None:
    switch = Switch(Rules(failures=2, probe_s=1.0, probe_max_s=3.0))
    assert switch.ask(0)
    switch.failed(0.0, "no answer")
    assert switch.mode == TOGETHER
    switch.failed(0.0, "no answer")
    assert (switch.mode, switch.why) == (ALONE, "no answer")
    assert not switch.ask(0)
    assert not switch.probe_due(0.9)
    assert switch.probe_due(1.0)
    switch.failed(1.0, "still none")
    assert not switch.probe_due(2.9)
    switch.back(0.01)
    assert (switch.mode, switch.why) == (TOGETHER, "")
    assert switch.ask(0)


def test_what_is_too_dear_by_prediction_is_not_asked_and_ends_the_cooperation() -> None:
    switch = Switch(Rules(budget_s=0.5, dear_tokens=3))
    switch.answered(0.1, 0.04)
    switch.uploaded(10_000, 1.0)
    assert switch.predict(0) == pytest.approx(0.1)
    assert switch.ask(1000)
    for _ in range(3):
        assert not switch.ask(100_000)
        switch.settle(0.0)
    assert switch.mode == ALONE
    assert "0.5 s" in switch.why


def test_a_failure_between_successes_is_forgiven() -> None:
    switch = Switch(Rules(failures=2))
    for _ in range(5):
        switch.failed(0.0, "late")
        switch.answered(0.01, 0.0)
    assert switch.mode == TOGETHER


def test_who_is_to_stay_alone_never_asks_nor_probes() -> None:
    switch = Switch(allowed=False)
    assert not switch.ask(0)
    assert not switch.probe_due(1e9)


PAIRS = [(3, -0.5), (1, -1.2), (2, -2.5), (9, -4.0)]


def test_confidence_is_the_largest_probability() -> None:
    assert confidence(PAIRS) == pytest.approx(0.6065, abs=1e-4)
    assert confidence([]) == 0.0


def test_greedy_takes_the_best_and_equal_ones_by_their_number() -> None:
    assert choose(PAIRS, Sampling(), 5) == 3
    assert choose([(7, -1.0), (2, -1.0)], Sampling(), 0) == 2


def test_penalties_count_what_was_said() -> None:
    sampling = Sampling(frequency_penalty=0.5)
    assert choose(PAIRS, sampling, 0, {3: 1}) == 3
    assert choose(PAIRS, sampling, 0, {3: 2}) == 1


@given(st.integers(0, 2**31), st.integers(0, 5000))
def test_a_draw_depends_on_seed_and_position_alone(seed: int, position: int) -> None:
    assert uniform(seed, position) == uniform(seed, position)
    assert 0.0 <= uniform(seed, position) < 1.0
    sampling = Sampling(temperature=1.0, seed=seed)
    assert choose(PAIRS, sampling, position) == choose(list(reversed(PAIRS)), sampling, position)


def test_draws_follow_the_distribution() -> None:
    sampling = Sampling(temperature=0.7, top_k=3)
    expected = dict(probabilities([(lp, t) for t, lp in PAIRS], sampling))
    drawn = [choose(PAIRS, sampling, position) for position in range(4000)]
    assert set(expected) == {3, 1, 2}
    for token, share in expected.items():
        assert drawn.count(token) / 4000 == pytest.approx(share, abs=0.03)


def test_top_p_and_min_p_cut_the_tail() -> None:
    scored = [(lp, t) for t, lp in PAIRS]
    assert [t for t, _ in probabilities(scored, Sampling(temperature=1.0, top_p=0.5))] == [3]
    assert [t for t, _ in probabilities(scored, Sampling(temperature=1.0, min_p=0.3))] == [3, 1]
