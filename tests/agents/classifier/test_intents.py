"""A user's own intents are learnt in seconds; unsure ones are asked again in other words."""

from __future__ import annotations

import numpy as np
import pytest

from agents.classifier.intents import IntentClassifier
from agents.classifier.regression import TooFewExamples
from capabilities.embedding.static import shipped

LAMP = ["turn on the lamp", "switch the light off", "make it brighter", "dim the lights please",
        "lights out in the hall", "is the lamp still on"]  # fmt: skip
MUSIC = ["play some jazz", "next song please", "stop the music", "turn the volume up",
         "who sings this tune", "play my favourite album"]  # fmt: skip
TEXTS, LABELS = [*LAMP, *MUSIC], ["lamp"] * len(LAMP) + ["music"] * len(MUSIC)


@pytest.fixture(scope="module")
def classifier() -> IntentClassifier:
    return IntentClassifier.fit(TEXTS, LABELS, embedder=shipped())


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("could you switch the lamp on", "lamp"),
        ("brighter lights in the kitchen", "lamp"),
        ("play the next album", "music"),
        ("which band made this song", "music"),
    ],
)
def test_new_wordings_find_their_intent(
    classifier: IntentClassifier, text: str, label: str
) -> None:
    assert classifier.classify(text).label == label


def test_probabilities_add_up_to_one(classifier: IntentClassifier) -> None:
    rows = classifier.probabilities(["play", "", "?!", "x" * 10_000])
    assert np.allclose(rows.sum(axis=1), 1.0, atol=1e-5)


def test_what_resembles_nothing_is_less_sure_than_what_was_taught(
    classifier: IntentClassifier,
) -> None:
    strange = classifier.classify("why did the empire fall in the fifth century")
    assert strange.unsure > classifier.classify("turn on the lamp").unsure


def test_the_same_examples_and_seed_make_the_same_classifier() -> None:
    first, second = (
        IntentClassifier.fit(TEXTS, LABELS, embedder=shipped(), seed=3) for _ in range(2)
    )
    assert (first.probabilities(TEXTS) == second.probabilities(TEXTS)).all()


def test_only_an_unsure_text_is_asked_again(classifier: IntentClassifier) -> None:
    sure = classifier.classify("could you turn on the lamp", below=0.01)
    unsure = classifier.classify("could you turn on the lamp", below=1.1)
    assert sure.asked == 1
    assert unsure.asked > 1


def test_a_rewording_model_takes_the_place_of_the_rules(classifier: IntentClassifier) -> None:
    asked: list[str] = []

    def model(text: str) -> list[str]:
        asked.append(text)
        return ["play a song", "play the album"]

    intent = classifier.classify("put on a record", below=1.1, paraphrase=model)
    assert asked == ["put on a record"]
    assert intent.label == "music"
    assert intent.asked == 3


def test_a_rewording_model_that_says_nothing_changes_nothing(
    classifier: IntentClassifier,
) -> None:
    own = classifier.classify("put on a record")
    assert classifier.classify("put on a record", below=1.1, paraphrase=lambda _: []) == own


@pytest.mark.parametrize(
    ("texts", "labels"), [([], []), (["one"], ["a"]), (["a", "b"], ["x", "x"]), (["a"], ["x", "y"])]
)
def test_examples_without_a_choice_are_refused(texts: list[str], labels: list[str]) -> None:
    with pytest.raises(TooFewExamples):
        IntentClassifier.fit(texts, labels, embedder=shipped())
