"""What people do with openai-python works against a mesh: the real client, a real agent."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.e2e.serving import Served

pytestmark = pytest.mark.e2e

NAME = "knowledge.gpt/arithmetic"
QUESTION = [{"role": "user", "content": "What is 48 * 27?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "set_lamp",
        "description": "Switches a lamp.",
        "parameters": {
            "type": "object",
            "properties": {"on": {"type": "boolean"}, "room": {"enum": ["hall", "attic"]}},
            "required": ["on", "room"],
            "additionalProperties": False,
        },
    },
}


def until_idle(served: Served, seconds: float = 20.0) -> None:
    """Wait until no slot is at work."""
    until = time.monotonic() + seconds
    while busy := served.busy():
        assert time.monotonic() < until, f"{busy} slots are still taken"
        time.sleep(0.05)


@pytest.mark.parametrize("model", ["mesh", NAME, f"{NAME}@desk", "arithmetic"])
def test_the_mesh_a_name_one_node_and_a_model_answer(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION)
    assert "1296" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == model
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_an_answer_says_who_gave_it_by_which_way_and_at_what_cost(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="mesh", messages=QUESTION)
    found = raw.parse().model_extra["gossamer"]
    assert found["nodes"] == ["desk"]
    assert found["route"][0]["name"] == NAME
    assert found["route"][0]["confidence"] > 0.5
    assert found["cost"] == 0.0
    assert raw.headers["x-gossamer-trace"] == found["trace"]
    assert raw.headers["x-gossamer-nodes"] == "desk"
    assert raw.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("model", ["mesh", NAME])
def test_a_stream_begins_with_the_role_and_ends_with_usage(client: OpenAI, model: str) -> None:
    chunks = list(
        client.chat.completions.create(
            model=model, messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ""
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert "1296" in text
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1
    assert [c.choices[0].finish_reason for c in chunks[:-1]][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert any(c.model_extra.get("gossamer", {}).get("nodes") == ["desk"] for c in chunks)


def test_the_scratchpad_is_kept_out_of_the_text(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=NAME, messages=QUESTION)
    message = answer.choices[0].message
    assert message.content == "48 * 27 = 1296"
    assert "8*7=56" in message.model_extra["reasoning_content"]


def test_a_question_of_two_parts_streams_as_the_whole_answer_reads(client: OpenAI) -> None:
    asked = [{"role": "user", "content": "What is 48 * 27 and what is 12 + 30?"}]
    whole = client.chat.completions.create(model="mesh", messages=asked)
    chunks = client.chat.completions.create(model="mesh", messages=asked, stream=True)
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text.split() == whole.choices[0].message.content.split()
    assert len(whole.model_extra["gossamer"]["route"]) == 2


def test_a_null_stands_for_an_option_that_is_not_there(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=NAME,
        messages=QUESTION,
        temperature=None,
        top_p=None,
        stop=None,
        seed=None,
        tools=None,
        logprobs=None,
        n=None,
        response_format=None,
        extra_body={"an_option_of_another_server": {"deep": 1}},
    )
    assert "1296" in answer.choices[0].message.content


def test_log_probabilities_belong_to_the_visible_tokens(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=NAME, messages=QUESTION, logprobs=True, top_logprobs=3
    )
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens).strip() == answer.choices[0].message.content
    assert all(token.logprob <= 0 for token in tokens)
    assert all(len(token.top_logprobs) == 3 for token in tokens)
    assert bytes(tokens[0].bytes).decode() == tokens[0].token


def test_an_answer_is_held_to_a_schema(client: OpenAI) -> None:
    class Reading(BaseModel):
        room: str
        warm: bool

    answer = client.chat.completions.parse(
        model="computation.gpt/generate",
        messages=[{"role": "user", "content": "How is the hall?"}],
        response_format=Reading,
        max_tokens=200,
    )
    found = answer.choices[0]
    if found.finish_reason == "stop":
        assert isinstance(found.message.parsed, Reading)
    else:  # a tiny model may fill the string until it is cut; then it says so
        assert found.finish_reason == "length"


def test_a_required_tool_is_called_with_arguments_of_its_schema(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=NAME,
        messages=QUESTION,
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "set_lamp"}},
        max_tokens=128,
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert call.function.name == "set_lamp"
    arguments = json.loads(call.function.arguments)
    assert set(arguments) == {"on", "room"}
    assert isinstance(arguments["on"], bool)
    assert arguments["room"] in {"hall", "attic"}
    again = [
        *QUESTION,
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "done"},
    ]
    assert client.chat.completions.create(model=NAME, messages=again).choices[0].message


def test_a_streamed_tool_call_has_an_integer_index_and_adds_up(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=NAME, messages=QUESTION, tools=[TOOL], tool_choice="required", max_tokens=128
    ) as stream:
        final = stream.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    assert call.function.name == "set_lamp"
    assert set(json.loads(call.function.arguments)) == {"on", "room"}


def test_a_model_without_tools_says_so(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=NAME, messages=QUESTION, tools=[TOOL])
    assert caught.value.code == "unsupported_value"


def test_a_stop_string_ends_the_answer_before_it(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=NAME, messages=QUESTION, stop=["="])
    assert answer.choices[0].message.content.strip() == "48 * 27"
    assert answer.choices[0].finish_reason == "stop"


def test_too_few_tokens_cut_the_answer_and_it_says_so(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=NAME, messages=QUESTION, max_tokens=4)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 4


def test_the_same_seed_gives_the_same_words(client: OpenAI) -> None:
    asked = [{"role": "user", "content": "Tell me about yourself."}]

    def answer(seed: int) -> str:
        made = client.chat.completions.create(
            model="computation.gpt/generate", messages=asked, seed=seed, temperature=1.5
        )
        return str(made.choices[0].message.content)

    assert answer(7) == answer(7)
    assert len({answer(seed) for seed in range(4)}) > 1


def test_a_model_for_single_questions_is_given_the_last_one_alone(client: OpenAI) -> None:
    one = client.chat.completions.create(model=NAME, messages=QUESTION)
    turns = [*QUESTION, {"role": "assistant", "content": "48 * 27 = 1296"}, *QUESTION]
    more = client.chat.completions.create(model=NAME, messages=turns, max_tokens=8)
    assert more.usage.prompt_tokens == one.usage.prompt_tokens


def test_text_completions_stream_and_come_whole(client: OpenAI) -> None:
    whole = client.completions.create(model=NAME, prompt="What is 48 * 27?", echo=True, logprobs=2)
    assert whole.choices[0].text == "What is 48 * 27?48 * 27 = 1296"
    assert len(whole.choices[0].logprobs.tokens) == len(whole.choices[0].logprobs.token_logprobs)
    pieces = client.completions.create(model=NAME, prompt="What is 48 * 27?", stream=True)
    assert "".join(p.choices[0].text for p in pieces).strip() == "48 * 27 = 1296"


def test_responses_come_whole_and_as_events(client: OpenAI) -> None:
    whole = client.responses.create(model=NAME, input="What is 48 * 27?", instructions="Be brief.")
    assert whole.output_text.strip() == "48 * 27 = 1296"
    assert whole.status == "completed"
    assert whole.usage.output_tokens > 0
    with client.responses.stream(model=NAME, input="What is 48 * 27?") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert "response.output_text.delta" in kinds
    assert final.output_text.strip() == "48 * 27 = 1296"


def test_responses_call_a_required_function(client: OpenAI) -> None:
    tool = {"type": "function", **TOOL["function"]}
    with client.responses.stream(
        model=NAME, input="lamp", tools=[tool], tool_choice="required", max_output_tokens=128
    ) as stream:
        final = stream.get_final_response()
    call = next(item for item in final.output if item.type == "function_call")
    assert call.name == "set_lamp"
    assert set(json.loads(call.arguments)) == {"on", "room"}


def test_a_conversation_is_not_stored(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="nothing is stored"):
        client.responses.create(model=NAME, input="again", previous_response_id="resp_1")


def test_the_meshs_embedder_sees_what_is_alike(client: OpenAI) -> None:
    texts = ["How warm is the room?", "What is the temperature in here?", "Who won the match?"]
    for model in ("mesh", "computation.gpt/embed", "gossamer-static"):
        data = client.embeddings.create(model=model, input=texts).data
        room, here, match = (item.embedding for item in data)

        def likeness(other: list[float], room: list[float] = room) -> float:
            return sum(a * b for a, b in zip(room, other, strict=True))

        assert likeness(here) > likeness(match)
    with pytest.raises(openai.BadRequestError, match="in words"):
        client.chat.completions.create(model="computation.gpt/embed", messages=QUESTION)


def test_embeddings_are_the_same_as_numbers_and_as_base64(client: OpenAI, served: Served) -> None:
    texts = ["one", "two"]
    asked = {"model": "general", "input": texts, "encoding_format": "float"}
    plain = httpx.post(f"{served.url}/v1/embeddings", json=asked).json()
    vectors = [item["embedding"] for item in plain["data"]]
    assert sum(x * x for x in vectors[0]) == pytest.approx(1.0, abs=1e-4)
    coded = httpx.post(f"{served.url}/v1/embeddings", json={**asked, "encoding_format": "base64"})
    raw = base64.b64decode(coded.json()["data"][1]["embedding"])
    assert struct.unpack(f"<{len(raw) // 4}f", raw) == pytest.approx(vectors[1], abs=1e-6)
    # openai-python asks for base64 and decodes it by itself
    assert client.embeddings.create(model="general", input=texts).data[1].embedding == (
        pytest.approx(vectors[1], abs=1e-6)
    )


def test_models_lists_the_mesh_the_names_and_the_models(client: OpenAI) -> None:
    found = {model.id for model in client.models.list()}
    assert {"mesh", NAME, "arithmetic", "general", "computation.gpt/generate"} <= found
    assert client.models.retrieve(NAME).owned_by == "desk"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("knowledge.gpt/no_such_thing")


def test_a_model_that_nobody_offers_is_not_found(client: OpenAI) -> None:
    for model in ("knowledge.gpt/astrology", "gpt-4"):
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model=model, messages=QUESTION)
        assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 9}, "n"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content",
        ),
    ],
)
def test_a_wrong_field_is_named(client: OpenAI, wrong: dict[str, object], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": NAME, "messages": QUESTION, **wrong})
    assert caught.value.param == param


def test_a_prompt_over_the_context_says_which_limit_it_met(client: OpenAI) -> None:
    asked = [{"role": "user", "content": "What is 48 * 27? " * 200}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=NAME, messages=asked)
    assert caught.value.code == "context_length_exceeded"


def test_a_client_that_goes_away_frees_its_slot(served: Served, client: OpenAI) -> None:
    asked = [{"role": "user", "content": "Tell me a long story about the mesh."}]
    stream = client.chat.completions.create(
        model="computation.gpt/generate",
        messages=asked,
        stream=True,
        max_tokens=400,
        temperature=2.0,
        logit_bias={"0": -100},
    )
    next(iter(stream))
    stream.close()
    until_idle(served)

    async def give_up() -> None:
        async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as other:
            work = other.chat.completions.create(
                model="computation.gpt/generate",
                messages=asked,
                max_tokens=400,
                temperature=2.0,
                logit_bias={"0": -100},  # it never ends by itself
            )
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(work, 0.15)

    asyncio.run(give_up())
    until_idle(served)


def test_several_choices_are_told_apart_and_their_way_is_told(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="computation.gpt/generate",
        messages=[{"role": "user", "content": "Hello!"}],
        n=3,
        temperature=1.2,
        seed=7,
        max_tokens=16,
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    assert len(answer.gossamer["route"]) == 3  # type: ignore[attr-defined]
    assert answer.usage is not None
    assert answer.usage.completion_tokens > answer.usage.prompt_tokens / 3
    one = client.chat.completions.create(
        model="computation.gpt/generate",
        messages=[{"role": "user", "content": "Hello!"}],
        temperature=1.2,
        seed=8,
        max_tokens=16,
    )
    assert one.choices[0].message.content == answer.choices[1].message.content


def test_a_stream_of_several_choices_ends_each_and_counts_them_once(client: OpenAI) -> None:
    texts, ends, usages = {0: "", 1: ""}, [], []
    stream = client.chat.completions.create(
        model=NAME,
        messages=QUESTION,  # type: ignore[arg-type]
        n=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends += [choice.index] if choice.finish_reason else []
        usages += [chunk.usage] if chunk.usage else []
    assert all("1296" in text for text in texts.values())
    assert sorted(ends) == [0, 1]
    assert len(usages) == 1


def test_a_client_that_leaves_frees_the_slots_of_all_its_choices(served: Served) -> None:
    body = {
        "model": "computation.gpt/generate",
        "messages": [{"role": "user", "content": "Tell a long story."}],
        "n": 4,
        "stream": True,
        "max_tokens": 400,
        "temperature": 1.5,
    }
    with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=body) as answer:
        next(answer.iter_lines())
    until_idle(served)


@pytest.mark.parametrize("model", ["mesh", "knowledge.gpt/arithmetic"])
def test_the_second_question_of_a_conversation_is_answered_and_not_the_first_again(
    client: OpenAI, model: str
) -> None:
    before = [
        {"role": "user", "content": "What is 48 * 27?"},
        {"role": "assistant", "content": "48 * 27 = 1296"},
    ]
    now = {"role": "user", "content": "What is 12 + 30?"}
    answer = client.chat.completions.create(model=model, messages=[*before, now])  # type: ignore[arg-type]
    assert "42" in str(answer.choices[0].message.content)
