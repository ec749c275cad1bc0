"""Which name, which node, until when: decisions on plain values."""

from __future__ import annotations

import random

import pytest

from agents.classifier.catalogue import ARITHMETIC, GENERATE, MACHINE, MESH
from agents.classifier.matching import Need
from agents.classifier.relevance import Relevance, Scored
from agents.configure import build
from agents.orchestrator.allocate import (
    absence,
    allocate,
    attempt_deadline,
    route,
    step_deadline,
)
from agents.scheduling.policies import Context
from mesh.core.errors import AccessDenied, NobodyHealthy, NoSuchName
from tests.agents.fakes import FakeMesh, FakeNode, says

PARTS = build()


def seen(none: float, **scores: float) -> Relevance:
    names = {"arithmetic": ARITHMETIC, "mesh": MESH, "generate": GENERATE}
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    return Relevance(
        ranked=tuple(Scored(names[key], value) for key, value in ranked),
        out_of_scope=none,
        method="test",
    )


def test_a_likely_name_is_taken() -> None:
    found = route(seen(0.05, arithmetic=0.9, mesh=0.05), PARTS)
    assert (found.name, found.expert, found.trust) == (ARITHMETIC, True, 1.0)


def test_below_the_threshold_the_general_model_answers_with_less_trust() -> None:
    found = route(seen(0.8, arithmetic=0.15, mesh=0.05), PARTS)
    assert (found.name, found.expert) == (GENERATE, False)
    assert found.trust == pytest.approx(0.2)
    assert found.others == (ARITHMETIC,)


def test_the_general_model_is_no_expert_when_it_is_the_likeliest_name_either() -> None:
    assert not route(seen(0.1, generate=0.9), PARTS).expert


def test_a_question_about_this_machine_goes_to_this_machine() -> None:
    mesh = FakeMesh(
        FakeNode("idle", {MACHINE: says("idle")}),
        FakeNode("me", {MACHINE: says("busy")}, me=True, load=0.9),
    )
    context = Context(rng=random.Random(1))
    assert allocate(MACHINE, mesh.offers(), Need(), PARTS, context).order[0].me


def test_who_cannot_be_asked_is_told_in_plain_words() -> None:
    assert absence(ARITHMETIC, NoSuchName("x")) == f"Nobody in the mesh offers {ARITHMETIC}"
    assert absence(ARITHMETIC, NobodyHealthy("x")).startswith("Nobody in the mesh offers")
    assert "may not use" in absence(ARITHMETIC, AccessDenied("no rule allows it"))
    assert "is full" in absence(ARITHMETIC, None, ["pi is full"])


def test_a_first_attempt_leaves_time_for_a_second_only_if_somebody_could_make_it() -> None:
    assert attempt_deadline(100, 110, others=1, first_share=0.6) == pytest.approx(106)
    assert attempt_deadline(100, 110, others=0, first_share=0.6) == 110


def test_the_deadline_is_split_over_the_path() -> None:
    assert step_deadline(100, 130, 3) == pytest.approx(110)
    assert step_deadline(120, 130, 1) == 130
