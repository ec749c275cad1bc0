"""Early exits for a model that was trained without: its own weights stay as they are.

    python -m capabilities.slm.training.exit_tuning arithmetic --checkpoint CHECKPOINT \\
        --at 2 --at 3 --minutes 3 --output arithmetic.exits.gguf

EE-Tuning (Pan et al. 2024): only the exits' norms and heads learn, by the loss of the next token of
the replies, from the rows that the frozen model makes. A few minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from capabilities.slm.training.batches import IGNORE, batches
from capabilities.slm.training.export import export_exits
from capabilities.slm.training.harness import load_checkpoint
from capabilities.slm.training.model import Llama
from capabilities.slm.training.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from capabilities.slm.training.chat import Example

BATCH_TOKENS = 3072
RATE = 3e-3  # falls to nothing over the run; norms and one matrix per exit are easily moved
LOG_EVERY = 50  # steps
SURE = 0.8  # the share of tokens that an exit would say at CE-CoLLM's threshold is logged


def with_exits(model: Llama, exits: tuple[int, ...]) -> Llama:
    """The same model with fresh exits, which begin as its own head."""
    if not all(0 < number < model.config.layers for number in exits):
        raise ValueError(f"exits stand after 1 to {model.config.layers - 1} blocks")
    grown = Llama(replace(model.config, exits=exits))
    known = {k: v for k, v in model.state_dict().items() if not k.startswith("exits")}
    grown.load_state_dict(known, strict=False)
    for number in exits:
        grown.exit(number).norm.load_state_dict(model.norm.state_dict())
    return grown


def tune(
    model: Llama,
    sample: Callable[[random.Random], Example],
    *,
    seconds: float,
    seed: int,
    log: Callable[[dict[str, float]], None] = lambda line: None,
) -> None:
    """Train the exits of `model` in place for so long."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("exits"))
    moved = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(moved, lr=RATE, weight_decay=0.0)
    began = time.monotonic()
    drawn = batches(load_tokenizer(), sample, random.Random(seed), BATCH_TOKENS)
    for step, batch in enumerate(drawn):
        spent = time.monotonic() - began
        if spent >= seconds:
            return
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - spent / seconds)
        with torch.no_grad():
            states = model.hidden(batch.ids)
        keep = batch.targets != IGNORE
        wanted, losses, line = batch.targets[keep], [], {}
        for number in model.config.exits:
            logits = model.exit_logits(number, states[number - 1][keep])
            losses.append(functional.cross_entropy(logits, wanted))
            if step % LOG_EVERY == 0:
                best = logits.detach().softmax(-1).max(-1)
                line[f"loss_{number}"] = round(float(losses[-1].detach()), 4)
                line[f"sure_{number}"] = round(float((best.values >= SURE).float().mean()), 4)
                line[f"right_{number}"] = round(float((best.indices == wanted).float().mean()), 4)
        if line:
            log({"step": step, "elapsed_s": round(spent), **line})
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def main() -> None:
    """Train and write the file."""
    from capabilities.slm.training.recipes import RECIPES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--checkpoint", type=Path, required=True, help="of the trained model")
    parser.add_argument("--at", type=int, action="append", required=True, help="after so many")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, required=True, help="NAME.exits.gguf")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    model = with_exits(load_checkpoint(options.checkpoint), tuple(sorted(set(options.at))))
    tune(
        model,
        RECIPES[options.name].sample,
        seconds=options.minutes * 60,
        seed=options.seed,
        log=lambda line: print(json.dumps(line), file=sys.stderr, flush=True),
    )
    export_exits(model, options.output, name=options.name)
    print(options.output)


if __name__ == "__main__":
    main()
