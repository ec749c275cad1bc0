"""Distilling an embedder: a student of a tiny teacher, and what a corpus may look like."""

from __future__ import annotations

import json

import numpy as np
import pytest

from capabilities.embedding.training import corpus
from mesh.core.errors import ConfigError


def test_sentences_come_from_lines_columns_keys_and_wordnet(tmp_path):
    (tmp_path / "lines.txt").write_text("one warm day\nlabel\n")
    (tmp_path / "table.csv").write_text("text,label\na cold night,x\n")
    (tmp_path / "deep.json").write_text(json.dumps({"train": [["some rain fell", "rain"]]}))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"q": "It rained. Then the sun came."}) + "\n")
    net = tmp_path / "net"
    net.mkdir()
    (net / "data.noun").write_text(
        "  1 a licence\n"
        '00003553 03 n 02 whole 0 unit 0 000 | an assemblage of parts; "the team is a unit"  \n'
    )
    sources = [
        str(tmp_path / "lines.txt"),
        f"{tmp_path / 'table.csv'}:text",
        f"{tmp_path / 'deep.json'}:train",
        f"{tmp_path / 'rows.jsonl'}:q",
        str(net),
    ]
    found = corpus.read(sources, seed=1)
    assert sorted(found) == [
        "It rained.",
        "Then the sun came.",
        "a cold night",
        "one warm day",
        "some rain fell",
        "the team is a unit",
        "whole: an assemblage of parts",
    ]
    assert corpus.read(sources, seed=1) == found
    assert corpus.read(sources, seed=2, limit=3) != found[:3]


@pytest.mark.parametrize("source", ["absent.txt", "absent.csv:text", "here.json:nokey"])
def test_a_source_that_cannot_be_read_is_named(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.json").write_text("{}")
    with pytest.raises(ConfigError, match=source.split(":")[0]):
        corpus.read([source], seed=0)


def test_the_student_learns_where_the_teacher_points():
    pytest.importorskip("torch")
    from capabilities.embedding.training.distil import axes_of, fit

    chance = np.random.default_rng(5)
    truth = chance.normal(size=(40, 12)).astype(np.float32)
    ids = [chance.integers(0, 40, 6).tolist() for _ in range(512)]
    sums = np.stack([truth[row].sum(0) for row in ids])
    rows = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    axes = axes_of(rows, 12)
    wanted = rows @ axes
    start = (0.1 * np.random.default_rng(6).normal(size=(40, 12))).astype(np.float32)

    def cosine(vectors):
        made = np.stack([vectors[row].sum(0) for row in ids])
        return float(((made / np.linalg.norm(made, axis=1, keepdims=True)) * wanted).sum(1).mean())

    before = cosine(start)
    after = cosine(fit(start, ids, wanted, epochs=60, batch=128, seed=1, rate=0.1))
    assert before < 0.3
    assert after > 0.9


def test_an_exported_embedder_gives_the_same_vectors(tmp_path):
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer

    from capabilities.embedding.static import shipped
    from capabilities.embedding.training.export import export

    export(shipped(), tmp_path / "st")
    texts = ["How is the air today?", "seven times eight", "unknowable qwxyz 42.5"]
    theirs = SentenceTransformer(str(tmp_path / "st"), device="cpu").encode(texts)
    assert np.allclose(theirs, shipped().embed(texts), atol=1e-5)
