"""From OpenAI's requests to what the engine takes: pure, and strict about what it cannot do."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import msgspec

from agents.faces.http.errors import HttpError
from agents.faces.http.schema import (
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    Part,
    Sampling,
    ToolChoice,
    ToolSpec,
    Wishes,
)
from capabilities.messages import Generate, Message, Tool, ToolCall

MESH = "mesh"
TIMEOUT_S = 60.0
MAX_SEED = 2**32 - 1  # of llama.cpp's samplers
DEFAULT_TOKENS = 256
MAX_CHOICES = 8  # the slots and waiting places of a model as configured by default
# Small models wander at OpenAI's default of 1; who wants chance asks for it.
DEFAULT_TEMPERATURE = 0.0
ROLES = {"developer": "system", "function": "tool"}


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the agent is asked it.

    ``whole`` questions go to the orchestrator, which may split and check them; everything else
    goes to one model. ``forced`` are the tools of which one must be called.
    """

    target: str
    request: Generate
    wishes: Wishes
    whole: bool
    forced: tuple[str, ...] = ()

    @property
    def timeout_s(self) -> float:
        """How long it may take."""
        return self.wishes.timeout_s or TIMEOUT_S

    @property
    def hold(self) -> bool:
        """Whether text waits until it has been checked."""
        return self.wishes.hold


def chat_job(asked: ChatRequest, rng: random.Random) -> Job:
    """A chat; raises :class:`HttpError` for what no model here can do."""
    messages = [_message(message, number) for number, message in enumerate(asked.messages)]
    tools, forced = _tools(asked.tools or [], asked.tool_choice)
    schema = _schema(asked)
    if forced:
        if schema:
            raise HttpError(
                400,
                "response_format and a required tool exclude each other",
                code="unsupported_value",
                param="tool_choice",
            )
        schema = _call_schema([t for t in asked.tools or [] if t.function.name in forced])
    logprobs = max(1, asked.top_logprobs or 0) if asked.logprobs else 0
    if asked.top_logprobs and not asked.logprobs:
        raise HttpError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    request = _generate(
        asked,
        messages,
        rng,
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        json_schema=schema,
        logprobs=logprobs,
        tools=[] if forced else tools,
    )
    return _job(asked, request, forced)


def chat_jobs(asked: ChatRequest, rng: random.Random) -> list[Job]:
    """A chat, ``n`` times with seeds one after the other; raises :class:`HttpError`.

    Of several answers each comes from one model: they are choices, so nothing is planned or
    checked, and each has a trace of its own.
    """
    count = asked.n or 1
    if count > MAX_CHOICES:
        raise HttpError(400, f"n is at most {MAX_CHOICES}", code="unsupported_value", param="n")
    first = chat_job(asked, rng)
    if count == 1:
        return [first]
    return [
        msgspec.structs.replace(
            first,
            whole=False,
            request=msgspec.structs.replace(
                first.request, seed=(first.request.seed + index) & MAX_SEED
            ),
            wishes=first.wishes if not index else msgspec.structs.replace(first.wishes, trace=""),
        )
        for index in range(count)
    ]


def completion_job(asked: CompletionRequest, rng: random.Random) -> Job:
    """A text completion; raises :class:`HttpError`."""
    prompt = asked.prompt if isinstance(asked.prompt, str) else asked.prompt[0]
    if asked.suffix:
        raise HttpError(400, "suffix is not supported", code="unsupported_value", param="suffix")
    if asked.best_of not in {None, 1}:
        raise HttpError(400, "best_of is 1", code="unsupported_value", param="best_of")
    request = _generate(
        asked,
        [Message("user", prompt)],
        rng,
        max_tokens=asked.max_tokens,
        logprobs=0 if asked.logprobs is None else max(1, asked.logprobs),
    )
    if asked.n not in {None, 1}:
        raise HttpError(
            400, "n is 1: ask again for another answer", code="unsupported_value", param="n"
        )
    return _job(asked, request)


def _job(asked: Sampling, request: Generate, forced: tuple[str, ...] = ()) -> Job:
    # What only a single model can honour must reach one; the rest may be planned and checked.
    plain = Generate(
        messages=request.messages,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        seed=request.seed,
    )
    conversation = request.messages[-1].role == "user" and not any(
        message.role == "tool" or message.tool_calls for message in request.messages
    )
    return Job(
        target=asked.model,
        request=request,
        wishes=asked.gossamer or Wishes(),
        whole=asked.model == MESH and request == plain and conversation,
        forced=forced,
    )


def _generate(
    asked: Sampling,
    messages: list[Message],
    rng: random.Random,
    *,
    max_tokens: int | None,
    **more: Any,
) -> Generate:
    temperature = DEFAULT_TEMPERATURE if asked.temperature is None else asked.temperature
    seed = asked.seed if asked.seed is not None else rng.getrandbits(32) if temperature else 0
    stop = [asked.stop] if isinstance(asked.stop, str) else list(asked.stop or [])
    return Generate(
        messages=messages,
        max_tokens=max_tokens or DEFAULT_TOKENS,
        temperature=temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        seed=seed & MAX_SEED,
        stop=stop,
        presence_penalty=asked.presence_penalty or 0.0,
        frequency_penalty=asked.frequency_penalty or 0.0,
        logit_bias=_bias(asked.logit_bias or {}),
        **more,
    )


def _bias(given: dict[str, float]) -> dict[int, float]:
    if not all(token.isdecimal() and len(token) < 10 for token in given):
        raise HttpError(400, "logit_bias maps token ids to numbers", param="logit_bias")
    return {int(token): bias for token, bias in given.items()}


def _message(message: ChatMessage, number: int) -> Message:
    text = text_of(message.content, f"messages[{number}].content")
    calls = [
        ToolCall(name=call.function.name, arguments=call.function.arguments or "{}")
        for call in message.tool_calls or []
    ]
    if not text and not calls and message.role == "user":
        raise HttpError(400, "a user's message is empty", param=f"messages[{number}].content")
    return Message(ROLES.get(message.role, message.role), text, calls)


def text_of(content: str | Sequence[Part] | None, param: str) -> str:
    """The text of a message; raises :class:`HttpError` for pictures and sounds."""
    if content is None or isinstance(content, str):
        return content or ""
    strange = [part.type for part in content if part.text is None]
    if strange:
        raise HttpError(
            400,
            f"only text is understood, not {strange[0][:40]!r}",
            code="unsupported_value",
            param=param,
        )
    return "\n".join(part.text or "" for part in content)


def _schema(asked: ChatRequest) -> str:
    form = asked.response_format
    if form is None or form.type == "text":
        return ""
    if form.type == "json_object":
        return '{"type": "object"}'
    if form.json_schema is None:
        raise HttpError(400, "json_schema is missing", param="response_format.json_schema")
    return json.dumps(form.json_schema.schema)


def _tools(
    specs: Sequence[ToolSpec], choice: str | ToolChoice | None
) -> tuple[list[Tool], tuple[str, ...]]:
    """The tools that are offered, and the names of those of which one must be called."""
    names = [spec.function.name for spec in specs]
    if choice == "none":
        return [], ()
    tools = [
        Tool(
            name=spec.function.name,
            description=spec.function.description or "",
            parameters=json.dumps(spec.function.parameters or {"type": "object", "properties": {}}),
        )
        for spec in specs
    ]
    if isinstance(choice, ToolChoice):
        if choice.function.name not in names:
            raise HttpError(
                400, f"no tool is called {choice.function.name[:64]!r}", param="tool_choice"
            )
        return tools, (choice.function.name,)
    if choice == "required":
        if not names:
            raise HttpError(400, "tool_choice is required and there are no tools", param="tools")
        return tools, tuple(names)
    return tools, ()


def _call_schema(specs: Sequence[ToolSpec]) -> str:
    """The answer is one call: held by grammar, so that it works on a model that knows no tools."""
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": spec.function.name},
                "arguments": spec.function.parameters or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for spec in specs
    ]
    return json.dumps(calls[0] if len(calls) == 1 else {"anyOf": calls})


def forced_call(text: str, forced: Sequence[str]) -> ToolCall | None:
    """The call in an answer that was held to be one; None when it was cut short."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.get("name") not in forced:
        return None
    return ToolCall(name=value["name"], arguments=json.dumps(value.get("arguments") or {}))
