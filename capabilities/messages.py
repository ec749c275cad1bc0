"""The bodies of calls: what generation, data and plain text requests carry.

MessagePack maps with named fields: unknown fields are ignored, so a newer peer may say more.
Every decode is against one of these types, and the transport has capped the size before.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from mesh.core.errors import WireError

MAX_PROMPT_CHARS = 64 * 1024  # a prompt above this is refused before a model sees it


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """What a model asks for; ``arguments`` is JSON text. It is a wish, never an order (law 3)."""

    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation; ``role`` is system, user, assistant or tool.

    ``tool_calls`` is what an assistant's turn asked for; a tool's turn is the answer to it.
    """

    role: str
    content: str
    tool_calls: list[ToolCall] = []


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that a model may ask for; ``parameters`` is a JSON schema as JSON text."""

    name: str
    description: str = ""
    parameters: str = "{}"


class Generate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request to a language model, for ``computation.gpt/generate`` and ``knowledge.gpt/*``.

    ``temperature`` 0 is greedy. ``json_schema`` holds the answer to a JSON schema (JSON text).
    ``logprobs`` asks for that many alternatives per token. ``grammar`` holds the answer to a
    GBNF grammar. ``logit_bias`` adds to the logits of tokens by id; ``adapters`` are names of
    LoRA adapters with their scales. ``tools`` are offered through the model's chat template.
    Sources: the parameters of the OpenAI completions API and of llama.cpp's samplers.
    """

    messages: list[Message]
    max_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    seed: int = 0
    stop: list[str] = []
    json_schema: str = ""
    logprobs: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    grammar: str = ""
    adapters: dict[str, float] = {}
    tools: list[Tool] = []


class TokenLogprob(msgspec.Struct, frozen=True):
    """A sampled token with its natural-log probability, and the best alternatives."""

    token: str
    logprob: float
    top: list[tuple[str, float]] = []


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """How sure the model was of its answer (law 3: it ranks, it proves nothing).

    The fields are of the visible text; those that begin with ``working_`` are of the scratchpad
    before it, where a model that thinks makes its mistakes. Without one they are neutral.
    """

    mean_logprob: float = 0.0
    min_probability: float = 1.0
    mean_entropy: float = 0.0  # nats
    epistemic: float = 0.0  # LogTokU, mean over tokens; see docs/models
    aleatoric: float = 0.0
    working_mean_logprob: float = 0.0
    working_min_probability: float = 1.0
    working_epistemic: float = 0.0
    working_aleatoric: float = 0.0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer took. Times in seconds, measured at the model."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    first_token_s: float = 0.0
    total_s: float = 0.0


class Paid(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who outside the mesh answered, and for how much. ``cost`` is in whole units of the
    currency; ``estimated``: the provider did not say how many tokens it billed."""

    provider: str
    model: str
    cost: float
    currency: str = "USD"
    estimated: bool = False
    attempts: int = 1


class Halves(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an answer took that one model made on two machines; times in seconds.

    ``link_s``: waiting that was neither side's computing. Bytes are payload. ``said_by`` counts
    tokens per exit, of the far side, and of the last exit where the far side was away
    (``degraded`` of them, though it was not sure). ``mode``: together or alone, at the end;
    ``alone_from``: the token, counted from 1, from which on it was alone (0: it was not).
    """

    edge_s: float = 0.0
    far_s: float = 0.0
    link_s: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    asked: int = 0
    degraded: int = 0
    said_by: dict[str, int] = {}
    mode: str = "together"
    why: str = ""
    alone_from: int = 0


class Delta(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="delta", omit_defaults=True
):
    """A piece of the answer. ``thinking`` marks the model's scratchpad, kept out of the text.

    ``by`` says who made it, where one model works on two machines.
    """

    text: str
    thinking: bool = False
    tokens: int = 1
    logprobs: list[TokenLogprob] = []
    by: str = ""


class Done(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="done"):
    """The last message of an answer. ``finish`` is stop, length, cancelled or tool_calls."""

    text: str
    finish: str
    model: str = ""
    usage: Usage = Usage()
    evidence: Evidence = Evidence()
    tool_calls: list[ToolCall] = []
    paid: Paid | None = None  # only of an answer that a cloud gave
    halves: Halves | None = None  # only of an answer made on two machines


class Sample(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="sample"):
    """One message of a data subscription. ``type`` is raw, summary, trend or embedding;
    ``at`` is wall time in seconds; a unit stands at the end of each key of ``values``."""

    domain: str
    type: str
    source: str
    at: float
    values: dict[str, float]


Event = Delta | Done

_encoder = msgspec.msgpack.Encoder()
_event_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)
T = TypeVar("T")


def encode(body: msgspec.Struct) -> bytes:
    """A body as bytes."""
    return _encoder.encode(body)


def decode(data: bytes, kind: type[T]) -> T:
    """Bytes as a body of ``kind``; raises :class:`WireError` when they are not one."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"not a {kind.__name__} body: {error}") from error


def question_in(body: bytes) -> str | None:
    """What a body asks, None where it is no request for words (of who follows, say)."""
    try:
        messages = decode(body, Generate).messages
    except WireError:
        return None
    return messages[-1].content if messages else ""


def decode_event(data: bytes) -> Event:
    """One message of a generation stream; raises :class:`WireError`."""
    try:
        return _event_decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"not a generation event: {error}") from error
