"""The grammar of names."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import NameInvalid
from mesh.core.names import (
    MAX_NAME_CHARS,
    as_segment,
    check_name,
    check_node_name,
    check_pattern,
    matches,
    parse_address,
)

segments = st.from_regex(r"[a-z0-9_-]{1,8}(\.[a-z0-9_-]{1,4}){0,2}", fullmatch=True)
names = st.builds(
    lambda root, parts: f"{root}.gpt/{'/'.join(parts)}",
    st.sampled_from(["data", "computation", "knowledge"]),
    st.lists(segments, min_size=1, max_size=8),
).filter(lambda name: len(name) <= MAX_NAME_CHARS)


@pytest.mark.parametrize(
    "name",
    [
        "knowledge.gpt/arithmetic",
        "computation.gpt/task_distribution",
        "data.gpt/air_quality/processed_embeddings",
        "computation.gpt/segment/smollm2-135m/0-14",
        "data.gpt/a/b/c/d/e/f/g/h",
    ],
)
def test_the_articles_names_are_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "knowledge.gpt",
        "knowledge.gpt/",
        "knowledge/arithmetic",
        "other.gpt/x",
        "knowledge.gpt/Arithmetic",
        "knowledge.gpt/a//b",
        "knowledge.gpt/.a",
        "knowledge.gpt/a.",
        "knowledge.gpt/ä",
        "knowledge.gpt/a\n",
        "knowledge.gpt/*",
        "data.gpt/a/b/c/d/e/f/g/h/i",
        "knowledge.gpt/" + "a" * 240,
    ],
)
def test_what_is_no_name_is_refused_and_the_message_is_short(text: str) -> None:
    with pytest.raises(NameInvalid) as refusal:
        check_name(text)
    assert len(refusal.value.sentence()) < 300


@given(names)
def test_every_name_of_the_grammar_matches_itself_and_its_wider_patterns(name: str) -> None:
    assert check_name(name) == name
    assert matches(name, name)
    root, *parts = name.split("/")
    assert matches(f"{root}/**", name)
    assert matches("/".join([root, *["*"] * len(parts)]), name)
    assert not matches("/".join([root, *["*"] * (len(parts) % 8 + 1)]), name)


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_refused_as_one(text: str) -> None:
    for check in (check_name, check_pattern, check_node_name, parse_address):
        with contextlib.suppress(NameInvalid):
            check(text)


def test_two_stars_stand_only_at_the_end_and_for_at_least_one_segment() -> None:
    assert matches("data.gpt/**", "data.gpt/a/b")
    assert matches("data.gpt/a/**", "data.gpt/a/b")
    assert not matches("data.gpt/a/**", "data.gpt/a")
    with pytest.raises(NameInvalid):
        check_pattern("data.gpt/**/raw")


def test_a_root_does_not_match_another_unless_starred() -> None:
    assert not matches("data.gpt/x", "knowledge.gpt/x")
    assert matches("*.gpt/x", "knowledge.gpt/x")


def test_an_address_names_one_node() -> None:
    assert parse_address("knowledge.gpt/x@pi-kitchen") == ("knowledge.gpt/x", "pi-kitchen")
    assert parse_address("knowledge.gpt/x") == ("knowledge.gpt/x", "")
    for bad in ("knowledge.gpt/x@", "knowledge.gpt/x@A", "knowledge.gpt/x@-a", "x@pi"):
        with pytest.raises(NameInvalid):
            parse_address(bad)


@pytest.mark.parametrize(
    ("text", "segment"),
    [
        ("Qwen2.5-0.5B-Instruct-Q4_K_M", "qwen2.5-0.5b-instruct-q4_k_m"),
        ("mon modèle", "mon_mod_le"),
        (".hidden..", "hidden"),
        ("", "_"),
    ],
)
def test_any_text_becomes_a_segment(text: str, segment: str) -> None:
    assert as_segment(text) == segment
    assert check_name(f"computation.gpt/segment/{segment}/1-2")
