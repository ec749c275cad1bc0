"""The thin layer over the C API: text in and out, batches, long runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.slm import llama
from mesh.core.errors import ModelError


@pytest.fixture
def model(spoken: Path) -> Iterator[llama.Model]:
    llama.start(lambda _level, _text: None)
    it = llama.Model(spoken)
    yield it
    it.close()
    it.close()  # harmless when repeated


def test_text_becomes_tokens_and_pieces_again(model: llama.Model) -> None:
    vocab = model.vocab
    for text in ("hello", "naïve ☃ 漢字", "", "a\0b", "<|end|>"):
        tokens = vocab.tokenize(text, special=False)
        assert b"".join(vocab.piece(t) for t in tokens).decode() == text


def test_control_tokens_are_read_only_when_asked_for(model: llama.Model) -> None:
    vocab = model.vocab
    assert vocab.find("<|end|>") == vocab.eos
    assert vocab.ends(vocab.eos)
    assert vocab.is_control(vocab.eos)
    assert vocab.piece(vocab.eos) == b""
    assert vocab.name(vocab.eos) == "<|end|>"
    assert len(vocab.tokenize("<|end|>", special=False)) == 7
    assert vocab.find("no such token") == -1
    assert "<|think|>" in vocab.controls


def test_a_long_word_is_cut_but_no_control_token_is(model: llama.Model) -> None:
    word = "x" * (llama.MAX_RUN_CHARS - 4)
    text = f"<|user|>{word}<|end|>{word}"
    tokens = model.vocab.tokenize(text, special=True)
    assert len(tokens) == 2 * len(word) + 2
    assert model.vocab.eos in tokens


@given(st.text("ab <>|", max_size=60), st.integers(1, 200))
def test_the_pieces_of_a_cut_are_the_text(text: str, times: int) -> None:
    whole = text * times
    pieces = llama.cut_runs(whole, ["<|", "|>", "a b"])
    assert "".join(pieces) == whole
    assert all(len(p) <= llama.MAX_RUN_CHARS or " " in p.strip() for p in pieces)


def test_a_batch_holds_no_more_than_its_size() -> None:
    batch = llama.Batch(4)
    batch.add([1, 2, 3], 0, 0, outputs=1)
    assert (batch.count, batch.outputs) == (3, 1)
    with pytest.raises(ValueError, match="batch of 4"):
        batch.add([4, 5], 3, 0, outputs=1)


def test_a_file_that_native_code_refuses_is_a_model_error(tmp_path: Path) -> None:
    llama.start(lambda _level, _text: None)
    with pytest.raises(ModelError, match="cannot load"):
        llama.Model(tmp_path / "missing.gguf")
