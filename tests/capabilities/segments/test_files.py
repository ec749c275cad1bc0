"""Models cut into layer segments: exact, and refused where they could not be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capabilities.segments import files
from capabilities.segments.calibration import RAW, Calibration
from capabilities.segments.check import verify
from capabilities.segments.files import (
    Range,
    describe,
    layers_of,
    ranges_at,
    split,
    write_calibration,
)
from capabilities.slm import header, synth
from capabilities.slm.embedded import embedded_models
from capabilities.slm.quantize import quantize
from mesh.core.errors import ModelError
from mesh.core.names import check_name

gguf = pytest.importorskip("gguf", reason="segments are written with the gguf library")
WHOLE = embedded_models()["arithmetic"].path


@pytest.fixture(scope="module")
def exits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exit heads after layer 2: the model's own norm and embedding, which are of its width."""
    path = tmp_path_factory.mktemp("exits") / "arithmetic.exits.gguf"
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(WHOLE).tensors}
    writer = gguf.GGUFWriter(path, "llama")
    for name, source in (("norm", "output_norm.weight"), ("output", "token_embd.weight")):
        tensor = tensors[source]
        writer.add_tensor(f"exit.2.{name}.weight", tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def shape(path: Path, arch: str = "llama", **keys: Any) -> Path:
    """A file of one small tensor with these keys: enough for what is refused by its header."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(keys.pop("layers", 4))
    for key, value in keys.items():
        name = key.replace("__", ".")
        (writer.add_array if isinstance(value, list) else writer.add_uint32)(name, value)
    writer.add_tensor("token_embd.weight", np.zeros((8, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_segments_say_what_they_are(tmp_path: Path, exits: Path) -> None:
    made = split(WHOLE, ranges_at([2], layers_of(WHOLE)), tmp_path, exits=exits)
    first, second = (describe(one.path) for one in made)
    assert first is not None
    assert second is not None
    assert first.name == "computation.gpt/segment/arithmetic/1-2"
    assert first.model_sha256 == second.model_sha256 == header.file_sha256(WHOLE)
    assert (first.exit, second.exit) == (True, True)
    assert header.read(first.path).vocab_hash == header.read(WHOLE).vocab_hash
    assert describe(WHOLE) is None


def test_a_segment_carries_how_far_its_exit_may_be_believed(tmp_path: Path, exits: Path) -> None:
    told = Calibration(
        scale=1.5, shift=3.25, answers=9, tokens=80, sure=0.5, wrong=0.001, parted=0.01
    )
    path = tmp_path / "told.exits.gguf"
    reader, writer = gguf.GGUFReader(exits), gguf.GGUFWriter(path, "llama")
    write_calibration(writer, "exit.2.confidence", told)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    pieces = ranges_at([2], layers_of(WHOLE))
    first, last = split(WHOLE, pieces, tmp_path / "told", exits=path)
    assert describe(first.path) == first
    assert (first.calibration, last.calibration) == (told, RAW)
    plain, _ = split(WHOLE, pieces, tmp_path / "plain", exits=exits)
    assert plain.calibration == RAW


def test_a_model_with_capitals_in_its_name_is_offered_under_a_name_of_the_mesh(
    tmp_path: Path,
) -> None:
    (tmp_path / "My Model-Q8_0.gguf").symlink_to(WHOLE)
    _, last = split(tmp_path / "My Model-Q8_0.gguf", ranges_at([2], layers_of(WHOLE)), tmp_path)
    assert last.model == "My Model-Q8_0"
    assert check_name(last.name) == "computation.gpt/segment/my_model-q8_0/3-4"


def test_without_exit_heads_only_the_last_segment_has_tokens_to_give(tmp_path: Path) -> None:
    made = split(WHOLE, ranges_at([1, 2], layers_of(WHOLE)), tmp_path)
    assert [one.exit for one in made] == [False, False, True]


def test_shipped_weights_cut_anywhere_compute_the_same_bits(tmp_path: Path, exits: Path) -> None:
    layers = layers_of(WHOLE)
    pieces = [*ranges_at([2], layers), Range(2, layers), Range(2, 3)]
    made = split(WHOLE, pieces, tmp_path, exits=exits)
    assert set(verify(WHOLE, [one.path for one in made]).values()) == {0.0}


@pytest.mark.parametrize("kind", ["f16", "q4_0"])
def test_other_quantizations_compute_the_same_bits(tmp_path: Path, kind: str) -> None:
    synth.write(tmp_path / "tiny.gguf", "tiny", "f16")
    whole = tmp_path / f"tiny-{kind}.gguf"
    quantize(tmp_path / "tiny.gguf", whole, kind)
    made = split(whole, ranges_at([1], 2), tmp_path / "cut")
    assert set(verify(whole, [one.path for one in made]).values()) == {0.0}


def test_a_changed_weight_is_seen(tmp_path: Path) -> None:
    made = split(WHOLE, ranges_at([2], layers_of(WHOLE)), tmp_path)
    reader = gguf.GGUFReader(made[1].path, "r+")
    tensor = next(t for t in reader.tensors if t.name == "blk.0.ffn_up.weight")
    tensor.data[0, :8] ^= 3
    reader.data.flush()
    found = verify(WHOLE, [one.path for one in made])
    assert found[made[0].path.name] == 0.0
    assert found[made[1].path.name] > 0.0


def test_segments_of_another_model_are_refused(tmp_path: Path) -> None:
    synth.write(tmp_path / "tiny.gguf", "tiny", "f16")
    made = split(tmp_path / "tiny.gguf", ranges_at([1], 2), tmp_path / "cut")
    with pytest.raises(ModelError, match="is not a segment of arithmetic"):
        verify(WHOLE, [made[0].path])


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"arch": "gemma3"}, "architecture gemma3"),
        ({"llama__attention__sliding_window": 512}, "sliding window"),
        ({"split__count": 3}, "one of several files"),
        ({"layers": 1}, "nothing to cut"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_reason(
    tmp_path: Path, keys: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        layers_of(shape(tmp_path / "odd.gguf", **keys))


def test_arrays_by_layer_are_cut_if_known_and_refused_if_not(tmp_path: Path) -> None:
    known = shape(tmp_path / "known.gguf", llama__attention__head_count_kv=[1, 2, 3, 4])
    made = split(known, [Range(2, 3)], tmp_path / "cut")
    field = gguf.GGUFReader(made[0].path).fields["llama.attention.head_count_kv"]
    assert field.contents() == [2, 3]
    odd = shape(tmp_path / "odd.gguf", llama__layer_kinds=[1, 0, 1, 0])
    with pytest.raises(ModelError, match=r"llama\.layer_kinds differs by layer"):
        split(odd, [Range(2, 3)], tmp_path / "cut")


def test_a_segment_is_not_cut_again(tmp_path: Path) -> None:
    made = split(WHOLE, ranges_at([2], layers_of(WHOLE)), tmp_path)
    with pytest.raises(ModelError, match="segment already"):
        layers_of(made[0].path)


@pytest.mark.parametrize("cuts", [[], [0], [4], [2, 9]])
def test_cuts_outside_the_model_are_refused(cuts: list[int]) -> None:
    with pytest.raises(ModelError, match="cut after 1 to 3"):
        ranges_at(cuts, 4)


@pytest.mark.parametrize("text", ["", "3", "4-3", "0-2", "a-b", "1-2-3"])
def test_ranges_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ModelError, match="no range of layers"):
        Range.parse(text)


def test_exits_of_another_width_are_refused(tmp_path: Path, exits: Path) -> None:
    synth.write(tmp_path / "tiny.gguf", "tiny", "f16")
    with pytest.raises(ModelError, match="another width"):
        split(tmp_path / "tiny.gguf", ranges_at([1], 2), tmp_path, exits=exits)


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_tensors", full)
    with pytest.raises(ModelError, match="No space left"):
        split(WHOLE, ranges_at([2], layers_of(WHOLE)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_cuts_checks_and_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agents.faces.cli", "model", "split", "builtin:arithmetic"]
    ended = subprocess.run(
        [*command, "--at", "2", "-o", str(tmp_path), "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = json.loads(ended.stdout)
    assert [one["difference"] for one in found] == [0.0, 0.0]
    assert found[0]["name"] == "computation.gpt/segment/arithmetic/1-2"
