"""One provider over HTTP: a streamed chat completion, or what exactly went wrong."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import msgspec

from capabilities.cloud.keys import Secret
from capabilities.cloud.limits import RateLimits, retry_after_s
from capabilities.cloud.provider import Provider
from capabilities.cloud.retrying import Kind, kind_of
from capabilities.cloud.sse import DataLines, LineTooLong
from capabilities.messages import Generate, ToolCall
from mesh.core.errors import CapabilityFailed

MAX_ANSWER_BYTES = 256 * 1024  # a provider that never stops must not fill the memory
MAX_ERROR_BYTES = 64 * 1024
MAX_REPLY_BYTES = 4 << 20  # of an answer that comes whole although a stream was asked for
MAX_SAID_CHARS = 200  # of a provider's own words in an error
MAX_TOOL_CALLS = 64


class ProviderFailed(CapabilityFailed):
    """A provider did not answer. ``kind`` says what that means for the next try."""

    code = "cloud"

    def __init__(self, provider: str, kind: Kind, said: str, *, asked_s: float | None = None):
        super().__init__(f"{provider}: {said[:MAX_SAID_CHARS]}")
        self.kind = kind
        self.asked_s = asked_s


# Fields of the chat completions API that are read; all of them may be absent or null.
class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int = 0
    function: _Function | None = None


class _Text(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None  # as DeepSeek, vLLM and llama-server call the scratchpad
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    delta: _Text | None = None
    message: _Text | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Chunk(msgspec.Struct):
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: dict[str, Any] | str | None = None


_chunk = msgspec.json.Decoder(_Chunk)


class Said(msgspec.Struct, frozen=True):
    """A piece of the answer."""

    text: str
    thinking: bool = False


class Completion(msgspec.Struct, kw_only=True):
    """What is known of an answer; ``billed`` once the provider said how many tokens it took."""

    model: str = ""
    finish: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    billed: bool = False
    text: str = ""
    size_bytes: int = 0  # the scratchpad and the arguments of tools counted
    calls: dict[int, ToolCall] = {}


class Endpoint:
    """Speaks with one provider. ``transport`` is for tests."""

    def __init__(
        self,
        provider: Provider,
        key: Secret | None,
        *,
        tls: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.provider = provider
        self.limits = RateLimits()
        self._key = key
        self._clock = clock
        self._wall = wall
        self._client = httpx.AsyncClient(
            transport=transport,
            verify=tls,
            timeout=httpx.Timeout(provider.silence_s, connect=provider.connect_s),
            follow_redirects=False,  # a redirect would carry prompt and key elsewhere
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def stream(
        self, body: Generate, into: Completion, left_s: float
    ) -> AsyncGenerator[Said, None]:
        """The answer's pieces; ``into`` is filled on the way and is whole at the end.

        Raises :class:`ProviderFailed`. The caller's deadline is the caller's to keep; closing
        the iterator closes the connection, which is how such APIs are told to stop.
        """
        provider = self.provider
        request = self._request(body, left_s)
        try:
            reply = await self._client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            why = f"no connection ({type(error).__name__})"
            raise ProviderFailed(provider.name, Kind.UNREACHABLE, why) from error
        except httpx.TimeoutException as error:
            why = f"no answer within {provider.silence_s:g} s"
            raise ProviderFailed(provider.name, Kind.SILENT, why) from error
        except httpx.HTTPError as error:
            why = f"the connection broke ({type(error).__name__})"
            raise ProviderFailed(provider.name, Kind.BROKEN, why) from error
        try:
            if reply.status_code != 200:
                raise await self._refusal(reply)
            self.limits.heard(reply.headers, self._clock(), self._wall())
            if "event-stream" in reply.headers.get("content-type", ""):
                async for said in self._pieces(reply, into):
                    yield said
            else:
                async for said in self._whole(reply, into):
                    yield said
        except httpx.TimeoutException as error:
            why = f"the answer stopped for {provider.silence_s:g} s"
            raise ProviderFailed(provider.name, Kind.SILENT, why) from error
        except httpx.HTTPError as error:
            why = f"the answer broke off ({type(error).__name__})"
            raise ProviderFailed(provider.name, Kind.BROKEN, why) from error
        except LineTooLong as error:
            raise ProviderFailed(provider.name, Kind.BROKEN, str(error)) from error
        finally:
            await asyncio.shield(reply.aclose())
        if not into.finish:
            raise ProviderFailed(provider.name, Kind.BROKEN, "the answer ended before it was whole")

    def _request(self, body: Generate, left_s: float) -> httpx.Request:
        headers = {"accept": "text/event-stream", "user-agent": "gossamer"}
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key.reveal()}"
        silence_s = min(self.provider.silence_s, left_s)
        return self._client.build_request(
            "POST",
            f"{self.provider.base_url.rstrip('/')}/chat/completions",
            headers=headers,
            json=request_body(self.provider, body),
            timeout=httpx.Timeout(silence_s, connect=min(self.provider.connect_s, left_s)),
        )

    async def _refusal(self, reply: httpx.Response) -> ProviderFailed:
        text = bytearray()
        async for piece in reply.aiter_bytes():
            text += piece
            if len(text) > MAX_ERROR_BYTES:
                break
        code, said = _error(bytes(text[:MAX_ERROR_BYTES]))
        asked_s = retry_after_s(reply.headers, self._wall())
        kind = kind_of(reply.status_code, code, timed=asked_s is not None)
        refused = kind is Kind.LIMITED
        self.limits.heard(reply.headers, self._clock(), self._wall(), refused=refused)
        words = f"HTTP {reply.status_code}"
        if kind is Kind.KEY:
            words += ": the key is not accepted"  # what it says of the key may quote it
        elif said:
            words += f": {said}"
        return ProviderFailed(self.provider.name, kind, words, asked_s=asked_s)

    async def _pieces(self, reply: httpx.Response, into: Completion) -> AsyncGenerator[Said, None]:
        lines = DataLines()
        async for data in reply.aiter_bytes():
            for value in lines.feed(data):
                for said in self._take(value, into):
                    yield said
        for value in lines.finish():
            for said in self._take(value, into):
                yield said

    async def _whole(self, reply: httpx.Response, into: Completion) -> AsyncGenerator[Said, None]:
        data = bytearray()
        async for piece in reply.aiter_bytes():
            data += piece
            if len(data) > MAX_REPLY_BYTES:
                raise ProviderFailed(self.provider.name, Kind.BROKEN, "the answer is too long")
        for said in self._take(bytes(data), into):
            yield said

    def _take(self, value: bytes, into: Completion) -> list[Said]:
        if value == b"[DONE]":
            into.finish = into.finish or "stop"
            return []
        name = self.provider.name
        try:
            chunk = _chunk.decode(value)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise ProviderFailed(name, Kind.BROKEN, "what it sent is no chat completion") from error
        if chunk.error:
            raise ProviderFailed(name, Kind.BROKEN, _words(chunk.error)[1] or "it failed midway")
        into.model = chunk.model or into.model
        if chunk.usage is not None:
            into.prompt_tokens = max(0, chunk.usage.prompt_tokens)
            into.completion_tokens = max(0, chunk.usage.completion_tokens)
            into.billed = True
        said: list[Said] = []
        for choice in chunk.choices or ():
            part = choice.delta or choice.message
            if part is not None:
                said += _texts(part, into)
            into.finish = choice.finish_reason or into.finish
        if into.size_bytes > MAX_ANSWER_BYTES:
            raise ProviderFailed(name, Kind.BROKEN, "the answer is over its size limit")
        return said


def request_body(provider: Provider, body: Generate) -> dict[str, Any]:
    """The request as JSON values. What such APIs do not know (top_k, min_p, grammars,
    adapters) is left out; a JSON schema goes as response_format."""
    found: dict[str, Any] = {
        "model": provider.model,
        "messages": [_message(message) for message in body.messages],
        provider.length_field: provider.answer_tokens(body),
        "temperature": body.temperature,
        "stream": True,
    }
    if provider.stream_usage:
        found["stream_options"] = {"include_usage": True}
    if body.top_p < 1.0:
        found["top_p"] = body.top_p
    if body.stop:
        found["stop"] = body.stop[:4]  # the API takes no more
    if body.seed:
        found["seed"] = body.seed
    if body.presence_penalty:
        found["presence_penalty"] = body.presence_penalty
    if body.frequency_penalty:
        found["frequency_penalty"] = body.frequency_penalty
    if body.json_schema:
        schema = {"name": "answer", "schema": msgspec.Raw(body.json_schema.encode())}
        found["response_format"] = {"type": "json_schema", "json_schema": _plain(schema)}
    if body.tools:
        found["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": _plain(msgspec.Raw(tool.parameters.encode())),
                },
            }
            for tool in body.tools
        ]
    return found


def _message(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        found["tool_calls"] = [
            {
                "id": f"call_{number}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for number, call in enumerate(message.tool_calls)
        ]
    if message.role == "tool":
        found["tool_call_id"] = "call_0"
    return found


def _plain(value: Any) -> Any:
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise CapabilityFailed("the request holds a JSON schema that is no JSON") from error


def _texts(part: _Text, into: Completion) -> list[Said]:
    said = []
    if part.reasoning_content:
        into.size_bytes += len(part.reasoning_content.encode())
        said.append(Said(part.reasoning_content, thinking=True))
    if part.content:
        into.size_bytes += len(part.content.encode())
        into.text += part.content
        said.append(Said(part.content))
    for call in part.tool_calls or ():
        if call.function is None or not 0 <= call.index < MAX_TOOL_CALLS:
            continue
        known = into.calls.get(call.index, ToolCall(name="", arguments=""))
        into.calls[call.index] = ToolCall(
            name=known.name or call.function.name or "",
            arguments=known.arguments + (call.function.arguments or ""),
        )
        into.size_bytes += len((call.function.arguments or "").encode())
    return said


def _error(data: bytes) -> tuple[str, str]:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return "", ""
    return _words(found.get("error") if isinstance(found, dict) else None)


def _words(error: object) -> tuple[str, str]:
    """Code and message of an error object."""
    if isinstance(error, dict):
        words = " ".join(str(error.get("message") or "").split())
        return str(error.get("code") or error.get("type") or ""), words
    return "", " ".join(str(error or "").split())
