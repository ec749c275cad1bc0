"""A wide model grown from narrow ones side by side: each part is in it, and they must fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training is an optional extra")
pytest.importorskip("tokenizers")

from capabilities.slm.training.chat import Example  # noqa: E402
from capabilities.slm.training.harness import TrainingConfig, train  # noqa: E402
from capabilities.slm.training.joining import joined  # noqa: E402
from capabilities.slm.training.model import Llama, ModelConfig  # noqa: E402
from capabilities.slm.training.recipes import RECIPES  # noqa: E402

NARROW = ModelConfig(width=32, layers=2, heads=2, kv_heads=2, feed_forward=64)
SHALLOW = ModelConfig(width=64, layers=1, heads=4, kv_heads=4, feed_forward=96)
WIDE = ModelConfig(width=96, layers=3, heads=6, kv_heads=6, feed_forward=192)


def model(shape: ModelConfig, seed: int) -> Llama:
    torch.manual_seed(seed)
    return Llama(shape)


def some_ids() -> torch.Tensor:
    torch.manual_seed(3)
    return torch.randint(16, 3000, (8, 24))


def test_one_part_alone_computes_what_it_did() -> None:
    part, ids = model(NARROW, 1), some_ids()
    whole = joined([part], replace(NARROW, layers=3, feed_forward=96), ids)
    assert torch.allclose(whole(ids), part(ids), atol=1e-4)


def test_each_part_is_heard_in_the_whole() -> None:
    """The norms are shared, so a part's logits are near to what they were, not the same."""
    parts, ids = [model(NARROW, 1), model(SHALLOW, 2)], some_ids()
    whole = joined(parts, WIDE, ids)
    for part, others in ((0, slice(32, 96)), (1, slice(0, 32))):
        alone = joined(parts, WIDE, ids)
        with torch.no_grad():
            alone.norm.weight[others] = 0.0
        heard, own = alone(ids).flatten(), parts[part](ids).flatten()
        assert torch.corrcoef(torch.stack((heard, own)))[0, 1] > 0.8
        assert not torch.allclose(whole(ids).flatten(), own, atol=0.1)


def test_a_part_keeps_to_its_channels_until_it_is_trained() -> None:
    parts, ids = [model(NARROW, 1), model(SHALLOW, 2)], some_ids()
    whole = joined(parts, WIDE, ids)
    first = whole.blocks[0].attention
    assert not first.q.weight[:32, 32:].any()
    assert not first.out.weight[32:, :32].any()
    # The last block is no part's: it reads all of them and adds nothing yet.
    assert whole.blocks[2].attention.q.weight[:32, 32:].any()
    assert not whole.blocks[2].down.weight.any()


def test_what_is_between_the_parts_learns() -> None:
    whole = joined([model(NARROW, 1), model(SHALLOW, 2)], WIDE, some_ids())
    torch.autograd.backward(whole(some_ids()).logsumexp(-1).mean())
    assert whole.blocks[0].attention.q.weight.grad[:32, 32:].any()
    assert whole.blocks[2].down.weight.grad.any()


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (replace(WIDE, width=128, heads=8, kv_heads=8), "add up"),
        (replace(WIDE, feed_forward=128), "neurons"),
        (replace(WIDE, layers=1), "blocks"),
        (replace(WIDE, heads=3, kv_heads=3), "add up"),
        (replace(WIDE, kv_heads=3), "share keys"),
        (replace(WIDE, rope_base=500.0), "another family"),
    ],
)
def test_parts_that_do_not_fit_are_named(shape: ModelConfig, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        joined([model(NARROW, 1), model(SHALLOW, 2)], shape, some_ids())


def test_a_run_may_begin_from_several_checkpoints(tmp_path: Path) -> None:
    example = Example("who are you?", "A node.", category="one")
    begin = []
    for name, shape in (("a", NARROW), ("b", SHALLOW)):
        config = TrainingConfig(steps=1, batch_tokens=256, model=shape)
        train(config, lambda _: example, [example], tmp_path / name)
        begin.append(tmp_path / name / "checkpoint.pt")
    config = TrainingConfig(steps=1, batch_tokens=256, model=WIDE)
    grown = train(config, lambda _: example, [example], tmp_path / "c", begin=begin)
    assert grown.config == WIDE


def test_the_shipped_parts_of_large_fit_its_shape() -> None:
    parts = [
        Llama(replace(RECIPES[name].training.model, exits=()))
        for name in ("general", "arithmetic", "judges")
    ]
    whole = joined(parts, RECIPES["large"].training.model, some_ids())
    assert whole.parameter_count() >= 4 * parts[0].parameter_count()
