"""The training loop that all models share: schedule, evaluation, checkpoints; on a CPU or a GPU.

The loss counts only what the model writes. A run ends after its steps or, given a budget of
seconds, after that time, the schedule bent to it. It can stop at any checkpoint and go on.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from capabilities.slm.training.batches import (
    IGNORE,
    Batch,
    batches,
    held_out_examples,
    make_batch,
    stream,
)
from capabilities.slm.training.joining import joined
from capabilities.slm.training.model import Llama, ModelConfig, deepened
from capabilities.slm.training.optimiser import build_optimisers
from capabilities.slm.training.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tokenizers import Tokenizer

    from capabilities.slm.training.batches import Drawn, Sampler
    from capabilities.slm.training.chat import Example

__all__ = [
    "IGNORE", "Batch", "TrainingConfig", "batches", "exact_by_category", "held_out_examples",
    "load_checkpoint", "make_batch", "reply_loss", "train",
]  # fmt: skip

_LOG_EVERY = 20  # steps; reading the loss makes a GPU wait
_BUDGET_EVALUATIONS = 12  # evaluations and checkpoints over a run with a budget
_TYPICAL = 64  # examples on which models that are put side by side are measured
_EVALUATED_CELLS = 65_536  # of one batch of the evaluation: its logits are 3,072 floats a cell


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast.

    `batch_tokens` trades steps for smoothness: these models learn more from many small steps.
    `head_negatives` is how many tokens, beside those in use, the head chooses among (0: all).
    The rate warms up, stays, and falls linearly to zero over the last `cooldown_share`.
    `budget_s`, when given, ends the run after so many seconds of training, whatever `steps` says.
    `exit_weight` is what the loss of each early exit counts beside the model's own (EE-LLM trains
    them together). `workers` draw the data beside this process.
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
    evaluation_questions: int = 200
    budget_s: float | None = None
    exit_weight: float = 0.3
    workers: int = 0
    compiled: bool = False
    model: ModelConfig = field(default_factory=ModelConfig)

    def progress(self, step: int, elapsed_s: float) -> float:
        """How far the run is, 0 to 1."""
        if self.budget_s is not None:
            return min(1.0, elapsed_s / self.budget_s)
        return min(1.0, step / self.steps)

    def rate_share(self, step: int, progress: float) -> float:
        """The share of the full rate at `step`, 0 to 1."""
        falling = (1.0 - progress) / self.cooldown_share if self.cooldown_share else 1.0
        return min(1.0, (step + 1) / self.warmup_steps, max(0.0, falling))


def reply_loss(model: Llama, batch: Batch, negatives: int = 0, exit_weight: float = 0.0) -> Tensor:
    """Mean cross entropy over the tokens of the replies; early exits add `exit_weight` of theirs.

    The head over the whole vocabulary is a third of the work. With `negatives` the choice is only
    among the tokens that the batch's replies use and that many others, drawn anew each time.
    """
    keep = batch.targets != IGNORE
    targets = batch.targets[keep]
    states = model.hidden(batch.ids, batch.branches)
    # Only rows that count go through the heads.
    heads = [(1.0, model.norm(states[-1][keep]))]
    if exit_weight:
        heads += [
            (exit_weight, model.exits[str(k)](states[k - 1][keep])) for k in model.config.exits
        ]
    weight = model.embedding.weight
    if negatives:
        vocabulary = model.config.vocabulary
        chosen = torch.zeros(vocabulary, dtype=torch.bool, device=targets.device)
        chosen[torch.randint(vocabulary, (negatives,), device=targets.device)] = True
        chosen[targets] = True
        targets = (chosen.cumsum(0) - 1)[targets]
        weight = weight[chosen.nonzero().flatten()]
    loss: Tensor = sum(
        share * functional.cross_entropy(functional.linear(rows, weight).float(), targets)
        for share, rows in heads
    )  # type: ignore[assignment]
    return loss


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
    ordered = sorted(rows, key=lambda e: len(e.question) + len(e.scratchpad) + len(e.answer))
    device = model.embedding.weight.device
    for group in _groups(ordered, tokenizer):
        targets = group.targets.to(device)
        keep = targets != IGNORE
        # Only rows that count go through the head: its logits are the largest thing here.
        branches = None if group.branches is None else group.branches.to(device)
        states = model.hidden(group.ids.to(device), branches)[-1]
        best = model.logits(states[keep]).argmax(-1)
        wrong = torch.zeros_like(targets, dtype=torch.bool)
        wrong[keep] = best != targets[keep]
        for example, bad in zip(group.examples, wrong.any(1).tolist(), strict=True):
            if not bad:
                right.update(("all", example.category))
    return {key: round(right[key] / seen[key], 4) for key in sorted(seen)}


def _groups(ordered: list[Example], tokenizer: Tokenizer) -> Iterator[Batch]:
    start, size = 0, 64
    while start < len(ordered):
        group = make_batch(tokenizer, ordered[start : start + size])
        while group.ids.numel() > _EVALUATED_CELLS and len(group.examples) > 1:
            size = len(group.examples) // 2
            group = make_batch(tokenizer, group.examples[:size])
        start += len(group.examples)
        yield group


def train(
    config: TrainingConfig,
    sampler: Sampler,
    held_out: list[Example],
    folder: Path,
    *,
    resume: bool = False,
    begin: Sequence[Path] = (),
    stop_at: float | None = None,
) -> Llama:
    """Train, writing `checkpoint.pt` and `log.jsonl` into `folder`; returns the model.

    `resume` goes on from the folder's checkpoint. `begin` starts from the weights of another run's
    checkpoint, of the same shape or with fewer blocks, or from several that stand side by side in
    the new model (joining.py). `stop_at`, on the monotonic clock, ends the call early, with a
    checkpoint to go on from.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    torch.set_float32_matmul_precision("high")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer()
    model = _begun(begin, config.model, held_out).to(config.device)
    optimisers = build_optimisers(model, config.matrix_rate, config.other_rate)
    base_rates = [[group["lr"] for group in o.param_groups] for o in optimisers]
    step, elapsed_before, tokens_before = 0, 0.0, 0
    if resume and (folder / "checkpoint.pt").exists():
        step, elapsed_before, tokens_before = _restore(folder, model, optimisers, config.device)
    if config.progress(step, elapsed_before) >= 1.0:
        return model
    # A resumed run draws other questions than the first: the stream is endless anyway.
    source = stream(
        sampler,
        config.seed * 1_000_003 + step,
        config.batch_tokens,
        workers=config.workers,
        pinned=config.device != "cpu",
    )
    if config.compiled:
        for block in model.blocks:
            block.compile(dynamic=True)
    started = time.monotonic()
    elapsed, progress = elapsed_before, config.progress(step, elapsed_before)
    tokens, losses = 0, torch.zeros((), device=config.device)
    logged, evaluated = step, _evaluations(config, step, progress)
    while True:
        batch = _on(config.device, next(source))
        with _precision(config):
            loss = reply_loss(model, batch, config.head_negatives, config.exit_weight)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        _update(optimisers, base_rates, config.rate_share(step, progress))
        step += 1
        tokens += batch.ids.numel()
        losses += loss.detach()
        elapsed = time.monotonic() - started + elapsed_before
        progress = config.progress(step, elapsed)
        stopped = stop_at is not None and time.monotonic() >= stop_at
        ended = progress >= 1.0 or stopped
        if not (ended or step % _LOG_EVERY == 0):
            continue
        line: dict[str, Any] = {
            "step": step,
            "loss": round(float(losses) / (step - logged), 4),
            "tokens": tokens + tokens_before,
            "tokens_per_s": round(tokens / (elapsed - elapsed_before)),
            "elapsed_s": round(elapsed),
        }
        losses.zero_()
        logged = step
        count = _evaluations(config, step, progress)
        if ended or count > evaluated:
            evaluated = count
            with _precision(config):
                line["exact"] = exact_by_category(
                    model, tokenizer, held_out[: config.evaluation_questions]
                )
            _save(folder, model, optimisers, (step, elapsed, tokens + tokens_before))
        with (folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(json.dumps(line), file=sys.stderr, flush=True)
        if ended:
            return model


def _on(device: str, drawn: Drawn) -> Batch:
    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True).long()

    ids, targets, branches = drawn
    return Batch(moved(ids), moved(targets), [], None if branches is None else moved(branches))


def _update(
    optimisers: list[torch.optim.Optimizer], base_rates: list[list[float]], share: float
) -> None:
    for optimiser, rates in zip(optimisers, base_rates, strict=True):
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * share
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def _evaluations(config: TrainingConfig, step: int, progress: float) -> int:
    """How many evaluations are due by now."""
    if config.budget_s is not None:
        return int(progress * _BUDGET_EVALUATIONS)
    return step // config.evaluate_every


def _precision(config: TrainingConfig) -> AbstractContextManager[Any]:
    if not config.bfloat16:
        return nullcontext()
    context: AbstractContextManager[Any] = torch.autocast(
        torch.device(config.device).type, dtype=torch.bfloat16
    )
    return context


def _save(
    folder: Path,
    model: Llama,
    optimisers: list[torch.optim.Optimizer],
    behind: tuple[int, float, int],
) -> None:
    step, elapsed_s, tokens = behind
    saved = {
        "model": model.state_dict(),
        "optimisers": [o.state_dict() for o in optimisers],
        "step": step,
        "elapsed_s": elapsed_s,
        "tokens": tokens,
        "config": asdict(model.config),
    }
    # Written aside, then renamed: an export may read it at any moment.
    torch.save(saved, folder / "checkpoint.tmp")
    (folder / "checkpoint.tmp").replace(folder / "checkpoint.pt")


def _restore(
    folder: Path, model: Llama, optimisers: list[torch.optim.Optimizer], device: str
) -> tuple[int, float, int]:
    """Load the folder's checkpoint; the steps, the seconds and the tokens behind it."""
    saved = torch.load(folder / "checkpoint.pt", weights_only=True, map_location=device)
    model.load_state_dict(saved["model"])
    for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
        optimiser.load_state_dict(state)
    return saved["step"], saved["elapsed_s"], saved.get("tokens", 0)


def _begun(paths: Sequence[Path], shape: ModelConfig, typical: list[Example]) -> Llama:
    """A new model, or that of other runs' checkpoints in `shape`.

    Of one checkpoint the shape may have more blocks and exits; several stand side by side in it.
    """
    if not paths:
        return Llama(shape)
    if len(paths) > 1:
        ids = make_batch(load_tokenizer(), typical[:_TYPICAL]).ids
        return joined([load_checkpoint(path) for path in paths], shape, ids)
    path = paths[0]
    model = load_checkpoint(path)
    alike = replace(model.config, layers=shape.layers, context=shape.context, exits=shape.exits)
    if alike != shape:
        raise ValueError(f"{path} holds a model of another shape: {model.config}, not {shape}")
    grown = Llama(shape)
    known = deepened(model, shape.layers).state_dict()
    if model.config.exits != shape.exits:
        known = {key: tensor for key, tensor in known.items() if not key.startswith("exits")}
    # What an exit lacks stays as it begins: as the model's own head.
    grown.load_state_dict(known, strict=False)
    return grown


def load_checkpoint(path: Path) -> Llama:
    """The model of a checkpoint or of packed weights, on the CPU."""
    saved = torch.load(path, weights_only=True, map_location="cpu")
    shape = dict(saved["config"])
    shape["exits"] = tuple(shape.get("exits", ()))
    model = Llama(ModelConfig(**shape))
    model.load_state_dict({key: tensor.float() for key, tensor in saved["model"].items()})
    return model.eval()
