"""``POST /v1/responses``: the same answers in OpenAI's newer shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from agents.faces.http.convert import Job, chat_job, text_of
from agents.faces.http.errors import HttpError
from agents.faces.http.responses_schema import (
    CachedInput,
    Incomplete,
    InputItem,
    OutputItem,
    OutputText,
    ResponseBody,
    ResponseEvent,
    ResponseRequest,
    ResponseUsage,
)
from agents.faces.http.schema import (
    ChatMessage,
    ChatRequest,
    FunctionCall,
    FunctionSpec,
    NamedFunction,
    ResponseFormat,
    SchemaSpec,
    ToolCallPart,
    ToolChoice,
    ToolSpec,
)
from agents.faces.http.serving import Server, json_response, read
from agents.faces.http.sse import event
from agents.faces.http.turn import End, Item, Piece, Turn


async def respond(request: Request) -> Response:
    """An answer, streamed or whole."""
    server = Server.of(request)
    asked = await read(request, ResponseRequest)
    job = chat_job(as_chat(asked), server.rng)
    turn = server.turn(job)
    writer = ResponseWriter(asked, server.new_id("resp"), server.now(), job)
    if asked.stream:
        return await server.stream(request, turn, job, writer.chunks(turn, server.ping))
    end = await server.whole(request, turn)
    return json_response(writer.whole(end), end.provenance)


def as_chat(asked: ResponseRequest) -> ChatRequest:
    """The same request as a chat; raises :class:`HttpError` for what needs a store."""
    if asked.previous_response_id or asked.background:
        raise HttpError(
            400,
            "nothing is stored here: send the whole conversation as input",
            code="unsupported_value",
            param="previous_response_id" if asked.previous_response_id else "background",
        )
    messages = (
        [ChatMessage(role="system", content=asked.instructions)] if asked.instructions else []
    )
    if isinstance(asked.input, str):
        messages.append(ChatMessage(role="user", content=asked.input))
    else:
        for number, item in enumerate(asked.input):
            messages += _turns(item, f"input[{number}]")
    choice = asked.tool_choice
    return ChatRequest(
        model=asked.model,
        messages=messages,
        stream=asked.stream,
        max_completion_tokens=asked.max_output_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        response_format=_format(asked),
        tools=[
            ToolSpec(
                type="function",
                function=FunctionSpec(
                    name=tool.name, description=tool.description, parameters=tool.parameters
                ),
            )
            for tool in asked.tools or []
        ],
        tool_choice=choice
        if choice is None or isinstance(choice, str)
        else ToolChoice(type="function", function=NamedFunction(name=choice.name)),
        gossamer=asked.gossamer,
    )


def _turns(item: InputItem, param: str) -> list[ChatMessage]:
    match item.type:
        case "reasoning":
            return []  # of an earlier answer; models here do not read their old scratchpads
        case "function_call":
            call = FunctionCall(name=item.name or "", arguments=item.arguments or "{}")
            return [
                ChatMessage(
                    role="assistant",
                    tool_calls=[ToolCallPart(id=item.call_id or "", function=call)],
                )
            ]
        case "function_call_output":
            text = text_of(item.output, f"{param}.output")
            return [ChatMessage(role="tool", content=text, tool_call_id=item.call_id)]
    if item.role is None:
        raise HttpError(400, "a message has a role", code="invalid_value", param=f"{param}.role")
    return [ChatMessage(role=item.role, content=text_of(item.content, f"{param}.content"))]


def _format(asked: ResponseRequest) -> ResponseFormat | None:
    form = asked.text.format if asked.text else None
    if form is None:
        return None
    if form.type == "json_schema" and form.schema is None:
        raise HttpError(400, "schema is missing", code="invalid_value", param="text.format.schema")
    schema = SchemaSpec(schema=form.schema) if form.schema is not None else None
    return ResponseFormat(type=form.type, json_schema=schema)


class ResponseWriter:
    """Writes one answer: events in the order that clients expect, or the whole."""

    def __init__(self, asked: ResponseRequest, number: str, created: int, job: Job) -> None:
        self._asked = asked
        self._id = number
        self._created = created
        self._job = job
        self._sequence = 0
        self._text = ""
        self._message = OutputItem(
            id=f"msg_{number.partition('-')[2]}",
            type="message",
            status="in_progress",
            role="assistant",
            content=[],
        )
        self._open = False

    async def chunks(self, turn: Turn, ping: tuple[float, bytes]) -> AsyncIterator[bytes]:
        """The events of a stream."""
        begun = self._body("in_progress", [])
        yield self._event("response.created", response=begun) + self._event(
            "response.in_progress", response=begun
        )
        while (items := await turn.take(ping[0])) is not None:
            yield b"".join(map(self._item, items)) if items else ping[1]

    def whole(self, end: End) -> ResponseBody:
        """The answer in one piece."""
        body = self._body("incomplete" if end.finish == "length" else "completed", self._items(end))
        body.usage = ResponseUsage(
            input_tokens=end.usage.prompt_tokens,
            output_tokens=end.usage.completion_tokens,
            total_tokens=end.usage.total_tokens,
            input_tokens_details=CachedInput(
                cached_tokens=end.usage.prompt_tokens_details.cached_tokens
            ),
        )
        body.gossamer = end.provenance
        if end.finish == "length":
            body.incomplete_details = Incomplete()
        return body

    def _item(self, item: Item) -> bytes:
        if isinstance(item, Piece):
            return b"" if item.thinking else self._delta(item.text)
        out = self._delta(item.rest) if item.rest else b""
        out += self._close_message() if self._open else b""
        body = self.whole(item)
        for index, call in enumerate(body.output):
            if call.type == "function_call":
                out += self._call(call, index)
        name = "response.incomplete" if item.finish == "length" else "response.completed"
        return out + self._event(name, response=body)

    def _delta(self, text: str) -> bytes:
        out = b""
        if not self._open:
            self._open = True
            out += self._event("response.output_item.added", output_index=0, item=self._message)
            out += self._event("response.content_part.added", **self._place(), part=_text(""))
        self._text += text
        return out + self._event(
            "response.output_text.delta", **self._place(), delta=text, logprobs=[]
        )

    def _close_message(self) -> bytes:
        done = self._event(
            "response.output_text.done", **self._place(), text=self._text, logprobs=[]
        )
        done += self._event("response.content_part.done", **self._place(), part=_text(self._text))
        return done + self._event(
            "response.output_item.done", output_index=0, item=self._spoken(self._text)
        )

    def _call(self, call: OutputItem, index: int) -> bytes:
        at: dict[str, Any] = {"output_index": index}
        begun = msgspec.structs.replace(call, status="in_progress", arguments="")
        out = self._event("response.output_item.added", **at, item=begun)
        at["item_id"] = call.id
        out += self._event("response.function_call_arguments.delta", **at, delta=call.arguments)
        out += self._event(
            "response.function_call_arguments.done",
            **at,
            name=call.name,
            arguments=call.arguments,
        )
        return out + self._event("response.output_item.done", output_index=index, item=call)

    def _items(self, end: End) -> list[OutputItem]:
        said = self._text or end.text
        items = [self._spoken(said)] if said or not end.tool_calls else []
        number = self._id.partition("-")[2]
        return items + [
            OutputItem(
                id=f"fc_{number}_{index}",
                type="function_call",
                call_id=f"call_{number}_{index}",
                name=call.name,
                arguments=call.arguments,
            )
            for index, call in enumerate(end.tool_calls)
        ]

    def _spoken(self, text: str) -> OutputItem:
        return msgspec.structs.replace(self._message, status="completed", content=[_text(text)])

    def _body(self, status: Any, output: list[OutputItem]) -> ResponseBody:
        asked = self._asked
        return ResponseBody(
            id=self._id,
            created_at=self._created,
            status=status,
            model=asked.model,
            output=output,
            instructions=asked.instructions,
            max_output_tokens=asked.max_output_tokens,
            metadata=asked.metadata or {},
            temperature=asked.temperature,
            top_p=asked.top_p,
            tool_choice=msgspec.to_builtins(asked.tool_choice or "auto"),
            tools=[msgspec.to_builtins(tool) for tool in asked.tools or []],
        )

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._message.id, "output_index": 0, "content_index": 0}

    def _event(self, kind: str, /, **fields: Any) -> bytes:
        self._sequence += 1
        return event(ResponseEvent(type=kind, sequence_number=self._sequence - 1, **fields), kind)


def _text(text: str) -> OutputText:
    return OutputText(text=text)
