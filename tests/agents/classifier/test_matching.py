"""Which offers fit: each one is taken, or left with its reason."""

from __future__ import annotations

import pytest

from agents.classifier.matching import Need, RuleMatcher
from agents.port import Offer
from mesh.core.records import ServedName
from mesh.core.wire import Reach

MATCHER = RuleMatcher()


def offer(
    *, me: bool = False, healthy: bool = True, kind: str = "generate", accuracy: float = -1.0
) -> Offer:
    served = ServedName("knowledge.gpt/x", kind=kind, accuracy=accuracy)
    return Offer(node=b"a", node_name="a", served=served, me=me, healthy=healthy, load=0.0)


@pytest.mark.parametrize(
    ("given", "need", "why"),
    [
        (offer(healthy=False), Need(), "not reachable"),
        (offer(), Need(reach=Reach.NODE), "may not leave"),
        (offer(), Need(tried=frozenset({b"a"})), "tried already"),
        (offer(), Need(node="b"), "another node was asked for"),
        (offer(kind="subscribe"), Need(), "does not answer in words"),
        (offer(accuracy=0.5), Need(accuracy_floor=0.8), "measured accuracy 0.50"),
    ],
)
def test_what_does_not_fit_says_why(given: Offer, need: Need, why: str) -> None:
    match = MATCHER.match([given], need)
    assert not match.fit
    assert why in match.misfit[0].why


@pytest.mark.parametrize(
    ("given", "need"),
    [
        (offer(), Need()),
        (offer(me=True), Need(reach=Reach.NODE)),
        (offer(), Need(node="a")),
        (offer(accuracy=-1.0), Need(accuracy_floor=0.8)),
    ],
)
def test_what_fits_is_taken(given: Offer, need: Need) -> None:
    assert MATCHER.match([given], need).fit == [given]
