"""Answers held to a form while they are sampled, biased, penalised, and calls of tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capabilities.messages import Delta, Tool, ToolCall
from tests.capabilities.slm.driving import Drive, Driven
from tests.capabilities.slm.schemas import SCHEMAS, valid

SHORT = [name for name in SCHEMAS if name not in ("anything", "free", "tree", "triage", "shape")]
CLOCK = Tool(name="clock", description="The time.", parameters='{"type": "object"}')


def test_answers_of_a_model_that_knows_no_json_are_instances(
    drive: Drive, random_model: Path
) -> None:
    it = drive(random_model, max_waiting=200)
    asked = [(name, seed) for name in SHORT for seed in range(3)]
    for key, (name, seed) in enumerate(asked):
        it.submit(
            key + 1,
            "go",
            max_tokens=200,
            json_schema=json.dumps(SCHEMAS[name]),
            temperature=1.5 if seed else 0.0,
            seed=seed,
        )
    it.run()
    for key, (name, _) in enumerate(asked):
        done = it.done(key + 1)
        assert done.finish == "stop", (name, done.text)
        assert valid(done.text, SCHEMAS[name]), (name, done.text)


def test_a_grammar_is_held_beside_streams_that_have_none(drive: Drive, endless: Path) -> None:
    it = drive(endless)
    it.submit(1, "go", grammar='root ::= ("yes" | "no") "!"')
    it.submit(2, "go", max_tokens=8)
    it.run()
    assert it.done(1).text in ("yes!", "no!")
    assert it.done(2).text == "abc abc "


def test_a_grammar_does_not_change_an_answer_that_keeps_to_it(drive: Drive, endless: Path) -> None:
    it = drive(endless)
    it.submit(1, "go", max_tokens=8, grammar="root ::= [a-c ]+")
    it.run()
    assert it.done(1).text == "abc abc "


def test_an_answer_in_a_form_begins_without_a_thought(drive: Drive, spoken: Path) -> None:
    it = drive(spoken)
    it.submit(1, "hello", grammar='root ::= "7"')
    it.run()
    assert it.done(1).text == "7"
    assert not [e for e in it.events(1) if isinstance(e, Delta) and e.thinking]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"json_schema": "{"}, "bad_request"),
        ({"json_schema": '{"type": "string", "pattern": "(?=a)"}'}, "unsupported"),
        ({"json_schema": '{"$ref": "http://localhost/x"}'}, "unsupported"),
        ({"grammar": "root ::= root"}, "bad_request"),
        ({"grammar": "root ::= [z-a]"}, "bad_request"),
        ({"grammar": 'root ::= "a"', "json_schema": "{}"}, "bad_request"),
        ({"tools": [CLOCK], "json_schema": "{}"}, "bad_request"),
        ({"tools": [CLOCK]}, "unsupported"),
        ({"presence_penalty": 9.0}, "bad_request"),
        ({"frequency_penalty": float("nan")}, "bad_request"),
        ({"logit_bias": {5: 1000.0}}, "bad_request"),
        ({"logit_bias": {999_999: 1.0}}, "bad_request"),
        ({"logit_bias": {-1: 1.0}}, "bad_request"),
        ({"logit_bias": dict.fromkeys(range(5000), 1.0)}, "bad_request"),
    ],
)
def test_what_cannot_be_held_is_refused_and_the_others_go_on(
    drive: Drive, endless: Path, request_: dict[str, object], code: str
) -> None:
    it = drive(endless)
    it.submit(1, "hi", **request_)
    it.submit(2, "hi", max_tokens=3)
    it.run()
    assert it.failure(1).code == code
    assert it.failure(1).message
    assert it.done(2).text == "abc"
    assert it.engine.load[1:] == (0, 0)


def test_a_character_without_a_token_fails_the_request_and_not_the_process(
    drive: Drive, endless: Path
) -> None:
    it = drive(endless)
    vocab = it.engine._model.vocab
    it.submit(1, "go", grammar='root ::= "q"')
    run = it.engine._runs[1]
    run.sampler._hidden = run.sampler._hidden.__class__((vocab.size,), dtype="int64")
    run.sampler._hidden[:] = range(vocab.size)
    it.run()
    assert it.failure(1).code == "model"
    assert "no token" in it.failure(1).message


def test_a_bias_decides(drive: Drive, endless: Path) -> None:
    it = drive(endless)
    it.submit(1, "go", max_tokens=4, logit_bias={ord("x"): 100.0})
    it.submit(2, "go", max_tokens=4, logit_bias={ord("a"): -100.0})
    it.run()
    assert it.done(1).text == "xxxx"
    assert "a" not in it.done(2).text


@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty"])
def test_penalties_make_an_answer_more_varied(drive: Drive, random_model: Path, name: str) -> None:
    it = drive(random_model)
    it.submit(1, "go", max_tokens=40)
    it.submit(2, "go", max_tokens=40, **{name: 2.0})
    it.step()
    plain, varied = it.engine._runs[1], it.engine._runs[2]
    it.run()
    assert len(set(varied.sampled)) > len(set(plain.sampled))


def speaking(it: Driven, says: str) -> None:
    """Make the first token of its answer stand for a whole text."""
    it.engine._model.vocab._pieces.update({token: says.encode() for token in range(256)})


def test_tools_stand_in_the_prompt_and_calls_come_apart_from_the_text(
    drive: Drive, tooled: Path
) -> None:
    it = drive(tooled)
    speaking(
        it, 'It is <tool_call>{"name": "clock", "arguments": {"zone": "CET"}}</tool_call>.STOP'
    )
    it.submit(1, "time?", tools=[CLOCK], stop=["STOP"], max_tokens=3)
    prompt = "".join(map(chr, it.engine._runs[1].prompt[:60]))
    it.run()
    done = it.done(1)
    assert "clock" in prompt
    assert done.tool_calls == [ToolCall(name="clock", arguments='{"zone": "CET"}')]
    assert done.finish == "tool_calls"
    assert done.text == "It is "
    assert "".join(e.text for e in it.events(1) if isinstance(e, Delta)) == "It is "
