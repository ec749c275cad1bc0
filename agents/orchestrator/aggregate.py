"""Many findings, one text: one step speaks for itself, several get a line each, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from agents.views import StatementView, StepView


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """What an aggregator makes of findings: statements with their sources, a line each, and what
    it decided on which inputs, for the trace."""

    statements: Sequence[StatementView]
    decision: str
    inputs: Mapping[str, object] = {}


class Aggregator(Protocol):
    """Makes one text of several findings; chosen by path in the configuration."""

    def join(self, question: str, steps: Sequence[StepView]) -> Joined:
        """The findings of all steps as statements, those that failed among them. Must not do
        I/O. Raises :class:`GossamerError` where it has nothing to say: the lines stand then."""


def text_of(steps: Sequence[StepView]) -> str:
    """The answer as one text; a step without an answer says so on its line."""
    if not steps:
        return ""
    if len(steps) == 1:
        return steps[0].text if steps[0].status == "ok" else _sentence(steps[0].error)
    return "\n".join(_line(step) for step in steps)


def missing_of(steps: Sequence[StepView], floor: float) -> list[str]:
    """What the answer lacks, in plain words, one line per step that fell short."""
    several = len(steps) > 1
    lines: list[str] = []
    for step in steps:
        about = f"{step.question!r}: " if several else ""
        if step.status != "ok":
            lines.append(about + _sentence(step.error or "it was not answered"))
        elif step.error:
            lines.append(about + _sentence(step.error))
        elif step.confidence < floor:
            lines.append(f"{about}the answer is unsure ({step.confidence:.2f} of 1).")
    return lines


def nodes_of(steps: Sequence[StepView]) -> list[str]:
    """The nodes whose answers are in the text, each once, in the order of the steps."""
    return list(dict.fromkeys(step.node for step in steps if step.status == "ok" and step.node))


def notes_of(steps: Sequence[StepView]) -> list[str]:
    """What became of the steps on their way, where it was not as planned."""
    several = len(steps) > 1
    return [f"step {step.id}: {step.note}" if several else step.note for step in steps if step.note]


def cost_of(steps: Sequence[StepView]) -> float:
    """What the steps that went to the cloud cost together."""
    kept = (step.cloud.cost if step.cloud is not None else 0.0 for step in steps)
    return sum(max(step.spent, cost) for step, cost in zip(steps, kept, strict=True))


def retry_of(steps: Sequence[StepView]) -> float:
    """When to ask again, where steps were refused: when the last of them may be taken."""
    return max((step.retry_after_s for step in steps), default=-1.0)


def _line(step: StepView) -> str:
    if step.status == "ok":
        return " ".join(step.text.split())
    return f"{' '.join(step.question.split())}: {_sentence(step.error)}"


def _sentence(text: str) -> str:
    text = text.strip()
    if not text:
        return ""
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?)" else text + "."
