"""The static embedder: what it says of sentences, and of files that are not its own."""

from __future__ import annotations

import numpy as np
import pytest

from capabilities.embedding.space import Space, SpaceMismatch
from capabilities.embedding.static import MODEL_FILE, TOKENIZER_FILE, StaticEmbedder, shipped, write
from capabilities.embedding.training.distil import make_tokenizer
from mesh.core.errors import ConfigError


def tiny(folder, rows=None):
    tokens = ["[UNK]", "cold", "warm", "rain", "##y", "sun"]
    vectors = np.eye(6, 8, dtype=np.float32) if rows is None else rows
    vectors[0] = 0
    write(folder, vectors, make_tokenizer(tokens), made_from="a test")
    return StaticEmbedder(folder)


def test_vectors_have_length_one_and_word_order_does_not_matter(tmp_path):
    made = tiny(tmp_path).embed(["cold rain", "rain cold", "rainy"])
    assert np.allclose(np.linalg.norm(made, axis=1), 1.0, atol=1e-6)
    assert np.allclose(made[0], made[1])
    assert not np.allclose(made[0], made[2])


def test_a_text_without_a_known_token_resembles_nothing(tmp_path):
    made = tiny(tmp_path).embed(["", "zzz", "cold"])
    assert not made[:2].any()
    assert made[2].any()


def test_the_same_sentence_embeds_the_same_alone_and_among_others(tmp_path):
    embedder = tiny(tmp_path)
    together = embedder.embed(["cold", "warm rain", "sun"])
    assert np.array_equal(together[1], embedder.embed(["warm rain"])[0])


def test_bytes_hold_the_vectors_within_half_a_step(tmp_path):
    rows = np.random.default_rng(3).normal(size=(6, 16)).astype(np.float32)
    stored = tiny(tmp_path, rows.copy()).vectors()[1:]
    step = np.abs(rows[1:]).max(axis=1, keepdims=True) / 127
    assert (np.abs(stored - rows[1:]) <= step * 0.6).all()


def test_other_weights_are_another_space(tmp_path):
    first = tiny(tmp_path / "a")
    rows = np.eye(6, 8, dtype=np.float32)
    rows[2, 3] = 0.5
    second = tiny(tmp_path / "b", rows)
    with pytest.raises(SpaceMismatch, match="cannot be compared"):
        first.space.require(second.space)
    first.space.require(tiny(tmp_path / "c").space)


@pytest.mark.parametrize("broken", [MODEL_FILE, TOKENIZER_FILE])
def test_a_broken_file_is_one_clear_error(tmp_path, broken):
    tiny(tmp_path)
    (tmp_path / broken).write_bytes(b"not this")
    with pytest.raises(ConfigError, match="no embedder in"):
        StaticEmbedder(tmp_path)


def test_vectors_of_another_tokenizer_are_refused(tmp_path):
    tiny(tmp_path)
    make_tokenizer(["[UNK]", "one"]).save(str(tmp_path / TOKENIZER_FILE))
    with pytest.raises(ConfigError, match="has 2 tokens"):
        StaticEmbedder(tmp_path)


@pytest.mark.parametrize(("model", "width"), [("", 8), ("m", 0), ("m", 10**6)])
def test_a_space_must_say_what_it_is(model, width):
    with pytest.raises(ConfigError, match="names its model"):
        Space(model=model, dimensionality=width)


def test_the_shipped_embedder_knows_what_belongs_together():
    rows = shipped().embed(
        [
            "What is the air quality at the station today?",
            "How polluted is the air right now?",
            "Multiply seven by eight.",
            "What is the product of 7 and 8?",
        ]
    )
    likeness = rows @ rows.T
    assert likeness[0, 1] > likeness[0, 2] + 0.2
    assert likeness[2, 3] > likeness[1, 3] + 0.2
