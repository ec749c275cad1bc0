"""What the asker wishes of nodes decides who is asked, and an answer says why nobody was."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from agents.orchestrator.options import AskOptions
from agents.orchestrator.orchestrator import Orchestrator
from agents.port import Offer
from agents.views import AnswerView
from mesh.core.records import ModelInfo
from tests.agents.fakes import ARITHMETIC, FakeMesh, FakeNode, says

GERMAN = {"languages": ("de-AT",)}
OLD = {"data_age_s": 7200.0}


class DescribedMesh(FakeMesh):
    """A fake mesh whose nodes say more of themselves."""

    def __init__(self, said: dict[str, dict[str, Any]], *nodes: FakeNode) -> None:
        super().__init__(*nodes)
        self.said = said

    def _offer(self, node: FakeNode, name: str) -> Offer:
        offer = super()._offer(node, name)
        return msgspec.structs.replace(offer, **self.said.get(node.name, {}))


def asked(first: dict[str, Any], second: dict[str, Any], **options: Any) -> AnswerView:
    nodes = [FakeNode(name, {ARITHMETIC: says(f"{name} says 7")}) for name in ("first", "second")]
    mesh = DescribedMesh({"first": first, "second": second}, *nodes)
    orchestrator = Orchestrator(mesh, rng=random.Random(1))
    return asyncio.run(orchestrator.answer("What is 3 + 4?", AskOptions(**options)))


def model(**fields: Any) -> dict[str, Any]:
    return {"model": ModelInfo(name="m", **fields)}


@pytest.mark.parametrize(
    ("unfit", "fit", "options"),
    [
        (GERMAN, {"languages": ("en",)}, {"language": "en"}),
        (OLD, {"data_age_s": 10.0}, {"max_data_age_s": 60.0}),
        (model(), model(modalities=("text", "image")), {"modalities": frozenset({"image"})}),
        (model(vocab_hash="aa"), model(vocab_hash="bb"), {"vocab_hash": "bb"}),
        (model(context=8), model(context=4096), {}),
        ({}, {}, {"nodes": ("second",)}),
    ],
)
def test_a_node_that_does_not_fit_is_not_asked(
    unfit: dict[str, Any], fit: dict[str, Any], options: dict[str, Any]
) -> None:
    assert asked(unfit, fit, **options).nodes == ["second"]


def test_where_no_node_fits_the_answer_says_why() -> None:
    found = asked(GERMAN, GERMAN, language="fr")
    assert found.steps[0].status == "failed"
    assert "does not answer in fr" in found.missing[0]


@pytest.mark.parametrize("fields", [GERMAN, OLD, model(context=8)])
def test_who_asks_for_nothing_special_is_answered_by_anybody_who_can(
    fields: dict[str, Sequence[object]],
) -> None:
    found = asked({}, fields)
    assert found.steps[0].status == "ok"
