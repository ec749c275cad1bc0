"""The air quality index: its breakpoints, its index, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.standards.air_quality import CATEGORIES, POLLUTANTS, Reading, worst

# The ranges of Table 6 as it prints them, each with the place of its category.
TABLE_6 = [
    ("pm2_5", ["0.0-9.0", "9.1-35.4", "35.5-55.4", "55.5-125.4", "125.5-225.4", "225.5-999"]),
    ("pm10", ["0-54", "55-154", "155-254", "255-354", "355-424", "425-2000"]),
    ("o3", ["0.000-0.054", "0.055-0.070", "0.071-0.085", "0.086-0.105", "0.106-0.200"]),
    ("no2", ["0-53", "54-100", "101-360", "361-649", "650-1249", "1250-4000"]),
    ("so2", ["0-35", "36-75", "76-185", "186-304"]),
    ("co", ["0.0-4.4", "4.5-9.4", "9.5-12.4", "12.5-15.4", "15.5-30.4", "30.5-90"]),
]


@pytest.mark.parametrize(("key", "ranges"), TABLE_6)
def test_both_ends_of_every_range_are_in_its_category(key: str, ranges: list[str]) -> None:
    for category, both in enumerate(ranges):
        for end in both.split("-"):
            assert POLLUTANTS[key].category(end) == category, end


@pytest.mark.parametrize(
    ("key", "concentration", "index"),
    [
        ("pm2_5", "9.0", 50),
        ("pm2_5", "9.1", 51),
        ("pm2_5", "35.4", 100),
        ("pm2_5", "325.4", 500),
        ("o3", "0.07853333", 126),  # the worked example of the technical assistance document
        ("o3", "0.078", 126),
        ("pm10", "0", 0),
        ("co", "8.4", 90),
        ("no2", "2049", 500),
    ],
)
def test_the_index_of(key: str, concentration: str, index: int) -> None:
    assert POLLUTANTS[key].index(concentration) == index


def test_what_is_finer_than_the_table_is_cut_off() -> None:
    assert POLLUTANTS["pm2_5"].category("35.49") == 1
    assert POLLUTANTS["pm10"].category(154.9) == 1
    assert POLLUTANTS["o3"].category(0.0709) == 1


def test_an_averaging_time_claims_no_index_above_what_it_defines() -> None:
    assert POLLUTANTS["so2"].index(900) == 200
    assert POLLUTANTS["o3"].index("0.5") == 300
    assert POLLUTANTS["pm2_5"].index(600) > 500  # beyond the table the last slope goes on


@given(st.sampled_from(sorted(POLLUTANTS)), st.integers(0, 5000), st.integers(0, 5000))
def test_more_of_a_pollutant_is_never_better(key: str, one: int, other: int) -> None:
    pollutant, (low, high) = POLLUTANTS[key], sorted((one, other))
    assert pollutant.index(low * pollutant.step) <= pollutant.index(high * pollutant.step)
    assert pollutant.category(low * pollutant.step) <= pollutant.category(high * pollutant.step)


def test_the_worst_reading_decides_and_the_first_among_equals() -> None:
    readings = [Reading("pm10", 60), Reading("o3", "0.090"), Reading("pm2_5", 60)]
    assert worst(readings).key == "o3"
    assert CATEGORIES[worst(readings).category] == "Unhealthy"


@pytest.mark.parametrize("nonsense", [-1, "nan", "inf"])
def test_an_impossible_concentration_is_refused(nonsense: float | str) -> None:
    with pytest.raises(ValueError, match=r"PM2\.5"):
        POLLUTANTS["pm2_5"].category(nonsense)


def test_no_readings_and_unknown_pollutants_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        worst([])
    with pytest.raises(KeyError):
        worst([Reading("co2", 800)])
