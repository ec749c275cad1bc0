"""After a draft: accept, or ask someone else; a claim of a peer cannot break the scale."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.classifier.gap import ACCEPT, ASK_OTHER, Draft, EvidenceGap, refuses
from capabilities.messages import Evidence

GAP = EvidenceGap()
SURE = Evidence(mean_logprob=-0.01, min_probability=0.9)


def judge(text: str = "48 * 27 = 1296", finish: str = "stop", evidence: Evidence = SURE) -> str:
    return GAP.judge(Draft(text=text, finish=finish, evidence=evidence), 0.3).action


def test_a_sure_whole_answer_is_accepted() -> None:
    assert judge() == ACCEPT


def test_an_unsure_answer_is_asked_of_someone_else() -> None:
    assert judge(evidence=Evidence(mean_logprob=-3.0, min_probability=0.01)) == ASK_OTHER


@pytest.mark.parametrize("finish", ["length", "cancelled", "error"])
def test_an_answer_that_was_cut_off_is_not_accepted(finish: str) -> None:
    assert judge(finish=finish) == ASK_OTHER


def test_an_empty_answer_is_not_accepted() -> None:
    assert judge(text="  ") == ASK_OTHER


@pytest.mark.parametrize(
    "text",
    [
        "I cannot calculate.",
        "Sorry, I can't do that.",
        "I do not know that.",
        "I only do arithmetic.",
        "I don\u2019t know.",
        "I'm not able to say.",
        "I do not calculate; that is work for the arithmetic expert.",
        "That I do not know: my field is the Gossamer mesh.",
        "I only add and subtract numbers of up to four digits.",
    ],
)
def test_a_refusal_is_seen_as_one(text: str) -> None:
    assert refuses(text)
    assert GAP.judge(Draft(text=text, finish="stop"), 0.3).declined


@pytest.mark.parametrize(
    "text",
    [
        "48 * 27 = 1296",
        "A node that I cannot reach is suspected first.",
        "The mesh has no leader.",
        "I cannot say this shortly: " + "gossip spreads records. " * 20,
    ],
)
def test_an_answer_is_not_taken_for_a_refusal(text: str) -> None:
    assert not refuses(text)


def test_less_sure_evidence_never_means_more_confidence() -> None:
    means = [GAP.confidence(Evidence(mean_logprob=-x / 4)) for x in range(20)]
    lows = [GAP.confidence(Evidence(min_probability=1 - x / 20)) for x in range(20)]
    assert means == sorted(means, reverse=True)
    assert lows == sorted(lows, reverse=True)


def test_a_calibrated_model_is_judged_by_its_own_curve() -> None:
    strict = EvidenceGap({"tiny": {"bias": -5.0}})
    assert strict.confidence(SURE, "tiny") < 0.1 < strict.confidence(SURE, "other")


@given(st.floats(), st.floats(), st.floats())
def test_whatever_a_peer_claims_the_confidence_is_a_probability(
    mean: float, low: float, doubt: float
) -> None:
    sure = GAP.confidence(Evidence(mean_logprob=mean, min_probability=low, epistemic=doubt))
    assert not math.isnan(sure)
    assert 0.0 <= sure <= 1.0
