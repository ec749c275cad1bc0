"""Exits for a model that was trained without, the whole way: asked, fitted, measured, written."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

gguf = pytest.importorskip("gguf", reason="exits are written with the gguf library")

from capabilities.segments import files, fitting  # noqa: E402
from capabilities.segments.fitting import Head, Wish, make_exits, thirds  # noqa: E402
from capabilities.slm import header, store, synth  # noqa: E402
from capabilities.slm.embedded import embedded_models  # noqa: E402
from mesh.core.errors import ModelError  # noqa: E402

WISH = Wish(at=(1,), fitting=8, calibrating=6, tokens=12)
SILENT = ("blk.1.attn_output.weight", "blk.1.ffn_down.weight")  # what a layer adds to a row


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two layers with random weights, the second of which adds nothing."""
    folder = tmp_path_factory.mktemp("idle")
    synth.write(folder / "source.gguf", "tiny", "f16")
    reader = gguf.GGUFReader(folder / "source.gguf")
    writer = gguf.GGUFWriter(folder / "idle.gguf", "llama")
    for key, entry in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kind = entry.types[0]
            inner = entry.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, entry.contents(), kind, sub_type=inner)
    for tensor in reader.tensors:
        data = np.zeros_like(tensor.data) if tensor.name in SILENT else tensor.data
        writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    _close(writer)
    return folder / "idle.gguf"


def _close(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def bare(path: Path, *, width: int = 40, tokens: int = 6, **change: Any) -> Path:
    """A file with what an exit's head is made of, and nothing else."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(3)
    writer.add_embedding_length(change.get("stated", width))
    if change.get("epsilon", True):
        writer.add_layer_norm_rms_eps(1e-5)
    writer.add_token_list([f"t{i}" for i in range(change.get("listed", tokens))])
    rng = np.random.default_rng(1)
    writer.add_tensor("token_embd.weight", rng.normal(size=(tokens, width)).astype(np.float32))
    writer.add_tensor("output_norm.weight", np.ones(width, dtype=np.float32))
    if change.get("bias"):
        writer.add_tensor("output.bias", np.arange(tokens, dtype=np.float32))
    _close(writer)
    return path


def test_an_exit_before_layers_that_do_nothing_says_what_the_whole_model_says(
    idle: Path, tmp_path: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    made = asyncio.run(
        make_exits(
            idle, WISH, tmp_path / "x.exits.gguf", threads=1, report=lambda *one: told.append(one)
        )
    )
    (exit_,) = made.exits
    # The head is rounded to eight bits, so two tokens as good as equal may change places.
    assert exit_.agrees > 0.9
    assert exit_.explained > 0.999
    assert (made.answers, made.kind, made.left_out) == (8, "Q8_0", 0)
    assert exit_.calibration.answers == 6
    assert {what for what, done, total in told if done == total} == {
        "answers to fit on",
        "fitting",
        "head after layer 1",
        "answers to calibrate on",
    }
    first, last = files.split(idle, files.ranges_at([1], 2), tmp_path / "cut", exits=made.path)
    assert (first.exit, last.exit) == (True, True)
    assert first.calibration == exit_.calibration
    assert header.read(made.path).scalars[files.METHOD] == fitting.METHOD
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["x.exits.gguf"]


def test_a_file_of_exits_is_no_model_of_the_folder(idle: Path) -> None:
    (idle.parent / "idle.exits.gguf").write_bytes(b"GGUF")
    names = {model.name for model in store.models(idle.parent) if not model.embedded}
    assert names == {"idle", "source"}


@pytest.mark.parametrize(
    ("at", "said"), [((), "after 1 to 1"), ((0,), "not after 0"), ((1, 2, 7), "not after 2, 7")]
)
def test_a_depth_that_is_no_inner_layer_is_refused(
    idle: Path, tmp_path: Path, at: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        asyncio.run(make_exits(idle, Wish(at=at), tmp_path / "x.gguf"))


def test_an_architecture_that_cannot_be_cut_gets_no_exits(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "odd.gguf", "gemma2")
    writer.add_block_count(4)
    writer.add_tensor("token_embd.weight", np.zeros((8, 32), dtype=np.float32))
    _close(writer)
    with pytest.raises(ModelError, match="gemma2"):
        asyncio.run(make_exits(tmp_path / "odd.gguf", Wish(at=(1,)), tmp_path / "x.gguf"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"listed": 5}, "the model has 5 tokens"),
        ({"stated": 64}, "rows of 64"),
        ({"epsilon": False}, "lacks what an exit is made of"),
    ],
)
def test_a_head_that_does_not_belong_to_its_model_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        Head(bare(tmp_path / "odd.gguf", **change), gguf)


def test_rows_that_fill_no_block_of_eight_bits_are_kept_in_half_precision(tmp_path: Path) -> None:
    narrow = Head(bare(tmp_path / "narrow.gguf", width=40, bias=True), gguf)
    wide = Head(bare(tmp_path / "wide.gguf", width=64), gguf)
    assert (narrow.kind.name, wide.kind.name) == ("F16", "Q8_0")
    assert (narrow.stored_bytes, wide.stored_bytes) == (6 * 40 * 2, 6 * 2 * 34)
    for head in (narrow, wide):
        rows = head.read(2, 5)
        np.testing.assert_allclose(head.unpacked(head.stored(rows)), rows, atol=0.02)
    assert narrow.bias.tolist() == [0, 1, 2, 3, 4, 5]
    assert not wide.bias.any()


def test_a_full_disk_is_told_before_anything_is_computed(
    idle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting.shutil, "disk_usage", lambda at: SimpleNamespace(free=1000))
    with pytest.raises(ModelError, match="are needed"):
        asyncio.run(make_exits(idle, WISH, tmp_path / "x.gguf"))
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_leaves_nothing_behind(
    idle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *given: Any, **named: Any) -> None:
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fitting, "write_exits", full)
    brief = Wish(at=(1,), fitting=2, calibrating=2, tokens=8)
    with pytest.raises(ModelError, match="No space left"):
        asyncio.run(make_exits(idle, brief, tmp_path / "x.gguf", threads=1))
    assert not list(tmp_path.iterdir())


def test_two_exits_ask_for_as_many_answers_as_make_the_first_sure() -> None:
    fit, calibrate = Wish(at=(1, 2)).asked()
    assert (len(fit), len(calibrate)) == (fitting.ANSWERS, 920)
    assert not set(fit) & set(calibrate)
    assert len(Wish(at=(1,)).asked()[1]) == fitting.ANSWERS


def test_own_questions_are_fitted_on_again_and_calibrated_on_once() -> None:
    fit, calibrate = Wish(at=(1,), fitting=5, calibrating=9, own=(["a", "b"], ["c", "d"])).asked()
    assert (fit, calibrate) == (["a", "b", "a", "b", "a"], ["c", "d"])


@pytest.mark.parametrize(("layers", "at"), [(2, (1,)), (5, (2, 3)), (24, (8, 16))])
def test_exits_stand_after_thirds_if_nobody_says(layers: int, at: tuple[int, ...]) -> None:
    assert thirds(layers) == at


def _command(*words: str) -> Sequence[str]:
    return [sys.executable, "-m", "agents.faces.cli", "model", "exits", *words]


def test_the_command_tells_what_it_made_and_what_it_left_out(idle: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked.txt"
    asked.write_text("who are you?\nwhat is rain?\n" + "a long one " * 300 + "\nhow far?\n")
    output = tmp_path / "made" / "idle.exits.gguf"
    words = (str(idle), "--at", "1", "--prompts", str(asked), "-o", str(output), "--json")
    words += ("--answers", "4", "--tokens", "8", "--threads", "1")
    ended = subprocess.run(_command(*words), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["path"] == str(output)
    assert told["questions_left_out"] == 1
    assert told["fitted_on_answers"] == 2
    (exit_,) = told["exits"]
    assert (exit_["layer"], exit_["answers_needed"]) == (1, 230)
    assert (exit_["confidence"]["answers"], exit_["confidence"]["from_probability"]) == (2, 1.0)
    assert "answers to fit on: 4 of 4" in ended.stderr
    again = subprocess.run(_command(*words), capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "there is already" in json.loads(again.stdout)["error"]["message"]


def test_an_interrupt_ends_the_command_and_leaves_nothing_behind(tmp_path: Path) -> None:
    model = embedded_models()["arithmetic"].path
    words = (str(model), "--at", "2", "-o", str(tmp_path / "x.gguf"), "--threads", "1")
    with subprocess.Popen(_command(*words), stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert "answers to fit on" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
        assert running.wait() == 130
    assert "Traceback" not in rest
    assert not list(tmp_path.iterdir())
