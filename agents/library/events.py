"""What a running agent says to a program, as types."""

from __future__ import annotations

import msgspec

from agents.views import AnswerView, EndpointView, StepView
from capabilities.data.messages import Embedding, Summary, View
from capabilities.messages import Evidence, Halves, Sample, TokenLogprob, ToolCall, Usage


class Plan(msgspec.Struct, frozen=True, tag="plan"):
    """A step of the question is known."""

    steps: list[StepView]


class Step(msgspec.Struct, frozen=True, tag="step"):
    """A step began, ended or failed; see its ``status``."""

    step: StepView


class Delta(msgspec.Struct, frozen=True, kw_only=True, tag="delta"):
    """A piece of text. ``step`` is 0 in a generation; ``thinking`` is the model's scratchpad.
    ``by`` says who made it where an answer is made on two machines: an exit, far, draft."""

    text: str
    step: int = 0
    thinking: bool = False
    tokens: int = 1
    logprobs: list[TokenLogprob] = []
    by: str = ""


class Retry(msgspec.Struct, frozen=True, kw_only=True, tag="retry"):
    """A step begins again on another node: forget its text so far."""

    step: int
    node: str = ""
    reason: str = ""
    discarded_chars: int = 0


class Asked(msgspec.Struct, frozen=True, kw_only=True, tag="asked"):
    """A node is asked for a generation; another one of these says that it said no."""

    name: str
    node: str
    model: str = ""
    remote: bool = False
    trace: str = ""


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """A whole generation. ``finish`` is stop, length or tool_calls; times in seconds."""

    text: str
    finish: str
    name: str
    node: str
    model: str = ""
    remote: bool = False
    rule: str = ""
    attempts: list[str] = []
    elapsed_s: float = 0.0
    first_token_s: float = -1.0
    trace: str = ""
    cost: float = 0.0
    usage: Usage = Usage()
    evidence: Evidence = Evidence()
    tool_calls: list[ToolCall] = []
    halves: Halves | None = None


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """One vector of length one per text; ``tokens`` is 0 where nobody counted."""

    model: str
    node: str
    vectors: list[list[float]]
    tokens: int = 0
    trace: str = ""


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the mesh. ``kind`` is generate or embed."""

    model: str
    kind: str
    names: list[str] = []
    nodes: list[str] = []


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """Who would answer a name, best first."""

    name: str
    endpoints: list[EndpointView]
    decision: str = ""


class Published(msgspec.Struct, frozen=True, kw_only=True, tag="update"):
    """Something was published. Without a value the key is gone; ``version`` counts those of the
    key, ``sequence`` those of the feed. ``at`` is wall time, seconds. ``past``: there are newer
    ones, and it is told because the past was asked for."""

    name: str
    node: str
    key: str
    version: int
    epoch: int
    sequence: int
    at: float
    value: Sample | Summary | Embedding | View | None = None
    past: bool = False


class Missed(msgspec.Struct, frozen=True, kw_only=True, tag="gap"):
    """``missed`` updates will never be heard, -1 when nobody knows how many; the latest of each
    key follows. ``why`` is gap, restart or hole."""

    name: str
    node: str
    missed: int
    why: str
    after: int = 0


class Current(msgspec.Struct, frozen=True, kw_only=True, tag="synced"):
    """The latest of each key of one publisher was heard."""

    name: str
    node: str
    keys: int
    sequence: int


class Broken(msgspec.Struct, frozen=True, kw_only=True, tag="broken"):
    """A publisher was lost; it is tried again, and followed from where it was."""

    name: str
    node: str
    why: str
    retry_s: float
    denied: bool = False


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What a publication became."""

    name: str
    key: str
    version: int
    epoch: int
    sequence: int


DataEvent = Published | Missed | Current | Broken
AskedEvent = Plan | Step | Delta | Retry | AnswerView
GenerationEvent = Asked | Delta | Generation

Told = Plan | Step | Delta | Retry | Asked
