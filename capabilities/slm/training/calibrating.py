"""Fits how far the exits of a trained model may be believed, on answers that none was trained on.

What ships is measured: weights rounded as their files hold them. The exits are read along the whole
model's own greedy answers, wrong ones too. These are found from the expected ones, which they
mostly resemble, by Jacobi iteration (Santilli et al. 2023): a pass reads a whole answer and puts
the model's own token in every place; the answer is greedy up to the first place that this changes.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import gguf
import torch
from torch import Tensor
from torch.nn import functional

from capabilities.segments.lens import MOST_ODDS, Read, measured
from capabilities.slm.training.batches import IGNORE, held_out_examples, make_batch
from capabilities.slm.training.tokenizer import END, load_tokenizer, special_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from capabilities.segments.calibration import Calibration
    from capabilities.slm.training.batches import Batch, Sampler
    from capabilities.slm.training.model import Llama

# Answers that are read: so many bound a share of one in a hundred with 13 that part among them.
ANSWERS = 2000
SEED = 1_000_003  # of the answers; benchmarks draw theirs with small ones
_TOGETHER = 32  # answers of similar length in one pass
_PASSES = 48  # through an answer; what is not settled then is left out
_ROWS = 2048  # rows through a head at once: its logits are 3,072 floats each


def calibrated(model: Llama, sampler: Sampler, *, answers: int = ANSWERS) -> dict[int, Calibration]:
    """The calibration of each exit, by its block; `sampler` draws what was never trained on."""
    if not answers:
        return {}
    stored = as_stored(model)
    heads = {number: stored_head(model, number) for number in model.config.exits}
    said: dict[int, list[tuple[Tensor, ...]]] = {number: [] for number in heads}
    for first, batch in _read(sampler, answers):
        with torch.no_grad():
            states, best, own = own_answers(stored, batch)
            wanted, places = best[own], own.nonzero()[:, 0] + first
            for number, head in heads.items():
                rows = stored.exit(number).norm(states[number - 1][own])
                token, odds = _best(head, rows)
                said[number].append((odds, token != wanted, places))
    return measured(
        {
            number: Read(*(torch.cat(part).numpy() for part in zip(*parts, strict=True)))
            for number, parts in said.items()
        },
        answers,
    )


def as_stored(model: Llama) -> Llama:
    """The model with its matrices rounded as a Q8_0 file holds them."""
    stored = copy.deepcopy(model).eval()
    with torch.no_grad():
        for name, parameter in stored.named_parameters():
            if parameter.dim() == 2 and not name.startswith("exits"):
                parameter.copy_(_rounded(parameter))
    return stored


def stored_head(model: Llama, number: int) -> Tensor:
    """The head of an exit as its file holds it."""
    with torch.no_grad():
        return _rounded(model.embedding.weight @ model.exit(number).map.weight)


def _rounded(matrix: Tensor) -> Tensor:
    kind = gguf.GGMLQuantizationType.Q8_0
    packed = gguf.quants.quantize(matrix.detach().float().numpy(), kind)
    return torch.from_numpy(gguf.quants.dequantize(packed, kind))


def _read(sampler: Sampler, answers: int) -> Iterator[tuple[int, Batch]]:
    """Batches of answers of similar length, each with the number of its first one."""
    drawn = held_out_examples(sampler, answers, SEED)
    drawn.sort(key=lambda e: len(e.question) + len(e.scratchpad) + len(e.answer))
    tokenizer = load_tokenizer()
    for first in range(0, answers, _TOGETHER):
        yield first, make_batch(tokenizer, drawn[first : first + _TOGETHER])


@torch.no_grad()
def own_answers(
    model: Llama, batch: Batch, passes: int = _PASSES
) -> tuple[list[Tensor], Tensor, Tensor]:
    """The whole model's greedy answers to a batch's prompts, as long as its rows are.

    The rows that leave each block `[rows, length, width]`, the token that the model says after each
    place `[rows, length]`, and where that is part of its own answer.
    """
    ids = read = batch.ids
    end = special_id(END)
    replies = (batch.targets != IGNORE).cumsum(1) > 0
    states: list[Tensor] = []
    best = torch.zeros_like(ids)
    open_rows = torch.arange(len(ids))
    for _ in range(passes):
        read = ids
        found = model.hidden(ids[open_rows])
        for whole, part in zip(states, found, strict=False):
            whole[open_rows] = part
        states = states or found
        before = _before_the_end(ids, replies, end)[open_rows]
        told = torch.zeros_like(best[open_rows])
        told[before] = torch.cat(
            [model.logits(piece).argmax(-1) for piece in torch.split(found[-1][before], _ROWS)]
        )
        best[open_rows] = told
        changed = _changed(ids, best, replies, end)
        open_rows = changed.any(1).nonzero()[:, 0]
        if not len(open_rows):
            break
        ids = torch.cat((ids[:, :1], torch.where(changed, best[:, :-1], ids[:, 1:])), 1)
    # An answer that the last pass would change is greedy up to the first such place.
    unsettled = functional.pad(_changed(read, best, replies, end), (0, 1)).long()
    own = _before_the_end(read, replies, end) & (unsettled.cumsum(1) - unsettled == 0)
    return states, best, own


def _before_the_end(ids: Tensor, replies: Tensor, end: int) -> Tensor:
    """Places in a reply from which it goes on."""
    ended = functional.pad((ids[:, 1:] == end) & replies[:, :-1], (1, 0))
    return replies & (ended.cumsum(1) == 0)


def _changed(ids: Tensor, best: Tensor, replies: Tensor, end: int) -> Tensor:
    """Where what stands in the next place is not what the model says there; one place shorter."""
    return _before_the_end(ids, replies, end)[:, :-1] & (ids[:, 1:] != best[:, :-1])


def _best(head: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest token of each row, and the log odds of its probability.

    Against the sum of all others nothing cancels out, so 32 bits are enough for a probability of
    nearly one.
    """
    tokens, odds = [], []
    for piece in torch.split(rows, _ROWS):
        logits = functional.linear(piece, head)
        top = logits.max(-1)
        logits.scatter_(-1, top.indices[:, None], -torch.inf)
        tokens.append(top.indices)
        odds.append((top.values - logits.logsumexp(-1)).double())
    return torch.cat(tokens), torch.cat(odds).clamp(-MOST_ODDS, MOST_ODDS)
