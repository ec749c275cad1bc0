"""Plans that a model writes, taken only where they can be meant.

The model is asked in the words of :mod:`capabilities.slm.tasks`, and its answer is held to the
schema there, so it is always JSON of that form. That makes it no plan yet: a name that nobody
offers, a hole that its step does not wait for, a number that the request does not have are
nonsense, and nonsense is refused; the rules plan then (law 3: a peer's text decides nothing).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from agents.orchestrator.allocate import Route
from agents.orchestrator.plan import MAX_STEPS, Plan, Planner, PlanRefused, Step, checked, graph
from agents.orchestrator.split import RulePlanner
from capabilities.messages import Generate, Message
from capabilities.slm.tasks import PLAN, PLAN_SCHEMA, plan_request

MAX_LISTED_NAMES = 16  # of a prompt: a small model has read no longer list
FEWEST_WORDS = 5  # a request below has no two parts: asking a model would only cost time
PLAN_TOKENS = 400  # eight steps as the schema bounds them fit; a runaway answer is cut
MAX_QUESTION_CHARS = 2000  # longer requests are documents, not lists of questions
MAX_WHY_CHARS = 200  # of why a step failed, in a prompt
LIGHT = 0.35  # difficulty below which a step costs less than the hop to a node for it

_HOLE = re.compile(r"\{(\d+)\}")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_ITEM = re.compile(r"(?:^|(?<=\s))\d[.)](?=\s)")  # "1. " of a list
_SAID_IN_WORDS = {"2", "3"}  # double and triple become numbers


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: int
    question: str
    name: str
    depends: list[int]


class _Rows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    steps: list[_Row]


class ModelPlanner:
    """A planner that wants a model asked. By itself it plans by the rules, and those also hold
    where the model is absent, late or talks nonsense."""

    def __init__(self, fallback: Planner | None = None) -> None:
        self._fallback = fallback or RulePlanner()

    def plan(self, question: str) -> Plan:
        """By the rules; raises :class:`PlanRefused`."""
        return self._fallback.plan(question)

    def request(self, question: str, names: Sequence[str]) -> Generate | None:
        """What to ask the model; None where a model is not worth asking."""
        if len(question.split()) < FEWEST_WORDS or len(question) > MAX_QUESTION_CHARS:
            return None
        listed = list(names)[:MAX_LISTED_NAMES]
        return Generate(
            messages=[Message("system", PLAN), Message("user", plan_request(listed, question))],
            max_tokens=PLAN_TOKENS,
            json_schema=msgspec.json.encode(PLAN_SCHEMA).decode(),
        )

    def again(self, question: str, names: Sequence[str], failed: str, why: str) -> Generate | None:
        """What to ask the model when ``failed`` did not do a step: the step, what befell it, and
        the names without that one. None where a model is not worth asking."""
        if len(question) > MAX_QUESTION_CHARS:
            return None
        left = [name for name in names if name != failed][:MAX_LISTED_NAMES]
        told = f"{plan_request(left, question)}\nFailed: {failed}: {why[:MAX_WHY_CHARS]}"
        return Generate(
            messages=[Message("system", PLAN), Message("user", told)],
            max_tokens=PLAN_TOKENS,
            json_schema=msgspec.json.encode(PLAN_SCHEMA).decode(),
        )

    def decoded(self, text: str, question: str, names: Sequence[str]) -> Plan:
        """The plan in a model's answer; raises :class:`PlanRefused` saying what is wrong."""
        try:
            rows = msgspec.json.decode(text, type=_Rows).steps
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            raise PlanRefused(f"the model's plan is not of the form: {error}") from error
        if len(rows) > MAX_STEPS:
            raise PlanRefused(f"the model's plan has {len(rows)} steps, at most {MAX_STEPS}")
        for row in rows:
            _check(row, names)
        _check_numbers(rows, question)
        steps = tuple(
            Step(id=row.id, question=row.question.strip(), depends=_depends(row), name=row.name)
            for row in rows
        )
        return checked(Plan(steps=steps, method=f"model: {len(steps)} steps"))


def _depends(row: _Row) -> tuple[int, ...]:
    return tuple(dict.fromkeys(row.depends))


def _check(row: _Row, names: Sequence[str]) -> None:
    if not row.question.strip():
        raise PlanRefused(f"step {row.id} of the model's plan asks nothing")
    if row.name and row.name not in names:
        raise PlanRefused(f"step {row.id} of the model's plan is for a name that is not known")
    holes = {int(hole) for hole in _HOLE.findall(row.question)}
    if holes != set(row.depends):
        raise PlanRefused(
            f"step {row.id} of the model's plan waits for {sorted(set(row.depends))} "
            f"and has holes for {sorted(holes)}"
        )


def _check_numbers(rows: Sequence[_Row], question: str) -> None:
    """A plan neither makes a number up nor loses one."""
    asked = set(_NUMBER.findall(question))
    planned: set[str] = set()
    for row in rows:
        planned |= set(_NUMBER.findall(_HOLE.sub("", row.question)))
    made_up = planned - asked - _SAID_IN_WORDS
    if made_up:
        raise PlanRefused(f"the model's plan makes up the number {min(made_up)}")
    lost = set(_NUMBER.findall(_ITEM.sub(" ", question))) - planned
    if lost:
        raise PlanRefused(f"the model's plan loses the number {min(lost)}")


def merge_light(
    plan: Plan,
    routes: Mapping[int, Route],
    general: str,
    difficulty: Callable[[str], float],
) -> tuple[Plan, dict[int, Route], int]:
    """Chains of light steps for the general model as one step each; how many steps went.

    Only the general model's: an expert was made for one step at a time. A step is merged into
    the one before it where that has no other child and it no other parent.
    """
    steps = {step.id: step for step in plan.steps}
    found, gone = dict(routes), 0
    if not any(step.depends for step in plan.steps):
        return plan, found, 0
    dag = graph(plan)
    into: dict[int, int] = {}
    for step in plan.steps:
        if len(step.depends) != 1:
            continue
        parent = step.depends[0]
        parent = into.get(parent, parent)
        alone = dag.out_degree(step.depends[0]) == 1
        both = (steps[parent], step)
        light = all(difficulty(one.question) < LIGHT for one in both)
        if not (alone and light and all(found[s.id].name == general for s in both)):
            continue
        tail = _HOLE.sub("the result", step.question)
        head = steps[parent].question.rstrip(" .?!")
        steps[parent] = msgspec.structs.replace(steps[parent], question=f"{head}, then {tail}")
        into[step.id] = parent
        del steps[step.id], found[step.id]
        gone += 1
    if not gone:
        return plan, found, 0
    kept = tuple(pointing(steps[s.id], into) for s in plan.steps if s.id in steps)
    return msgspec.structs.replace(plan, steps=kept), found, gone


def pointing(step: Step, into: Mapping[int, int]) -> Step:
    """The step waiting for what its parents have become."""
    depends = tuple(into.get(parent, parent) for parent in step.depends)
    question = _HOLE.sub(
        lambda match: f"{{{into.get(int(match.group(1)), int(match.group(1)))}}}", step.question
    )
    return msgspec.structs.replace(step, depends=depends, question=question)
