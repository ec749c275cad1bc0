"""How the visitor's device takes a broad question apart: by a list of what such a question needs.

The list says what matters, never who knows it: each entry is a name of the mesh, and a name that
nobody offers stands in the answer as missing. The device's own model is asked for a plan first, and
the list checks it. What the list does not know is split by the rules.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from agents.orchestrator.modelplan import ModelPlanner
from agents.orchestrator.plan import Plan, PlanRefused, Step, checked
from agents.orchestrator.split import RulePlanner
from capabilities.messages import Generate

FILE = Path(__file__).with_name("checklist.toml")


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part: a question, whom to ask, and the items (from 1) whose results stand in it."""

    question: str
    name: str
    depends: tuple[int, ...] = ()


class Topic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kind of question: one of ``any`` and all of ``words`` are in it."""

    words: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    item: tuple[Item, ...]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    topic: tuple[Topic, ...]


TOPICS = msgspec.convert(tomllib.loads(FILE.read_text("utf-8")), _File).topic
KEPT_REFUSALS = 64  # questions whose plan by the model was refused: a device asks the same again


def topic_of(question: str) -> Topic | None:
    """What kind of question it is, None for one that the list does not know."""
    words = set(re.findall(r"[a-z]+", question.lower()))
    for topic in TOPICS:
        if words.issuperset(topic.words) and (not topic.any or words & set(topic.any)):
            return topic
    return None


class Checklist:
    """A planner: ``planner = "examples.smart_city.checklist:Checklist"``."""

    def __init__(self) -> None:
        self._rules = RulePlanner()

    def plan(self, question: str) -> Plan:
        """The question as steps; raises :class:`~agents.orchestrator.plan.PlanRefused`."""
        topic = topic_of(question)
        if topic is None:
            return self._rules.plan(question)
        steps = tuple(
            Step(id=number, question=item.question, name=item.name, depends=item.depends)
            for number, item in enumerate(topic.item, start=1)
        )
        return checked(Plan(steps=steps, method=f"checklist: {len(steps)} items"))


class CheckedPlanner(ModelPlanner):
    """The device's own model plans, and the list looks whether anything is left out that somebody
    nearby could tell; where it is, where the model talks nonsense or is late, the list is the plan.

    ``planner = "examples.smart_city.checklist:CheckedPlanner"``.
    """

    def __init__(self) -> None:
        super().__init__(Checklist())
        self._refused: dict[str, None] = {}

    def request(self, question: str, names: Sequence[str]) -> Generate | None:
        """What to ask the model; None where its plan of this question was refused before."""
        if question in self._refused:
            return None
        return super().request(question, names)

    def again(self, question: str, names: Sequence[str], failed: str, why: str) -> Generate | None:
        """None: what a sensor did not tell is missing, and nothing else stands in for it."""
        return None

    def decoded(self, text: str, question: str, names: Sequence[str]) -> Plan:
        """The model's plan; raises :class:`~agents.orchestrator.plan.PlanRefused`."""
        try:
            return self._whole(super().decoded(text, question, names), question, names)
        except PlanRefused:
            self._refused[question] = None
            while len(self._refused) > KEPT_REFUSALS:
                del self._refused[next(iter(self._refused))]
            raise

    def _whole(self, plan: Plan, question: str, names: Sequence[str]) -> Plan:
        topic = topic_of(question)
        asked = {step.name for step in plan.steps}
        wanted = [item.name for item in topic.item if item.name in names] if topic else []
        if lacking := [name for name in wanted if name not in asked]:
            raise PlanRefused(f"the model's plan leaves out {', '.join(lacking)}")
        return plan
