"""When a remembered answer may stand for a new one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.cooperation.cache import (
    CONFIRMED_EVERY,
    CONTEXT,
    MOST_UPPER,
    NOTHING,
    REUSE,
    Known,
    Thresholds,
    Tuning,
    decide,
)
from agents.cooperation.cache_facts import MAX_CHARS, difference, facts_of, volatile

SAME = [
    ("What is 48 * 27?", "48 times 27"),
    ("add 12 and 30", "what is 12 + 30"),
    ("subtract 17 from 90", "90 - 17"),
    ("23 less than 171", "what's the difference between 171 and 23"),
    ("What is 1,296 / 4?", "1296 divided by 4"),
    ("PM2.5 is 41.7 µg/m³, is it safe?", "fine dust 41.7 micrograms per cubic metre, safe?"),
    ("pulse 52, SpO2 91 %", "SpO2 91, pulse: 52 bpm"),
    (
        "average speed 22 km/h, limit 50 km/h, is that a jam?",
        "22 kph average speed at a limit of 50 kph: is that a jam?",
    ),
    ("What is Gossamer?", "can you tell me what gossamer is"),
    ("it isn't raining, can I go?", "it is not raining, can I go"),
    ("who built the bridge", "by whom was the bridge built"),
    ("why is snow cold", "what is the reason that snow is cold"),
    ("how do I change the wheel of the cart", "how is the cart's wheel changed"),
    ("does the gateway wake the sensor", "is the sensor woken by the gateway"),
    ("what are questions about birds", "what are bird questions"),
]
DIFFERENT = [
    ("What is 48 * 27?", "What is 48 * 28?"),
    ("What is 48 * 27?", "What is 48 + 27?"),
    ("17 minus 90", "90 minus 17"),
    ("What is -7 + 3?", "What is 7 + 3?"),
    ("what is 2.5 * 4", "what is 25 * 4"),
    ("PM2.5 is 41 ppm", "PM2.5 is 41 ppb"),
    ("how is the air at 60 km/h", "how is the air at 60 mph"),
    ("ozone 64 ppb, is that bad?", "NO2 64 ppb, is that bad?"),
    ("limit 60 km/h, speed 40 km/h", "speed 60 km/h, limit 40 km/h"),
    ("Is it safe to swim?", "Is it not safe to swim?"),
    ("what is the highest mountain", "what is the lowest mountain"),
    ("what is the capital of france", "what is the capital of italy"),
    ("Who was Marie Curie?", "Who was Pierre Curie?"),
    ("how did Ada Lovelace die", "how did the lady who wrote the first program die"),
    ("twelve plus thirty", "twelve plus forty"),
    ("it costs $5", "it costs 5 euros"),
    ("what is traffic like in paris", "what is traffic like in rome"),
    ("how do I charge the drone", "how often do I charge the drone"),
    ("how do I charge the drone", "how long do I charge the drone"),
    ("a train from Graz to Vienna", "a train from Vienna to Graz"),
    ("does the sensor trust the gateway", "does the gateway trust the sensor"),
    ("how do nodes sleep together", "can nodes sleep together"),
    ("how does a bird find the nest", "how is a bird taken out of the nest"),
    ("what happens when a door opens", "what happens when a door is locked"),
]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_two_wordings_of_one_question_share_their_facts(first: str, second: str) -> None:
    assert difference(facts_of(first), facts_of(second)) == ""


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_questions_with_other_facts_never_share_an_answer(first: str, second: str) -> None:
    assert difference(facts_of(first), facts_of(second))
    assert difference(facts_of(second), facts_of(first))


@given(st.integers(0, 99_999), st.integers(0, 99_999), st.sampled_from("+-*/"))
def test_a_changed_number_always_differs(first: int, second: int, sign: str) -> None:
    one, other = (facts_of(f"How much is {n} {sign} 7, please?") for n in (first, second))
    assert bool(difference(one, other)) == (first != second)
    assert (one.key() == other.key()) == (first == second)


@given(st.text(max_size=300))
def test_any_text_has_the_facts_of_itself(text: str) -> None:
    assert difference(facts_of(text), facts_of(text)) == ""


def test_a_text_that_is_not_read_whole_is_never_reused() -> None:
    long = facts_of("word " * MAX_CHARS)
    assert "too long" in difference(long, long)


def test_what_changes_with_the_time_is_seen_unless_figures_say_it_all() -> None:
    assert volatile(facts_of("how warm is it now?"))
    assert not volatile(facts_of("PM2.5 was 50 before and is 55 ppb now: trend?"))
    assert not volatile(facts_of("what is a mesh?"))


ASKED = facts_of("What is 48 * 27?")
LIMITS = Thresholds(upper=0.9, pinned=0.0, lower=0.7, quality=0.8)


def known(cosine: float = 0.95, text: str = "48 times 27", **more: object) -> Known:
    return Known(cosine=cosine, facts=facts_of(text), **more)  # type: ignore[arg-type]


def test_above_the_upper_threshold_an_answer_is_used_again() -> None:
    assert decide(ASKED, known(), 0.9, LIMITS).action == REUSE


@pytest.mark.parametrize(
    ("entry", "action", "why"),
    [
        (known(0.89), CONTEXT, "example"),
        (known(0.5), NOTHING, "nothing like it"),
        (known(0.999, "48 times 28"), CONTEXT, "figures"),
        (known(allowed=False), NOTHING, "access rights"),
        (known(fresh=False), NOTHING, "expired"),
        (known(quality=0.5), NOTHING, "not sure"),
    ],
)
def test_below_it_or_with_any_doubt_it_is_not(entry: Known, action: str, why: str) -> None:
    decision = decide(ASKED, entry, 0.9, LIMITS)
    assert decision.action == action
    assert why in decision.why


def test_equal_figures_or_equal_subjects_need_less_of_a_cosine() -> None:
    limits = Thresholds(upper=0.9, pinned=0.2, lower=0.5, quality=0.8)
    assert decide(ASKED, known(0.72), 0.9, limits).action == REUSE
    asked = facts_of("what is a gossip round")
    same = known(0.72, "explain the gossip round to me")
    other = known(0.72, "how does a gossip round spread records")
    assert decide(asked, same, 0.9, limits).action == REUSE
    assert decide(asked, other, 0.9, limits).action == CONTEXT
    # One word is asked about in many ways.
    assert decide(facts_of("what is gossip"), known(0.72, "show gossip"), 0.9, limits).action == (
        CONTEXT
    )


def test_a_false_hit_raises_the_threshold_and_fifty_confirmed_ones_lower_it() -> None:
    tuning = Tuning(upper=0.9).false_hit()
    assert tuning.upper == pytest.approx(0.91)
    for _ in range(CONFIRMED_EVERY - 1):
        tuning = tuning.confirmed_hit(0.8)
    assert tuning.upper == pytest.approx(0.91)
    assert tuning.confirmed_hit(0.8).upper == pytest.approx(0.905)
    assert tuning.confirmed_hit(0.91).upper == 0.91  # never below where it began
    for _ in range(100):
        tuning = tuning.false_hit()
    assert tuning.upper == MOST_UPPER
