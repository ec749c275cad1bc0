"""A peer works with embeddings that it received; of another space it takes none."""

from __future__ import annotations

import numpy as np
import pytest

from agents.cooperation.data import blurred
from capabilities.data.messages import Embedding
from capabilities.data.reuse import MAX_LABELS, Centroids, summarise
from capabilities.embedding.space import Space, SpaceMismatch
from capabilities.state_noise import StateNoise
from mesh.core.errors import ConfigError

SPACE = Space(model="m", dimensionality=4, digest="one")
OTHER = Space(model="m", dimensionality=4, digest="two")  # the same name, other weights


def embedding(*row: float, label: str = "", space: Space = SPACE) -> Embedding:
    return Embedding(
        domain="air",
        type="raw",
        dimensionality=4,
        space=space,
        data=np.array(row, "<f4").tobytes(),
        source="n",
        at=1.0,
        label=label,
    )


def taught() -> Centroids:
    found = Centroids(SPACE)
    found.learn(embedding(1, 0.1, 0, 0, label="urban"))
    found.learn(embedding(1, -0.1, 0, 0, label="urban"))
    found.learn(embedding(0, 0, 1, 0, label="industrial"))
    return found


def test_an_embedding_is_what_its_nearest_label_is() -> None:
    near = taught().classify(embedding(0.9, 0.1, 0.2, 0))
    assert near.label == "urban"
    assert near.cosine > 0.9
    assert near.margin > 0.5


def test_vectors_of_another_space_are_neither_learnt_nor_classified() -> None:
    centroids = taught()
    for work in (centroids.learn, centroids.classify):
        with pytest.raises(SpaceMismatch, match="cannot be compared"):
            work(embedding(1, 0, 0, 0, label="urban", space=OTHER))
    with pytest.raises(SpaceMismatch):
        summarise([embedding(1, 0, 0, 0), embedding(1, 0, 0, 0, space=OTHER)], 1)
    assert centroids.counters["refused"] == 2


def test_without_labels_nothing_is_learnt_or_told_apart() -> None:
    with pytest.raises(ConfigError, match="no label"):
        Centroids(SPACE).classify(embedding(1, 0, 0, 0))
    with pytest.raises(ConfigError, match="without a label"):
        Centroids(SPACE).learn(embedding(1, 0, 0, 0))
    many = Centroids(SPACE)
    for n in range(MAX_LABELS):
        many.learn(embedding(1, n, 0, 0, label=f"l{n}"))
    with pytest.raises(ConfigError, match="labels"):
        many.learn(embedding(1, 0, 0, 0, label="one more"))


def test_a_summary_takes_the_central_first_and_then_what_is_new() -> None:
    rows = [embedding(1, 0.05 * n, 0, 0) for n in range(5)] + [embedding(0.5, 0, 1, 0)]
    taken = summarise(rows, 2)
    assert taken[0] in range(5)
    assert taken[1] == 5
    assert summarise([], 3) == []
    assert sorted(summarise(rows, 99)) == list(range(6))


def test_noise_moves_the_vector_keeps_its_length_and_takes_the_text_away() -> None:
    clear = Embedding(
        domain="air",
        type="raw",
        dimensionality=4,
        space=SPACE,
        data=np.array([1, 0, 0, 0], "<f4").tobytes(),
        source="n",
        at=1.0,
        text="a secret",
    )
    made = blurred(clear, StateNoise("metric", epsilon=20.0))
    row = np.array(made.vector())
    assert made.data != clear.data
    assert np.linalg.norm(row) == pytest.approx(1.0, abs=1e-5)
    assert made.noise == pytest.approx(0.2)
    assert made.text == ""
