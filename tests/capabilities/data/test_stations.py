"""Several stations, one picture: who lies is outvoted and named, who is silent is not counted."""

from __future__ import annotations

import random

import pytest

from capabilities.data.messages import Quantity, View
from capabilities.data.robust import (
    cusum,
    hampel,
    mad_std,
    mann_kendall,
    theil_sen,
    weighted_median,
)
from capabilities.data.stations import StationBook, ViewConfig
from capabilities.messages import Sample

NOW = 100_000.0


def reading(value: float, at: float = NOW, name: str = "pm25") -> Sample:
    return Sample(domain="air", type="raw", source="s", at=at, values={name: value})


def seen(book: StationBook) -> View:
    view = book.view("hub", NOW)
    assert view is not None
    return view


def quantity(book: StationBook, name: str = "pm25") -> Quantity:
    return seen(book).quantities[name]


def test_a_lying_station_is_outvoted_and_named() -> None:
    book = StationBook("air")
    for node, value in {"a": 20.0, "b": 22.0, "c": 21.0, "liar": 900.0}.items():
        book.add(node, "", reading(value))
    found = quantity(book)
    assert 20.0 <= found.value <= 22.0
    assert seen(book).outlying == ["liar"]
    assert not found.undecided
    assert {s.node: s.value for s in found.stations}["liar"] == 900.0  # shown, with who said it


def test_a_node_has_one_voice_however_many_stations_it_makes_up() -> None:
    book = StationBook("air")
    for node, value in {"a": 20.0, "b": 22.0, "c": 21.0}.items():
        book.add(node, "", reading(value))
    for n in range(50):
        book.add("liar", f"station-{n}", reading(900.0))
    assert 20.0 <= quantity(book).value <= 22.0
    assert len(seen(book).outlying) == 50
    assert all(name.endswith("@liar") for name in seen(book).outlying)


def test_two_nodes_that_contradict_each_other_accuse_nobody() -> None:
    book = StationBook("air")
    book.add("a", "", reading(20.0))
    book.add("b", "", reading(500.0))
    assert quantity(book).undecided
    assert seen(book).outlying == []
    book.add("b", "", reading(20.5, NOW + 1))
    assert not quantity(book).undecided


@pytest.mark.parametrize(("at", "note"), [(NOW - 901, "15 min"), (NOW + 61, "clock")])
def test_a_reading_that_is_not_of_now_has_no_voice(at: float, note: str) -> None:
    book = StationBook("air")
    for node, value in {"a": 20.0, "b": 22.0, "c": 21.0}.items():
        book.add(node, "", reading(value))
    book.add("late", "", reading(60.0, at))
    found = quantity(book)
    assert seen(book).stale == ["late"]
    assert found.nodes == 3
    assert note in {s.node: s.note for s in found.stations}["late"]


def test_when_all_are_stale_the_last_word_is_shown_and_marked() -> None:
    book = StationBook("air")
    book.add("a", "", reading(20.0, NOW - 5000))
    book.add("b", "", reading(30.0, NOW - 4000))
    found = quantity(book)
    assert (found.value, found.nodes, found.undecided) == (30.0, 0, True)


def series(book: StationBook, node: str, values: list[float], step_s: float = 600.0) -> None:
    for n, value in enumerate(values):
        book.add(node, "", reading(value, NOW - step_s * (len(values) - 1 - n)))


def test_the_trend_is_that_of_most_nodes_and_not_of_a_liar() -> None:
    rng = random.Random(7)
    book = StationBook("air")
    for node in "abc":
        series(book, node, [20 + 0.5 * n + rng.gauss(0, 0.2) for n in range(20)])
    series(book, "liar", [30 - 5.0 * n for n in range(20)])
    found = quantity(book)
    assert found.trend == "rising"
    assert found.slope_per_h == pytest.approx(3.0, rel=0.1)  # half a unit each ten minutes


def test_noise_without_a_trend_is_steady() -> None:
    rng = random.Random(8)
    book = StationBook("air")
    for node in "abc":
        series(book, node, [20 + rng.gauss(0, 0.5) for _ in range(30)])
    assert quantity(book).trend == "steady"
    assert quantity(book).changed_at == 0.0


def test_a_new_level_is_dated() -> None:
    book = StationBook("air")
    for node in "abc":
        series(book, node, [20.0 + 0.1 * (n % 3) for n in range(20)] + [40.0] * 8)
    assert quantity(book).changed_at == NOW - 600.0 * 7


def test_a_station_that_jumps_is_told_to_be_unlike_itself() -> None:
    book = StationBook("air")
    for node in "abc":
        series(book, node, [20.0 + 0.1 * (n % 3) for n in range(12)])
    series(book, "d", [20.0 + 0.1 * (n % 3) for n in range(11)] + [26.0])
    notes = {s.node: s.note for s in quantity(book).stations}
    assert notes["d"] == "unlike its own last readings"
    assert notes["a"] == ""


def test_an_older_reading_takes_no_newer_one_back() -> None:
    book = StationBook("air")
    book.add("a", "", reading(20.0))
    book.add("a", "", reading(99.0, NOW - 60))
    assert quantity(book).value == 20.0
    assert book.counters["not_newer"] == 1


def test_made_up_readings_and_stations_do_not_grow_the_view() -> None:
    book = StationBook("air", ViewConfig(max_quantities=2))
    for n in range(400):
        book.add("liar", f"station-{n}", reading(1.0, name=f"reading-{n % 5}"))
    assert len(seen(book).quantities) == 2
    assert book.counters["stations_refused"] == 144
    assert book.counters["readings_refused"] > 0


def test_only_the_wanted_readings_are_kept_and_a_station_can_be_forgotten() -> None:
    book = StationBook("air", ViewConfig(quantities=("pm25",)))
    book.add("a", "x", reading(1.0, name="rain"))
    assert book.view("hub", NOW) is None
    book.add("a", "x", reading(1.0))
    book.forget("a", "x")
    assert book.view("hub", NOW) is None


def test_the_statistics_are_what_their_sources_say() -> None:
    assert mad_std([1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]) == pytest.approx(1.4826)
    assert weighted_median([1.0, 2.0, 10.0], [1.0, 1.0, 3.0]) == 10.0
    assert weighted_median([1.0, 3.0], [1.0, 1.0]) == 2.0
    # Sen 1968: an outlier does not move the slope.
    assert theil_sen([0, 1, 2, 3, 4], [0, 2, 4, 6, 100]) == 2.0
    assert theil_sen([1.0], [5.0]) == 0.0
    assert theil_sen([1.0, 1.0], [5.0, 6.0]) == 0.0
    # Kendall's S is 10 of 10 pairs, its variance 5*4*15/18.
    assert mann_kendall([0, 1, 2, 3, 4], [1, 2, 3, 4, 5]) == pytest.approx(9 / (50 / 3) ** 0.5)
    assert mann_kendall([0, 1, 2], [4, 4, 4]) == 0.0
    assert hampel([1.0, 1.1, 0.9, 9.0, 1.0, 1.1, 0.9], 3) == [3]
    assert cusum([0.0] * 10 + [2.0] * 10, 0.0, 1.0) == 10
    assert cusum([0.0] * 10 + [-2.0] * 10, 0.0, 1.0) == 10
    assert cusum([0.0] * 10 + [1000.0] + [0.0] * 9, 0.0, 1.0) == -1  # one value is no level
    assert cusum([5.0, 5.0], 0.0, 0.0) == -1
