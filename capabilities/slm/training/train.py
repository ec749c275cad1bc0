"""`python -m capabilities.slm.training.train tokenizer|NAME [--smoke]`.

Each model is trained from scratch by its one command and its seed, exported as GGUF, quantized, and
written to the folder of embedded models. Checkpoints, the log and the unquantized GGUF stay in
.cache/training/NAME.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capabilities.slm.training.harness import TrainingConfig
    from capabilities.slm.training.model import Llama
    from capabilities.slm.training.recipes import Recipe

EVALUATION_SEED = 7
NAMES = ("arithmetic", "air_quality", "vitals", "traffic", "general")
RUNS = Path(".cache/training")
EMBEDDED = Path(__file__).parents[1] / "embedded"


def shrink(config: TrainingConfig) -> TrainingConfig:
    """`config` for a model that trains in seconds and knows nothing: the smoke run."""
    shape = replace(config.model, width=32, layers=1, heads=2, kv_heads=2, feed_forward=64)
    return replace(
        config, steps=4, evaluate_every=4, evaluation_questions=8, batch_tokens=1024, model=shape
    )


def train_recipe(recipe: Recipe, folder: Path, *, resume: bool) -> Llama:
    """Train by `recipe`; checkpoints and the log go to `folder`."""
    from capabilities.slm.training.harness import train

    rng = random.Random(EVALUATION_SEED)
    held_out = [recipe.held_out(rng) for _ in range(recipe.training.evaluation_questions)]
    return train(recipe.training, recipe.sample, held_out, folder, resume=resume)


def export(recipe: Recipe, model: Llama, folder: Path, output: Path) -> None:
    """Write the quantized GGUF to `output`; the one in full precision stays in `folder`."""
    from capabilities.slm.training.export import export_f32, quantize_q8_0

    full = folder / f"{recipe.name}.f32.gguf"
    export_f32(model, full, name=recipe.name, description=recipe.description)
    output.parent.mkdir(parents=True, exist_ok=True)
    quantize_q8_0(full, output)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("tokenizer", *NAMES))
    parser.add_argument("--folder", type=Path, default=None, help="for checkpoints and the log")
    parser.add_argument("--output", type=Path, default=None, help="where the result is written")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--smoke", action="store_true", help="a few steps of a toy model")
    parser.add_argument(
        "--export", action="store_true", help="only export the last checkpoint, without training"
    )
    options = parser.parse_args(arguments)
    if options.smoke and options.output is None:
        parser.error("--smoke needs --output: its model must not replace the shipped one")
    if options.what == "tokenizer":
        from capabilities.slm.training.tokenizer import TOKENIZER_FILE, train_tokenizer
        from capabilities.slm.training.vocabulary import tokenizer_corpus

        train_tokenizer(tokenizer_corpus()).save(str(options.output or TOKENIZER_FILE))
        return
    from capabilities.slm.training.recipes import RECIPES

    recipe = RECIPES[options.what]
    training = replace(recipe.training, threads=options.threads, device=options.device)
    if options.steps:
        training = replace(training, steps=options.steps)
    if options.smoke:
        training = shrink(training)
    recipe = replace(recipe, training=training)
    folder = options.folder or RUNS / recipe.name
    output = options.output or EMBEDDED / f"{recipe.name}.gguf"
    if options.export:
        from capabilities.slm.training.harness import load_checkpoint

        model = load_checkpoint(folder / "checkpoint.pt")
    else:
        model = train_recipe(recipe, folder, resume=options.resume)
    export(recipe, model, folder, output)


if __name__ == "__main__":
    main()
