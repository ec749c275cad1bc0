"""Which offers fit: each one is taken, or left with its reason."""

from __future__ import annotations

import pytest

from agents.classifier.matching import Need, RuleMatcher
from agents.port import Offer
from mesh.core.records import ModelInfo, ServedName
from mesh.core.wire import Reach

MATCHER = RuleMatcher()


def offer(
    *,
    me: bool = False,
    healthy: bool = True,
    kind: str = "generate",
    accuracy: float = -1.0,
    model: ModelInfo | None = None,
    languages: tuple[str, ...] = (),
    data_age_s: float = -1.0,
) -> Offer:
    served = ServedName("knowledge.gpt/x", kind=kind, accuracy=accuracy)
    return Offer(
        node=b"a",
        node_name="a",
        served=served,
        me=me,
        healthy=healthy,
        load=0.0,
        model=model,
        languages=languages,
        data_age_s=data_age_s,
    )


SMALL = ModelInfo("small", context=512, vocab_hash="aa")
SEEING = ModelInfo("seeing", modalities=("text", "image"))
PICTURE = frozenset({"text", "image"})


@pytest.mark.parametrize(
    ("given", "need", "why"),
    [
        (offer(healthy=False), Need(), "not reachable"),
        (offer(), Need(reach=Reach.NODE), "may not leave"),
        (offer(), Need(tried=frozenset({b"a"})), "tried already"),
        (offer(), Need(node="b"), "another node was asked for"),
        (offer(kind="embed"), Need(), "does not answer in words"),
        (offer(accuracy=0.5), Need(accuracy_floor=0.8), "measured accuracy 0.50"),
        (offer(), Need(modalities=PICTURE), "does not take image"),
        (offer(model=SMALL), Need(modalities=PICTURE), "does not take image"),
        (offer(model=SMALL), Need(tokens=513), "holds 512 tokens"),
        (offer(model=SMALL), Need(vocab_hash="bb"), "another vocabulary"),
        (offer(), Need(vocab_hash="aa"), "another vocabulary"),
        (offer(languages=("en", "de-AT")), Need(language="fr"), "does not answer in fr"),
        (offer(languages=("den",)), Need(language="de"), "does not answer in de"),
        (offer(data_age_s=90.0), Need(max_data_age_s=60.0), "90 s old"),
        (offer(), Need(allowed=frozenset({b"b"})), "may not be given"),
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
        (offer(model=SEEING), Need(modalities=PICTURE)),
        (offer(model=SEEING), Need(tokens=100_000)),
        (offer(model=SMALL), Need(tokens=512, vocab_hash="aa")),
        (offer(languages=("en", "de-AT")), Need(language="DE")),
        (offer(), Need(language="fr", max_data_age_s=1.0)),
        (offer(data_age_s=0.0), Need(max_data_age_s=60.0)),
        (offer(data_age_s=9e9), Need()),
        (offer(me=True), Need(allowed=frozenset())),
        (offer(), Need(allowed=frozenset({b"a"}))),
    ],
)
def test_what_fits_is_taken(given: Offer, need: Need) -> None:
    assert MATCHER.match([given], need).fit == [given]
