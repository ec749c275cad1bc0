"""Who writes the readers' tasks and says when their findings are enough: a model, or rules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import msgspec

from agents.cooperation import documents_protocol as protocol
from agents.cooperation.documents_protocol import Decision, Found
from agents.orchestrator.asking import Asker, Said
from agents.orchestrator.options import AskOptions
from agents.orchestrator.split import RulePlanner
from agents.port import Task
from capabilities.messages import Generate
from capabilities.slm.tasks import MAX_READING_TASKS
from mesh.core.errors import GossamerError

SUPERVISOR_SHARE = 0.25  # of the time that is left, for one word of the supervisor

_X_OF = r"(?P<x>[\w. -]+?) of (?P<a>[^,]+?)"
_COMPARED = re.compile(
    rf"(?:compare|what (?:is|was) the difference (?:in|between)|how do) (?:the )?{_X_OF}"
    r" and (?:that of |of )?(?P<b>[^?.]+)",
    re.I,
)
_HIGHER = re.compile(
    r"which (?:one )?has the (?:higher|lower|larger|smaller) (?P<x>[\w. -]+?),? "
    r"(?P<a>[^,]+?) or (?P<b>[^?.]+)",
    re.I,
)
_BOTH = re.compile(rf"what (?:is|was|are|were) the {_X_OF} and (?:that of |of )(?P<b>[^?.]+)", re.I)


class Supervisor(Protocol):
    """One question's supervisor. ``tokens`` is what its model has read and written so far."""

    name: str
    tokens: int

    async def tasks(self, about: str, question: str, feedback: str) -> list[str]:
        """What the readers are to find, at most three tasks."""

    async def decide(
        self, question: str, tasks: Sequence[str], found: Sequence[Found], *, more: bool
    ) -> Decision:
        """Whether the findings are enough; ``more``: there is text that nobody has read yet."""


class RuleSupervisor:
    """Splits the question by rules, and is content when every part has a finding.

    It joins findings, and draws no conclusion from them: which of two values is higher it leaves
    to the reader of its answer.
    """

    name = "rules"

    def __init__(self) -> None:
        self.tokens = 0

    async def tasks(self, about: str, question: str, feedback: str) -> list[str]:
        """One task per part of the question."""
        return rule_tasks(question)

    async def decide(
        self, question: str, tasks: Sequence[str], found: Sequence[Found], *, more: bool
    ) -> Decision:
        """Final when each task has a finding, or when there is nothing left to read."""
        open_tasks = [task for task in tasks if all(f.task != task for f in found)]
        if open_tasks and more:
            return Decision(final=False, feedback="; ".join(open_tasks))
        return Decision(final=True)


class ModelSupervisor:
    """Asks a model by name; where that fails, or talks nonsense, the rules stand in."""

    def __init__(self, asker: Asker, name: str, task: Task, options: AskOptions, now: float):
        self.name = f"model at {name}"
        self.tokens = 0
        self.fallbacks: list[str] = []
        self._asker = asker
        self._target = name
        self._options = options
        self._task = task
        self._rules = RuleSupervisor()
        self._share_s = max(0.0, task.deadline - now) * SUPERVISOR_SHARE
        self._now = now

    async def tasks(self, about: str, question: str, feedback: str) -> list[str]:
        """The model's tasks."""
        try:
            said = await self._ask(protocol.tasks_request(about, question, feedback))
            return protocol.read_tasks(said.text)
        except GossamerError as error:
            self.fallbacks.append(error.sentence())
            return await self._rules.tasks(about, question, feedback)

    async def decide(
        self, question: str, tasks: Sequence[str], found: Sequence[Found], *, more: bool
    ) -> Decision:
        """The model's decision; what it answers must not hold numbers that nobody found."""
        try:
            said = await self._ask(protocol.decision_request(question, tasks, found))
            decision = protocol.read_decision(said.text)
            made_up = protocol.numbers(decision.answer) - protocol.numbers(
                " ".join([question, *(f.citation for f in found)])
            )
            if decision.final and made_up:
                raise protocol.NotBelieved(
                    f"the supervisor's answer has the number {min(made_up)}, which nobody found"
                )
        except GossamerError as error:
            self.fallbacks.append(error.sentence())
            return await self._rules.decide(question, tasks, found, more=more)
        return decision

    async def _ask(self, request: Generate) -> Said:
        task = msgspec.structs.replace(
            self._task, deadline=min(self._task.deadline, self._asker.now() + self._share_s)
        )
        said = await self._asker.ask(self._target, request, task, self._options)
        self.tokens += said.usage.prompt_tokens + said.usage.completion_tokens
        return said


def rule_tasks(question: str) -> list[str]:
    """The question in at most three tasks, by rules."""
    text = " ".join(question.split())
    for pattern in (_COMPARED, _HIGHER, _BOTH):
        found = pattern.search(text)
        if found:
            x = found["x"].strip()
            return [f"What is the {x} of {found[one].strip()}?" for one in ("a", "b")]
    steps = RulePlanner().plan(text).steps
    return [step.question for step in steps][:MAX_READING_TASKS]
