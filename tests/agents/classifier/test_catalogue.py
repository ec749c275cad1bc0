"""The names that a node knows of: advertised, remembered, well known; all of it bounded."""

from __future__ import annotations

from agents.classifier.catalogue import (
    MAX_EXAMPLES,
    MAX_REMEMBERED,
    MAX_TEXT_CHARS,
    WELL_KNOWN,
    KnownName,
    known_names,
    remember,
)
from agents.port import Offer
from mesh.core.names import check_name
from mesh.core.records import ServedName


def offer(served: ServedName) -> Offer:
    return Offer(node=b"n", node_name="n", served=served, me=False, healthy=True, load=0.0)


def test_the_well_known_names_are_in_the_grammar_and_say_what_they_are() -> None:
    for known in WELL_KNOWN:
        check_name(known.name)
        assert known.description
        assert len(known.examples) >= 5


def test_a_well_known_name_is_known_when_nobody_offers_it() -> None:
    assert {known.name for known in WELL_KNOWN} <= {known.name for known in known_names([])}


def test_what_nodes_advertise_is_added_to_what_is_known() -> None:
    first = ServedName("knowledge.gpt/sea", "sea", "fish", examples=("what is krill",))
    second = ServedName("knowledge.gpt/sea", "sea", "ships", examples=("how do ships float",))
    known = {k.name: k for k in known_names([offer(first), offer(second)])}
    assert known["knowledge.gpt/sea"].examples == ("what is krill", "how do ships float")
    assert known["knowledge.gpt/sea"].description == "fish; ships"


def test_a_peer_cannot_flood_the_classifier_with_text() -> None:
    served = ServedName(
        "knowledge.gpt/all", "d" * 9999, "x" * 9999, examples=tuple(map(str, range(999)))
    )
    known = {k.name: k for k in known_names([offer(served)] * 50)}["knowledge.gpt/all"]
    assert len(known.examples) <= MAX_EXAMPLES
    assert len(known.description) <= 2 * MAX_TEXT_CHARS
    assert len(known.domain) <= MAX_TEXT_CHARS


def test_a_subscription_is_not_a_name_for_questions() -> None:
    served = ServedName("data.gpt/machine/raw", kind="subscribe")
    assert served.name not in {k.name for k in known_names([offer(served)])}


def test_names_are_remembered_after_their_nodes_are_gone() -> None:
    memory: dict[str, KnownName] = {}
    remember(memory, [offer(ServedName("knowledge.gpt/sea", "sea", "fish"))])
    assert "knowledge.gpt/sea" in {known.name for known in known_names([], memory)}


def test_the_memory_is_bounded_and_the_longest_unseen_leave() -> None:
    memory: dict[str, KnownName] = {}
    for number in range(MAX_REMEMBERED + 5):
        remember(memory, [offer(ServedName(f"knowledge.gpt/n{number}"))])
    assert len(memory) == MAX_REMEMBERED
    assert "knowledge.gpt/n0" not in memory
