"""Masking before the cloud: what is found, what comes back, what may not leave."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agents.config import make_config
from agents.configure import build_redactor
from agents.redaction import (
    Find,
    PersonalDataLeft,
    RedactionConfig,
    Redactor,
    make_redactor,
)
from agents.redaction.config import OwnPattern
from agents.redaction.masking import MAX_PLACEHOLDERS, MAX_TEXT_CHARS
from agents.registry import Registry
from mesh.core.errors import ConfigError, GossamerError

PLAIN = make_redactor()


def masked(text: str, redactor: Redactor = PLAIN) -> str:
    return redactor.begin().mask(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to Anna.B+x@mail.example.org now", "write to <EMAIL_1> now"),
        ("call +31 20 123 4567 today", "call <PHONE_1> today"),
        ("my phone is 020 7946 0018", "my phone is <PHONE_1>"),
        ("pay GB82 WEST 1234 5698 7654 32 AND go", "pay <IBAN_1> AND go"),
        ("pay de89370400440532013000.", "pay <IBAN_1>."),
        ("card 4111-1111-1111-1111 please", "card <CARD_1> please"),
        ("SSN 536-90-4399", "SSN <ID_1>"),
        ("the passport number is X1234567 and", "the passport number is <ID_1> and"),
        ("licence plate: AB12 CDE", "licence plate: <ID_1>"),
        ("born on 3 May 1980 in", "born on <BIRTHDATE_1> in"),
        ("DOB: 1980-05-03", "DOB: <BIRTHDATE_1>"),
        ("I live at 221B Baker Street, London NW1 6XE.", "I live at <ADDRESS_1>."),
        ("Hauptstraße 12, 10115 Berlin ist", "<ADDRESS_1> ist"),
        ("Prinsengracht 263 is", "<ADDRESS_1> is"),
        ("10 rue de la Paix, 75002 Paris", "<ADDRESS_1>"),
        ("she lives in Leeds", "she lives in <PLACE_1>"),
        ("at 52.3702, 4.8952 there", "at <COORDINATES_1> there"),
        ("at 52°22'12\"N 4°53'42\"E there", "at <COORDINATES_1> there"),
        ("host 192.168.1.10 and fe80::1", "host <IP_1> and <IP_2>"),
        ("mac 00:1A:2B:3C:4D:5E", "mac <MAC_1>"),
        ("Anna de Vries said", "<PERSON_1> said"),
        ("ask Jean-Luc about it", "ask <PERSON_1> about it"),
        ("my name is oyelaran", "my name is <PERSON_1>"),
        ("Dear Mr. Okonkwo, hello", "Dear Mr. <PERSON_1>, hello"),
        ("Patient Oyelaran sleeps", "Patient <PERSON_1> sleeps"),
        ("my wife Prudence is", "my wife <PERSON_1> is"),
        ("Kind regards,\nXiu Ying", "Kind regards,\n<PERSON_1>"),
    ],
)
def test_personal_data_becomes_a_typed_placeholder(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "What is 48 * 27 and 312 + 45?",
        "What is 4155552671 * 2?",
        "Is Paris the capital of France?",
        "temperature 21.5 C at 2026-01-01 10:00, humidity 40 %",
        "Will Mark May the Rose of Grace?",
        "The order 4111111111111112 is late",  # no card: Luhn does not hold
        "GB82 WEST 1234 5698 7654 33",  # no IBAN: the check digits are wrong
        "I am not on the list. My name is on it.",
        "Explain the 30 Years War",
        "12:30:45 is a time, 999.1.1.1 is no address",
    ],
)
def test_what_is_nobodys_stays(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Oyelaran went home",  # an uncommon name that no word introduces
        "the meeting is on 3 May 1980",  # a date that no word calls a birthday
        "mail me: anna at example dot org",  # spelt out
        "住在北京的王伟",  # a script without capital letters
    ],
)
def test_what_is_documented_as_not_found_is_not_found(text: str) -> None:
    assert masked(text) == text


def test_national_phone_numbers_are_found_for_the_configured_regions() -> None:
    text = "reach us under 020 7946 0018"
    assert masked(text) == text
    assert (
        masked(text, make_redactor(RedactionConfig(regions=("gb",)))) == "reach us under <PHONE_1>"
    )


def test_the_same_value_keeps_its_placeholder_through_a_conversation() -> None:
    masking = PLAIN.begin()
    assert masking.mask("Anna met Robert.") == "<PERSON_1> met <PERSON_2>."
    assert (
        masking.mask("robert@example.org and ROBERT? Robert!")
        == "<EMAIL_1> and <PERSON_3>? <PERSON_2>!"
    )
    assert masking.counters == {"PERSON": 4, "EMAIL": 1}
    assert masking.unmask("<PERSON_2>, <PERSON_1>") == "Robert, Anna"


def test_findings_that_overlap_leave_no_half() -> None:
    class Halves:
        def find(self, text: str) -> Iterator[Find]:
            yield Find(0, 6, "LEFT")
            yield Find(4, 12, "RIGHT")

    redactor = Redactor([Halves()])
    assert masked("secret words here", redactor) == "<RIGHT_1> here"


@given(st.text(max_size=200))
def test_masking_is_reversible(text: str) -> None:
    masking = PLAIN.begin()
    assert masking.unmask(masking.mask(text)) == text


@given(st.lists(st.sampled_from(["Anna", "a@b.org", "<PERSON_1>", "[ID_2]", "PERSON_3", " ", "x"])))
def test_a_text_that_holds_placeholders_of_its_own_comes_back_whole(words: list[str]) -> None:
    masking = PLAIN.begin()
    text = " ".join(words)
    assert masking.unmask(masking.mask(text)) == text


@pytest.mark.parametrize(
    "written",
    [
        "<PERSON_1>",
        "<person_1>",
        "< Person_1 >",
        "<PERSON 1>",
        "<PERSON-1>",
        "[PERSON_1]",
        "PERSON_1",
        r"PERSON\_1",
        r"<PERSON\_1>",
        r"\<PERSON_1\>",
        "&lt;PERSON_1&gt;",
    ],
)
def test_an_answer_is_unmasked_however_the_model_spells_it(written: str) -> None:
    masking = PLAIN.begin()
    masking.mask("Anna")
    assert masking.unmask(f"Tell {written}'s boss.") == "Tell Anna's boss."


def test_placeholders_of_nobody_stay() -> None:
    masking = PLAIN.begin()
    masking.mask("Anna")
    text = "<PERSON_2> <PERSON_12> PERSON_10 XPERSON_1 person 1 <b> a < b [1]"
    assert masking.unmask(text) == text


_WHOLE = ["<PERSON_1>", "< person 1 >", "PERSON_1", r"PERSON\_1", "&lt;EMAIL_1&gt;", "<PERSON_12"]
_PIECES = st.lists(st.sampled_from([*_WHOLE, "PER", "EMAIL", "_1", *"<[&\\1> aABé\n"]), max_size=12)


@example(["PERSON\\_1", "&lt;EMAIL_1&gt;"], [])
@example(["<", "PERSON_1", " ", ">"], [10])
@given(_PIECES, st.lists(st.integers(0, 120), max_size=12))
def test_a_streamed_answer_is_unmasked_as_the_whole_would_be(
    pieces: list[str], cuts: list[int]
) -> None:
    masking = PLAIN.begin()
    masking.mask("Anna wrote a@b.org")
    whole = "".join(pieces)
    places = [0, *sorted(c for c in cuts if c <= len(whole)), len(whole)]
    stream = masking.stream()
    parts = [stream.feed(whole[a:b]) for a, b in pairwise(places)]
    assert "".join([*parts, stream.finish()]) == masking.unmask(whole)


def test_a_stream_holds_back_no_more_than_a_placeholder() -> None:
    stream = PLAIN.begin().stream()
    assert stream.feed("A plain beginning, and <") == "A plain beginning, and "
    assert stream.feed("x" * 100) == "<" + "x" * 100
    assert stream.feed("[" + " " * 200) != ""


@pytest.mark.parametrize("end", ["", ".", "!", ", or later", ".\n"])
def test_a_mark_after_a_number_does_not_hide_it(end: str) -> None:
    masking = PLAIN.begin()
    for number in ("(415) 555-2671", "415-555-2671", "415.555.2671"):
        assert number not in masking.mask_or_refuse(f"Reach us under {number}{end}")
    for left in ("0170 1234567", "(089) 12 34 56", "1234 5678 9012 3456"):
        with pytest.raises(PersonalDataLeft):
            masking.mask_or_refuse(f"Reach us under {left}{end}")


def test_masking_required_refuses_what_is_left_and_says_the_kind_only() -> None:
    masking = PLAIN.begin()
    assert masking.mask_or_refuse("Anna's number is +31 20 123 4567") == (
        "<PERSON_1>'s number is <PHONE_1>"
    )
    with pytest.raises(PersonalDataLeft) as refused:
        masking.mask_or_refuse("reach us under 0415 555 2671")
    assert refused.value.kinds == ("PHONE",)
    assert refused.value.code == "personal_data"
    assert "555" not in refused.value.sentence()
    with pytest.raises(PersonalDataLeft, match="email"):
        masking.mask_or_refuse("me@localhost")


def test_own_people_places_patterns_and_exceptions() -> None:
    config = RedactionConfig(
        people=("Zlatan Öresund",),
        places=("Mistmoor",),
        patterns=(OwnPattern(kind="PROJECT", pattern=r"project (?P<value>\w+)"),),
        keep=("help@example.org",),
    )
    redactor = make_redactor(config)
    text = "öresund told ZLATAN in mistmoor of Project Falcon: help@example.org"
    assert masked(text, redactor) == (
        "<PERSON_1> told <PERSON_2> in <PLACE_1> of Project <PROJECT_1>: help@example.org"
    )
    assert redactor.begin().mask_or_refuse("ask help@example.org") == "ask help@example.org"


class Badges:
    """A detector as somebody else would write one."""

    def find(self, text: str) -> Iterator[Find]:
        place = text.find("badge-")
        if place >= 0:
            yield Find(place, place + 9, "BADGE")


def test_a_detector_of_somebody_else_plugs_in() -> None:
    registry: Registry[Badges] = Registry("redaction", {})
    registry.add("badges", Badges)
    redactor = make_redactor(RedactionConfig(detectors=("badges",)), registry)
    assert masked("show badge-123!", redactor) == "show <BADGE_1>!"
    with pytest.raises(ConfigError, match="nothing can load"):
        make_redactor(RedactionConfig(detectors=("badges",)))


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        (OwnPattern(kind="low", pattern="x"), "capital letters"),
        (OwnPattern(kind="BAD", pattern="("), "pattern of BAD"),
    ],
)
def test_a_pattern_that_cannot_work_is_named(pattern: OwnPattern, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        make_redactor(RedactionConfig(patterns=(pattern,)))


def test_a_map_shows_nothing_when_it_is_logged() -> None:
    masking = PLAIN.begin()
    masking.mask("Anna, a@b.org")
    assert repr(masking) == "Masking(2 placeholders)"


def test_texts_and_maps_are_bounded() -> None:
    with pytest.raises(GossamerError, match="too long"):
        masked("x" * (MAX_TEXT_CHARS + 1))

    class Words:
        def find(self, text: str) -> Iterator[Find]:
            for place in range(0, len(text), 5):
                yield Find(place, place + 5, "WORD")

    masking = Redactor([Words()]).begin()
    many = "".join(f"{n:05d}" for n in range(MAX_PLACEHOLDERS + 1))
    with pytest.raises(GossamerError, match="more personal data"):
        masking.mask(many)


@pytest.mark.parametrize("unit", ["a", "Aa-", "Aa ", "<PERSON", "a@", "1", ":", "my "])
def test_a_hostile_text_does_not_make_a_pattern_run_away(unit: str) -> None:
    text = (unit * 4000)[:8000]
    masked(text)
    PLAIN.residual(text)


def from_toml(text: str) -> Redactor:
    raw = {"node": {"state": "x"}, "redaction": tomllib.loads(text)}
    return build_redactor(make_config(raw, base=Path()).redaction)


def test_the_configuration_of_an_agent_says_what_is_masked() -> None:
    redactor = from_toml(
        """
        people = ["Zlatan Öresund"]
        words = { PROJECT = ["Blue Bird"] }
        patterns = [{ kind = "TICKET", pattern = 'ticket (?P<value>\\d+)' }]
        """
    )
    assert redactor.begin().outgoing("Öresund: blue bird, Ticket 77") == (
        "<PERSON_1>: <PROJECT_1>, Ticket <TICKET_1>"
    )


def test_what_is_left_is_refused_where_masking_is_required_and_sent_where_not() -> None:
    left = "Anna said: reach us under 0415 555 2671"
    with pytest.raises(PersonalDataLeft):
        from_toml("").begin().outgoing(left)
    assert from_toml("required = false").begin().outgoing(left) == left.replace(
        "Anna", "<PERSON_1>"
    )
    assert from_toml("enabled = false").begin().outgoing(left) == left


@pytest.mark.parametrize(
    "text",
    [
        "requierd = true",
        'regions = ["Netherlands"]',
        'words = { project = ["x"] }',
        'patterns = [{ kind = "BAD", pattern = "(" }]',
        'detectors = ["no_such_package:Detector"]',
    ],
)
def test_a_redaction_section_that_cannot_work_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        from_toml(text)
