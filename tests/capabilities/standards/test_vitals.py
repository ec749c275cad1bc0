"""NEWS2: its bands, its levels, what a partial score may say, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.standards.vitals import LEVELS, PARAMETERS, score

# Chart 1: points, and the first and last value that score them.
CHART_1: dict[str, list[tuple[int, float, float]]] = {
    "respiration": [(3, 0, 8), (1, 9, 11), (0, 12, 20), (2, 21, 24), (3, 25, 60)],
    "spo2": [(3, 50, 91), (2, 92, 93), (1, 94, 95), (0, 96, 100)],
    "systolic": [(3, 40, 90), (2, 91, 100), (1, 101, 110), (0, 111, 219), (3, 220, 260)],
    "pulse": [(3, 0, 40), (1, 41, 50), (0, 51, 90), (1, 91, 110), (2, 111, 130), (3, 131, 220)],
    "temperature": [
        (3, 30, 35.0),
        (1, 35.1, 36.0),
        (0, 36.1, 38.0),
        (1, 38.1, 39.0),
        (2, 39.1, 42),
    ],
}
WELL = {
    "respiration": 16,
    "spo2": 98,
    "oxygen": False,
    "systolic": 120,
    "pulse": 70,
    "consciousness": False,
    "temperature": 36.8,
}


@pytest.mark.parametrize("key", sorted(CHART_1))
def test_both_ends_of_every_band_score_its_points(key: str) -> None:
    for points, first, last in CHART_1[key]:
        assert PARAMETERS[key].score(first) == points
        assert PARAMETERS[key].score(last) == points


def test_a_well_person_scores_nothing_and_all_seven_are_complete() -> None:
    found = score(WELL)
    assert (found.total, LEVELS[found.level], found.partial) == (0, "Low", False)


@pytest.mark.parametrize(
    ("changed", "total", "level"),
    [
        ({"oxygen": True}, 2, "Low"),
        ({"pulse": 100, "spo2": 94, "temperature": 39.5}, 4, "Low"),
        ({"consciousness": True}, 3, "Low-medium"),
        ({"pulse": 135}, 3, "Low-medium"),
        ({"pulse": 135, "oxygen": True}, 5, "Medium"),
        ({"pulse": 120, "spo2": 93, "temperature": 39.5}, 6, "Medium"),
        ({"pulse": 135, "spo2": 93, "oxygen": True}, 7, "High"),
    ],
)
def test_the_level_follows_chart_2(changed: dict[str, float], total: int, level: str) -> None:
    found = score({**WELL, **changed})
    assert (found.total, LEVELS[found.level]) == (total, level)


@given(st.sets(st.sampled_from(sorted(WELL)), min_size=1), st.integers(0, 40))
def test_a_missing_parameter_can_only_hide_urgency(known: set[str], extra: int) -> None:
    whole = {**WELL, "pulse": 60 + 3 * extra, "spo2": 99 - extra, "temperature": 36 + extra / 10}
    part = score({key: whole[key] for key in known})
    assert part.partial == (len(known) < len(WELL))
    assert part.total <= score(whole).total
    assert part.level <= score(whole).level


def test_nothing_observed_and_nonsense_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        score({})
    with pytest.raises(ValueError, match="pulse"):
        score({"pulse": -3})
    with pytest.raises(ValueError, match="SpO2"):
        score({"spo2": float("nan")})
    with pytest.raises(KeyError):
        score({"skin_temperature": 33})
