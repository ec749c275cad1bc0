"""What a request tells while it runs, ready for JSON and for the local door.

A delta shows text as it comes; a retry takes back what that step has shown so far. The text
that counts is in the finished step and in the answer.
"""

from __future__ import annotations

import msgspec

from agents.views import AnswerView, StepView


class Planned(msgspec.Struct, frozen=True, kw_only=True, tag="planned"):
    """A step is known: what is asked, of which name, how sure the classifier is of it."""

    step: int
    name: str
    question: str
    depends: tuple[int, ...] = ()
    probability: float = 0.0
    at_s: float = 0.0


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """A node is asked. ``attempt`` counts from 1."""

    step: int
    name: str
    node: str
    attempt: int = 1
    remote: bool = False
    at_s: float = 0.0


class StepDelta(msgspec.Struct, frozen=True, kw_only=True, tag="step_delta", omit_defaults=True):
    """A piece of a step's answer; ``thinking`` is the model's scratchpad. ``by`` says who made it
    where an answer is made on two machines."""

    step: int
    text: str
    thinking: bool = False
    by: str = ""


class Retry(msgspec.Struct, frozen=True, kw_only=True, tag="retry"):
    """The step begins again: forget its deltas. ``node`` did not do, because of ``reason``."""

    step: int
    node: str
    reason: str
    discarded_chars: int = 0
    at_s: float = 0.0


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag="finished"):
    """The step has its answer."""

    view: StepView


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The step has none, or was skipped; ``view.error`` says why."""

    view: StepView


class Answered(msgspec.Struct, frozen=True, kw_only=True, tag="answered"):
    """The last event of every request."""

    answer: AnswerView


AskEvent = Planned | Started | StepDelta | Retry | Finished | Failed | Answered


def event_json(event: AskEvent) -> dict[str, object]:
    """An event as plain values; ``type`` says which."""
    plain: dict[str, object] = msgspec.to_builtins(event)
    return plain
