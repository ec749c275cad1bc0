"""Series, faults, anomalies, pulses, and what is said of them: made signals, known answers."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from capabilities.data.titles import title
from capabilities.sensors.anomaly import AnomalyConfig, AnomalyDetector
from capabilities.sensors.faults import FaultConfig, FaultDetector
from capabilities.sensors.insight import InsightBook, InsightConfig
from capabilities.sensors.ppg import heart_rate
from capabilities.sensors.series import fill, resample, usual_period

HOUR_S = 3600.0


def test_a_period_is_its_median_and_a_long_gap_stays_open() -> None:
    slots = resample([0, 1, 2, 25, 95], [1, 2, 99, 4, 9], start=0, period_s=10, count=10)
    assert slots == [2, None, 4, None, None, None, None, None, None, 9]
    assert fill(slots, 2)[:4] == [2, 3, 4, None]
    assert usual_period([0, 10, 20, 90]) == 10
    with pytest.raises(ValueError, match="periods"):
        resample([], [], start=0, period_s=0, count=1)


def day(hour: int, rng: random.Random) -> float:
    return 50 + 20 * math.sin(hour % 24 / 24 * 2 * math.pi) + rng.gauss(0, 1)


def faults(values: list[float | None], **more: float) -> list[tuple[int, str]]:
    detector = FaultDetector(FaultConfig(**more))  # type: ignore[arg-type]
    return [
        (hour, fault.kind)
        for hour, value in enumerate(values)
        if value is not None
        for fault in detector.add(hour * HOUR_S, value)
    ]


def test_a_sound_sensor_is_not_accused() -> None:
    for seed in range(10):
        rng = random.Random(seed)
        assert faults([day(hour, rng) for hour in range(500)]) == [], f"seed {seed}"


def test_each_fault_is_found_and_called_by_its_name() -> None:
    rng = random.Random(1)
    values: list[float | None] = [day(hour, rng) for hour in range(400)]
    values[100] = 500.0
    values[200:220] = [values[200]] * 20
    values[300] = -5.0
    values[350:370] = [None] * 20
    found = faults(values, low=0.0, high=1000.0)
    assert {kind for _, kind in found} == {"spike", "stuck", "range", "dropout"}
    assert (101, "spike") in found
    assert min(hour for hour, kind in found if kind == "stuck") < 210
    assert (300, "range") in found
    assert (370, "dropout") in found


def test_a_step_is_no_spike() -> None:
    rng = random.Random(2)
    values: list[float | None] = [rng.gauss(10, 1) + 100 * (hour >= 200) for hour in range(400)]
    assert not [kind for _, kind in faults(values) if kind == "spike"]


def test_a_sensor_that_leaves_its_neighbours_drifts_and_one_that_goes_along_does_not() -> None:
    rng = random.Random(3)
    alone, along = FaultDetector(), FaultDetector()
    kinds: tuple[set[str], set[str]] = (set(), set())
    for hour in range(600):
        common = day(hour, rng) + 0.5 * max(0, hour - 300)
        for detector, found, value in (
            (alone, kinds[0], day(hour, rng)),
            (along, kinds[1], common + rng.gauss(0, 1)),
        ):
            found |= {fault.kind for fault in detector.add(hour * HOUR_S, value, common)}
    assert "drift" in kinds[0]
    assert "drift" not in kinds[1]


def test_an_unusual_level_is_a_shift_and_an_unusual_value_a_spike() -> None:
    rng = random.Random(4)
    detector = AnomalyDetector(AnomalyConfig(season_s=24 * HOUR_S))
    kinds: dict[str, list[int]] = {}
    for hour in range(24 * 60):
        value = day(hour, rng)
        value += 30 * (hour == 24 * 40) + 12 * (24 * 50 <= hour < 24 * 51)
        kinds.setdefault(detector.add(hour * HOUR_S, value).kind, []).append(hour)
    assert kinds["spike"] == [24 * 40]
    assert 24 * 50 < min(kinds["shift"]) < 24 * 51
    assert max(kinds["shift"]) < 24 * 52


def pulse(bpm: float, seconds: float, hz: float, noise: float, seed: int = 0) -> np.ndarray:
    """A pulse wave with its dicrotic second, a drifting base and noise."""
    at = np.arange(int(seconds * hz)) / hz
    phase = at * bpm / 60 % 1
    wave = np.exp(-((phase - 0.2) ** 2) / 0.005) + 0.4 * np.exp(-((phase - 0.5) ** 2) / 0.01)
    rng = np.random.default_rng(seed)
    return 500 + 100 * wave + 40 * np.sin(at) + rng.normal(0, noise, len(at))


@pytest.mark.parametrize("bpm", [45, 60, 88, 140, 180])
@pytest.mark.parametrize("hz", [32.0, 100.0])
def test_the_heart_rate_of_a_clear_pulse_is_told(bpm: float, hz: float) -> None:
    found = heart_rate(pulse(bpm, 30, hz, noise=5), hz)
    assert found.believed
    assert found.bpm == pytest.approx(bpm, abs=2)


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_no_heart_rate(seed: int) -> None:
    assert not heart_rate(np.random.default_rng(seed).normal(0, 1, 3000), 100.0).believed


def test_nothing_of_a_flat_line_and_no_recording_of_a_strange_rate() -> None:
    assert heart_rate([512.0] * 3000, 100.0).beats == 0
    assert heart_rate([1.0, 2.0], 100.0).beats == 0
    with pytest.raises(ValueError, match="no recording"):
        heart_rate([0.0] * 100, 1e6)


def test_an_insight_says_level_trend_and_standard() -> None:
    book = InsightBook(InsightConfig(rules={"pm2_5_ug_m3": "air_quality.pm2_5"}))
    for minute in range(60):
        book.add(minute * 60.0, {"pm2_5_ug_m3": 30 + minute * 0.5})
    found = book.insight(3600.0)
    assert found is not None
    assert found.values["pm2_5_ug_m3"] == pytest.approx(44.75)
    assert found.values["pm2_5_ug_m3_per_h"] == pytest.approx(30, rel=0.1)
    text = " ".join(found.facts)
    assert "rising" in text
    assert "Unhealthy for sensitive groups" in text
    assert title("pm2_5_ug_m3") == "pm2 5 (ug/m3)"


def test_a_sensor_at_fault_has_no_value_in_an_insight() -> None:
    book = InsightBook(InsightConfig())
    rng = random.Random(5)
    for minute in range(90):
        book.add(minute * 60.0, {"t": 20 + rng.gauss(0, 1) if minute < 60 else 21.0})
    found = book.insight(90 * 60.0)
    assert found is not None
    assert found.faulty == ["t"]
    assert "t" not in found.values
    assert "stuck" in found.facts[0]


def test_a_pulse_wave_becomes_a_rate_and_its_samples_are_not_told() -> None:
    book = InsightBook(
        InsightConfig(ppg="ppg", ppg_hz=50.0, rules={"heart_rate_bpm": "vitals.pulse"})
    )
    for place, value in enumerate(pulse(72, 30, 50.0, noise=5)):
        book.add(1000 + place / 50.0, {"ppg": float(value)})
    found = book.insight(1030.0)
    assert found is not None
    assert found.values["heart_rate_bpm"] == pytest.approx(72, abs=2)
    assert found.values["news2"] == 0.0
    assert not any(name.startswith("ppg") for name in found.values)


def test_nothing_is_said_of_nothing() -> None:
    assert InsightBook(InsightConfig()).insight(0.0) is None
