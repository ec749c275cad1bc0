"""What is predicted follows what is seen, through noise, and quickly where it turns."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.port import Offer
from agents.scheduling.estimate import Estimate
from agents.scheduling.flights import Flights
from agents.scheduling.prediction import MAX_ENDPOINTS, Job, Outcome, Predictor
from mesh.core.records import ServedName

NAME = "computation.gpt/generate"


def offer(node: bytes = b"n", **values: object) -> Offer:
    given_ = {"load": 0.0, "slots": 2, "tokens_per_s": 10.0, "prompt_tokens_per_s": 100.0}
    return Offer(
        node=node,
        node_name="n",
        served=ServedName(NAME),
        me=False,
        healthy=True,
        **{**given_, **values},  # type: ignore[arg-type]
    )


def answered(rate: float, *, tokens: int = 100, node: bytes = b"n", **more: object) -> Outcome:
    values = {"prompt_tokens": 0, "first_token_s": 1 / rate, "total_s": tokens / rate, **more}
    return Outcome(node=node, name=NAME, at=0.0, tokens=tokens, **values)  # type: ignore[arg-type]


def test_an_estimate_settles_on_what_it_sees_through_noise() -> None:
    rng, estimate = random.Random(3), Estimate(1.0)
    for _ in range(200):
        estimate.observe(0.1 * rng.lognormvariate(0, 0.2))
    assert estimate.value == pytest.approx(0.1, rel=0.15)


def test_one_odd_value_moves_it_little() -> None:
    estimate = Estimate(0.1)
    for _ in range(50):
        estimate.observe(0.1)
    estimate.observe(10.0)
    assert estimate.value < 0.13


def test_what_turned_slow_is_believed_within_five_observations() -> None:
    rng, estimate = random.Random(5), Estimate(0.1)
    for _ in range(200):
        estimate.observe(0.1 * rng.lognormvariate(0, 0.1))
    for _ in range(5):
        estimate.observe(0.5 * rng.lognormvariate(0, 0.1))
    assert estimate.value > 0.4
    assert estimate.alarms >= 1


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=40))
def test_whatever_is_observed_the_estimate_stays_a_positive_number(values: list[float]) -> None:
    estimate = Estimate(1.0)
    for value in values:
        estimate.observe(value)
    assert 0 < estimate.value < float("inf")


@pytest.mark.parametrize(("value", "trust"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0)])
def test_a_guess_that_cannot_be_is_refused(value: float, trust: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        Estimate(value, trust)


def test_before_the_first_answer_the_nodes_own_word_counts() -> None:
    found = Predictor().predict(offer(), Job(prompt_tokens=100, answer_tokens=50), 0)
    assert found.first_token_s == pytest.approx(1.1)
    assert found.completion_s == pytest.approx(1.1 + 4.9)


def test_what_was_seen_outweighs_what_the_node_says() -> None:
    predictor = Predictor()
    predictor.predict(offer(tokens_per_s=1000.0), Job(), 0)
    for _ in range(10):
        predictor.observe(answered(10.0))
    assert predictor.tokens_per_s(offer(tokens_per_s=1000.0)) < 15


def test_a_full_node_adds_its_wait_and_own_unseen_calls_fill_it() -> None:
    predictor, job = Predictor(), Job(answer_tokens=10)
    free = predictor.predict(offer(), job, 0)
    own = predictor.predict(offer(), job, 2)
    queued = predictor.predict(offer(load=2.0), job, 0)
    assert free.wait_s == 0
    assert not free.full
    assert own.full
    assert queued.wait_s > own.wait_s > 0


def test_a_prompt_that_was_read_there_before_is_not_read_again() -> None:
    predictor = Predictor()
    job = Job(prompt_tokens=1024, answer_tokens=10, prefix=(1, 2), block_tokens=500)
    before = predictor.predict(offer(), job, 0)
    predictor.observe(answered(10.0, prefix=(1, 2)))
    after = predictor.predict(offer(), job, 0)
    assert (before.cached_tokens, after.cached_tokens) == (0, 1000)
    assert after.first_token_s < before.first_token_s


def test_a_prefix_is_worth_nothing_beyond_its_first_gap() -> None:
    predictor = Predictor()
    predictor.predict(offer(), Job(), 0)
    predictor.observe(answered(10.0, prefix=(1, 2, 3)))
    other = Job(prompt_tokens=2000, prefix=(1, 9, 3), block_tokens=500)
    assert predictor.predict(offer(), other, 0).cached_tokens == 500


def test_a_call_under_way_that_crawls_is_noticed_before_it_ends() -> None:
    predictor, flights = Predictor(), Flights()
    predictor.predict(offer(), Job(), 0)
    for _ in range(10):
        predictor.observe(answered(10.0))
    flight = flights.open(b"n", 0.0)
    flight.first_at, flight.tokens = 0.1, 8
    for now in range(4, 10):
        predictor.look(flights, float(now))
    assert predictor.tokens_per_s(offer()) < 5


def test_failures_and_rejections_teach_no_speed() -> None:
    predictor = Predictor()
    predictor.predict(offer(), Job(), 0)
    for status in ("failed", "rejected", "impatient"):
        predictor.observe(answered(0.1, status=status))
    assert predictor.tokens_per_s(offer()) == pytest.approx(10.0)


def test_made_up_endpoints_do_not_fill_the_memory() -> None:
    predictor = Predictor()
    for number in range(MAX_ENDPOINTS + 50):
        predictor.predict(offer(number.to_bytes(4, "big")), Job(), 0)
    assert len(predictor._endpoints) == MAX_ENDPOINTS


def test_own_calls_are_counted_until_they_are_closed() -> None:
    flights = Flights()
    early, late = flights.open(b"n", 1.0), flights.open(b"n", 3.0)
    assert (flights.count(b"n"), flights.since(b"n", 2.0)) == (2, 1)
    flights.close(early)
    flights.close(early)
    flights.close(late)
    assert flights.counts() == {}
