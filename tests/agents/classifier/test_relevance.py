"""A question finds its name, a new name is usable at once, and "none of them" is an answer."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.classifier.catalogue import (
    ARITHMETIC,
    GENERATE,
    MACHINE,
    MESH,
    WELL_KNOWN,
    KnownName,
)
from agents.classifier.relevance import NgramClassifier, Relevance
from agents.classifier.shipped import ngram_classifier
from agents.classifier.training import questions

CLASSIFIER = ngram_classifier()
BEES = KnownName(
    "data.gpt/beehive/summary",
    "bees",
    "Weight, hum and temperature of the beehives",
    ("How heavy is hive three?", "are the bees swarming", "how warm is it inside the beehive"),
)


def ask(question: str, *more: KnownName) -> Relevance:
    return CLASSIFIER.classify(question, [*WELL_KNOWN, *more])


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("What is 48 * 27?", ARITHMETIC),
        ("7*8", ARITHMETIC),
        ("forty-eight times twenty-seven", ARITHMETIC),
        ("what is 4711 minus 815", ARITHMETIC),
        ("multiply 99 by 98", ARITHMETIC),
        ("how do the nodes find each other?", MESH),
        ("what is gossip", MESH),
        ("who are you?", GENERATE),
        ("hello", GENERATE),
        ("how busy is this machine?", MACHINE),
        ("how much memory is free", MACHINE),
    ],
)
def test_a_question_finds_its_name(question: str, name: str) -> None:
    best = ask(question).best
    assert best.name == name
    assert best.probability >= 0.5


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "what happened in 1914",
        "write a poem about the sea",
        "my heart rate is 120, is that bad?",
    ],
)
def test_a_question_that_fits_no_name_is_out_of_scope(question: str) -> None:
    assert ask(question).out_of_scope >= 0.5


def test_a_new_name_is_usable_at_once_from_what_it_advertises() -> None:
    question = "is there enough honey in the hive, and do the bees swarm?"
    assert ask(question).out_of_scope >= 0.5
    assert ask(question, BEES).best.name == BEES.name


def test_a_new_name_does_not_take_what_belongs_to_others() -> None:
    assert ask("What is 48 * 27?", BEES).best.name == ARITHMETIC


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=300), st.integers(0, 4))
def test_probabilities_add_up_to_one_over_names_and_none(question: str, names: int) -> None:
    seen = CLASSIFIER.classify(question, WELL_KNOWN[:names])
    total = seen.out_of_scope + sum(scored.probability for scored in seen.ranked)
    assert total == pytest.approx(1.0)
    ordered = [scored.probability for scored in seen.ranked]
    assert ordered == sorted(ordered, reverse=True)


def test_without_names_everything_is_out_of_scope() -> None:
    seen = CLASSIFIER.classify("What is 48 * 27?", [])
    assert seen.out_of_scope == pytest.approx(1.0)
    assert seen.best.name == ""


def test_held_out_wordings_are_understood_better_than_a_stated_share() -> None:
    """The floor is well under the figure that benchmarks.understanding reports."""
    source = questions.load("held_out.txt")
    rng = random.Random(3)
    right = total = 0
    for known in WELL_KNOWN:
        for line in source.asked[known.name]:
            right += ask(questions.fill(line, rng)).best.name == known.name
            total += 1
    assert right / total >= 0.85, f"{right} of {total}"


def test_no_held_out_line_was_trained_on() -> None:
    def lines(file: str) -> set[str]:
        asked = questions.load(file).asked
        return {line.lower().strip(" ?.!") for texts in asked.values() for line in texts}

    assert not lines("held_out.txt") & lines("questions.txt")


def test_the_same_weights_give_the_same_answer() -> None:
    again: NgramClassifier = ngram_classifier()
    assert again.classify("what is a node", WELL_KNOWN) == ask("what is a node")
