"""Deadlines are judged by what nodes were seen to do, not by what they say."""

from __future__ import annotations

import random

import msgspec

from agents.orchestrator.climbing import quickest_s
from agents.port import Offer
from agents.scheduling.policies import Context
from agents.scheduling.prediction import Job, Outcome, Predictor
from mesh.core.records import ServedName

NAME = "knowledge.gpt/tides"
CONTEXT = Context(rng=random.Random(1), job=Job(prompt_tokens=1, answer_tokens=100.0))


def offer(rate: float = 50.0, **more: object) -> Offer:
    fields: dict[str, object] = {
        "node": b"a",
        "node_name": "a",
        "served": ServedName(NAME),
        "me": False,
        "healthy": True,
        "load": 0.0,
        "slots": 2,
        "tokens_per_s": rate,
    }
    return Offer(**(fields | more))  # type: ignore[arg-type]


def slow_answers(predictor: Predictor, count: int) -> None:
    for number in range(count):
        predictor.observe(
            Outcome(
                node=b"a", name=NAME, at=float(number), tokens=101, first_token_s=1.0, total_s=101.0
            )
        )


def test_a_node_that_boasts_is_believed_until_it_was_seen() -> None:
    predictor = Predictor()
    claimed = quickest_s((offer(),), predictor, CONTEXT)
    assert claimed < 5.0
    slow_answers(predictor, 10)
    assert quickest_s((offer(),), predictor, CONTEXT) > 50.0


def test_a_full_node_is_not_as_quick_as_a_free_one() -> None:
    free = quickest_s((offer(),), Predictor(), CONTEXT)
    assert quickest_s((offer(load=2.0),), Predictor(), CONTEXT) > free


def test_a_node_of_which_nothing_is_known_is_no_reason_to_pay() -> None:
    unknown = msgspec.structs.replace(offer(0.0), node=b"b")
    assert quickest_s((offer(), unknown), Predictor(), CONTEXT) == 0.0
    assert quickest_s((), Predictor(), CONTEXT) == 0.0
