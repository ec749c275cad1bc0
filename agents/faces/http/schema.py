"""What clients send and get, as types; the published document is made from the same types.

Fields are OpenAI's. A null stands for a field that is not there, and fields that are not listed
are ignored, since clients send many that only mean something elsewhere.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from capabilities.messages import Halves

MAX_MODEL_CHARS = 320
MAX_MESSAGES = 512
MAX_STOPS = 16
MAX_TOP_LOGPROBS = 20  # of the engine
MAX_TOKENS = 65_536

Model = Annotated[str, Meta(min_length=1, max_length=MAX_MODEL_CHARS)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Tokens = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Stop = Annotated[str, Meta(min_length=1, max_length=256)]
Stops = Annotated[list[Stop], Meta(max_length=MAX_STOPS)]
TimeoutS = Annotated[float, Meta(gt=0, le=3600)]


class Wishes(msgspec.Struct, kw_only=True):
    """Gossamer's own options: how far a request may travel, how long it may take, whose trace it
    continues. ``hold``: of ``mesh``, send no text before it has been checked."""

    reach: Literal["node", "group", "mesh", "cloud"] = "mesh"
    timeout_s: TimeoutS | None = None
    trace: Annotated[str, Meta(pattern="^([0-9a-f]{32})?$")] = ""
    hold: bool = False


class Part(msgspec.Struct, kw_only=True):
    """A piece of a message; only text is understood."""

    type: str
    text: str | None = None


class FunctionCall(msgspec.Struct, kw_only=True):
    """A function with its arguments as JSON text."""

    name: str
    arguments: str = "{}"


class ToolCallPart(msgspec.Struct, kw_only=True):
    """A call that an assistant made."""

    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | msgspec.UnsetType | None = msgspec.UNSET


class ChatMessage(msgspec.Struct, kw_only=True):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    tool_calls: list[ToolCallPart] | None = None
    tool_call_id: str | None = None


class FunctionSpec(msgspec.Struct, kw_only=True):
    """A function that may be called; ``parameters`` is a JSON schema."""

    name: Annotated[str, Meta(pattern="^[A-Za-z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolSpec(msgspec.Struct, kw_only=True):
    """A tool; only functions are known."""

    type: Literal["function"]
    function: FunctionSpec


class NamedFunction(msgspec.Struct, kw_only=True):
    """The name of a function."""

    name: str


class ToolChoice(msgspec.Struct, kw_only=True):
    """One tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class SchemaSpec(msgspec.Struct, kw_only=True):
    """A JSON schema that an answer is held to."""

    schema: dict[str, Any]
    name: str = "answer"
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(msgspec.Struct, kw_only=True):
    """How an answer is written."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaSpec | None = None


class StreamOptions(msgspec.Struct, kw_only=True):
    """``include_usage`` adds a last piece with what the answer took."""

    include_usage: bool | None = None


class Sampling(msgspec.Struct, kw_only=True):
    """What chat and text completions have in common."""

    model: Model
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: Stop | Stops | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    gossamer: Wishes | None = None


class ChatRequest(Sampling, kw_only=True):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[ToolSpec], Meta(max_length=64)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None


class CompletionRequest(Sampling, kw_only=True):
    """``POST /v1/completions``; the prompt is one user message of the model's chat template."""

    prompt: str | Annotated[list[str], Meta(min_length=1, max_length=1)]
    logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """``POST /v1/embeddings``."""

    model: Model
    input: str | Annotated[list[str], Meta(min_length=1, max_length=256)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    gossamer: Wishes | None = None


# -- what comes back ------------------------------------------------------------------------


class ErrorDetail(msgspec.Struct, kw_only=True):
    """What went wrong, in OpenAI's shape."""

    message: str
    type: str
    code: str | None = None
    param: str | None = None


class ErrorBody(msgspec.Struct, kw_only=True):
    """The body of every answer that is an error."""

    error: ErrorDetail


class RouteStep(msgspec.Struct, kw_only=True):
    """One part of the way: which name, on which node, how it went; ``confidence`` -1 where nobody
    judged it."""

    name: str
    node: str
    status: str
    model: str = ""
    tokens: int = 0
    elapsed_s: float = 0.0
    confidence: float = -1.0
    attempts: list[str] = []
    remote: bool = False
    error: str = ""
    halves: Halves | None = None  # of an answer that was made on two machines


class Provenance(msgspec.Struct, kw_only=True):
    """Gossamer's own field of an answer: who answered, by which way, at what cost (US dollars)."""

    trace: str
    nodes: list[str]
    route: list[RouteStep]
    cost: float = 0.0
    degraded: bool = False
    missing: list[str] = []
    elapsed_s: float = 0.0
    first_token_s: float = -1.0


class CachedTokens(msgspec.Struct, kw_only=True):
    """Of the prompt's tokens, those that were not computed again."""

    cached_tokens: int = 0


class UsageBody(msgspec.Struct, kw_only=True):
    """Tokens, as the models that answered counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens = msgspec.field(default_factory=CachedTokens)


class TopLogprob(msgspec.Struct, kw_only=True):
    """A token that might have stood there; ``bytes`` is its UTF-8."""

    token: str
    logprob: float
    bytes: list[int]


class LogprobItem(TopLogprob, kw_only=True):
    """A token of the answer."""

    top_logprobs: list[TopLogprob] = []


class Logprobs(msgspec.Struct, kw_only=True):
    """Of the visible text."""

    content: list[LogprobItem]
    refusal: None = None


class ReplyMessage(msgspec.Struct, kw_only=True):
    """An assistant's turn; ``reasoning_content`` is the model's scratchpad, absent without one."""

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    refusal: None = None
    tool_calls: list[ToolCallPart] | msgspec.UnsetType = msgspec.UNSET
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET


Finish = Literal["stop", "length", "tool_calls"]


class ChatChoice(msgspec.Struct, kw_only=True):
    """An answer; there are as many as ``n`` asked for."""

    index: int = 0
    message: ReplyMessage
    logprobs: Logprobs | None = None
    finish_reason: Finish


class ChatCompletion(msgspec.Struct, kw_only=True):
    """An answer to a chat."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageBody
    gossamer: Provenance
    system_fingerprint: str | None = None


class ChatDelta(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is new in a piece."""

    role: str | msgspec.UnsetType = msgspec.UNSET
    content: str | msgspec.UnsetType | None = msgspec.UNSET
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[ToolCallPart] | msgspec.UnsetType = msgspec.UNSET


class ChunkChoice(msgspec.Struct, kw_only=True):
    """A piece of the answer."""

    index: int = 0
    delta: ChatDelta
    logprobs: Logprobs | None = None
    finish_reason: Finish | None = None


class ChatChunk(msgspec.Struct, kw_only=True):
    """One event of a streamed chat; the last ones carry provenance and, if asked for, usage."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: UsageBody | msgspec.UnsetType | None = msgspec.UNSET
    gossamer: Provenance | msgspec.UnsetType = msgspec.UNSET


class TextLogprobs(msgspec.Struct, kw_only=True):
    """Log-probabilities as text completions have them."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(msgspec.Struct, kw_only=True):
    """The text, or a piece of it."""

    text: str
    index: int = 0
    logprobs: TextLogprobs | None = None
    finish_reason: Finish | None = None


class Completion(msgspec.Struct, kw_only=True):
    """A text completion, or one event of a streamed one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: UsageBody | msgspec.UnsetType | None = msgspec.UNSET
    gossamer: Provenance | msgspec.UnsetType = msgspec.UNSET


class EmbeddingItem(msgspec.Struct, kw_only=True):
    """One text's vector, as numbers or as base64 of little-endian 32-bit floats."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(msgspec.Struct, kw_only=True):
    """Tokens that were embedded; 0 where the embedder does not count."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, kw_only=True):
    """Vectors in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingUsage
    gossamer: Provenance


class ModelBody(msgspec.Struct, kw_only=True):
    """Something that ``model`` may name: ``mesh``, a capability name, or a model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    description: str = ""
    nodes: list[str] = []


class ModelList(msgspec.Struct, kw_only=True):
    """What ``model`` may name now."""

    object: Literal["list"] = "list"
    data: list[ModelBody]


class Health(msgspec.Struct, kw_only=True):
    """Whether the agent behind this server answers."""

    status: Literal["ok", "no_agent"]
