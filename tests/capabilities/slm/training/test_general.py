"""The general model's data: enough topics, nothing of the evaluation in the training."""

from __future__ import annotations

import itertools
import random
import re

from capabilities.slm.training import general, outside
from mesh.core import names


def expansions(pattern: str) -> set[str]:
    """All texts that a pattern with `(a|b)` choices can become."""
    parts = re.split(r"\(([^()]*)\)", pattern)
    choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    return {" ".join("".join(chosen).split()) for chosen in itertools.product(*choices)}


def test_there_are_at_least_sixty_topics_each_asked_and_answered_in_several_ways() -> None:
    topics = general.load_topics()
    assert len(topics) >= 60
    assert len({topic.name for topic in topics}) == len(topics)
    for topic in topics:
        questions = set().union(*(expansions(q) for q in topic.questions))
        assert len(questions) + 10 * len(topic.nouns) >= 5, topic.name
        assert len(topic.held_out) >= 2, topic.name
        assert len(topic.answers) >= 2, topic.name


def test_no_answer_belongs_to_two_topics() -> None:
    answers = [answer for topic in general.load_topics() for answer in topic.answers]
    answers += [*general.CALCULATION_ANSWERS, *general.UNKNOWN_ANSWERS]
    assert len(set(answers)) == len(answers)


def test_no_held_out_question_can_be_drawn_in_training() -> None:
    trained = set()
    for topic in general.load_topics():
        for pattern in topic.questions:
            trained |= expansions(pattern)
    for topic in general.load_topics():
        for pattern in topic.held_out:
            assert not expansions(pattern) & trained, pattern


def test_outside_questions_held_out_use_other_patterns_and_other_words() -> None:
    trained, held_out = outside.outside_words()
    assert not set(trained) & set(held_out)
    assert len(held_out) > 40


def test_an_example_offers_the_answer_among_its_alternatives() -> None:
    rng = random.Random(2)
    for _ in range(500):
        example = general.chat_example(rng, held_out=False)
        assert example.answer in example.alternatives
        assert "  " not in example.question
        assert "{" not in example.question
        assert "|" not in example.question


def test_every_name_in_an_answer_is_a_valid_name() -> None:
    answers = [answer for topic in general.load_topics() for answer in topic.answers]
    found = {name for text in answers for name in re.findall(r"\w+\.gpt/[\w./-]*\w", text)}
    assert "knowledge.gpt/arithmetic" in found
    for name in found:
        assert names.check_name(name) == name


def test_every_answer_that_declines_a_calculation_names_the_expert() -> None:
    for answer in general.expert_answers():
        assert "knowledge.gpt/arithmetic" in answer
        assert re.search(r"cannot|do not", answer)
