"""LoRA adapters: loaded, mixed by request, removed, all while the model runs."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from capabilities.slm import protocol
from tests.capabilities.slm.driving import Drive, Driven

WIDTH, RANK = 64, 4


def write_adapter(path: Path, seed: int, *, arch: str = "llama", width: int = WIDTH) -> Path:
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(str(path), arch)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    for name in ("attn_v", "attn_output"):
        a = rng.normal(0, 0.5, (RANK, width)).astype(np.float32)
        b = rng.normal(0, 0.5, (width, RANK)).astype(np.float32)
        writer.add_tensor(f"blk.0.{name}.weight.lora_a", a)
        writer.add_tensor(f"blk.0.{name}.weight.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def adapted(drive: Drive, random_model: Path, tmp_path: Path) -> Driven:
    it = drive(random_model)
    for key, name in enumerate(("fish", "birds")):
        path = write_adapter(tmp_path / f"{name}.gguf", key)
        it.engine.handle(
            protocol.AddAdapter(id=900 + key, name=name, path=str(path)), it.replies.append
        )
    return it


def text(it: Driven, key: int, **request: object) -> str:
    it.submit(key, "what do you eat?", max_tokens=16, **request)
    it.run()
    return it.done(key).text


def test_adapters_change_answers_by_their_scale_and_leave_others_alone(adapted: Driven) -> None:
    it = adapted
    plain = text(it, 1)
    fish = text(it, 2, adapters={"fish": 1.0})
    birds = text(it, 3, adapters={"birds": 1.0})
    both = text(it, 4, adapters={"fish": 0.5, "birds": 0.5})
    assert len({plain, fish, birds, both}) == 4
    assert text(it, 5, adapters={"fish": 0.0}) == plain
    assert text(it, 6, adapters={"birds": 1.0}) == birds


def test_requests_with_different_adapters_run_beside_each_other(adapted: Driven) -> None:
    it = adapted
    alone = [text(it, 1), text(it, 2, adapters={"fish": 1.0})]
    it.submit(3, "what do you eat?", max_tokens=16, isolation="x")
    it.submit(4, "what do you eat?", max_tokens=16, adapters={"fish": 1.0}, isolation="x")
    it.run()
    assert [it.done(3).text, it.done(4).text] == alone


def test_a_prefix_computed_with_one_adapter_is_not_used_with_another(adapted: Driven) -> None:
    it = adapted
    text(it, 1, adapters={"fish": 1.0})
    text(it, 2, adapters={"fish": 1.0})
    text(it, 3, adapters={"fish": 0.9})
    text(it, 4)
    cached = [it.done(key).usage.cached_tokens for key in (1, 2, 3, 4)]
    assert cached[1] > 0
    assert (cached[0], cached[2], cached[3]) == (0, 0, 0)


def test_an_adapter_in_use_stays_and_one_that_is_removed_is_gone(adapted: Driven) -> None:
    it = adapted
    before = text(it, 1)
    fish = text(it, 2, adapters={"fish": 1.0})
    assert fish != before
    it.submit(3, "hello", max_tokens=16, adapters={"fish": 1.0})
    it.step()
    it.engine.handle(protocol.RemoveAdapter(id=50, name="fish"), it.replies.append)
    assert it.failure(50).code == "rejected"
    it.run()
    it.engine.handle(protocol.RemoveAdapter(id=51, name="fish"), it.replies.append)
    (left,) = [r.names for r in it.replies if isinstance(r, protocol.Adapters) and r.id == 51]
    assert left == ["birds"]
    it.submit(4, "hello", adapters={"fish": 1.0})
    assert "no adapter 'fish'" in it.failure(4).message
    assert text(it, 5) == before


def test_what_is_no_fitting_adapter_is_refused(
    drive: Drive, random_model: Path, tmp_path: Path
) -> None:
    it = drive(random_model)
    files = {
        "Bad Name": write_adapter(tmp_path / "a.gguf", 1),
        "model": random_model,
        "other": write_adapter(tmp_path / "b.gguf", 1, arch="qwen2"),
        "wide": write_adapter(tmp_path / "c.gguf", 1, width=128),
        "none": tmp_path / "none.gguf",
    }
    for key, (name, path) in enumerate(files.items()):
        it.engine.handle(
            protocol.AddAdapter(id=key + 1, name=name, path=str(path)), it.replies.append
        )
        assert it.failure(key + 1).message
    good = write_adapter(tmp_path / "d.gguf", 1)
    for key in (8, 9):
        it.engine.handle(protocol.AddAdapter(id=key, name="x", path=str(good)), it.replies.append)
    assert "already" in it.failure(9).message
    it.submit(20, "hi", adapters={"x": float("nan")})
    assert it.failure(20).code == "bad_request"
