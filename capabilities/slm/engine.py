"""What a worker drives: the interface of an engine, and what all engines refuse alike."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Protocol

from capabilities.messages import MAX_PROMPT_CHARS, Generate
from capabilities.slm import protocol
from capabilities.slm.errors import BadRequest
from mesh.core.errors import ModelError

Emit = Callable[[protocol.Reply], None]

MAX_LOGPROBS = 20
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_PENALTY = 2.0  # as the OpenAI API has it
MAX_BIASES = 1024  # each is looked at for every token
MAX_BIAS = 100.0  # decides alone, as the OpenAI API has it; infinities would end in no number


class Engine(Protocol):
    """What the worker's loop needs."""

    def ready(self) -> protocol.Ready:
        """What was loaded."""

    def handle(self, command: protocol.AnyCommand, emit: Emit) -> None:
        """Take a command that is not about the worker itself; answers go to ``emit``."""

    def step(self, emit: Emit) -> bool:
        """Do one bounded piece of work; False when there was none."""

    @property
    def load(self) -> tuple[int, int, int]:
        """Steps done, requests running, requests waiting."""

    @property
    def gauges(self) -> tuple[int, int, int]:
        """Prompt tokens kept for reuse, tokens of them evicted, threads of a decode step."""


def internal(error: Exception) -> ModelError:
    """A bug of ours, or memory that ran out: one request fails, stderr keeps the traceback."""
    traceback.print_exception(error, file=sys.stderr)
    return ModelError(f"the model worker failed: {type(error).__name__}: {error}")


def check(request: Generate) -> None:
    """Refuse what no engine can do; raises BadRequest or Unsupported."""
    written = sum(
        len(message.content) + sum(len(call.arguments) for call in message.tool_calls)
        for message in request.messages
    )
    if written > MAX_PROMPT_CHARS:
        raise BadRequest(f"the messages exceed {MAX_PROMPT_CHARS} characters", hint="shorten them")
    if request.max_tokens < 1:
        raise BadRequest("max_tokens must be at least 1")
    if len(request.stop) > MAX_STOPS or any(len(stop) > MAX_STOP_CHARS for stop in request.stop):
        raise BadRequest(f"at most {MAX_STOPS} stop strings of {MAX_STOP_CHARS} characters")
    if not 0 <= request.logprobs <= MAX_LOGPROBS:
        raise BadRequest(f"logprobs must be 0 to {MAX_LOGPROBS}")
    if not (request.temperature >= 0 and request.repeat_penalty > 0):
        raise BadRequest("temperature must be at least 0 and repeat_penalty above 0")
    for penalty in (request.presence_penalty, request.frequency_penalty):
        if not abs(penalty) <= MAX_PENALTY:
            raise BadRequest(f"penalties lie between -{MAX_PENALTY} and {MAX_PENALTY}")
    if len(request.logit_bias) > MAX_BIASES:
        raise BadRequest(f"{len(request.logit_bias)} biased tokens; there may be {MAX_BIASES}")
    if not all(abs(bias) <= MAX_BIAS for bias in request.logit_bias.values()):
        raise BadRequest(f"a logit bias lies between -{MAX_BIAS} and {MAX_BIAS}")
    if request.tools and (request.json_schema or request.grammar):
        raise BadRequest("tools and a grammar exclude each other", hint="send one of them")
