"""Early exits for a model that was trained without: its own weights stay as they are.

    python -m capabilities.slm.training.exit_tuning arithmetic --checkpoint CHECKPOINT \\
        --at 2 --at 3 --minutes 6 --output arithmetic.exits.gguf

EE-Tuning (Pan et al. 2024): only the exits' norms and heads learn, from the rows that the frozen
model makes. They learn what the whole model says next, not what the data say (self-distillation,
Zhang et al. 2019): an exit that agrees with the layers behind it is what cooperation needs, and a
whole distribution teaches more than one token. Rows are computed once, and read many times.

Afterwards it is fitted on held-out answers how far each exit may be believed
(capabilities/segments/calibration.py); with ``--minutes 0`` only that is done, for exits that were
trained with their model. On one core it takes its minutes and about two more.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from capabilities.slm.training.batches import IGNORE, batches
from capabilities.slm.training.calibrating import ANSWERS, calibrated
from capabilities.slm.training.export import export_exits
from capabilities.slm.training.harness import load_checkpoint
from capabilities.slm.training.model import Llama
from capabilities.slm.training.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from capabilities.segments.calibration import Calibration
    from capabilities.slm.training.chat import Example

    Log = Callable[[dict[str, float]], None]

BATCH_TOKENS = 3072  # of a pass that makes rows
ROWS = 400_000  # kept in half precision: 256 bytes each and exit, at a width of 128
DRAW_SHARE = 0.5  # of the time, at most, for drawing and computing rows; the rest is learning
STEP_ROWS = 2048  # of one step
TOLD = 8  # tokens of the whole model's distribution that are kept, nearly all of its mass
OTHERS = 256  # tokens drawn anew each step, which no kept distribution need hold
RATE = 3e-3  # falls to nothing over the run; norms and one matrix per exit are easily moved
LOG_EVERY = 200  # steps
SURE = 0.8  # the share of tokens that an exit would say at CE-CoLLM's threshold is logged


def with_exits(model: Llama, exits: tuple[int, ...]) -> Llama:
    """The same model with fresh exits, which begin as its own head."""
    if not all(0 < number < model.config.layers for number in exits):
        raise ValueError(f"exits stand after 1 to {model.config.layers - 1} blocks")
    grown = Llama(replace(model.config, exits=exits))
    known = model.state_dict()
    kept = [number for number in exits if number in model.config.exits]
    wanted = tuple(f"exits.{number}." for number in kept)
    grown.load_state_dict(
        {k: v for k, v in known.items() if not k.startswith("exits.") or k.startswith(wanted)},
        strict=False,
    )
    for number in set(exits) - set(kept):
        grown.exit(number).norm.load_state_dict(model.norm.state_dict())
    return grown


@dataclass(frozen=True)
class Lessons:
    """Rows `[n, width]` that leave each exit's block, and what the whole model says after them:
    its likeliest tokens `[n, TOLD]` and their probabilities."""

    rows: dict[int, Tensor]
    tokens: Tensor
    weights: Tensor


def lessons(
    model: Llama,
    sample: Callable[[random.Random], Example],
    *,
    seconds: float,
    seed: int,
    most: int = ROWS,
) -> Lessons:
    """Read the replies of drawn examples with the frozen model, for so long or so many tokens."""
    rows: dict[int, list[Tensor]] = {number: [] for number in model.config.exits}
    tokens, weights, count = [], [], 0
    began = time.monotonic()
    for batch in batches(load_tokenizer(), sample, random.Random(seed), BATCH_TOKENS):
        keep = batch.targets != IGNORE
        with torch.no_grad():
            states = model.hidden(batch.ids, batch.branches)
            told = model.logits(states[-1][keep]).softmax(-1).topk(TOLD)
        for number, kept in rows.items():
            kept.append(states[number - 1][keep].half())
        tokens.append(told.indices.int())
        weights.append(told.values.half())
        count += int(keep.sum())
        if count >= most or time.monotonic() - began >= seconds:
            break
    return Lessons(
        {number: torch.cat(kept) for number, kept in rows.items()},
        torch.cat(tokens),
        torch.cat(weights),
    )


def tune(
    model: Llama,
    sample: Callable[[random.Random], Example],
    *,
    seconds: float,
    seed: int,
    steps: int | None = None,
    rows: int = ROWS,
    log: Log = lambda line: None,
) -> None:
    """Train the exits of `model` in place for so long, or for `steps` if these end before."""
    if seconds <= 0:
        return
    began = time.monotonic()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("exits"))
    learnt = lessons(model, sample, seconds=seconds * DRAW_SHARE, seed=seed, most=rows)
    log({"rows": len(learnt.tokens), "elapsed_s": round(time.monotonic() - began)})
    moved = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(moved, lr=RATE, weight_decay=0.0)
    started, step = time.monotonic(), 0
    left = max(1e-3, began + seconds - started)
    generator = torch.Generator().manual_seed(seed)
    while True:
        done = (time.monotonic() - started) / left
        if steps is not None:
            done = max(done, step / steps)
        if done >= 1.0 and step:
            return
        for group in optimiser.param_groups:
            group["lr"] = RATE * max(0.0, 1.0 - done)
        known = len(learnt.tokens)
        picked = torch.randint(known, (min(STEP_ROWS, known),), generator=generator)
        line: dict[str, float] | None = {} if step % LOG_EVERY == 0 else None
        loss = _loss(model, learnt, picked, generator, line)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if line is not None:
            log({"step": step, "elapsed_s": round(time.monotonic() - began), **line})
        step += 1


def _loss(
    model: Llama,
    learnt: Lessons,
    picked: Tensor,
    generator: torch.Generator,
    line: dict[str, float] | None,
) -> Tensor:
    """Cross entropy against the whole model's distribution, over the tokens in use and others."""
    tokens = learnt.tokens[picked].long()
    weights = learnt.weights[picked].float()
    weights = weights / weights.sum(1, keepdim=True)
    chosen = torch.zeros(model.config.vocabulary, dtype=torch.bool)
    chosen[torch.randint(model.config.vocabulary, (OTHERS,), generator=generator)] = True
    chosen[tokens.flatten()] = True
    places = (chosen.cumsum(0) - 1)[tokens]
    embedding = model.embedding.weight[chosen.nonzero().flatten()]
    losses = []
    for number in model.config.exits:
        rows = model.exit(number)(learnt.rows[number][picked].float())
        odds = functional.linear(rows, embedding).log_softmax(-1)
        losses.append(-(weights * odds.gather(1, places)).sum(1).mean())
        if line is not None:
            best = odds.detach().max(-1)
            line[f"loss_{number}"] = round(float(losses[-1].detach()), 4)
            line[f"sure_{number}"] = round(float((best.values.exp() >= SURE).float().mean()), 4)
            line[f"agree_{number}"] = round(float((best.indices == places[:, 0]).float().mean()), 4)
    return torch.stack(losses).sum()


def told(calibrations: Mapping[int, Calibration]) -> list[str]:
    """One line for each exit, as people read it."""
    return [f"exit after {number}: {one.told()}" for number, one in sorted(calibrations.items())]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write the file."""
    from capabilities.slm.training.recipes import RECIPES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--checkpoint", type=Path, required=True, help="of the trained model")
    parser.add_argument("--at", type=int, action="append", required=True, help="after so many")
    parser.add_argument("--minutes", type=float, default=6.0, help="0: calibrate only")
    parser.add_argument("--answers", type=int, default=ANSWERS, help="held out, to calibrate on")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--output", type=Path, required=True, help="NAME.exits.gguf")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    model = with_exits(load_checkpoint(options.checkpoint), tuple(sorted(set(options.at))))
    tune(
        model,
        RECIPES[options.name].sample,
        seconds=options.minutes * 60,
        seed=options.seed,
        log=lambda line: print(json.dumps(line), file=sys.stderr, flush=True),
    )
    calibrations = calibrated(model, RECIPES[options.name].held_out, answers=options.answers)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    export_exits(model, options.output, name=options.name, calibrations=calibrations)
    for line in told(calibrations):
        print(line, file=sys.stderr)
    print(options.output)


if __name__ == "__main__":
    main()
