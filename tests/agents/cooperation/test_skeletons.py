"""Long answers over a fake mesh: who outlines, who writes, what the strong node is shown."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from agents.configure import build_redactor
from agents.cooperation import skeletons_protocol as protocol
from agents.cooperation.skeletons import Outlined, SkeletonOptions, Skeletons, Written
from agents.orchestrator.options import AskOptions
from agents.orchestrator.orchestrator import Orchestrator, make_parts
from agents.port import Offer
from capabilities.messages import Delta, Done, Evidence
from mesh.core.access import CLOUD
from mesh.core.errors import ConfigError, GossamerError, ModelError
from mesh.core.records import ModelInfo
from mesh.core.wire import Reach
from tests.agents.fakes import GENERAL, FakeMesh, FakeNode, Script, breaks, says

INSTRUCTION = "Write a letter that explains why an appointment is put off."
PRIVATE = (
    "Anna Petersen is treated for migraine in Bergen. Her number is 4532 8812 0034, and the "
    "appointment was on the ninth of March with Doctor Solheim."
)
TITLES = ("A greeting", "The reason", "Another day")
OUTLINE = msgspec.json.encode(
    {"points": [{"title": title, "sketch": f"says {title}"} for title in TITLES]}
).decode()


class BigMesh(FakeMesh):
    """A fake mesh that says how big its nodes' models are, and keeps node's reach."""

    sizes: dict[str, int]

    def offers(self) -> list[Offer]:
        return [
            msgspec.structs.replace(
                offer, model=ModelInfo(name="m", parameters=self.sizes.get(offer.node_name, 1))
            )
            for offer in super().offers()
        ]

    def resolve(self, name: str, task: Any, exclude: frozenset[bytes] = frozenset()) -> list[Offer]:
        found = super().resolve(name, task, exclude)
        return [o for o in found if o.me] if task.reach == Reach.NODE else found


class Desk:
    """A fake node's script that outlines when it is asked to, and else writes; keeps all it saw."""

    def __init__(self, outline: str = OUTLINE, write: Script | None = None) -> None:
        self.seen: list[str] = []
        self._outline, self._write = outline, write

    def __call__(self, question: str) -> list[Delta | Done | GossamerError]:
        self.seen.append(question)
        if "At most" in question and "points." in question:
            return says(self._outline)(question)
        if self._write is not None:
            return self._write(question)
        about = question.rpartition("paragraph about: ")[2].split("\n")[0]
        return says(f"Paragraph on {about}.")(question)


def node(name: str, desk: Callable[[str], Any], **more: Any) -> FakeNode:
    return FakeNode(name, {GENERAL: desk}, **more)


def mesh_of(*nodes: FakeNode, **sizes: int) -> BigMesh:
    mesh = BigMesh(*nodes)
    mesh.sizes = sizes
    return mesh


def run(mesh: FakeMesh, instruction: str = INSTRUCTION, **choices: Any) -> list[Any]:
    parts, redactor = make_parts(), build_redactor()
    skeletons = Skeletons(
        mesh,
        Orchestrator(mesh, parts, rng=random.Random(1)).asker,
        parts.complexity,
        GENERAL,
        lambda text: protocol.secrets_of(text, redactor.spans(text)),
    )
    reach = choices.pop("reach", Reach.MESH)
    choices.setdefault("length", 300)

    async def everything() -> list[Any]:
        made = skeletons.write(instruction, AskOptions(reach=reach), SkeletonOptions(**choices))
        return [event async for event in made]

    return asyncio.run(everything())


def written(*args: Any, **choices: Any) -> Written:
    last = run(*args, **choices)[-1]
    assert isinstance(last, Written)
    return last


def test_the_biggest_node_outlines_and_all_write() -> None:
    desks = {name: Desk() for name in ("me", "small", "big")}
    mesh = mesh_of(*(node(n, d, me=n == "me", slots=1) for n, d in desks.items()), big=9)
    events = run(mesh)
    plan, end = events[0], events[-1]
    assert isinstance(plan, Outlined)
    assert [step.question for step in plan.steps] == list(TITLES)
    assert isinstance(end, Written)
    assert (end.mode, end.outline_by, end.fallback) == ("outline", "big", "")
    assert end.answer.text == "\n\n".join(f"Paragraph on {title}." for title in TITLES)
    assert len(end.answer.nodes) > 1
    assert len(events) == 2 + len(TITLES)
    rules = [line["rule"] for line in end.answer.decisions]
    assert {"skeleton.length", "skeleton.outline", "skeleton.choose"} <= set(rules)


def test_a_short_answer_is_asked_for_at_once() -> None:
    desk = Desk(write=says("Soon."))
    end = written(mesh_of(node("me", desk, me=True)), length=40)
    assert (end.mode, end.answer.text, end.outline) == ("direct", "Soon.", [])
    assert desk.seen == [INSTRUCTION]


@pytest.mark.parametrize("outline", ["I am too small for this.", '{"points": []}'])
def test_without_an_outline_a_fixed_one_is_used_and_said(outline: str) -> None:
    end = written(mesh_of(node("me", Desk(outline), me=True)))
    assert end.outline_by == ""
    assert "outline" in end.fallback
    assert [point.title for point in end.outline] == list(protocol.FIXED_TITLES)
    assert end.answer.notes[0].startswith("the outline is the fixed one")
    assert not end.answer.degraded


def test_where_slots_are_free_two_texts_are_written_and_the_better_one_kept() -> None:
    def sure(question: str) -> list[Any]:
        evidence = Evidence(mean_logprob=-0.1)
        return says("The reason, a greeting, another day.", evidence=evidence)(question)

    def unsure(question: str) -> list[Any]:
        return says("Bread.", evidence=Evidence(mean_logprob=-2.0))(question)

    one, two = Desk(write=sure), Desk(write=unsure)
    mesh = mesh_of(node("a", one, slots=4), node("b", two, slots=4), a=2)
    end = written(mesh)
    assert end.candidates == 2 * len(TITLES)
    assert len(two.seen) > 0
    assert any("of 2" in str(line["action"]) for line in end.answer.decisions)
    kept = {step.text for step in end.answer.steps}
    assert "The reason, a greeting, another day." in kept


def test_a_point_that_nobody_writes_is_missing_and_the_rest_stands() -> None:
    def some(question: str) -> list[Any]:
        if "about: The reason" in question.rpartition("Write")[2]:
            return breaks(ModelError("it crashed"))(question)
        return says("Fine.")(question)

    end = written(mesh_of(node("me", Desk(write=some), me=True)))
    assert end.answer.degraded
    assert [one.split(":")[0] for one in end.answer.missing] == ["The reason"]
    assert end.answer.text == "Fine."


def test_with_a_private_context_the_strong_node_sees_the_instruction_alone() -> None:
    mine, strong, other = Desk(), Desk(), Desk()
    mesh = mesh_of(
        node("me", mine, me=True), node("strong", strong), node("other", other), strong=9
    )
    end = written(mesh, private=PRIVATE)
    assert (end.mode, end.outline_by, end.answer.nodes) == ("private", "strong", ["me"])
    assert other.seen == []
    (left,) = strong.seen
    assert INSTRUCTION in left
    known = protocol.secrets_of(PRIVATE, build_redactor().spans(PRIVATE))
    assert protocol.leaks(PRIVATE, strong.seen, known) == []
    assert not any(word in left for word in ("Anna", "Petersen", "migraine", "Solheim", "4532"))
    assert all(PRIVATE in asked for asked in mine.seen)
    assert {task.reach for task in mesh.tasks[1:]} == {Reach.NODE}


@pytest.mark.parametrize(
    "instruction",
    [
        "Write to Doctor Solheim why an appointment is put off.",
        "Write why anna PETERSSEN puts an appointment off.",
        "Explain: is treated for migrane in Bergen, so the appointment is put off.",
        "Write about account 453288120034.",
    ],
)
def test_an_instruction_that_tells_the_private_context_does_not_leave(instruction: str) -> None:
    mine, strong = Desk(), Desk()
    end = written(
        mesh_of(node("me", mine, me=True), node("strong", strong), strong=9),
        instruction,
        private=PRIVATE,
    )
    assert strong.seen == []
    assert "spans of the private context" in end.fallback
    assert end.answer.nodes == ["me"]
    assert PRIVATE not in str(msgspec.to_builtins(end))


def test_a_private_context_without_a_model_here_is_refused_before_anything_leaves() -> None:
    strong = Desk()
    with pytest.raises(ConfigError, match="no model on this node"):
        run(mesh_of(node("strong", strong)), private=PRIVATE)
    assert strong.seen == []


def test_the_private_context_of_a_short_answer_stays_here_too() -> None:
    mine, strong = Desk(write=says("Sorry.")), Desk()
    mesh = mesh_of(node("strong", strong, priority=1), node("me", mine, me=True), strong=9)
    assert written(mesh, private=PRIVATE, length=30).answer.nodes == ["me"]
    assert strong.seen == []


def test_the_cloud_outlines_only_where_the_task_may_leave() -> None:
    cloud, mine = Desk(), Desk()
    made = mesh_of(FakeNode("payer", {CLOUD: cloud}, me=True), node("me2", mine))
    with pytest.raises(ConfigError, match="may not leave"):
        run(made, strong="cloud")
    end = written(made, strong="cloud", reach=Reach.CLOUD)
    assert end.outline_by == "payer"
    assert len(cloud.seen) == 1


def test_this_nodes_own_cloud_is_guarded_like_another_node() -> None:
    cloud, mine = Desk(), Desk()
    me = FakeNode("me", {CLOUD: cloud, GENERAL: mine}, me=True)
    told = "Write to Anna Petersen, please, at some length."
    end = written(mesh_of(me), told, private=PRIVATE, strong="cloud", reach=Reach.CLOUD)
    assert cloud.seen == []
    assert "spans" in end.fallback


@pytest.mark.parametrize(
    ("instruction", "choices", "why"),
    [
        ("  ", {}, "no instruction"),
        ("x" * 9000, {}, "at most"),
        ("x", {"private": "y" * 40_000}, "at most"),
        ("x", {"length": 5000}, "length"),
    ],
)
def test_what_cannot_be_written_is_refused(
    instruction: str, choices: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        run(mesh_of(node("me", Desk(), me=True)), instruction, **choices)
