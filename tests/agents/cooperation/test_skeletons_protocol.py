"""Outlines: their budget, what is believed of them, which text is kept, what is a secret."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.configure import build_redactor
from agents.cooperation import skeletons_protocol as protocol
from agents.cooperation.skeletons_protocol import Candidate, OutlineRefused, Point

BUDGET = protocol.budget_of(400)
PRIVATE = (
    "Anna Petersen lives at 12 Harbour Street. Her account is 4532 8812 0034. "
    "She was treated for migraine in Bergen last winter."
)


def outline(*titles: str, sketch: str = "what it says") -> str:
    points = [{"title": title, "sketch": sketch} for title in titles]
    return msgspec.json.encode({"points": points}).decode()


def test_an_outline_has_a_fifth_of_the_text_and_less_of_a_busy_node() -> None:
    idle, busy = protocol.budget_of(1000), protocol.budget_of(1000, strong_load=1.0)
    assert idle.sketch_chars == 1000 * protocol.TOKEN_CHARS * 0.2
    assert busy.sketch_chars == idle.sketch_chars / 2
    assert protocol.budget_of(1000, strong_load=7.0) == busy


@pytest.mark.parametrize(("tokens", "direct"), [(191, True), (192, False), (4096, False)])
def test_a_short_answer_needs_no_outline(tokens: int, direct: bool) -> None:
    assert protocol.budget_of(tokens).direct is direct


@given(st.integers(1, 100_000), st.floats(0, 5))
def test_any_length_has_some_points_and_not_too_many(tokens: int, load: float) -> None:
    budget = protocol.budget_of(tokens, load)
    assert protocol.FEWEST_POINTS <= budget.points <= protocol.MOST_POINTS
    assert budget.point_tokens * budget.points >= tokens


def test_the_strong_node_is_asked_for_json_and_sees_the_instruction_alone() -> None:
    request = protocol.outline_request("Write about tides.", BUDGET)
    schema = msgspec.json.decode(request.json_schema)
    points = schema["properties"]["points"]
    assert points["maxItems"] == BUDGET.points
    assert points["items"]["properties"]["sketch"]["maxLength"] == BUDGET.each_chars
    assert "Write about tides." in request.messages[-1].content


def test_a_point_is_written_with_its_neighbours_titles() -> None:
    points = [Point(title=t, sketch=f"sketch of {t}") for t in ("moon", "sun", "sea")]
    asked = protocol.expansion_request("Write about tides.", points, 1, BUDGET).messages[-1].content
    assert "before is about: moon" in asked
    assert "after is about: sea" in asked
    assert "sketch of sun" in asked
    assert "sketch of moon" not in asked
    first = protocol.expansion_request("x", points, 0, BUDGET).messages[-1].content
    assert "before" not in first
    assert "private" not in first.lower()


@pytest.mark.parametrize("fence", ["{}", "```json\n{}\n```", "Here it is: {} Enjoy."])
def test_an_outline_is_read_also_out_of_a_fence(fence: str) -> None:
    found = protocol.read_outline(fence.format(outline("Moon", "Sun")), BUDGET)
    assert [point.title for point in found] == ["Moon", "Sun"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        '{"points": 3}',
        '{"points": []}',
        outline("Moon"),
        outline("Moon", "moon!", " MOON "),
        outline("...", "  ", "Moon"),
        '{"points": [' * 5000,
    ],
)
def test_what_is_no_outline_is_refused(text: str) -> None:
    with pytest.raises(OutlineRefused):
        protocol.read_outline(text, BUDGET)


@settings(max_examples=50)
@given(st.text(max_size=300))
def test_any_text_is_an_outline_or_refused(text: str) -> None:
    try:
        found = protocol.read_outline(text, BUDGET)
    except OutlineRefused:
        return
    assert len(found) >= protocol.FEWEST_POINTS


def test_a_provider_that_keeps_no_schema_is_cut_to_its_share() -> None:
    long = outline(*(f"Point {word}" for word in "abcdefghijkl"), sketch="word " * 500)
    found = protocol.read_outline(long, BUDGET)
    assert len(found) == BUDGET.points
    assert sum(len(point.sketch) for point in found) <= BUDGET.sketch_chars


def test_the_fixed_outline_can_be_worked_on() -> None:
    found = protocol.fixed_outline(BUDGET)
    assert len(found) >= protocol.FEWEST_POINTS
    assert len({point.title for point in found}) == len(found)


def test_the_text_that_is_sure_and_on_its_theme_is_kept() -> None:
    point = Point(title="The moon", sketch="its pull lifts the sea")
    on = Candidate(text="The pull of the moon lifts the sea.", mean_logprob=-0.5)
    off = Candidate(text="Bread is baked at night.", mean_logprob=-0.4)
    unsure = Candidate(text="The pull of the moon lifts the sea.", mean_logprob=-3.0)
    assert protocol.best([off, on, unsure], point)[0] == on
    assert protocol.best([off, unsure], point)[0] == off
    assert protocol.best([on, on], point)[0] is on


def test_the_cosine_is_one_of_the_same_words_and_none_of_others() -> None:
    assert protocol.cosine("moon tides", "tides moon") == pytest.approx(1)
    assert protocol.cosine("moon", "bread") == 0
    assert protocol.cosine("", "bread") == 0


def test_paragraphs_are_joined_and_none_is_said_twice() -> None:
    assert protocol.joined(["One. ", "", "Two.", "one"]) == "One.\n\nTwo."


@pytest.mark.parametrize(
    ("outgoing", "fuzzy"),
    [
        ("She was treated for migraine in Bergen.", False),
        ("Please send it to 12 harbour street", False),
        ("she was TREATED, for Migrâine: in bergen", False),
        ("treatd for migrane in Bergn", True),
        ("account 453288120034", False),
        ("account 4532-8812-0034", False),
    ],
)
def test_a_span_of_the_private_context_is_found_however_it_is_written(
    outgoing: str, fuzzy: bool
) -> None:
    found = protocol.leaks(PRIVATE, [outgoing])
    assert found
    assert any(leak.fuzzy is fuzzy for leak in found)


@pytest.mark.parametrize(
    "outgoing",
    [
        "Write a letter to her landlord about the broken heating.",
        "She was in the street last week, and lives for the sea.",
        protocol.OUTLINE,
        "",
    ],
)
def test_words_of_everyone_are_no_secret(outgoing: str) -> None:
    assert protocol.leaks(PRIVATE, [outgoing]) == []


def test_a_name_that_the_redactor_knows_is_a_span_by_itself() -> None:
    redactor = build_redactor()
    known = protocol.secrets_of(PRIVATE, redactor.spans(PRIVATE))
    assert "Anna Petersen" in known
    assert protocol.leaks(PRIVATE, ["A card for Ana Petersen."], known)
    assert protocol.leaks(PRIVATE, ["A card for Mrs Petersen."], known)
    assert not protocol.leaks(PRIVATE, ["A card for Berta Smith."], known)


@settings(max_examples=60)
@given(st.lists(st.text("abcdefghij", min_size=5, max_size=9), min_size=3, max_size=30), st.data())
def test_any_three_own_words_in_a_row_are_found(words: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(words) - 3))
    said = f"xyz {' '.join(words[start : start + 3]).upper()} zyx"
    assert protocol.leaks(" ".join(words), [said])
