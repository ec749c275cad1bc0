"""Open WebUI and Home Assistant are too large to run here: what they send is sent as they send it.

Open WebUI (backend/open_webui/routers/openai.py and tasks.py, retrieval/utils.py): lists models,
streams chats with usage, and has titles and tags written without streaming. Home Assistant
(homeassistant/components/openai_conversation/entity.py): streams responses, with its own prompt as
the developer's, and holds tasks to a schema.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.serving import Served

pytestmark = pytest.mark.e2e

ARITHMETIC = "knowledge.gpt/arithmetic"
# As Open WebUI sends it, with the names of its users where that is turned on.
HEADERS = {
    "Authorization": "Bearer none",
    "Content-Type": "application/json",
    "X-OpenWebUI-User-Name": "Ann",
    "X-OpenWebUI-User-Id": "1",
    "X-OpenWebUI-User-Email": "ann@example.org",
    "X-OpenWebUI-User-Role": "admin",
}
LAMP = {
    "type": "function",
    "name": "HassTurnOn",
    "description": "Turns on a device.",
    "parameters": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "domain": {"type": "array", "items": {"type": "string"}},
        },
        "required": [],
    },
    "strict": False,
}


@pytest.fixture
def webui(served: Served) -> Any:
    with httpx.Client(base_url=f"{served.url}/v1", headers=HEADERS, timeout=60) as found:
        yield found


def test_open_webui_lists_models_with_the_fields_that_it_reads(webui: httpx.Client) -> None:
    listed = webui.get("/models").json()
    assert {"mesh", ARITHMETIC} <= {model["id"] for model in listed["data"]}
    assert all(model["owned_by"] and model["object"] == "model" for model in listed["data"])


def test_open_webui_streams_a_chat_with_usage_at_its_end(webui: httpx.Client) -> None:
    asked = {
        "stream": True,
        "model": "mesh",
        "messages": [
            {"role": "user", "content": "Hello!"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": [{"type": "text", "text": "What is 48 * 27?"}]},
        ],
        "stream_options": {"include_usage": True},
    }
    text, usage = "", None
    with webui.stream("POST", "/chat/completions", content=json.dumps(asked)) as answer:
        assert answer.status_code == 200
        assert "text/event-stream" in answer.headers["content-type"]
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    for line in lines[:-1]:
        event = json.loads(line.removeprefix("data: "))
        for choice in event.get("choices", []):
            text += choice.get("delta", {}).get("content", "") or ""
        usage = event.get("usage") or usage
    assert "1296" in text
    assert usage is not None
    assert usage["total_tokens"] > 0


@pytest.mark.parametrize("limit", ["max_completion_tokens", "max_tokens"])
def test_open_webui_has_a_title_written_without_streaming(webui: httpx.Client, limit: str) -> None:
    asked = {
        "model": "general",
        "messages": [{"role": "user", "content": "Write a title for: Hello, who are you?"}],
        "stream": False,
        limit: 1000,
    }
    answer = webui.post("/chat/completions", content=json.dumps(asked))
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"]


def test_open_webui_has_documents_embedded(webui: httpx.Client) -> None:
    asked = {"input": ["first piece", "second piece"], "model": "mesh"}
    data = webui.post("/embeddings", content=json.dumps(asked)).json()["data"]
    assert [len(item["embedding"]) for item in data] == [len(data[0]["embedding"])] * 2


def test_what_open_webui_is_refused_it_can_show(webui: httpx.Client) -> None:
    asked = {"model": "nobody", "messages": [{"role": "user", "content": "x"}], "stream": True}
    answer = webui.post("/chat/completions", content=json.dumps(asked))
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert "nobody" in answer.json()["error"]["message"]


def as_home_assistant(served: Served, **more: Any) -> list[Any]:
    """The events of one turn, with the options that a new agent of Home Assistant has."""
    asked = {
        "model": "mesh",
        "input": [
            {"type": "message", "role": "developer", "content": "You are a voice assistant."},
            {"type": "message", "role": "user", "content": "What is 48 * 27?"},
        ],
        "max_output_tokens": 3000,
        "top_p": 1.0,
        "temperature": 1.0,
        "user": "01JXYZ",
        "store": False,
        "stream": True,
        **more,
    }

    async def run() -> list[Any]:
        client = openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
        async with client:
            await client.with_options(timeout=10.0).models.list()  # when it is set up
            return [event async for event in await client.responses.create(**asked)]

    return asyncio.run(run())


def test_home_assistant_hears_an_answer(served: Served) -> None:
    events = as_home_assistant(served, model=ARITHMETIC)
    assert events[0].type == "response.created"
    added = next(event for event in events if event.type == "response.output_item.added")
    assert added.item.type == "message"
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.output_tokens > 0


def test_home_assistant_goes_on_with_what_was_said(served: Served) -> None:
    turns = [
        {"type": "message", "role": "developer", "content": "You are a voice assistant."},
        {"type": "message", "role": "user", "content": "Hello!"},
        {"type": "message", "role": "assistant", "content": "Hello."},
        {"type": "message", "role": "user", "content": "What is 48 * 27?"},
    ]
    events = as_home_assistant(served, input=turns, temperature=0.0)
    assert "1296" in events[-1].response.output_text


def test_home_assistant_gets_data_in_the_form_of_its_task(served: Served) -> None:
    schema = {
        "type": "object",
        "properties": {
            "result": {"type": "integer"},
            "sure": {"type": ["boolean", "null"]},
        },
        "required": ["result", "sure"],
        "strict": True,
        "additionalProperties": False,
    }
    form = {"format": {"type": "json_schema", "name": "sum", "schema": schema}}
    events = as_home_assistant(served, text=form, temperature=0.0, max_output_tokens=150)
    found = json.loads(events[-1].response.output_text)
    assert isinstance(found["result"], int)
    assert set(found) == {"result", "sure"}


def test_home_assistants_tools_need_a_model_that_knows_tools_and_that_is_said(
    served: Served,
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        as_home_assistant(served, model="arithmetic", tools=[LAMP])
    assert "tool" in str(caught.value)
