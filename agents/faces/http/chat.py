"""``POST /v1/chat/completions`` and ``POST /v1/completions``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from agents.faces.http.convert import chat_jobs, completion_job
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
    Provenance,
    ReplyMessage,
    Sampling,
    TextChoice,
    TextLogprobs,
    ToolCallPart,
    TopLogprob,
    UsageBody,
)
from agents.faces.http.serving import Server, json_response, read
from agents.faces.http.sse import DONE, event
from agents.faces.http.turn import End, Item, Piece, Turn, usage_of
from capabilities.messages import TokenLogprob, ToolCall


async def chat(request: Request) -> Response:
    """A chat, streamed or whole."""
    server = Server.of(request)
    asked = await read(request, ChatRequest)
    jobs = chat_jobs(asked, server.rng)
    turn = server.turn(*jobs)
    writer = ChatWriter(asked, server.new_id("chatcmpl"), server.now())
    if asked.stream:
        return await server.stream(request, turn, jobs[0], writer.chunks(turn, server.ping))
    body = writer.whole(await server.all(request, turn))
    return json_response(body, body.gossamer)


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
    """Writes a chat, with as many choices as were asked for."""

    def __init__(self, asked: ChatRequest, number: str, created: int) -> None:
        super().__init__(asked, number, created)
        self._choices = asked.n or 1
        self._ended: list[End] = []

    def opening(self) -> bytes:
        """The role stands alone in the first event of each choice."""
        first = ChatDelta(role="assistant", content="")
        return b"".join(self._chunk(index, first) for index in range(self._choices))

    def item(self, item: Item) -> bytes:
        """See :class:`Writer`."""
        index = item.index
        if isinstance(item, Piece):
            if item.thinking:
                return self._chunk(index, ChatDelta(reasoning_content=item.text))
            return self._chunk(index, ChatDelta(content=item.text), _logprobs(item.logprobs))
        out = [self._chunk(index, ChatDelta(content=item.rest))] if item.rest else []
        if item.tool_calls:
            out.append(self._chunk(index, ChatDelta(tool_calls=self._calls(item))))
        choice = ChunkChoice(index=index, delta=ChatDelta(), finish_reason=item.finish)  # type: ignore[arg-type]
        last = ChatChunk(**self.head, choices=[choice], gossamer=item.provenance)
        out.append(event(last))
        self._ended.append(item)
        if self.with_usage and len(self._ended) == self._choices:
            usage = _sum([end.usage for end in self._ended])
            out.append(event(ChatChunk(**self.head, choices=[], usage=usage)))
        return b"".join(out)

    def whole(self, ends: Sequence[End]) -> ChatCompletion:
        """The answer, or all of them, in one piece."""
        return ChatCompletion(
            **self.head,
            choices=[self._choice(end) for end in ends],
            usage=_sum([end.usage for end in ends]),
            gossamer=_all_ways([end.provenance for end in ends]),
            system_fingerprint=ends[0].model or None,
        )

    def _choice(self, end: End) -> ChatChoice:
        message = ReplyMessage(content=end.text or (None if end.tool_calls else ""))
        if end.tool_calls:
            message.tool_calls = self._calls(end)
        if end.thinking:
            message.reasoning_content = end.thinking
        return ChatChoice(
            index=end.index,
            message=message,
            logprobs=_logprobs(end.logprobs),
            finish_reason=end.finish,  # type: ignore[arg-type]
        )

    def _calls(self, end: End) -> list[ToolCallPart]:
        """Each with an id of its own, over all choices."""
        number = self.head["id"] + (f"_{end.index}" if end.index else "")
        return _calls(number, end.tool_calls)

    def _chunk(self, index: int, delta: ChatDelta, logprobs: Logprobs | None = None) -> bytes:
        usage = None if self.with_usage else msgspec.UNSET
        choice = ChunkChoice(index=index, delta=delta, logprobs=logprobs)
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


def _sum(parts: Sequence[UsageBody]) -> UsageBody:
    """Usage of all choices; their one prompt counts once, as OpenAI counts it."""
    return usage_of(
        max(part.prompt_tokens for part in parts),
        sum(part.completion_tokens for part in parts),
        max(part.prompt_tokens_details.cached_tokens for part in parts),
    )


def _all_ways(parts: Sequence[Provenance]) -> Provenance:
    """Where all choices are from; the trace is that of the first."""
    first, *more = parts
    if not more:
        return first
    return msgspec.structs.replace(
        first,
        nodes=list(dict.fromkeys(node for part in parts for node in part.nodes)),
        route=[step for part in parts for step in part.route],
        cost=sum(part.cost for part in parts),
        degraded=any(part.degraded for part in parts),
        missing=[text for part in parts for text in part.missing],
        elapsed_s=max(part.elapsed_s for part in parts),
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
