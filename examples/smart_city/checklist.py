"""How the visitor's device takes a broad question apart: by a list of what such a question needs.

The list says what matters, never who knows it: each entry is a name of the mesh, and a name that
nobody offers stands in the answer as missing. What the list does not know is split by the rules.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec

from agents.orchestrator.plan import Plan, Step, checked
from agents.orchestrator.split import RulePlanner

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


class Checklist:
    """A planner: ``planner = "examples.smart_city.checklist:Checklist"``."""

    def __init__(self) -> None:
        self._topics = msgspec.convert(tomllib.loads(FILE.read_text("utf-8")), _File).topic
        self._rules = RulePlanner()

    def plan(self, question: str) -> Plan:
        """The question as steps; raises :class:`~agents.orchestrator.plan.PlanRefused`."""
        words = set(re.findall(r"[a-z]+", question.lower()))
        for topic in self._topics:
            if words.issuperset(topic.words) and (not topic.any or words & set(topic.any)):
                steps = tuple(
                    Step(id=number, question=item.question, name=item.name, depends=item.depends)
                    for number, item in enumerate(topic.item, start=1)
                )
                return checked(Plan(steps=steps, method=f"checklist: {len(steps)} items"))
        return self._rules.plan(question)
