"""A Llama in plain PyTorch, with exactly the arithmetic of llama.cpp's `llama` architecture.

RMSNorm before attention and feed-forward, rotary positions over neighbouring pairs, SwiGLU, tied
embeddings. llama.cpp rotates dimensions (2i, 2i+1) together; Hugging Face rotates (i, i + half) and
its converters permute the query and key rows. We rotate as llama.cpp does, so nothing is permuted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

_QUARTERED = 64  # rows shorter than that are scored in one piece


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model. Widths are multiples of 32, the block of Q8_0.

    `exits` are the numbers of blocks after which a reply may end early: exit k reads the rows that
    leave block k (counted from one).
    """

    vocabulary: int = 3072
    width: int = 128
    layers: int = 6
    heads: int = 4
    kv_heads: int = 4
    feed_forward: int = 384
    context: int = 512
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5
    exits: tuple[int, ...] = ()

    @property
    def head_width(self) -> int:
        return self.width // self.heads


def rotary_table(config: ModelConfig, length: int) -> Tensor:
    """Cosines and sines by position: `[2, length, head_width / 2]`."""
    steps = torch.arange(0, config.head_width, 2, dtype=torch.float32) / config.head_width
    angles = torch.outer(torch.arange(length, dtype=torch.float32), config.rope_base**-steps)
    return torch.stack((angles.cos(), angles.sin()))


def rotate(rows: Tensor, table: Tensor) -> Tensor:
    """Turn the pairs (2i, 2i+1) of `rows[..., length, head_width]` by their position."""
    even, odd = rows[..., 0::2], rows[..., 1::2]
    cos, sin = table[0].to(rows.dtype), table[1].to(rows.dtype)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def causal(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What is added to scores so that nothing sees what comes later: `[length, length]`.

    Added, not filled in: on a CPU that halves the time of long rows (116 to 69 milliseconds for 5
    rows of 718 tokens).
    """
    return torch.full((length, length), -torch.inf, dtype=dtype, device=device).triu(1)


def branched(branches: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Positions `[batch, length]` and what is added to scores `[batch, 1, length, length]`.

    A row begins with what its questions have in common (branch 0); each question and its answer
    (branches 1, 2, ...) sees that and itself, at the positions it would have if it stood alone.
    """
    length = branches.shape[1]
    index = torch.arange(length, device=branches.device)
    begins = functional.pad(branches[:, 1:] != branches[:, :-1], (1, 0), value=True)
    start = (index * begins).cummax(1).values
    common = (branches == 0).sum(1, keepdim=True)
    positions = index - start + common * (branches != 0)
    one, other = branches[:, :, None], branches[:, None, :]
    seen = (index[:, None] >= index) & ((other == 0) | (other == one))
    hidden = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return positions, hidden.masked_fill_(~seen, -torch.inf)[:, None]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention over `[batch, heads, length, head_width]`, its scores written out.

    `mask` is added to the scores; it hides all that comes later. On a CPU the backward pass of
    torch's own kernel takes several times as long in bfloat16 (189 to 48 milliseconds for 3 rows of
    875 tokens and 13 heads). Long rows go in quarters, each scored only against what came before
    it; weights are normed after they are applied, when there are `length / head_width` times fewer
    numbers to divide. Both together take a third of the time of a plain softmax there.
    """
    length = q.shape[2]
    if length < _QUARTERED:
        return _attend(q, k, v, mask)
    ends = [length * quarter // 4 for quarter in range(5)]
    pieces = [
        _attend(q[:, :, a:b], k[:, :, :b], v[:, :, :b], mask[..., a:b, :b])
        for a, b in pairwise(ends)
    ]
    return torch.cat(pieces, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.mT + mask.to(q.dtype)
    weights = (scores - scores.amax(-1, keepdim=True).detach()).exp()
    return (weights @ v) / weights.sum(-1, keepdim=True, dtype=torch.float32).to(v.dtype)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        kv_width = config.kv_heads * config.head_width
        self.q = nn.Linear(config.width, config.width, bias=False)
        self.k = nn.Linear(config.width, kv_width, bias=False)
        self.v = nn.Linear(config.width, kv_width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(self, rows: Tensor, table: Tensor, mask: Tensor | None) -> Tensor:
        batch, length, width = rows.shape
        config = self.config

        def split(projected: Tensor, heads: int) -> Tensor:
            return projected.view(batch, length, heads, config.head_width).transpose(1, 2)

        q = rotate(split(self.q(rows), config.heads), table)
        k = rotate(split(self.k(rows), config.kv_heads), table)
        v = split(self.v(rows), config.kv_heads)
        if mask is None or rows.is_cuda or config.kv_heads != config.heads:
            mixed = functional.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=mask if mask is None else mask.to(q.dtype),
                is_causal=mask is None,
                enable_gqa=config.kv_heads != config.heads,
            )
        else:
            mixed = attend(q, k, v, mask)
        result: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return result


class Block(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width, eps=config.norm_epsilon)
        self.attention = Attention(config)
        self.feed_norm = nn.RMSNorm(config.width, eps=config.norm_epsilon)
        self.gate = nn.Linear(config.width, config.feed_forward, bias=False)
        self.up = nn.Linear(config.width, config.feed_forward, bias=False)
        self.down = nn.Linear(config.feed_forward, config.width, bias=False)

    def forward(self, rows: Tensor, table: Tensor, mask: Tensor | None) -> Tensor:
        rows = rows + self.attention(self.attention_norm(rows), table, mask)
        fed = self.feed_norm(rows)
        result: Tensor = rows + self.down(functional.silu(self.gate(fed)) * self.up(fed))
        return result


class Exit(nn.Module):
    """A norm and a head of its own: a map of the rows before the tied embedding.

    Embedding times map is the head that is stored (export.py); trained as a product it costs
    `width` squared parameters, not `width` times vocabulary, and begins as the model's own head.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(config.width, eps=config.norm_epsilon)
        self.map = nn.Linear(config.width, config.width, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        result: Tensor = self.map(self.norm(rows))
        return result


class Llama(nn.Module):
    """Token ids to logits; the hidden rows after every block are there for early exits."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=config.norm_epsilon)
        self.exits = nn.ModuleDict({str(k): Exit(config) for k in config.exits})
        self.table: Tensor
        self.register_buffer("table", rotary_table(config, config.context), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        # What writes into the residual stream starts small, so that depth does not blow it up.
        residual_scale = (2 * self.config.layers) ** -0.5
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            scale = residual_scale if name.endswith(("out.weight", "down.weight")) else 1.0
            deviation = 0.02 if name == "embedding.weight" else parameter.shape[1] ** -0.5
            nn.init.normal_(parameter, std=deviation * scale)
        for number in self.config.exits:
            nn.init.eye_(self.exit(number).map.weight)

    def hidden(self, ids: Tensor, branches: Tensor | None = None) -> list[Tensor]:
        """Rows after each block: `layers` tensors `[batch, length, width]`, before the norm.

        `branches` are those of `branched`, where a row holds several questions.
        """
        rows = self.embedding(ids)
        kind = rows.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else rows.dtype
        if branches is None:
            table = self.table[:, : ids.shape[1]]
            # A GPU is fastest when it is told that nothing but what comes later is hidden.
            mask = None if rows.is_cuda else causal(ids.shape[1], dtype, rows.device)
        else:
            positions, mask = branched(branches, dtype)
            table = self.table[:, positions].unsqueeze(2)  # the same for every head
        states = []
        for block in self.blocks:
            rows = block(rows, table, mask)
            states.append(rows)
        return states

    def logits(self, rows: Tensor) -> Tensor:
        """Logits of rows `[..., width]` through the final norm and the tied embedding."""
        return functional.linear(self.norm(rows), self.embedding.weight)

    def exit(self, number: int) -> Exit:
        """The exit after block `number`; raises KeyError."""
        found = self.exits[str(number)]
        assert isinstance(found, Exit)
        return found

    def exit_logits(self, number: int, rows: Tensor) -> Tensor:
        """Logits of exit `number` from the rows `[..., width]` that leave its block."""
        return functional.linear(self.exit(number)(rows), self.embedding.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """`[batch, length]` ids to `[batch, length, vocabulary]` logits."""
        return self.logits(self.hidden(ids)[-1])

    def parameter_count(self) -> int:
        """What the model file holds; the exits lie in a file of their own."""
        named = self.named_parameters()
        return sum(parameter.numel() for name, parameter in named if not name.startswith("exits"))


def deepened(model: Llama, layers: int) -> Llama:
    """A deeper model that computes the same: new blocks add nothing until they are trained.

    They go in between, spread evenly.
    """
    old = model.config.layers
    if layers < old:
        raise ValueError(f"a model of {old} blocks cannot be deepened to {layers}")
    deep = Llama(replace(model.config, layers=layers))
    places = [round((i + 1) * layers / old) - 1 for i in range(old)]
    with torch.no_grad():
        for block in deep.blocks:
            for name, parameter in block.named_parameters():
                if name.endswith(("out.weight", "down.weight")):
                    parameter.zero_()
    for source, place in zip(model.blocks, places, strict=True):
        deep.blocks[place].load_state_dict(source.state_dict())
    deep.embedding.load_state_dict(model.embedding.state_dict())
    deep.norm.load_state_dict(model.norm.state_dict())
    if layers == old:  # elsewhere an exit would read other rows than it learned on
        deep.exits.load_state_dict(model.exits.state_dict())
    return deep


def blended(model: Llama, other: Llama, share: float) -> Llama:
    """`model` with `share` of the weights of `other`, which it was trained from.

    Two ends of one run lie in one valley, and between them it is often lower: their errors differ
    (Wortsman et al. 2022, model soups).
    """
    if model.config != other.config:
        raise ValueError(f"only models of one shape blend: {model.config}, {other.config}")
    mixed = Llama(model.config)
    theirs = other.state_dict()
    mixed.load_state_dict(
        {key: torch.lerp(own, theirs[key], share) for key, own in model.state_dict().items()}
    )
    return mixed.eval()
