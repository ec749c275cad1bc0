"""Noise on hidden rows: as wide as it says, fresh for each row, and told with its dimension."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agents.config import make_config
from agents.configure import build_noise
from capabilities.state_noise import StateNoise
from mesh.core.errors import ConfigError

ROWS = np.zeros((4000, 64))


@pytest.mark.parametrize(
    "noise", [StateNoise("metric", epsilon=200.0), StateNoise("gaussian", std=0.05)]
)
def test_rows_move_as_far_as_the_report_says(noise: StateNoise) -> None:
    moved = np.linalg.norm(noise.apply(ROWS, np.random.default_rng(7)), axis=-1)
    report = noise.report(64)
    assert moved.mean() == pytest.approx(report.mean_distance, rel=0.02)
    assert report.dimensions == 64


def test_the_length_of_metric_noise_follows_gamma_and_its_direction_is_uniform() -> None:
    moved = StateNoise("metric", epsilon=10.0).apply(ROWS, np.random.default_rng(7))
    lengths = np.linalg.norm(moved, axis=-1)
    assert lengths.var() == pytest.approx(64 / 10.0**2, rel=0.1)  # of Gamma(n, 1/epsilon)
    mean_direction = (moved / lengths[:, None]).mean(axis=0)
    assert np.abs(mean_direction).max() < 0.01


def test_metric_noise_keeps_its_promise_in_one_dimension() -> None:
    """In one dimension it is Laplace noise: the odds of any outcome differ by exp(eps * d)."""
    epsilon, distance, many = 2.0, 0.5, 400_000
    rng = np.random.default_rng(7)
    noise = StateNoise("metric", epsilon=epsilon)
    here = noise.apply(np.zeros((many, 1)), rng)[:, 0]
    there = noise.apply(np.full((many, 1), distance), rng)[:, 0]
    edges = np.linspace(-1.0, 1.5, 11)
    odds = np.histogram(here, edges)[0] / np.histogram(there, edges)[0]
    assert odds.max() <= np.exp(epsilon * distance) * 1.05
    assert odds.min() >= np.exp(-epsilon * distance) / 1.05


def test_each_row_gets_noise_of_its_own_and_a_seed_repeats_it() -> None:
    noise = StateNoise("metric", epsilon=1.0)
    first = noise.apply(np.ones((2, 3, 8)), np.random.default_rng(1))
    assert first.shape == (2, 3, 8)
    assert first.dtype == np.float32
    assert len(np.unique(first.reshape(-1, 8), axis=0)) == 6
    assert np.array_equal(first, noise.apply(np.ones((2, 3, 8)), np.random.default_rng(1)))


def test_without_noise_the_rows_leave_as_they_are_and_no_epsilon_is_claimed() -> None:
    noise = StateNoise()
    assert np.array_equal(noise.apply([[1.5, -2.0]], np.random.default_rng(1)), [[1.5, -2.0]])
    assert noise.report(2).epsilon == 0.0
    assert StateNoise("gaussian", std=1.0).report(2).epsilon == 0.0


@pytest.mark.parametrize("rows", [[np.nan], [np.inf, 1.0], 3.0])
def test_rows_that_are_none_are_refused(rows: object) -> None:
    with pytest.raises(ValueError, match="finite"):
        StateNoise("gaussian", std=1.0).apply(rows, np.random.default_rng(1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "states",
    [
        {"noise": "loud"},
        {"noise": "metric"},
        {"noise": "metric", "epsilon": -1.0},
        {"noise": "gaussian", "std": 0.0},
        {"epsilom": 1.0},
    ],
)
def test_a_configuration_that_cannot_work_is_refused(states: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        build_noise(make_config({"node": {"state": "x"}, "states": states}, base=Path()).states)


def test_the_configuration_chooses_the_noise() -> None:
    raw = {"node": {"state": "x"}, "states": {"noise": "metric", "epsilon": 1000.0}}
    noise = build_noise(make_config(raw, base=Path()).states)
    assert noise.report(384).mean_distance == pytest.approx(0.384)
    assert "metric" in repr(noise)
