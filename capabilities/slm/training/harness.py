"""The training loop that all models share: batches, schedule, evaluation, checkpoints.

A batch holds questions of similar length, one per row, so little is padding and no row sees its
neighbour; positions start at zero as they do in use. The loss counts only what the model writes.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from capabilities.slm.training.chat import Example, prompt_ids, reply_ids
from capabilities.slm.training.model import Llama, ModelConfig
from capabilities.slm.training.optimiser import build_optimisers
from capabilities.slm.training.tokenizer import PAD, load_tokenizer, special_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tokenizers import Tokenizer

    Sampler = Callable[[random.Random], Example]

IGNORE = -100  # cross_entropy's mark for positions that do not count


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast.

    `batch_tokens` trades steps for smoothness: these models learn more from many small steps.
    `head_negatives` is how many tokens, beside those in use, the head chooses among (0: all).
    The rate warms up, stays, and falls linearly to zero over the last `cooldown_share`.
    """

    steps: int = 4000
    batch_tokens: int = 4096
    matrix_rate: float = 0.02
    other_rate: float = 3e-3
    warmup_steps: int = 100
    cooldown_share: float = 0.35
    seed: int = 1
    threads: int = 1
    device: str = "cpu"
    head_negatives: int = 256
    bfloat16: bool = True
    evaluate_every: int = 200
    evaluation_questions: int = 300
    model: ModelConfig = field(default_factory=ModelConfig)

    def rate_share(self, step: int) -> float:
        """The share of the full rate at `step`, 0 to 1."""
        cooldown = max(1, int(self.steps * self.cooldown_share))
        return min(1.0, (step + 1) / self.warmup_steps, max(0.0, (self.steps - step) / cooldown))


@dataclass(frozen=True)
class Batch:
    """`ids` and `targets`, both `[rows, length]`; targets are IGNORE outside the reply."""

    ids: Tensor
    targets: Tensor
    examples: list[Example]


def make_batch(tokenizer: Tokenizer, examples: list[Example]) -> Batch:
    """Rows padded on the right to the longest."""
    rows = [(prompt_ids(tokenizer, e), reply_ids(tokenizer, e)) for e in examples]
    length = max(len(prompt) + len(reply) for prompt, reply in rows) - 1
    ids = torch.full((len(rows), length), special_id(PAD))
    targets = torch.full((len(rows), length), IGNORE)
    for i, (prompt, reply) in enumerate(rows):
        whole = prompt + reply
        ids[i, : len(whole) - 1] = torch.tensor(whole[:-1])
        targets[i, len(prompt) - 1 : len(whole) - 1] = torch.tensor(reply)
    return Batch(ids, targets, examples)


def batches(
    tokenizer: Tokenizer, sampler: Sampler, rng: random.Random, batch_tokens: int
) -> Iterator[Batch]:
    """Endless batches of at most `batch_tokens` cells, questions of similar length together."""
    while True:
        examples = [sampler(rng) for _ in range(512)]
        lengths = {
            id(e): len(prompt_ids(tokenizer, e)) + len(reply_ids(tokenizer, e)) for e in examples
        }
        examples.sort(key=lambda e: lengths[id(e)])
        groups: list[list[Example]] = [[]]
        for example in examples:
            if (len(groups[-1]) + 1) * lengths[id(example)] > batch_tokens:
                groups.append([])
            groups[-1].append(example)
        rng.shuffle(groups)
        for group in groups:
            if group:
                yield make_batch(tokenizer, group)


def reply_loss(model: Llama, batch: Batch, negatives: int = 0) -> Tensor:
    """Mean cross entropy over the tokens of the replies.

    The head over the whole vocabulary is a third of the work. With `negatives` the choice is only
    among the tokens that the batch's replies use and that many others, drawn anew each time.
    """
    keep = batch.targets != IGNORE
    # Only rows that count go through the head.
    rows, targets = model.hidden(batch.ids)[-1][keep], batch.targets[keep]
    if not negatives:
        return functional.cross_entropy(model.logits(rows).float(), targets)
    vocabulary = model.config.vocabulary
    chosen = torch.zeros(vocabulary, dtype=torch.bool, device=targets.device)
    chosen[torch.randint(vocabulary, (negatives,), device=targets.device)] = True
    chosen[targets] = True
    candidates, place = chosen.nonzero().flatten(), chosen.cumsum(0) - 1
    logits = functional.linear(model.norm(rows), model.embedding.weight[candidates])
    return functional.cross_entropy(logits.float(), place[targets])


@torch.no_grad()
def exact_by_category(
    model: Llama, tokenizer: Tokenizer, examples: list[Example]
) -> dict[str, float]:
    """Share of examples whose whole reply greedy decoding would write, by category.

    Greedy decoding writes the expected reply exactly if and only if every expected token is the
    most likely one after the expected tokens before it, so one forward pass tells. An example with
    alternative answers is one row for each; greedy decoding can write at most one of them.
    """
    right: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for example in examples:
        seen.update(("all", example.category))
    rows = [replace(e, answer=a) for e in examples for a in e.alternatives or (e.answer,)]
    ordered = sorted(rows, key=lambda e: len(e.question) + len(e.scratchpad))
    for start in range(0, len(ordered), 64):
        batch = make_batch(tokenizer, ordered[start : start + 64])
        device = model.embedding.weight.device
        best = model(batch.ids.to(device)).argmax(-1).cpu()
        exact = ((best == batch.targets) | (batch.targets == IGNORE)).all(1)
        for example, ok in zip(batch.examples, exact.tolist(), strict=True):
            if ok:
                right.update(("all", example.category))
    return {key: round(right[key] / seen[key], 4) for key in sorted(seen)}


def train(
    config: TrainingConfig,
    sampler: Sampler,
    held_out: list[Example],
    folder: Path,
    *,
    resume: bool = False,
) -> Llama:
    """Train, writing `checkpoint.pt` and `log.jsonl` into `folder`; returns the trained model."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer()
    model = Llama(config.model).to(config.device)
    optimisers = build_optimisers(model, config.matrix_rate, config.other_rate)
    base_rates = [[group["lr"] for group in o.param_groups] for o in optimisers]
    first, elapsed_before = 0, 0.0
    if resume and (folder / "checkpoint.pt").exists():
        saved = torch.load(folder / "checkpoint.pt", weights_only=True)
        model.load_state_dict(saved["model"])
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        first, elapsed_before = saved["step"], saved["elapsed_s"]
    # A resumed run draws other questions than the first: the stream is endless anyway.
    rng = random.Random(config.seed * 1_000_003 + first)
    stream = batches(tokenizer, sampler, rng, config.batch_tokens)
    started, tokens, losses = time.monotonic(), 0, []
    for step in range(first, config.steps):
        batch = next(stream)
        batch = Batch(batch.ids.to(config.device), batch.targets.to(config.device), [])
        context = (
            torch.autocast(config.device, dtype=torch.bfloat16)
            if config.bfloat16
            else nullcontext()
        )
        with context:
            loss = reply_loss(model, batch, config.head_negatives)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, rates in zip(optimisers, base_rates, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * config.rate_share(step)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        tokens += batch.ids.numel()
        losses.append(loss.item())
        done = step + 1
        if done % 20 == 0 or done == config.steps:
            elapsed = time.monotonic() - started
            line: dict[str, Any] = {
                "step": done,
                "loss": round(sum(losses) / len(losses), 4),
                "tokens_per_s": round(tokens / elapsed),
                "elapsed_s": round(elapsed + elapsed_before),
            }
            losses = []
            if done % config.evaluate_every == 0 or done == config.steps:
                line["exact"] = exact_by_category(
                    model, tokenizer, held_out[: config.evaluation_questions]
                )
                saved = {
                    "model": model.state_dict(),
                    "optimisers": [o.state_dict() for o in optimisers],
                    "step": done,
                    "elapsed_s": elapsed + elapsed_before,
                    "config": asdict(config.model),
                }
                # Written aside, then renamed: an export may read it at any moment.
                torch.save(saved, folder / "checkpoint.tmp")
                (folder / "checkpoint.tmp").replace(folder / "checkpoint.pt")
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            print(json.dumps(line), file=sys.stderr, flush=True)
    return model


def load_checkpoint(path: Path) -> Llama:
    """The model of a checkpoint, on the CPU."""
    saved = torch.load(path, weights_only=True, map_location="cpu")
    model = Llama(ModelConfig(**saved["config"]))
    model.load_state_dict(saved["model"])
    return model.eval()
