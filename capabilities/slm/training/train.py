"""`python -m capabilities.slm.training.train tokenizer|NAME|all|ship [--smoke]`.

Each model is trained from scratch by its one command and its seed, exported as GGUF, quantized, and
written to the folder of embedded models. Checkpoints, the log and the unquantized GGUF stay in
.cache/training/NAME.

`all` trains every model in the order of recipes.ORDER, each within its minutes, and leaves their
weights in --out: for a GPU that is there for half an hour. Run again, it goes on where it stopped.
`ship` exports the weights of such a folder, but for parts that only a larger model is made of; it
needs no GPU.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capabilities.slm.training.harness import TrainingConfig
    from capabilities.slm.training.model import Llama
    from capabilities.slm.training.recipes import Recipe

EVALUATION_SEED = 7
# As in recipes.py, which is not imported before it is needed: it brings torch.
NAMES = ("arithmetic", "general", "air_quality", "vitals", "traffic", "judges", "large")
EMBEDDED_NAMES = tuple(name for name in NAMES if name != "judges")
RUNS = Path(".cache/training")
EMBEDDED = Path(__file__).parents[1] / "embedded"


def shrink(config: TrainingConfig) -> TrainingConfig:
    """`config` for a model that trains in seconds and knows nothing: the smoke run."""
    exits = (1, 2) if config.model.exits else ()
    shape = replace(
        config.model,
        width=32,
        layers=3 if exits else 1,
        heads=2,
        kv_heads=2,
        feed_forward=64,
        exits=exits,
    )
    return replace(
        config, steps=4, evaluate_every=4, evaluation_questions=8, batch_tokens=1024, model=shape
    )


def for_device(recipe: Recipe, device: str, workers: int | None) -> Recipe:
    """`recipe` as a GPU trains it: larger batches, the whole head, data drawn in processes."""
    training = replace(recipe.training, device=device)
    if device != "cpu":
        count = max(1, (os.cpu_count() or 2) - 1) if workers is None else workers
        training = replace(
            training, batch_tokens=recipe.gpu_batch_tokens, head_negatives=0, workers=count
        )
    elif workers:
        training = replace(training, workers=workers)
    return replace(recipe, training=training)


def train_recipe(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool,
    begin: Sequence[Path] = (),
    stop_at: float | None = None,
) -> Llama:
    """Train by `recipe`; checkpoints and the log go to `folder`."""
    from capabilities.slm.training.harness import held_out_examples, train

    training = recipe.training
    held_out = held_out_examples(recipe.held_out, training.evaluation_questions, EVALUATION_SEED)
    return train(
        training, recipe.sample, held_out, folder, resume=resume, begin=begin, stop_at=stop_at
    )


def export(recipe: Recipe, model: Llama, folder: Path, output: Path, answers: int) -> None:
    """Write the quantized GGUF to `output`; the one in full precision stays in `folder`.

    Early exits go beside it, as NAME.exits.gguf, calibrated on so many held-out answers.
    """
    from capabilities.slm.training.export import export_exits, export_f32, quantize_q8_0

    folder.mkdir(parents=True, exist_ok=True)
    full = folder / f"{recipe.name}.f32.gguf"
    export_f32(model, full, name=recipe.name, description=recipe.description, tasks=recipe.tasks)
    output.parent.mkdir(parents=True, exist_ok=True)
    quantize_q8_0(full, output)
    if model.config.exits:
        from capabilities.slm.training.calibrating import calibrated

        fitted = calibrated(model, recipe.held_out, answers=answers)
        exits = output.with_suffix(".exits.gguf")
        export_exits(model, exits, name=recipe.name, calibrations=fitted)
        for number, one in fitted.items():
            print(f"exit after {number}: {one.told()}", file=sys.stderr)


def pack(model: Llama, path: Path) -> None:
    """The weights alone, in 16-bit floats: what `ship` exports.

    Q8_0 keeps 8 bits of each, so nothing that ships is lost.
    """
    from dataclasses import asdict

    import torch

    weights = {key: tensor.detach().cpu().half() for key, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": weights, "config": asdict(model.config)}, path)


def train_all(options: argparse.Namespace) -> bool:
    """Train what is not finished yet, in order; False when the call's minutes ran out before."""
    from capabilities.slm.training.recipes import ORDER, RECIPES

    stop_at = time.monotonic() + options.call_minutes * 60
    runs = options.folder or RUNS
    for name in options.only or ORDER:
        recipe = for_device(RECIPES[name], options.device, options.workers)
        packed = options.out / f"{name}.weights.pt"
        if (options.out / f"{name}.done").exists():
            continue
        if time.monotonic() >= stop_at:
            return False
        budget_s = recipe.gpu_minutes * 60 * options.scale
        training = replace(
            recipe.training,
            threads=options.threads,
            budget_s=budget_s,
            compiled=options.compile,
        )
        if options.smoke:
            training = replace(shrink(training), budget_s=None, workers=training.workers)
        print(f"{name}: {budget_s:.0f} s on {options.device}", file=sys.stderr, flush=True)
        recipe = replace(recipe, training=training)
        parts = [runs / part / "checkpoint.pt" for part in recipe.parts]
        # On a machine that has not trained its parts a model begins from nothing.
        begin = parts if all(part.exists() for part in parts) and not options.smoke else ()
        model = train_recipe(recipe, runs / name, resume=True, begin=begin, stop_at=stop_at)
        pack(model, packed)
        shutil.copyfile(runs / name / "log.jsonl", options.out / f"{name}.log.jsonl")
        if time.monotonic() >= stop_at:
            # The last model may have ended by itself in that moment: the next call sees.
            return False
        (options.out / f"{name}.done").touch()
    return True


def ship(options: argparse.Namespace) -> None:
    """Export every NAME.weights.pt of --out into --output (the embedded models by default)."""
    from capabilities.slm.training.harness import load_checkpoint
    from capabilities.slm.training.recipes import ORDER, RECIPES

    found = [name for name in ORDER if (options.out / f"{name}.weights.pt").is_file()]
    chosen = [name for name in found if name in (options.only or EMBEDDED_NAMES)]
    if not chosen:
        raise SystemExit(f"no NAME.weights.pt in {options.out}: train with `all --out` first")
    for name in chosen:
        model = load_checkpoint(options.out / f"{name}.weights.pt")
        output = (options.output or EMBEDDED) / f"{name}.gguf"
        export(RECIPES[name], model, (options.folder or RUNS) / name, output, options.answers)
        # What embedded/__init__.py says of the model, and a test holds it to.
        print(
            f"{output}: {output.stat().st_size / 1e6:.2f} MB, "
            f"parameters={model.parameter_count():_}, context={model.config.context}",
            file=sys.stderr,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("tokenizer", *NAMES, "all", "ship"))
    parser.add_argument("--folder", type=Path, default=None, help="for checkpoints and the log")
    parser.add_argument("--output", type=Path, default=None, help="where the result is written")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=None, help="train so long instead")
    parser.add_argument("--batch-tokens", type=int, default=None, help="tokens of a step")
    parser.add_argument(
        "--rate-scale", type=float, default=1.0, help="of the rates; below 1 after --begin"
    )
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=None, help="processes that draw the data")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument(
        "--begin",
        type=Path,
        nargs="+",
        default=(),
        help="a checkpoint to start from, it may be shallower; several stand side by side",
    )
    parser.add_argument("--smoke", action="store_true", help="a few steps of a toy model")
    parser.add_argument(
        "--export", action="store_true", help="only export the last checkpoint, without training"
    )
    parser.add_argument(
        "--blend",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="with --export: mix in so much of the weights of --begin, which the run began from",
    )
    parser.add_argument(
        "--answers",
        type=int,
        default=2000,
        help="held out, on which the exits are calibrated; 0: not at all",
    )
    many = parser.add_argument_group("all, ship")
    many.add_argument("--out", type=Path, default=Path(".cache/weights"), help="for the weights")
    many.add_argument("--only", nargs="*", choices=NAMES, help="these models alone")
    many.add_argument("--scale", type=float, default=1.0, help="of every model's minutes")
    many.add_argument("--call-minutes", type=float, default=600.0, help="stop this call after")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    alone = options.what not in ("tokenizer", "all", "ship")
    if options.smoke and alone and options.output is None:
        parser.error("--smoke needs --output: its model must not replace the shipped one")
    if options.what == "tokenizer":
        from capabilities.slm.training.tokenizer import TOKENIZER_FILE, train_tokenizer
        from capabilities.slm.training.vocabulary import tokenizer_corpus

        train_tokenizer(tokenizer_corpus()).save(str(options.output or TOKENIZER_FILE))
    elif options.blend and not (options.export and len(options.begin) == 1):
        parser.error("--blend needs --export, and one checkpoint after --begin")
    elif options.what == "all":
        options.out.mkdir(parents=True, exist_ok=True)
        if not train_all(options):
            print("not finished: the same command goes on from here", file=sys.stderr)
    elif options.what == "ship":
        ship(options)
    else:
        _train_one(options)


def _train_one(options: argparse.Namespace) -> None:
    from capabilities.slm.training.recipes import RECIPES

    recipe = for_device(RECIPES[options.what], options.device, options.workers)
    training = replace(recipe.training, threads=options.threads, compiled=options.compile)
    if options.steps:
        training = replace(training, steps=options.steps)
    if options.batch_tokens:
        training = replace(training, batch_tokens=options.batch_tokens)
    training = replace(
        training,
        matrix_rate=training.matrix_rate * options.rate_scale,
        other_rate=training.other_rate * options.rate_scale,
    )
    if options.minutes:
        training = replace(training, budget_s=options.minutes * 60)
    if options.smoke:
        training = shrink(training)
    recipe = replace(recipe, training=training)
    folder = options.folder or RUNS / recipe.name
    output = options.output or EMBEDDED / f"{recipe.name}.gguf"
    if options.export:
        from capabilities.slm.training.harness import load_checkpoint
        from capabilities.slm.training.model import blended

        model = load_checkpoint(folder / "checkpoint.pt")
        if options.blend:
            (begun,) = options.begin
            model = blended(model, load_checkpoint(begun), options.blend)
    else:
        model = train_recipe(recipe, folder, resume=options.resume, begin=options.begin)
    answers = (
        min(options.answers, training.evaluation_questions) if options.smoke else options.answers
    )
    export(recipe, model, folder, output, answers)


if __name__ == "__main__":
    main()
