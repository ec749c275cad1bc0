"""What clients of the Responses API send and get, as types; see :mod:`agents.faces.http.schema`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from agents.faces.http.schema import (
    MAX_MESSAGES,
    Model,
    Part,
    Provenance,
    Temperature,
    Tokens,
    TopP,
    Wishes,
)


class InputItem(msgspec.Struct, kw_only=True):
    """A turn, a call that the model made, or what the call gave; ``type`` says which."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[Part] | None = None
    name: str | None = None
    arguments: str | None = None
    call_id: str | None = None
    output: str | list[Part] | None = None


class ResponseTool(msgspec.Struct, kw_only=True):
    """A function that may be called; other kinds of tools are not known."""

    type: Literal["function"]
    name: Annotated[str, Meta(pattern="^[A-Za-z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseToolChoice(msgspec.Struct, kw_only=True):
    """One function that must be called."""

    type: Literal["function"]
    name: str


class TextFormat(msgspec.Struct, kw_only=True):
    """How the text is written; ``schema`` goes with json_schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class TextOptions(msgspec.Struct, kw_only=True):
    """About the text of the answer."""

    format: TextFormat | None = None
    verbosity: str | None = None


class ResponseRequest(msgspec.Struct, kw_only=True):
    """``POST /v1/responses``. Nothing is stored: a conversation is sent whole each time."""

    model: Model
    input: str | Annotated[list[InputItem], Meta(min_length=1, max_length=MAX_MESSAGES)]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    text: TextOptions | None = None
    tools: Annotated[list[ResponseTool], Meta(max_length=64)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    background: bool | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    gossamer: Wishes | None = None


class OutputText(msgspec.Struct, kw_only=True):
    """Text of a message."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = []
    logprobs: list[Any] = []


class OutputItem(msgspec.Struct, kw_only=True):
    """A message, or a call of a function."""

    id: str
    type: Literal["message", "function_call"]
    status: Literal["in_progress", "completed", "incomplete"] = "completed"
    role: Literal["assistant"] | msgspec.UnsetType = msgspec.UNSET
    content: list[OutputText] | msgspec.UnsetType = msgspec.UNSET
    call_id: str | msgspec.UnsetType = msgspec.UNSET
    name: str | msgspec.UnsetType = msgspec.UNSET
    arguments: str | msgspec.UnsetType = msgspec.UNSET


class CachedInput(msgspec.Struct, kw_only=True):
    """Of the input's tokens, those that were not computed again."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(msgspec.Struct, kw_only=True):
    """Of the output's tokens; thinking is not counted apart."""

    reasoning_tokens: int = 0


class ResponseUsage(msgspec.Struct, kw_only=True):
    """Tokens, as the models that answered counted them."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: CachedInput = msgspec.field(default_factory=CachedInput)
    output_tokens_details: OutputDetails = msgspec.field(default_factory=OutputDetails)


class Incomplete(msgspec.Struct, kw_only=True):
    """Why an answer is not whole."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ResponseBody(msgspec.Struct, kw_only=True):
    """An answer, as it stands."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[OutputItem]
    usage: ResponseUsage | None = None
    error: dict[str, Any] | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] = {}
    parallel_tool_calls: bool = False
    previous_response_id: None = None
    temperature: float | None = None
    top_p: float | None = None
    tool_choice: Any = "auto"
    tools: list[Any] = []
    text: dict[str, Any] = msgspec.field(default_factory=lambda: {"format": {"type": "text"}})
    store: bool = False
    gossamer: Provenance | msgspec.UnsetType = msgspec.UNSET


class ResponseEvent(msgspec.Struct, kw_only=True):
    """One event of a streamed answer; which fields it has follows from ``type``."""

    type: str
    sequence_number: int
    response: ResponseBody | msgspec.UnsetType = msgspec.UNSET
    output_index: int | msgspec.UnsetType = msgspec.UNSET
    content_index: int | msgspec.UnsetType = msgspec.UNSET
    item_id: str | msgspec.UnsetType = msgspec.UNSET
    item: OutputItem | msgspec.UnsetType = msgspec.UNSET
    part: OutputText | msgspec.UnsetType = msgspec.UNSET
    delta: str | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET
    name: str | msgspec.UnsetType = msgspec.UNSET
    arguments: str | msgspec.UnsetType = msgspec.UNSET
    logprobs: list[Any] | msgspec.UnsetType = msgspec.UNSET
