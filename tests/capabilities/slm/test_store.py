"""The models of this machine: kept, made, shrunk, measured and removed by command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agents.faces.cli.app import app
from capabilities.slm import header, store, synth
from capabilities.slm.process import last_words
from mesh.core.errors import ModelError
from tests.capabilities.slm.driving import Drive


def model(at: Path, *words: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["model", *words, "--json"], env={store.VARIABLE: str(at)})
    assert result.exit_code == code, (result.output, result.exception)
    return json.loads(result.stdout.strip().splitlines()[-1])


def test_a_model_is_kept_shown_and_removed(tmp_path: Path, spoken: Path) -> None:
    added = model(tmp_path, "add", str(spoken), "--name", "talker")
    assert added["path"] == str(tmp_path / "talker.gguf")
    names = {entry["name"]: entry for entry in model(tmp_path, "list")}
    assert "builtin:arithmetic" in names
    assert not names["talker"]["synthetic"]
    told = model(tmp_path, "info", "talker")
    assert told["sha256"] == header.file_sha256(spoken)
    assert told["trained_context"] == 256
    assert told["memory_mb"] > 0
    assert told["chat_template"]
    model(tmp_path, "remove", "talker")
    assert spoken.exists()
    assert not list(tmp_path.glob("*.gguf"))


@pytest.mark.parametrize(
    "words",
    [
        ("add", "none.gguf"),
        ("info", "nobody"),
        ("remove", "nobody"),
        ("remove", "builtin:arithmetic"),
        ("remove", "../x"),
        ("synth", "--like", "gpt-9"),
        ("synth", "--like", "tiny", "--quant", "q1"),
        ("quantize", "builtin:arithmetic", "q99"),
        ("pull", "nonsense"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    problem = model(tmp_path, *words, code=1)["error"]
    assert problem["message"]
    assert "\n" not in problem["message"]
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_in_the_folder_is_shown_as_such(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(40))
    (bad,) = [entry for entry in model(tmp_path, "list") if entry["name"] == "bad"]
    assert "damaged" in bad["problem"]


def test_a_name_is_taken_once_and_never_leaves_the_folder(tmp_path: Path, spoken: Path) -> None:
    store.add(spoken, "one", tmp_path)
    with pytest.raises(ModelError, match="already"):
        store.add(spoken, "one", tmp_path)
    for name in ("../out", "", "a/b", ".hidden", "x" * 101):
        with pytest.raises(ModelError, match="cannot be called"):
            store.add(spoken, name, tmp_path)


@pytest.mark.parametrize("quant", synth.QUANTS)
def test_a_synthetic_model_computes_numbers_and_says_what_it_is(
    drive: Drive, tmp_path: Path, quant: str
) -> None:
    made = model(tmp_path, "synth", "--like", "tiny", "--quant", quant, "--name", "random")
    assert made["synthetic"]
    it = drive(tmp_path / "random.gguf")
    it.submit(1, "hello", max_tokens=5)
    it.run()
    assert it.done(1).usage.completion_tokens
    assert it.engine.ready().info.name == "synthetic tiny"


def test_a_synthetic_model_has_the_size_of_the_real_one() -> None:
    shape = synth.SHAPES["qwen2.5-0.5b"]
    rows = synth._q8_0(4, shape.width, synth.np.random.default_rng(0))
    assert rows.shape == (4, shape.width // 32 * 34)
    assert synth._kind("q4_k", "blk.0.attn_q.weight", 896) == "q5_0"
    assert synth._kind("q4_k", "blk.0.ffn_down.weight", 4864) == "q4_k"


def test_a_copy_is_made_smaller(tmp_path: Path) -> None:
    model(tmp_path, "synth", "--like", "tiny", "--quant", "f16", "--name", "full")
    made = model(tmp_path, "quantize", "full", "q8_0")
    assert made["name"] == "full-q8_0"
    assert made["mb"] <= model(tmp_path, "info", "full")["mb"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full-q8_0.gguf", "full.gguf"]


def test_a_model_is_measured_through_its_worker(
    tmp_path: Path, endless: Path, no_orphans: None
) -> None:
    found = model(tmp_path, "bench", str(endless), "--streams", "2", "--tokens", "8")
    assert found["tokens_per_s_1"] > 0
    assert found["tokens_per_s_2"] > 0
    assert found["memory_mb"] > 0


def test_last_words_are_telling() -> None:
    assert last_words("a\nllama: error: no such tensor\nb\n") == "llama: error: no such tensor"
