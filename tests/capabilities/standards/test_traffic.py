"""Level of service: the exhibit's columns, between and beyond them, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.standards.traffic import EXHIBIT, LEVELS, Flow, edges


@pytest.mark.parametrize("limit", sorted(EXHIBIT))
def test_a_column_of_the_exhibit_holds_above_its_speeds(limit: int) -> None:
    for slower, above in zip(LEVELS, EXHIBIT[limit], strict=False):
        assert Flow(above, limit, "mph").level == slower
        assert Flow(above + 1, limit, "mph").level == LEVELS[LEVELS.index(slower) + 1]


def test_between_two_columns_the_thresholds_are_interpolated() -> None:
    # Halfway between 40 (32, 27, 20, 16, 12) and 45 (36, 30, 23, 18, 14).
    assert edges(42, "mph") == (12, 16, 21, 28, 33)


def test_beyond_the_exhibit_the_last_column_is_scaled() -> None:
    assert edges(110, "mph") == tuple(2 * speed for speed in EXHIBIT[55])
    assert edges(5, "mph") == tuple(speed // 5 for speed in EXHIBIT[25])


def test_kilometres_are_judged_as_the_miles_they_are() -> None:
    # 80 km/h is 49.7 mi/h: A holds above 39.77 mi/h, which is 64.0 km/h.
    assert edges(80, "km/h")[-1] == 64
    assert Flow(64, 80, "km/h").level == "B"
    assert Flow(65, 80, "km/h").level == "A"


def test_more_volume_than_capacity_is_a_jam_at_any_speed() -> None:
    assert Flow(50, 50, "mph", volume=1801, capacity=1800).level == "F"
    assert Flow(50, 50, "mph", volume=1800, capacity=1800).level == "A"
    assert Flow(50, 50, "mph", volume=1801).level == "A"


@given(st.integers(1, 90), st.integers(0, 100), st.integers(0, 100))
def test_faster_is_never_a_worse_level(limit: int, one: int, other: int) -> None:
    slow, fast = sorted((one, other))
    first, second = Flow(slow, limit, "mph").level, Flow(fast, limit, "mph").level
    assert LEVELS.index(first) <= LEVELS.index(second)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        edges(0, "mph")
    with pytest.raises(ValueError, match="speed"):
        _ = Flow(-1, 50, "mph").level
    with pytest.raises(KeyError):
        edges(50, "knots")
