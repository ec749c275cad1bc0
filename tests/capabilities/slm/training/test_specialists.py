"""The data of the specialists of air, vitals and traffic: what they are taught is the standard."""

from __future__ import annotations

import random
import re
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tokenizers")

from capabilities.slm.training import (
    air_quality,
    air_quality_words,
    subjects,
    traffic,
    traffic_words,
    vitals,
    vitals_words,
)
from capabilities.slm.training.bands import BANDS, compare, near_edges, walk
from capabilities.slm.training.chat import reply_ids
from capabilities.slm.training.subjects import phrase
from capabilities.slm.training.tokenizer import load_tokenizer
from capabilities.slm.training.wordings import loosened
from capabilities.standards.air_quality import CATEGORIES, POLLUTANTS
from capabilities.standards.traffic import Flow, edges
from capabilities.standards.vitals import LEVELS

SPECIALISTS = [air_quality, vitals, traffic]
LIMITS = [(limit, unit) for unit, pair in traffic.LIMITS.items() for limit in pair[0] + pair[1]]
ALL_EDGES = [(p.edges, 4) for p in POLLUTANTS.values()]
ALL_EDGES += [(edges(limit, unit), 3) for limit, unit in LIMITS]


@given(st.sampled_from(ALL_EDGES), st.integers(0, 999))
def test_the_last_mark_of_a_walk_is_the_band(found: tuple[tuple[int, ...], int], n: int) -> None:
    bounds, width = found
    digits, marks = walk(n, bounds, width).split(":")
    assert (int(digits), len(digits), len(marks)) == (n, width, width)
    assert BANDS.index(marks[-1]) == sum(n > edge for edge in bounds)


@given(st.sampled_from(ALL_EDGES), st.integers(0, 999), st.integers(0, 999))
def test_a_mark_follows_from_the_digits_so_far(
    found: tuple[tuple[int, ...], int], one: int, other: int
) -> None:
    bounds, width = found
    first, second = (walk(n, bounds, width).split(":") for n in (one, other))
    for place in range(1, width + 1):
        if first[0][:place] == second[0][:place]:
            assert first[1][:place] == second[1][:place]


def test_a_number_wider_than_the_walk_is_refused() -> None:
    with pytest.raises(ValueError, match="digits"):
        walk(1000, (5,), 3)


@given(st.integers(0, 999), st.integers(0, 999))
def test_a_comparison_ends_at_the_first_difference(x: int, y: int) -> None:
    padded, text = compare(x, y, 3).split(":")
    sign = "<" if x < y else ">" if x > y else "="
    assert padded == f"{x:03}"
    assert text[1::3][-1] == sign
    assert set(text[1::3][:-1]) <= {"="}


@given(st.randoms(use_true_random=False))
def test_drawn_numbers_stay_in_their_range(rng: random.Random) -> None:
    assert 25 <= near_edges(rng, (40, 50, 90), 200, 25) <= 200


@pytest.mark.parametrize("module", SPECIALISTS)
def test_the_same_seed_draws_the_same_questions(module: ModuleType) -> None:
    first, second = random.Random(5), random.Random(5)
    assert [module.sample(first) for _ in range(50)] == [module.sample(second) for _ in range(50)]


@pytest.mark.parametrize("module", SPECIALISTS)
def test_the_evaluation_covers_every_category(module: ModuleType) -> None:
    rng = random.Random(4)
    seen = {module.held_out_example(rng).category for _ in range(500)}
    wanted = {
        air_quality: {*CATEGORIES},
        vitals: {*LEVELS},
        traffic: set("ABCDEF"),
    }[module]
    assert seen == wanted | {"decline"}


@pytest.mark.parametrize("module", SPECIALISTS)
def test_the_answer_states_its_category_where_the_benchmark_reads_it(module: ModuleType) -> None:
    rng = random.Random(6)
    for _ in range(300):
        example = module.held_out_example(rng)
        if example.category == "decline":
            assert module.category_of(example.answer) == example.answer
        else:
            assert example.category in module.category_of(example.answer)
            assert len(module.category_of(example.answer)) < 40


@pytest.mark.parametrize("module", SPECIALISTS)
def test_a_beginning_that_is_practised_is_one_of_the_reply(module: ModuleType) -> None:
    rng, tokenizer = random.Random(8), load_tokenizer()
    limited = [e for e in (module.sample(rng) for _ in range(300)) if e.reply_limit]
    ends = set()
    for example in limited:
        written = tokenizer.decode(reply_ids(tokenizer, example))
        ends.add(written.endswith(module.STANDARD))
        opening = module.OPENING.match(example.scratchpad)
        assert written.endswith(module.STANDARD) or (opening and written == opening[0])
    assert ends == {True, False}


@pytest.mark.parametrize("module", SPECIALISTS)
def test_a_whole_question_and_reply_fit_the_context_of_the_evaluation(module: ModuleType) -> None:
    rng = random.Random(9)
    for _ in range(500):
        example = module.held_out_example(rng)
        tokens = load_tokenizer().encode(example.question).ids
        assert len(tokens) + len(reply_ids(load_tokenizer(), example)) < 360


def test_held_out_wordings_are_not_among_the_trained_ones() -> None:
    pairs: list[Any] = [
        air_quality_words.READINGS,
        air_quality_words.HISTORIES,
        air_quality_words.FRAMES,
        *air_quality_words.WEATHER.values(),
        (air_quality_words.NO_READINGS, air_quality_words.NO_READINGS_HELD_OUT),
        vitals_words.FRAMES,
        *vitals_words.READINGS.values(),
        *vitals_words.STATES.values(),
        *vitals_words.NOTES.values(),
        (vitals_words.NO_READINGS, vitals_words.NO_READINGS_HELD_OUT),
        traffic_words.SPEEDS,
        traffic_words.LIMITS,
        traffic_words.BOTH,
        traffic_words.HISTORIES,
        traffic_words.VOLUMES,
        traffic_words.FRAMES,
        *traffic_words.INCIDENTS.values(),
        *traffic_words.WEATHER.values(),
        (traffic_words.NO_READINGS, traffic_words.NO_READINGS_HELD_OUT),
    ]
    for trained, held_out in pairs:
        assert not set(trained) & set(held_out)


@given(st.randoms(use_true_random=False))
def test_a_loosened_phrase_keeps_its_words_and_numbers_in_order(rng: random.Random) -> None:
    pair = vitals_words.READINGS[rng.choice(tuple(vitals_words.READINGS))]
    for original in pair[0]:
        words = iter(loosened(rng, original).split(" "))
        assert all(word in words for word in original.split(" "))  # each after the one before it
    assert phrase(rng, pair, False, 1.0) not in pair[1]
    assert phrase(rng, pair, True, 1.0) in pair[1]


@pytest.mark.parametrize("subject", ["air_quality", "vitals", "traffic"])
def test_questions_for_others_are_held_out_too(subject: str) -> None:
    def drawn(held_out: bool) -> set[str]:
        rng = random.Random(2)
        return {
            re.sub(r"\d+", "#", subjects.elsewhere(rng, subject, held_out=held_out))
            for _ in range(1500)
        }

    assert not drawn(True) & drawn(False)


def told(key: str, text: str, *, large: bool = False, earlier: tuple[str, ...] = ()) -> Any:
    return air_quality.Told(key, text, large, earlier)


def test_the_scratchpad_of_the_air_card() -> None:
    case = air_quality.Case(
        (told("pm2_5", "41.7", earlier=("30.2",)), told("o3", "0.065", large=True)), "still"
    )
    assert air_quality.scratchpad(case) == (
        "F30.2,41.7u;O0.065m\nF0417:~333>3F\nt0302:0=03<4+\nO0065:~~22>3F\nw still"
    )
    assert case.answer == (
        "Unhealthy for sensitive groups by the US AQI, from PM2.5. Children, old people and those "
        "with heart or lung disease should do less outside. Rising. Still air keeps it here."
    )


def test_units_of_a_thousand_steps_are_brought_to_the_standard() -> None:
    for key, ppb, ppm in (("o3", "70", "0.070"), ("no2", "101", "0.101"), ("so2", "36", "0.036")):
        assert told(key, ppb).steps(ppb) == told(key, ppm, large=True).steps(ppm)


def test_the_scratchpad_of_the_vitals_card() -> None:
    case = vitals.Case(
        {"pulse": "118", "spo2": "93", "consciousness": False}, notes=("active", "skin")
    )
    assert vitals.scratchpad(case) == (
        "P118;S93;C-\n1P118:~D5=2>02.\n2S093:~~2=2>04.\n3C-=0>04.\nn active skin"
    )
    assert case.answer == (
        "Low risk: NEWS2 score 4, partial, 3 of 7. Keep measuring. Tell a provider: pulse 118, "
        "SpO2 93. Taken while active: measure again at rest. Skin temperature is not scored. "
        "No diagnosis."
    )


def test_every_answer_about_vitals_says_that_it_is_no_diagnosis() -> None:
    rng = random.Random(3)
    for _ in range(300):
        example = vitals.held_out_example(rng)
        assert example.category == "decline" or example.answer.endswith("No diagnosis.")


def test_the_scratchpad_of_the_traffic_card() -> None:
    case = traffic.Case(Flow(30, 45, "mph", volume=1900, capacity=1800), earlier=51, weather="rain")
    assert traffic.scratchpad(case) == (
        "V51,30L45m;Q1900/1800\nL45m030:~~4\nt051:0=05>3-\nQ1800/1900:1=19>8!\ni no w rain\nF"
    )
    assert case.answer == (
        "Level F, jam, by the HCM. Avoid it: take another route or wait. More cars than it can "
        "take. Getting slower. Wet road: keep more distance."
    )


def numbers(text: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)?", text)


@pytest.mark.parametrize("module", SPECIALISTS)
def test_every_number_that_the_scratchpad_takes_is_in_the_question(module: ModuleType) -> None:
    rng, draw = random.Random(12), module.held_out_example
    for _ in range(400):
        example = draw(rng)
        told, known = example.scratchpad.partition("\n")[0], numbers(example.question)
        assert all(number in known for number in numbers(told)), example
