"""``POST /v1/chat/completions`` and ``POST /v1/completions``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from agents.faces.http.convert import chat_job, completion_job
from agents.faces.http.schema import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatDelta,
    ChatRequest,
    ChunkChoice,
    Completion,
    CompletionRequest,
    FunctionCall,
    LogprobItem,
    Logprobs,
    ReplyMessage,
    Sampling,
    TextChoice,
    TextLogprobs,
    ToolCallPart,
    TopLogprob,
)
from agents.faces.http.serving import Server, json_response, read
from agents.faces.http.sse import DONE, event
from agents.faces.http.turn import End, Item, Piece, Turn
from capabilities.messages import TokenLogprob, ToolCall


async def chat(request: Request) -> Response:
    """A chat, streamed or whole."""
    server = Server.of(request)
    asked = await read(request, ChatRequest)
    job = chat_job(asked, server.rng)
    turn = server.turn(job)
    writer = ChatWriter(asked, server.new_id("chatcmpl"), server.now())
    if asked.stream:
        return await server.stream(request, turn, job, writer.chunks(turn, server.ping))
    end = await server.whole(request, turn)
    return json_response(writer.whole(end), end.provenance)


async def completion(request: Request) -> Response:
    """A text completion, streamed or whole."""
    server = Server.of(request)
    asked = await read(request, CompletionRequest)
    job = completion_job(asked, server.rng)
    turn = server.turn(job)
    writer = TextWriter(asked, server.new_id("cmpl"), server.now(), job.request.messages[0].content)
    if asked.stream:
        return await server.stream(request, turn, job, writer.chunks(turn, server.ping))
    end = await server.whole(request, turn)
    return json_response(writer.whole(end), end.provenance)


class Writer:
    """What both kinds of streams have in common: the id, the clock, usage at the end."""

    def __init__(self, asked: Sampling, number: str, created: int) -> None:
        self.head: dict[str, Any] = {"id": number, "created": created, "model": asked.model}
        options = asked.stream_options
        self.with_usage = bool(options and options.include_usage)

    async def chunks(self, turn: Turn, ping: tuple[float, bytes]) -> AsyncIterator[bytes]:
        """The events of a stream; several that came at once leave together."""
        opening = self.opening()
        if opening:
            yield opening
        while (items := await turn.take(ping[0])) is not None:
            yield b"".join(map(self.item, items)) if items else ping[1]
        yield DONE

    def opening(self) -> bytes:
        """What comes before the first piece."""
        return b""

    def item(self, item: Item) -> bytes:
        """One piece, or the end."""
        raise NotImplementedError


class ChatWriter(Writer):
    """Writes a chat."""

    def opening(self) -> bytes:
        """The role stands alone in the first event."""
        return self._chunk(ChatDelta(role="assistant", content=""))

    def item(self, item: Item) -> bytes:
        """See :class:`Writer`."""
        if isinstance(item, Piece):
            if item.thinking:
                return self._chunk(ChatDelta(reasoning_content=item.text))
            return self._chunk(ChatDelta(content=item.text), _logprobs(item.logprobs))
        out = [self._chunk(ChatDelta(content=item.rest))] if item.rest else []
        if item.tool_calls:
            out.append(self._chunk(ChatDelta(tool_calls=_calls(self.head["id"], item.tool_calls))))
        last = ChatChunk(
            **self.head,
            choices=[ChunkChoice(delta=ChatDelta(), finish_reason=item.finish)],  # type: ignore[arg-type]
            gossamer=item.provenance,
        )
        out.append(event(last))
        if self.with_usage:
            out.append(event(ChatChunk(**self.head, choices=[], usage=item.usage)))
        return b"".join(out)

    def whole(self, end: End) -> ChatCompletion:
        """The answer in one piece."""
        message = ReplyMessage(content=end.text or (None if end.tool_calls else ""))
        if end.tool_calls:
            message.tool_calls = _calls(self.head["id"], end.tool_calls)
        if end.thinking:
            message.reasoning_content = end.thinking
        choice = ChatChoice(
            message=message,
            logprobs=_logprobs(end.logprobs),
            finish_reason=end.finish,  # type: ignore[arg-type]
        )
        return ChatCompletion(
            **self.head,
            choices=[choice],
            usage=end.usage,
            gossamer=end.provenance,
            system_fingerprint=end.model or None,
        )

    def _chunk(self, delta: ChatDelta, logprobs: Logprobs | None = None) -> bytes:
        usage = None if self.with_usage else msgspec.UNSET
        choice = ChunkChoice(delta=delta, logprobs=logprobs)
        return event(ChatChunk(**self.head, choices=[choice], usage=usage))


class TextWriter(Writer):
    """Writes a text completion."""

    def __init__(self, asked: CompletionRequest, number: str, created: int, prompt: str) -> None:
        super().__init__(asked, number, created)
        self._echo = prompt if asked.echo else ""
        self._top = asked.logprobs
        self._offset = 0

    def opening(self) -> bytes:
        """The prompt, where it is wished for."""
        return self._chunk(self._echo) if self._echo else b""

    def item(self, item: Item) -> bytes:
        """See :class:`Writer`."""
        if isinstance(item, Piece):
            if item.thinking:
                return b""  # text completions have no place for it
            return self._chunk(item.text, item.logprobs)
        out = [self._chunk(item.rest)] if item.rest else []
        choice = TextChoice(text="", finish_reason=item.finish)  # type: ignore[arg-type]
        out.append(event(Completion(**self.head, choices=[choice], gossamer=item.provenance)))
        if self.with_usage:
            out.append(event(Completion(**self.head, choices=[], usage=item.usage)))
        return b"".join(out)

    def whole(self, end: End) -> Completion:
        """The text in one piece."""
        choice = TextChoice(
            text=self._echo + end.text,
            logprobs=self._logprobs(end.logprobs) if self._top is not None else None,
            finish_reason=end.finish,  # type: ignore[arg-type]
        )
        return Completion(**self.head, choices=[choice], usage=end.usage, gossamer=end.provenance)

    def _chunk(self, text: str, logprobs: Sequence[TokenLogprob] = ()) -> bytes:
        usage = None if self.with_usage else msgspec.UNSET
        found = self._logprobs(logprobs) if logprobs else None
        return event(
            Completion(**self.head, choices=[TextChoice(text=text, logprobs=found)], usage=usage)
        )

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> TextLogprobs:
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token.token)
        return TextLogprobs(
            tokens=[token.token for token in tokens],
            token_logprobs=[token.logprob for token in tokens],
            top_logprobs=[dict(token.top) for token in tokens],
            text_offset=offsets,
        )


def _calls(number: str, calls: Sequence[ToolCall]) -> list[ToolCallPart]:
    return [
        ToolCallPart(
            index=index,
            id=f"call_{number.rpartition('-')[2]}_{index}",
            function=FunctionCall(name=call.name, arguments=call.arguments),
        )
        for index, call in enumerate(calls)
    ]


def _logprobs(tokens: Sequence[TokenLogprob]) -> Logprobs | None:
    if not tokens:
        return None
    return Logprobs(
        content=[
            LogprobItem(
                token=one.token,
                logprob=one.logprob,
                bytes=list(one.token.encode()),
                top_logprobs=[
                    TopLogprob(token=text, logprob=value, bytes=list(text.encode()))
                    for text, value in one.top
                ],
            )
            for one in tokens
        ]
    )
