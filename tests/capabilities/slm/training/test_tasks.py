"""The tasks of the general model: every answer is what its asker can use, none is trained twice."""

from __future__ import annotations

import json
import random
import re

import jsonschema
import msgspec
import pytest

from agents.orchestrator.plan import Plan, checked
from capabilities.slm import tasks
from capabilities.slm.schema import to_gbnf
from capabilities.slm.training import (
    general,
    outside,
    plans,
    reading,
    reading_tasks,
    texts,
    union,
    variety,
)
from capabilities.slm.training.chat import Example
from capabilities.slm.training.tokenizer import load_tokenizer


def drawn(make: object, count: int, *, held_out: bool) -> list[Example]:
    rng = random.Random(count)
    return [make(rng, held_out=held_out) for _ in range(count)]  # type: ignore[operator]


@pytest.mark.parametrize("held_out", [False, True])
def test_the_orchestrator_takes_every_plan(held_out: bool) -> None:
    for example in drawn(plans.example, 400, held_out=held_out):
        steps = json.loads(example.answer)
        jsonschema.validate(steps, tasks.PLAN_SCHEMA)
        plan = checked(msgspec.convert({**steps, "method": "model"}, Plan))
        for step in plan.steps:
            for parent in step.depends:
                assert f"{{{parent}}}" in step.question
                assert parent < step.id


def test_a_plan_uses_names_of_the_list_or_none() -> None:
    for example in drawn(plans.example, 400, held_out=True):
        first = example.question.splitlines()[0]
        names = first.removeprefix("Names: ").split(", ")
        used = {step["name"] for step in json.loads(example.answer)["steps"]}
        assert used - {""} <= set(names)
        assert len(names) == len(set(names))


@pytest.mark.parametrize("held_out", [False, True])
def test_a_quotation_stands_in_the_text_and_holds_the_answer(held_out: bool) -> None:
    absent = 0
    for example in drawn(reading.extract_example, 400, held_out=held_out):
        text = example.question.partition("\nQuestion:")[0]
        if example.system == tasks.EXTRACT_JSON:
            found = json.loads(example.answer)
            jsonschema.validate(found, tasks.EXTRACT_SCHEMA)
            quote, answer = found["citation"], found["answer"]
        elif example.answer == tasks.NOT_THERE:
            quote = answer = None
        else:
            quote, _, answer = example.answer[1:].rpartition('" So: ')
        if quote is None:
            absent += 1
            assert answer is None
        else:
            assert quote in text
            assert answer in quote
    assert 60 < absent < 140


def test_a_fact_that_is_there_is_stated_once() -> None:
    """Else two quotations would be right, and the judge would know one of them."""
    for example in drawn(reading.extract_example, 300, held_out=True):
        text, _, _ = example.question.partition("\nQuestion:")
        lines = text.splitlines()
        assert len(lines) == len(set(lines))


def test_tasks_for_readers_are_at_most_three_and_name_what_is_asked() -> None:
    for example in drawn(reading_tasks.example, 300, held_out=True):
        found = json.loads(example.answer)
        jsonschema.validate(found, tasks.READING_SCHEMA)
        assert len(set(found["tasks"])) == len(found["tasks"])


def test_no_request_is_its_own_rewording_and_numbers_stay() -> None:
    for example in drawn(texts.reword_example, 300, held_out=False):
        assert example.answer in example.alternatives
        assert example.question.lower().strip("?. ") != example.answer.lower().strip("?. ")
        for number in filter(str.isdigit, example.answer.strip("?.").split()):
            assert number in example.question


def test_joined_findings_are_all_told_with_their_source_and_the_silent_are_named() -> None:
    findings = [("knowledge.gpt/arithmetic", "2 + 2 = 4"), ("data.gpt/temperature/raw", "")]
    assert texts.joined(findings) == "2 + 2 = 4. (arithmetic) Missing: data.gpt/temperature/raw."
    assert tasks.join_request(findings).endswith("data.gpt/temperature/raw: no answer")


@pytest.mark.parametrize("schema", [tasks.PLAN_SCHEMA, tasks.EXTRACT_SCHEMA, tasks.READING_SCHEMA])
def test_the_engine_can_hold_an_answer_to_each_schema(schema: dict[str, object]) -> None:
    assert to_gbnf(json.dumps(schema))


def test_general_draws_every_task_and_chat() -> None:
    rng = random.Random(1)
    seen = {general.sample(rng).system for _ in range(600)}
    assert {tasks.PLAN, tasks.EXTRACT, tasks.READING_TASKS, tasks.REWORD, tasks.JOIN, ""} <= seen


def test_the_model_of_all_domains_declines_for_nobody_and_hands_no_calculation_on() -> None:
    rng = random.Random(2)
    for _ in range(800):
        example = union.sample(rng)
        assert example.category not in ("decline", general.CALCULATION)
        assert example.answer not in general.expert_answers() or "expert" in example.scratchpad


def test_words_without_sense_use_every_piece_of_the_vocabulary_and_no_word_held_out() -> None:
    rng = random.Random(3)
    kept = set(outside.outside_words()[1])
    drawn_words = [variety.strange(rng) for _ in range(3000)]
    assert not kept & set(drawn_words)
    tokenizer = load_tokenizer()
    used = {i for word in drawn_words for i in tokenizer.encode(f" {word}").ids}
    assert len(used) > 1500


def test_what_is_read_for_training_names_nothing_that_is_held_out() -> None:
    for example in drawn(reading.extract_example, 300, held_out=False):
        words = set(re.findall(r"\w+", example.question.lower()))
        assert not words & {"probe", "valve", "clara", "victor", "library", "harbour", "voltage"}
