"""`python -m capabilities.slm.training.train tokenizer|arithmetic|general [--smoke]`.

Each model is trained from scratch by its one command and its seed, exported as GGUF, quantized, and
written to the folder of embedded models.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capabilities.slm.training.recipes import Recipe

EVALUATION_SEED = 7


def train_and_export(
    recipe: Recipe, folder: Path, output: Path, *, smoke: bool, resume: bool
) -> None:
    """Run `recipe`; checkpoints and log go to `folder`, the quantized GGUF to `output`."""
    from capabilities.slm.training.export import export_quantized
    from capabilities.slm.training.harness import train

    config = recipe.training
    if smoke:
        shape = replace(config.model, width=32, layers=1, heads=2, kv_heads=2, feed_forward=64)
        config = replace(
            config, steps=4, evaluate_every=4, evaluation_questions=8, batch_tokens=1024,
            model=shape,
        )  # fmt: skip
    rng = random.Random(EVALUATION_SEED)
    held_out = [recipe.held_out(rng) for _ in range(config.evaluation_questions)]
    model = train(config, recipe.sample, held_out, folder, resume=resume)
    export_quantized(model, output, name=recipe.name, description=recipe.description)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("tokenizer", "arithmetic", "general"))
    parser.add_argument("--folder", type=Path, default=None, help="checkpoints and the log")
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
    folder = options.folder or Path("runs") / recipe.name
    embedded = Path(__file__).parents[1] / "embedded"
    output = options.output or embedded / f"{recipe.name}.gguf"
    if options.export:
        from capabilities.slm.training.export import export_quantized
        from capabilities.slm.training.harness import load_checkpoint

        export_quantized(
            load_checkpoint(folder / "checkpoint.pt"),
            output,
            name=recipe.name,
            description=recipe.description,
        )
        return
    train_and_export(
        replace(recipe, training=training),
        folder,
        output,
        smoke=options.smoke,
        resume=options.resume,
    )


if __name__ == "__main__":
    main()
