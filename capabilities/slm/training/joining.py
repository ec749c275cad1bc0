"""One wide model grown from narrower ones that stand side by side in it.

Each part keeps its own channels of the residual stream, its own heads and its own neurons; what
would connect the parts is zero and is learned afterwards. The parts share two things from the
start. RMSNorm divides by the length of the whole stream: the weights of the norms make up for the
others' typical share of it, measured on examples. And the logits are the sum of all parts' logits:
which of them to believe is what the joint training has to teach first.

Growing a transformer out of trained ones: Net2Net (Chen et al. 2016), bert2BERT (Chen et al. 2022);
parts side by side: StackBERT and LEMON grow one model, here several of one tokenizer grow together.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from capabilities.slm.training.model import Block, Llama, causal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capabilities.slm.training.model import ModelConfig

__all__ = ["joined"]


def joined(parts: Sequence[Llama], shape: ModelConfig, ids: Tensor) -> Llama:
    """`parts` side by side in a model of `shape`; `ids` `[rows, length]` are typical text.

    The parts' widths and heads add up to those of `shape`, which has at least as many blocks and
    neurons as they. Parts with fewer blocks leave the last ones free: these see all parts and add
    nothing until they are trained. Raises ValueError where the parts do not fit.
    """
    _check(parts, shape)
    wide = Llama(shape)
    widths = [part.config.width for part in parts]
    offsets = [0, *accumulate(widths)]
    lengths = [_lengths(part, ids, shape.layers) for part in parts]
    # Each part's stream is scaled to be as long as the first's on the way: a long one would
    # otherwise drown the short ones' part in the shared norms.
    means = [float(length.log().mean().exp()) for length in lengths]
    scales = [means[0] / mean for mean in means]
    whole = torch.stack(
        [
            (length * scale) ** 2 * width / shape.width
            for length, scale, width in zip(lengths, scales, widths, strict=True)
        ]
    )
    shared = whole.sum(0).sqrt()
    with torch.no_grad():
        for block in wide.blocks:
            assert isinstance(block, Block)
            block.attention.out.weight.zero_()
            block.down.weight.zero_()
        for number, part in enumerate(parts):
            at = slice(offsets[number], offsets[number + 1])
            scale, gains = scales[number], shared / (lengths[number] * scales[number])
            wide.embedding.weight[:, at] = part.embedding.weight * scale
            for place, (block, source) in enumerate(zip(wide.blocks, part.blocks, strict=False)):
                assert isinstance(block, Block)
                assert isinstance(source, Block)
                neurons = sum(
                    other.config.feed_forward
                    for other in parts[:number]
                    if place < other.config.layers
                )
                _place(block, source, at, neurons, scale, gains[2 * place : 2 * place + 2])
            # The head is the embedding, which carries the scale.
            wide.norm.weight[at] = part.norm.weight * gains[-1] / scale
    return wide


def _check(parts: Sequence[Llama], shape: ModelConfig) -> None:
    configs = [part.config for part in parts]
    if any(config.kv_heads != config.heads for config in (*configs, shape)):
        raise ValueError("where heads share keys, models cannot stand side by side")
    if sum(c.width for c in configs) != shape.width or sum(c.heads for c in configs) != shape.heads:
        raise ValueError(
            f"parts of width {[c.width for c in configs]} with {[c.heads for c in configs]} heads "
            f"do not add up to width {shape.width} with {shape.heads}"
        )
    for config in configs:
        alike = (config.head_width, config.vocabulary, config.rope_base, config.norm_epsilon)
        if alike != (shape.head_width, shape.vocabulary, shape.rope_base, shape.norm_epsilon):
            raise ValueError(f"a part is of another family: {config}, not {shape}")
        if config.layers > shape.layers:
            raise ValueError(f"a part has {config.layers} blocks, the whole {shape.layers}")
    for place in range(shape.layers):
        needed = sum(c.feed_forward for c in configs if place < c.layers)
        if needed > shape.feed_forward:
            raise ValueError(f"the parts have {needed} neurons, not {shape.feed_forward}")


def _place(
    block: Block, source: Block, at: slice, neurons: int, scale: float, gains: Tensor
) -> None:
    """Put `source` into the channels `at` of `block`, its neurons from number `neurons` on."""
    block.attention_norm.weight[at] = source.attention_norm.weight * gains[0]
    block.feed_norm.weight[at] = source.feed_norm.weight * gains[1]
    into = slice(neurons, neurons + source.gate.out_features)
    pairs = (
        (block.attention.q, source.attention.q, at),
        (block.attention.k, source.attention.k, at),
        (block.attention.v, source.attention.v, at),
        (block.gate, source.gate, into),
        (block.up, source.up, into),
    )
    for wide, narrow, rows in pairs:
        wide.weight[rows] = 0.0  # what reads the other parts' channels is learned
        wide.weight[rows, at] = narrow.weight
    block.attention.out.weight[at, at] = source.attention.out.weight * scale
    block.down.weight[at, into] = source.down.weight * scale


@torch.no_grad()
def _lengths(part: Llama, ids: Tensor, layers: int) -> Tensor:
    """Typical root mean square of a row at every norm of a model of `layers` blocks, in order.

    Two of each block and the last one: `[2 * layers + 1]`. After its own blocks a part stays as it
    is.
    """
    measured = []
    rows = part.embedding(ids)
    table = part.table[:, : ids.shape[1]]
    mask = causal(ids.shape[1], rows.dtype, rows.device)
    for block in part.blocks:
        assert isinstance(block, Block)
        measured.append(_typical(rows))
        rows = rows + block.attention(block.attention_norm(rows), table, mask)
        measured.append(_typical(rows))
        fed = block.feed_norm(rows)
        rows = rows + block.down(torch.nn.functional.silu(block.gate(fed)) * block.up(fed))
    last = _typical(rows)
    measured += [last] * (2 * layers + 1 - len(measured))
    return torch.stack(measured)


def _typical(rows: Tensor) -> Tensor:
    return rows.pow(2).mean(-1).sqrt().log().mean().exp()
