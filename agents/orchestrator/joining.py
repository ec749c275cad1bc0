"""Several findings as one text by a model, each statement with its source; or line by line.

What a model joins is checked statement by statement: it must be carried by a finding, in its
words and in all its numbers, and no finding's number may be lost. A text that fails is dropped
for the lines, which say the same with less grace.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agents.views import StatementView, StepView
from capabilities.messages import Generate, Message
from capabilities.slm.tasks import JOIN, join_request
from mesh.core.errors import GossamerError

MAX_JOINED_TOKENS = 512
SUPPORT = 0.5  # of a statement's content words that its finding (or its question) must hold

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"[a-z]+(?:[-'][a-z]+)*|\d+(?:[.,:]\d+)*", re.I)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
# What a sentence may add to a finding without saying anything.
_SMALL = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for from has have in is it its no not of on or so that the "
        "their there this to was were which with answer",
    )
)
_MISSING = re.compile(r"\b(?:missing|no answer|not (?:known|answered|found|there)|nobody)\b", re.I)


class JoinRefused(GossamerError):
    """A joined text with a statement that no finding carries, or with a finding lost."""

    code = "join"


def statements_of(steps: Sequence[StepView]) -> list[StatementView]:
    """Each step's finding as a statement with its source; steps without one are not in it."""
    return [
        StatementView(text=step.text, step=step.id, name=step.name, node=step.node)
        for step in steps
        if step.status == "ok"
    ]


def request(steps: Sequence[StepView]) -> Generate | None:
    """What to ask the model; None where there is nothing to join."""
    if sum(step.status == "ok" for step in steps) < 2:
        return None
    findings = [(step.name, step.text if step.status == "ok" else "") for step in steps]
    return Generate(
        messages=[Message("system", JOIN), Message("user", join_request(findings))],
        max_tokens=MAX_JOINED_TOKENS,
    )


def joined(text: str, steps: Sequence[StepView]) -> list[StatementView]:
    """The statements of a model's text with their sources; raises :class:`JoinRefused`."""
    usable = [step for step in steps if step.status == "ok"]
    found: list[StatementView] = []
    for sentence in (piece.strip() for piece in _SENTENCE.split(text)):
        if not sentence:
            continue
        source = _source(sentence, usable)
        if source is None and not _says_missing(sentence, steps):
            raise JoinRefused(f"no finding carries the statement {sentence[:80]!r}")
        found.append(
            StatementView(text=sentence)
            if source is None
            else StatementView(text=sentence, step=source.id, name=source.name, node=source.node)
        )
    said = set(_NUMBER.findall(text))
    for step in usable:
        if not any(statement.step == step.id for statement in found):
            raise JoinRefused(f"the joined text loses the finding of step {step.id}")
        lost = _results(step) - said
        if lost:
            raise JoinRefused(f"the joined text loses the number {min(lost)}")
    return found


def _results(step: StepView) -> set[str]:
    """The numbers that a finding adds to its question."""
    numbers = set(_NUMBER.findall(step.text))
    return numbers - set(_NUMBER.findall(step.question)) or numbers


def _source(sentence: str, steps: Sequence[StepView]) -> StepView | None:
    words = _content(sentence)
    numbers = set(_NUMBER.findall(sentence))
    best, most = None, 0.0
    for step in steps:
        held = f"{step.text} {step.question}"
        if numbers - set(_NUMBER.findall(held)):
            continue
        share = len(words & _content(held)) / max(1, len(words))
        if share > most:
            best, most = step, share
    return best if most >= SUPPORT else None


def _says_missing(sentence: str, steps: Sequence[StepView]) -> bool:
    short = any(step.status != "ok" for step in steps)
    return short and bool(_MISSING.search(sentence)) and not _NUMBER.search(sentence)


def _content(text: str) -> set[str]:
    return {word for word in (w.lower() for w in _WORD.findall(text)) if word not in _SMALL}
