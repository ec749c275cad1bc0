"""What a running agent says to a program, as types."""

from __future__ import annotations

import msgspec

from agents.views import AnswerView, EndpointView, StepView
from capabilities.messages import Evidence, Sample, TokenLogprob, ToolCall, Usage


class Plan(msgspec.Struct, frozen=True, tag="plan"):
    """A step of the question is known."""

    steps: list[StepView]


class Step(msgspec.Struct, frozen=True, tag="step"):
    """A step began, ended or failed; see its ``status``."""

    step: StepView


class Delta(msgspec.Struct, frozen=True, kw_only=True, tag="delta"):
    """A piece of text. ``step`` is 0 in a generation; ``thinking`` is the model's scratchpad."""

    text: str
    step: int = 0
    thinking: bool = False
    tokens: int = 1
    logprobs: list[TokenLogprob] = []


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


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a data name, and the node that said it."""

    node: str
    sample: Sample


AskedEvent = Plan | Step | Delta | Retry | AnswerView
GenerationEvent = Asked | Delta | Generation

Told = Plan | Step | Delta | Retry | Asked
