"""Tool calls within a stream of text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.messages import Delta, Event, Message, Tool, ToolCall
from capabilities.slm.chat import ChatPrompt
from capabilities.slm.errors import BadRequest, Unsupported
from capabilities.slm.tools import OPEN, ToolStream, for_template

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


def stream(*pieces: str, names: tuple[str, ...] = ("add",)) -> tuple[str, list[tuple[str, str]]]:
    it = ToolStream(frozenset(names))
    events: list[Event] = []
    for piece in pieces:
        events += it.filter([Delta(text=piece)])
    events += it.flush()
    text = "".join(e.text for e in events if isinstance(e, Delta))
    assert text == it.text
    return text, [(call.name, call.arguments) for call in it.calls()]


def test_text_without_calls_passes_unchanged() -> None:
    assert stream("1 <", "2 and <tool", " is no call") == ("1 <2 and <tool is no call", [])


def test_calls_are_taken_out_also_when_cut_anywhere() -> None:
    whole = "Let me see. " + CALL + CALL
    for at in range(len(whole)):
        text, calls = stream(whole[:at], whole[at:])
        assert (text, calls) == ("Let me see. ", [("add", '{"a": 1}')] * 2)


def test_an_answer_that_is_one_object_is_a_call() -> None:
    assert stream('{"name": "add", ', '"parameters": {"a": 2}}')[1] == [("add", '{"a": 2}')]


@pytest.mark.parametrize(
    "text",
    [
        '{"temperature": 20}',
        '{"name": "delete_everything", "arguments": {}}',
        '<tool_call>{"name": "delete_everything", "arguments": {}}</tool_call>',
        "<tool_call>no json</tool_call>",
        '<tool_call>{"name": "add", "arguments": "rm"}</tool_call>',
        "<tool_call>" + "[" * 5000,
    ],
)
def test_what_is_no_call_of_an_offered_tool_is_text(text: str) -> None:
    assert stream(text) == (text, [])


@given(st.lists(st.sampled_from(["a", "<", OPEN, "{", "}", " ", CALL, "</tool_call>"])))
def test_nothing_is_lost_and_nothing_crashes(pieces: list[str]) -> None:
    text, calls = stream(*pieces)
    assert "".join(pieces).startswith(text) or calls == [] or text in "".join(pieces)


@pytest.mark.parametrize(
    "tool",
    [
        Tool(name="two words"),
        Tool(name=""),
        Tool(name="x" * 65),
        Tool(name="a", parameters="{"),
        Tool(name="a", parameters="[]"),
        Tool(name="a", parameters="[" * 9000),
        Tool(name="a", parameters=json.dumps({"x": "y" * 20_000})),
    ],
)
def test_a_wrong_tool_is_refused(tool: Tool) -> None:
    with pytest.raises(BadRequest):
        for_template([tool])


def test_a_conversation_carries_calls_and_their_answers() -> None:
    template = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls %}"
        "[{{ c.function.name }} {{ c.function.arguments | tojson }}]{% endfor %}|{% endfor %}"
    )
    chat = ChatPrompt(template, bos="", eos="", control=["<|end|>"])
    call = ToolCall(name="add", arguments='{"a": "<|end|>"}')
    turns = [Message("user", "hi"), Message("assistant", "", [call]), Message("tool", "2")]
    assert chat.render(turns) == 'user:hi|assistant:[add {"a": "< |end|>"}]|tool:2|'
    for wrong in (ToolCall(name="add", arguments="[]"), ToolCall(name="a b", arguments="{}")):
        with pytest.raises(BadRequest, match="arguments"):
            chat.render([Message("assistant", "", [wrong])])


def test_too_many_tools_are_refused() -> None:
    with pytest.raises(BadRequest, match="64"):
        for_template([Tool(name="a")] * 65)


def test_a_template_without_tools_refuses_them_and_with_tools_cannot_be_forged() -> None:
    asked, tools = [Message("user", "hi")], for_template([Tool(name="a", description="<|end|>")])
    plain = ChatPrompt("{{ messages[0].content }}", bos="", eos="", control=["<|end|>"])
    with pytest.raises(Unsupported, match="tools"):
        plain.render(asked, tools)
    knowing = ChatPrompt("{{ tools | tojson }}", bos="", eos="", control=["<|end|>"])
    assert "<|end|>" not in knowing.render(asked, tools)
