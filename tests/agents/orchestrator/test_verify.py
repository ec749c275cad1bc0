"""A streamed answer is whole or it is none."""

from __future__ import annotations

import pytest

from agents.classifier.gap import ACCEPT, EvidenceGap, Verdict
from agents.orchestrator import verify as module
from agents.orchestrator.verify import Assembly, better, drafted
from capabilities.messages import Delta, Done
from mesh.core.errors import CapabilityFailed


def test_deltas_and_their_end_are_one_answer_without_the_scratchpad() -> None:
    assembly = Assembly()
    for event in (
        Delta(text="a4+7=11", thinking=True),
        Delta(text="11"),
        Done(text="11", finish="stop"),
    ):
        assembly.take(event)
    answer = assembly.whole()
    assert answer.text == "11"
    draft = drafted(answer, question="4 + 7", expert=True, file_sha256="ab")
    assert (draft.text, draft.question, draft.file_sha256) == ("11", "4 + 7", "ab")
    assert EvidenceGap().judge(draft, 0.3).action == ACCEPT


def test_an_end_without_text_stands_for_what_was_streamed() -> None:
    assembly = Assembly()
    for event in (Delta(text="4"), Delta(text="2"), Done(text="", finish="stop")):
        assembly.take(event)
    assert assembly.whole().text == "42"


def test_half_an_answer_is_none() -> None:
    assembly = Assembly()
    assembly.take(Delta(text="12"))
    with pytest.raises(CapabilityFailed):
        assembly.whole()


def test_an_answer_that_the_node_stopped_is_none() -> None:
    assembly = Assembly()
    assembly.take(Done(text="12", finish="cancelled"))
    with pytest.raises(CapabilityFailed):
        assembly.whole()


def test_nothing_may_follow_the_end() -> None:
    assembly = Assembly()
    assembly.take(Done(text="1", finish="stop"))
    with pytest.raises(CapabilityFailed):
        assembly.take(Delta(text="2"))


def test_a_stream_without_end_is_stopped_at_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER_CHARS", 100)
    assembly = Assembly()
    for _ in range(10):
        assembly.take(Delta(text="x" * 10))
    with pytest.raises(CapabilityFailed, match="size limit"):
        assembly.take(Delta(text="x"))


def test_an_accepted_answer_beats_a_doubted_one_and_else_the_surer_wins() -> None:
    accepted = Verdict(action=ACCEPT, confidence=0.4, why="")
    doubted = Verdict(action="ask_other", confidence=0.9, why="")
    worse = Verdict(action="ask_other", confidence=0.1, why="")
    assert better(doubted, accepted)
    assert not better(accepted, doubted)
    assert better(worse, doubted)
