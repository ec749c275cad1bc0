"""Batches of examples: drawn, sorted by length, padded; in this process or in workers.

A batch holds questions of similar length, one per row, so little is padding and no row sees its
neighbour; positions start at zero as they do in use. Drawing and tokenizing an example takes about
two milliseconds of Python: on a GPU that must happen in many processes, or the GPU waits.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from capabilities.slm.training.chat import Example, prompt_ids, reply_ids
from capabilities.slm.training.tokenizer import PAD, load_tokenizer, special_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokenizers import Tokenizer

    Sampler = Callable[[random.Random], Example]
    Drawn = tuple[Tensor, Tensor, Tensor | None]

IGNORE = -100  # cross_entropy's mark for positions that do not count
_PADDING_BRANCH = -1  # of no question: nothing sees it
POOL = 512  # examples sorted by length together, at least
_TOKENS_PER_POOLED = 24  # a batch of so many tokens per example of the pool wastes little padding
_PREFETCHED = 8  # batches that each worker holds ready


@dataclass(frozen=True)
class Batch:
    """`ids` and `targets`, both `[rows, length]`; targets are IGNORE outside the reply.

    `branches`, of the same shape, say which question of its row a token belongs to (model.py), if
    any row holds several.
    """

    ids: Tensor
    targets: Tensor
    examples: list[Example]
    branches: Tensor | None = None


@dataclass(frozen=True)
class _Row:
    """One row: `targets` and `branches` are as long as `ids`."""

    ids: list[int]
    targets: list[int]
    branches: list[int]


def _row(tokenizer: Tokenizer, example: Example) -> _Row:
    """The example and its siblings, what their prompts have in common once."""
    asked = [
        (prompt_ids(tokenizer, e), reply_ids(tokenizer, e)) for e in (example, *example.siblings)
    ]
    first = asked[0][0]
    # A prompt's last token predicts the reply, so it stands in the branch.
    common = min(len(prompt) for prompt, _ in asked) - 1 if example.siblings else 0
    for prompt, _ in asked[1:]:
        common = next((i for i in range(common) if prompt[i] != first[i]), common)
    row = _Row(first[:common], [IGNORE] * common, [0] * common)
    for number, (prompt, reply) in enumerate(asked, start=1 if example.siblings else 0):
        part = [*prompt, *reply][common:-1]
        row.ids.extend(part)
        row.targets.extend([IGNORE] * (len(prompt) - 1 - common) + reply)
        row.branches.extend([number] * len(part))
    return row


def make_batch(tokenizer: Tokenizer, examples: list[Example]) -> Batch:
    """Rows padded on the right to the longest."""
    return _padded([_row(tokenizer, example) for example in examples], examples)


def _padded(rows: list[_Row], examples: list[Example]) -> Batch:
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), special_id(PAD))
    targets = torch.full((len(rows), length), IGNORE)
    branches = torch.full((len(rows), length), _PADDING_BRANCH)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        targets[i, : len(row.ids)] = torch.tensor(row.targets)
        branches[i, : len(row.ids)] = torch.tensor(row.branches)
    several = any(example.siblings for example in examples)
    return Batch(ids, targets, examples, branches if several else None)


def batches(
    tokenizer: Tokenizer, sampler: Sampler, rng: random.Random, batch_tokens: int
) -> Iterator[Batch]:
    """Endless batches of at most `batch_tokens` cells, questions of similar length together.

    An example longer than that stands alone.
    """
    pool = max(POOL, batch_tokens // _TOKENS_PER_POOLED)
    while True:
        drawn = []
        for _ in range(pool):
            example = sampler(rng)
            row = _row(tokenizer, example)
            drawn.append((len(row.ids), row, example))
        drawn.sort(key=lambda entry: entry[0])
        groups: list[list[tuple[int, _Row, Example]]] = [[]]
        for entry in drawn:
            if (len(groups[-1]) + 1) * entry[0] > batch_tokens:
                groups.append([])
            groups[-1].append(entry)
        rng.shuffle(groups)
        for group in groups:
            if group:
                yield _padded([row for _, row, _ in group], [example for _, _, example in group])


class _Stream(IterableDataset["Drawn"]):
    """Batches without their examples; every worker draws from a seed of its own."""

    def __init__(self, sampler: Sampler, seed: int, batch_tokens: int) -> None:
        super().__init__()
        self.sampler, self.seed, self.batch_tokens = sampler, seed, batch_tokens

    def __iter__(self) -> Iterator[Drawn]:
        worker = get_worker_info()
        # A process alone draws as `batches` does with this seed.
        seed = self.seed if worker is None else self.seed * 4_099 + worker.id
        if worker is not None:
            torch.set_num_threads(1)
        rng = random.Random(seed)
        for batch in batches(load_tokenizer(), self.sampler, rng, self.batch_tokens):
            # Half the width of what a token needs at most: less to hand from process to process.
            branches = None if batch.branches is None else batch.branches.short()
            yield batch.ids.short(), batch.targets.short(), branches


def stream(
    sampler: Sampler, seed: int, batch_tokens: int, *, workers: int = 0, pinned: bool = False
) -> Iterator[Drawn]:
    """Endless `(ids, targets, branches)` of 16-bit integers, drawn here or in `workers` processes.

    The order in which workers' batches come is fixed, so a seed repeats either way. `pinned` puts
    them where a GPU reads them without a copy on the way.
    """
    # Each process encodes one text at a time; threads of the tokenizer would only be in the way.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    data = _Stream(sampler, seed, batch_tokens)
    if not workers:
        return iter(data)
    loader = DataLoader(
        data,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=_PREFETCHED,
        pin_memory=pinned,
    )
    return iter(loader)


def held_out_examples(sampler: Sampler, count: int, seed: int) -> list[Example]:
    """`count` examples to evaluate on."""
    rng = random.Random(seed)
    return list(islice(iter(lambda: sampler(rng), None), count))
