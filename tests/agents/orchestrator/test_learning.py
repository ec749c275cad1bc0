"""What answers teach: names by success, models by grades, both by what the asker says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import msgspec
import numpy as np

from agents.classifier.gap import EvidenceGap
from agents.classifier.known import Graded, LearningGap
from agents.classifier.shipped import ngram_classifier
from agents.configure import build
from agents.orchestrator.options import AskOptions
from agents.orchestrator.orchestrator import Orchestrator
from agents.parts import Parts, Thresholds
from agents.views import AnswerView
from capabilities.messages import Evidence
from tests.agents.fakes import ARITHMETIC, GENERAL, FakeMesh, FakeNode, says

STARS = "knowledge.gpt/stars"
FIRST = "where does the bright smudge in Andromeda come from"
LATER = "where does the faint smudge in Andromeda come from"
UNSURE = Evidence(mean_logprob=-1.5, min_probability=0.2)


class FakeEmbedder:
    """Tells questions about stars from all others."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:  # type: ignore[type-arg]
        return np.array([[1.0, 0.0] if "smudge" in t else [0.0, 1.0] for t in texts], np.float32)


def learning_parts() -> Parts:
    gap = LearningGap(EvidenceGap(), FakeEmbedder(), Graded(nearest=3))
    low = Thresholds(name=0.2)  # one success makes a name likelier, not likely
    return msgspec.structs.replace(build(), classifier=ngram_classifier(), gap=gap, thresholds=low)


def ask(orchestrator: Orchestrator, question: str, **options: object) -> AnswerView:
    return asyncio.run(orchestrator.answer(question, AskOptions(**options)))  # type: ignore[arg-type]


def mesh() -> FakeMesh:
    return FakeMesh(
        FakeNode("me", {GENERAL: says("I chat.")}, me=True),
        FakeNode("stars", {STARS: says("From a trillion suns.")}),
    )


def test_a_name_that_answered_well_is_likelier_for_such_questions_afterwards() -> None:
    orchestrator = Orchestrator(mesh(), learning_parts(), rng=random.Random(1))
    before = ask(orchestrator, LATER)
    assert before.steps[0].name != STARS
    assert ask(orchestrator, FIRST, name=STARS).text == "From a trillion suns."
    after = ask(orchestrator, LATER)
    assert after.steps[0].name == STARS
    assert after.text == "From a trillion suns."


def test_an_answer_that_was_not_sure_teaches_nothing() -> None:
    unsure = FakeNode("stars", {STARS: says("From suns.", evidence=UNSURE)})
    general = FakeNode("me", {GENERAL: says("I chat.")}, me=True)
    orchestrator = Orchestrator(FakeMesh(general, unsure), learning_parts(), rng=random.Random(1))
    assert ask(orchestrator, FIRST, name=STARS).text == "From suns."
    assert ask(orchestrator, LATER).steps[0].name != STARS


def test_what_the_asker_calls_wrong_moves_the_model_back() -> None:
    weak = FakeNode("weak", {STARS: says("From cheese.")}, model="small")
    strong = FakeNode("strong", {STARS: says("From suns.")}, model="large", priority=20)
    nodes = FakeMesh(weak, strong)
    orchestrator = Orchestrator(nodes, learning_parts(), rng=random.Random(1))
    found = ask(orchestrator, FIRST, name=STARS)
    assert found.nodes == ["weak"]
    assert [given.model for given in orchestrator.learning.told(found.trace, right=False)] == [
        "small"
    ]
    assert orchestrator.learning.told(found.trace, right=False) == []  # once an answer
    assert orchestrator.learning.last == ""  # and not of the one before
    found = ask(orchestrator, FIRST, name=STARS)
    assert found.nodes == ["strong"]
    assert any(line["rule"] == "gap.before" for line in found.decisions)
    unlike = ask(orchestrator, "how heavy is the moon", name=STARS)
    assert unlike.nodes == ["weak"]


def test_a_model_that_declines_such_questions_is_asked_after_the_others() -> None:
    weak = FakeNode("weak", {ARITHMETIC: says("I do not know.")}, model="small")
    strong = FakeNode("strong", {ARITHMETIC: says("It is 7.")}, model="large", priority=20)
    orchestrator = Orchestrator(FakeMesh(weak, strong), learning_parts(), rng=random.Random(1))
    for _ in range(3):
        assert ask(orchestrator, "What is 3 + 4?").text == "It is 7."
    asked = len(weak.calls)
    assert ask(orchestrator, "What is 3 + 4?").nodes == ["strong"]
    assert len(weak.calls) == asked


def test_feedback_of_a_trace_that_is_not_known_teaches_nothing() -> None:
    orchestrator = Orchestrator(mesh(), learning_parts(), rng=random.Random(1))
    assert orchestrator.learning.last == ""
    assert orchestrator.learning.told("ab" * 16, right=True) == []
