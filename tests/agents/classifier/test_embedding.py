"""Embeddings move the odds: meaning finds a name that shares no word; successes are remembered."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.classifier.catalogue import ARITHMETIC, WELL_KNOWN, KnownName
from agents.classifier.embedding import MAX_NAMES, EmbeddingClassifier
from agents.classifier.shipped import embedding_classifier, ngram_classifier
from agents.configure import PartsConfig, build
from capabilities.embedding.static import shipped

CARS = KnownName(
    "knowledge.gpt/garage",
    "car repair",
    "repairs of cars: engine, brakes, tyres",
    ("my car makes a noise", "when must the brakes be replaced", "the engine does not start"),
)


def made() -> EmbeddingClassifier:
    return EmbeddingClassifier(ngram_classifier(), shipped())


def share(classifier: EmbeddingClassifier, question: str) -> float:
    found = classifier.classify(question, [*WELL_KNOWN, CARS])
    return next(one.probability for one in found.ranked if one.name == CARS.name)


def test_it_is_chosen_by_name() -> None:
    assert isinstance(build(PartsConfig(classifier="embedding")).classifier, EmbeddingClassifier)


def test_meaning_finds_what_shares_no_word_with_what_is_advertised() -> None:
    question = "who can look at the motor of an automobile"
    words = ngram_classifier().classify(question, [*WELL_KNOWN, CARS])
    by_words = next(one.probability for one in words.ranked if one.name == CARS.name)
    assert share(made(), question) > by_words


def test_a_calculation_stays_a_calculation() -> None:
    best = made().classify("What is 48 * 27?", [*WELL_KNOWN, CARS]).best
    assert best.name == ARITHMETIC


def test_a_question_like_one_answered_well_leans_to_its_name() -> None:
    classifier = made()
    question = "the winter ones squeal in every bend"
    before = share(classifier, question)
    classifier.succeeded("the summer ones squeal in every bend", CARS.name)
    assert share(classifier, question) > before


def test_successes_are_bounded_by_names_and_the_oldest_leave() -> None:
    classifier = made()
    classifier.succeeded("the summer ones squeal in every bend", CARS.name)
    remembered = share(classifier, "the winter ones squeal in every bend")
    for number in range(MAX_NAMES):
        classifier.succeeded("something else", f"knowledge.gpt/n{number}")
    assert share(classifier, "the winter ones squeal in every bend") < remembered


@given(st.text(max_size=300))
@settings(max_examples=30, deadline=None)
def test_probabilities_add_up_to_one_whatever_the_text(text: str) -> None:
    found = embedding_classifier().classify(text, [*WELL_KNOWN, CARS])
    total = sum(one.probability for one in found.ranked) + found.out_of_scope
    assert total == pytest.approx(1.0)


def test_without_names_all_is_out_of_scope() -> None:
    found = made().classify("hello", [])
    assert found.ranked == ()
    assert found.out_of_scope == pytest.approx(1.0)
