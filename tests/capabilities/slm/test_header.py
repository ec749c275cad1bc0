"""What is refused before native code sees a file."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from capabilities.slm import header
from mesh.core.errors import ModelError


def test_a_header_says_what_the_model_is(spoken: Path, random_model: Path) -> None:
    head = header.read(spoken)
    assert head.arch == "llama"
    assert head.text("general.name") == "spoken"
    assert head.scalars["llama.context_length"] == 256
    assert "output.weight" in head.tensors
    assert head.vocab_hash == header.read(random_model).vocab_hash != ""


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        header.read(path)
    sentence = caught.value.sentence()
    assert "\n" not in sentence
    assert str(path) in sentence
    return sentence


def test_what_is_no_gguf_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("hello, I am not a model")
    assert "is not a GGUF file" in refused(other)
    other.write_bytes(b"")
    assert "is not a GGUF file" in refused(other)
    assert "No such file" in refused(tmp_path / "missing.gguf")
    assert "directory" in refused(tmp_path)


def test_a_file_cut_off_anywhere_is_refused(spoken: Path, tmp_path: Path) -> None:
    data = spoken.read_bytes()
    cut = tmp_path / "cut.gguf"
    for size in (4, 10, 30, 200, 3000, len(data) // 3):
        cut.write_bytes(data[:size])
        assert "cut off" in refused(cut)


def test_an_unknown_version_and_absurd_counts_are_refused(spoken: Path, tmp_path: Path) -> None:
    data = bytearray(spoken.read_bytes())
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(data[:4] + (9).to_bytes(4, "little") + data[8:])
    assert "version 9" in refused(bad)
    bad.write_bytes(data[:8] + b"\xff" * 16 + data[24:])
    assert "damaged" in refused(bad)


def test_flipped_bytes_are_read_or_refused_and_nothing_else(spoken: Path, tmp_path: Path) -> None:
    rng = random.Random(3)
    data = spoken.read_bytes()
    bad = tmp_path / "flipped.gguf"
    for _ in range(60):
        damaged = bytearray(data[:8000])
        for _ in range(3):
            damaged[rng.randrange(4, 8000)] = rng.randrange(256)
        bad.write_bytes(bytes(damaged) + data[8000:])
        with contextlib.suppress(ModelError):
            header.read(bad)
