"""A plan: named steps and who waits for whom, a graph without cycles, at most eight steps.

The text of a dependent step holds ``{n}`` where the result of step ``n`` goes. What goes in is
text: the number after the last "=" of the parent's answer, or the answer in quotation marks.
Nothing here computes a result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from mesh.core.errors import GossamerError

if TYPE_CHECKING:
    import networkx

MAX_STEPS = 8  # above it the overhead of asking beats the gain of splitting (issue: plans)
MAX_RESULT_CHARS = 500  # of a parent's answer inside a dependent question

_HOLE = re.compile(r"\{(\d+)\}")
_RESULT = re.compile(r"-?\d(?:[\d,]*\d)?(?:\.\d+)?")  # a comma after it is the sentence's


class PlanRefused(GossamerError):
    """A plan with too many steps, a cycle, or a step that waits for one that is not there."""

    code = "plan"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the question. ``name`` is empty until the classifier has said one."""

    id: int
    question: str
    depends: tuple[int, ...] = ()
    name: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Steps by id, and the rule that made them."""

    steps: tuple[Step, ...]
    method: str


class Planner(Protocol):
    """A planner, chosen by name in the configuration."""

    def plan(self, question: str) -> Plan:
        """The question as steps; raises :class:`PlanRefused`. Must not do I/O."""


def checked(plan: Plan) -> Plan:
    """The plan itself if it can be run; raises :class:`PlanRefused`."""
    if not plan.steps:
        raise PlanRefused("a plan without a step", hint="ask something")
    if len(plan.steps) > MAX_STEPS:
        raise PlanRefused(
            f"the question has {len(plan.steps)} parts, at most {MAX_STEPS} are taken at once",
            hint="ask it in several goes",
        )
    ids = [step.id for step in plan.steps]
    if len(set(ids)) != len(ids):
        raise PlanRefused("two steps of the plan have the same number")
    for step in plan.steps:
        absent = [parent for parent in step.depends if parent not in ids]
        if absent:
            raise PlanRefused(f"step {step.id} waits for step {absent[0]}, which is not there")
        if step.id in step.depends:
            raise PlanRefused(f"step {step.id} waits for itself")
    if any(step.depends for step in plan.steps):
        import networkx  # only plans with dependent steps pay for it: an idle agent stays small

        try:
            cycle = networkx.find_cycle(graph(plan))
        except networkx.NetworkXNoCycle:
            return plan
        around = " -> ".join(str(edge[0]) for edge in cycle)
        raise PlanRefused(f"steps that wait for each other: {around} -> {cycle[0][0]}")
    return plan


def graph(plan: Plan) -> networkx.DiGraph[int]:
    """The plan as a directed graph, an edge from a step to each one that waits for it."""
    import networkx

    built: networkx.DiGraph[int] = networkx.DiGraph()
    built.add_nodes_from(step.id for step in plan.steps)
    built.add_edges_from((parent, step.id) for step in plan.steps for parent in step.depends)
    return built


def path_lengths(plan: Plan) -> dict[int, int]:
    """Steps on the longest path from each step to an end, itself counted."""
    if not any(step.depends for step in plan.steps):
        return {step.id: 1 for step in plan.steps}
    import networkx

    lengths: dict[int, int] = {}
    dag = graph(plan)
    for node in reversed(list(networkx.topological_sort(dag))):
        lengths[node] = 1 + max((lengths[child] for child in dag.successors(node)), default=0)
    return lengths


def critical_first(plan: Plan, waiting: Sequence[int]) -> list[int]:
    """Steps that are ready, the one with the longest path behind it first."""
    lengths = path_lengths(plan)
    return sorted(waiting, key=lambda step: (-lengths[step], step))


def result_of(text: str) -> str:
    """What a dependent step is given of a parent's answer.

    The number after the last "=", or the whole text: bare if it is one number, else quoted
    (text of a peer never leaves its quotation).
    """
    after = text.rsplit("=", 1)[-1] if "=" in text else text
    stripped = after.strip().rstrip(".!").strip()
    if _RESULT.fullmatch(stripped):
        return stripped
    if "=" in text:
        found = _RESULT.search(stripped)
        if found:
            return found.group()
    plain = text.strip().replace('"', "'")[:MAX_RESULT_CHARS]
    return f'"{plain}"'


def filled(step: Step, answers: Mapping[int, str]) -> str:
    """The question of a step with its parents' results in place; only their holes are filled."""

    def put(match: re.Match[str]) -> str:
        parent = int(match.group(1))
        return result_of(answers[parent]) if parent in step.depends else match.group()

    return _HOLE.sub(put, step.question) if step.depends else step.question


class Whole:
    """The planner that never splits: a baseline, and for models that want the whole question."""

    def plan(self, question: str) -> Plan:
        """One step."""
        return Plan(steps=(Step(id=1, question=question),), method="whole")
