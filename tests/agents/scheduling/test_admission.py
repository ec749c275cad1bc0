"""A node takes no more than it can, from nobody more than its share, and says why not."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from agents.scheduling.admission import Ask, Gate


def filled(slots: int, queue: int, callers: str = "a", **more: object) -> Gate:
    gate = Gate(slots=slots, queue=queue, **more)  # type: ignore[arg-type]
    for number in range(slots):
        assert gate.admit(number, Ask(caller=callers[number % len(callers)]), 0.0).accepted
        gate.begin(number, 0.0)
    return gate


def test_a_free_slot_is_given_at_once_with_no_wait() -> None:
    decision = Gate(slots=2, queue=0).judge(Ask(), 5.0)
    assert decision.accepted
    assert decision.wait_s == 0.0


def test_without_a_queue_the_slots_are_the_limit() -> None:
    gate = filled(2, 0)
    decision = gate.judge(Ask(), 0.0)
    assert not decision.accepted
    assert "2 slots" in decision.reason
    assert decision.retry_after_s > 0


def test_a_node_is_never_driven_past_its_limits_whatever_comes() -> None:
    rng = random.Random(7)
    gate = Gate(slots=3, queue=5)
    inside: set[int] = set()
    for number in range(3000):
        now = number * 0.1
        ask = Ask(caller=str(rng.randrange(4)), priority=rng.randrange(-1, 3))
        if gate.admit(number, ask, now).accepted:
            inside.add(number)
        if inside and rng.random() < 0.4:
            leaving = rng.choice(sorted(inside))
            inside.remove(leaving)
            gate.end(leaving, now, whole=rng.random() < 0.8)
        assert gate.taken == len(inside) <= 8


def test_a_place_that_is_given_back_is_free_again() -> None:
    gate = filled(1, 0)
    gate.end(0, 1.0)
    assert gate.judge(Ask(), 1.0).accepted


def test_who_would_wait_far_past_its_limit_is_refused_with_the_wait_as_a_hint() -> None:
    gate = filled(1, 10, answer_s=10.0)
    decision = gate.judge(Ask(caller="b", patience_s=1.0), 0.0)
    assert not decision.accepted
    assert decision.wait_s == pytest.approx(10.0)
    assert "limit on waiting" in decision.reason


def test_who_could_only_start_after_its_deadline_is_refused() -> None:
    gate = filled(1, 10, answer_s=10.0)
    decision = gate.judge(Ask(caller="b", time_left_s=2.0), 0.0)
    assert not decision.accepted
    assert "deadline" in decision.reason


def test_a_caller_alone_leaves_room_in_the_queue_for_another() -> None:
    gate = filled(1, 8)
    taken = sum(gate.admit(100 + n, Ask(caller="greedy"), 0.0).accepted for n in range(20))
    assert 1 <= taken < 8
    assert gate.admit(200, Ask(caller="other"), 0.0).accepted


def test_the_queue_is_shared_equally_between_those_who_fill_it() -> None:
    gate = filled(1, 12)
    got: Counter[str] = Counter()
    for number in range(60):
        caller = "abc"[number % 3]
        got[caller] += gate.admit(100 + number, Ask(caller=caller), 0.0).accepted
    assert max(got.values()) - min(got.values()) <= 1


def test_the_last_places_are_kept_for_what_is_more_important() -> None:
    gate = filled(1, 8, fair=False)
    for number in range(100, 120):
        gate.admit(number, Ask(), 0.0)
    assert not gate.judge(Ask(), 0.0).accepted
    assert gate.judge(Ask(priority=1), 0.0).accepted


def test_a_more_important_request_does_not_count_those_behind_it() -> None:
    gate = filled(1, 8, fair=False, answer_s=10.0)
    for number in range(100, 104):
        gate.admit(number, Ask(), 0.0)
    assert gate.expected_wait_s(0.0, priority=1) < gate.expected_wait_s(0.0, priority=0)


def test_a_request_that_stands_in_several_lines_counts_for_less_in_each() -> None:
    one, many = filled(1, 8, answer_s=10.0), filled(1, 8, answer_s=10.0)
    one.admit(100, Ask(caller="b"), 0.0)
    many.admit(100, Ask(caller="b", lines=4), 0.0)
    assert many.expected_wait_s(0.0) < one.expected_wait_s(0.0)


def test_the_expected_wait_follows_how_long_answers_take() -> None:
    gate = Gate(slots=1, queue=4, answer_s=1.0)
    for number in range(30):
        gate.admit(number, Ask(), number * 10.0)
        gate.begin(number, number * 10.0)
        gate.end(number, number * 10.0 + 8.0)
    gate.admit(99, Ask(), 1000.0)
    gate.begin(99, 1000.0)
    assert gate.expected_wait_s(1000.0) == pytest.approx(8.0, rel=0.2)


def test_an_answer_that_was_cut_teaches_nothing() -> None:
    gate = Gate(slots=1, queue=4, answer_s=5.0)
    gate.admit(1, Ask(), 0.0)
    gate.begin(1, 0.0)
    gate.end(1, 0.1, whole=False)
    assert gate.answer_s == 5.0


def test_who_leaves_sooner_than_a_slot_comes_is_no_wait_for_others() -> None:
    impatient, patient = (Gate(slots=1, queue=20, fair=False, answer_s=10.0) for _ in range(2))
    for gate, patience_s in ((impatient, 2.0), (patient, 1000.0)):
        gate.admit(0, Ask(), 0.0)
        gate.begin(0, 0.0)
        for ticket in range(1, 6):
            gate.admit(ticket, Ask(patience_s=patience_s), 0.0)
    assert patient.expected_wait_s(0.0) == 60.0
    assert impatient.expected_wait_s(0.0) < 20.0
