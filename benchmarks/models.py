"""What the embedded models can do: `python -m benchmarks.models --json`.

Evaluates the shipped GGUF files through llama.cpp, greedily, on held-out questions. No figure comes
from training: what is printed is what a node would answer. What cannot be measured is null, and
`missing` says why.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import (
    _models_arithmetic,
    _models_embedder,
    _models_exits,
    _models_general,
    _models_specialists,
)
from benchmarks._greedy import Greedy
from benchmarks._models_exits import messages
from benchmarks._report import Options, progress, run
from capabilities.slm import header
from capabilities.slm.embedded import embedded_models
from capabilities.slm.memory import estimate
from capabilities.slm.training import union
from capabilities.slm.training.chat import Example
from capabilities.slm.training.exits import tasks_of

QUESTIONS = 1000
QUICK_QUESTIONS = 120
EXIT_QUESTIONS = 200  # about 6,000 tokens
FOLDER = Path(__file__).parents[1] / "capabilities" / "slm" / "embedded"
# A conversation of so many tokens counts in the memory of both sides of a comparison.
MEMORY_CONTEXT = 1024

Ask = Callable[[Sequence[Example]], list[str]]
Figures = dict[str, Any]

# The figure of each model that `quantized_loss` and `specialist_vs_large` compare.
HEADLINE = {
    "arithmetic": "exact",
    "air_quality": "category",
    "vitals": "triage",
    "traffic": "state",
    "general": "topic_accuracy",
}
LARGE = "large"
_NAMES = (*HEADLINE, LARGE, "embedder")


def ask(model: Greedy, examples: Sequence[Example]) -> list[str]:
    """The visible answer to each example, by the model's own chat template."""
    prompts = [model.prompt(messages(example)) for example in examples]
    return [model.answer(reply) for reply in model.replies(prompts)]


def figures_of(name: str, path: Path, model: Greedy, options: Options) -> tuple[Figures, list[Any]]:
    """The figures of the model in `path` at the work of `name`, and the raw samples."""
    count = QUICK_QUESTIONS if options.quick else QUESTIONS
    asking = partial(ask, model)
    if name == "arithmetic":
        return _models_arithmetic.measure(asking, count, options.seed, options.more.mawps)
    if name == "general":
        tasks = tasks_of(path)
        return _models_general.measure(asking, model.count, tasks, count, options.seed)
    return _models_specialists.measure(name, asking, count, options.seed)


def shared_cases(name: str, count: int, seed: int) -> list[Example]:
    """Held-out questions of the domain `name` that a model of all domains is asked just so."""
    rng = random.Random(seed)
    if name == "arithmetic":
        half = count // 2
        return [
            *_models_arithmetic.exact_cases(rng, half),
            *_models_arithmetic.stories(rng, count - half),
        ]
    found: list[Example] = []
    while len(found) < count:
        example = union.DOMAINS[name][1](rng)
        if union.belongs(example):
            found.append(example)
    return found


def score(name: str, examples: Sequence[Example], answers: Sequence[str]) -> float:
    """The share of `answers` that is right, judged as the domain's own figure is."""
    right = []
    for example, answer in zip(examples, answers, strict=True):
        if name in _models_specialists.SPECIALISTS:
            of = _models_specialists.SPECIALISTS[name].category_of
            right.append(of(answer) == of(example.answer))
        elif example.category == "words":
            expected = _models_arithmetic.value_of(example.answer)
            right.append(expected is not None and _models_arithmetic.same_number(expected, answer))
        else:
            right.append(_models_general.is_right(example, answer))
    return _models_arithmetic.share(right)


def memory_mb(path: Path) -> float:
    """Weights, keys and values of one conversation, and a step's temporaries; no process."""
    need = estimate(
        header.read(path),
        path.stat().st_size,
        context_tokens=MEMORY_CONTEXT,
        batch_tokens=256,
        rows=1,
    )
    return round((need.weights + need.context + need.compute) / 1e6, 2)


def _large(options: Options) -> Path:
    folder: Path = options.more.models or FOLDER
    return folder / f"{LARGE}.gguf"


def against_large(options: Options, figures: Figures) -> None:
    """Each specialist and `large` on the same questions, with the memory that both take."""
    compared: Figures = {}
    large = Greedy(_large(options))
    figures["files"][LARGE] = {**_size(_large(options)), **large.facts()}
    for name, model in _compared(options).items():
        loaded = Greedy(model)
        examples = _shared(options, name, model)
        own, other = (ask(one, examples) for one in (loaded, large))
        loaded.close()
        mine, theirs = memory_mb(model), memory_mb(_large(options))
        compared[name] = {
            "specialist": score(name, examples, own),
            "large": score(name, examples, other),
            "memory_share": round(mine / theirs, 4),
            "specialist_mb": mine,
            "large_mb": theirs,
            "questions": len(examples),
        }
        progress(f"{name} and large: {json.dumps(compared[name])}")
    large.close()
    figures["specialist_vs_large"] = compared


def _shared(options: Options, name: str, model: Path) -> list[Example]:
    count = QUICK_QUESTIONS if options.quick else QUESTIONS
    examples = shared_cases(name, count, options.seed + 1)
    if name == "general":
        known = tasks_of(model) or ("chat",)
        examples = [e for e in examples if _task_of(e) in known]
    return examples


def _compared(options: Options) -> dict[str, Path]:
    """The specialists that `large` is held against: those asked, all when `large` itself is."""
    return _there(options) if _wanted(options, LARGE) else _chosen(options)


def _task_of(example: Example) -> str:
    return example.category if example.system and example.category in _TASKS else "chat"


_TASKS = ("plan", "extract", "reading_tasks", "reword", "join")


def quantized_loss(options: Options, figures: Figures, missing: dict[str, str]) -> None:
    """What quantization costs each model whose full precision lies in training's folder."""
    losses: dict[str, float] = {}
    lacking = []
    full_large = options.more.full_precision / LARGE / f"{LARGE}.f32.gguf"
    if figures["specialist_vs_large"] and _wanted(options, LARGE) and full_large.is_file():
        losses[LARGE] = _large_loss(options, figures["specialist_vs_large"], full_large)
    for name, key in HEADLINE.items():
        full = options.more.full_precision / name / f"{name}.f32.gguf"
        if name not in _chosen(options) or not figures.get(name):
            continue
        if not full.is_file():
            lacking.append(name)
            continue
        progress(f"{name}: asking in full precision")
        loaded = Greedy(full)
        before, _ = figures_of(name, full, loaded, options)
        loaded.close()
        losses[name] = round(before[key] - figures[name][key], 4)
    figures["quantized_loss"] = max(losses.values()) if losses else None
    figures["quantized_loss_by_model"] = losses
    if lacking:
        missing["quantized_loss"] = (
            f"no NAME/NAME.f32.gguf in {options.more.full_precision} for: {', '.join(lacking)}"
        )


def _large_loss(options: Options, compared: Figures, full: Path) -> float:
    """The mean over the domains: `large` has no figure of its own."""
    loaded = Greedy(full)
    lost = []
    for name, figure in compared.items():
        progress(f"large: asking {name} in full precision")
        examples = _shared(options, name, _there(options)[name])
        lost.append(score(name, examples, ask(loaded, examples)) - figure[LARGE])
    loaded.close()
    return round(sum(lost) / len(lost), 4)


def _chosen(options: Options) -> dict[str, Path]:
    """The models that this run asks, by name."""
    return {name: path for name, path in _there(options).items() if _wanted(options, name)}


def _there(options: Options) -> dict[str, Path]:
    """The shipped models with a figure of their own, or those of --models."""
    if options.more.models:
        found = {name: options.more.models / f"{name}.gguf" for name in HEADLINE}
        return {name: path for name, path in found.items() if path.is_file()}
    return {n: model.path for n, model in embedded_models().items() if n in HEADLINE}


def _where(options: Options) -> str:
    return f"in {options.more.models}" if options.more.models else "in the package"


def _wanted(options: Options, name: str) -> bool:
    return not options.more.only or name in options.more.only.split(",")


def measure(options: Options) -> Figures:
    figures: Figures = {"files": {}}
    missing: dict[str, str] = {}
    chosen = _chosen(options)
    for name in HEADLINE:
        if not _wanted(options, name):
            continue
        if name not in chosen:
            figures[name] = None
            missing[name] = f"{name}.gguf is not {_where(options)}"
            continue
        progress(f"{name}: asking")
        loaded = Greedy(chosen[name])
        figures["files"][name] = {**_size(chosen[name]), **loaded.facts()}
        figures[name], raw = figures_of(name, chosen[name], loaded, options)
        if name == "general":
            _exits(options, figures, missing, chosen[name], loaded)
        loaded.close()
        progress(f"{name}: {json.dumps(figures[name])}")
        if options.out:
            (options.out / f"{name}.json").write_text(json.dumps(raw, indent=1))
    if _large(options).is_file():
        against_large(options, figures)
    else:
        figures["specialist_vs_large"] = None
        missing["specialist_vs_large"] = f"large.gguf is not {_where(options)}"
    quantized_loss(options, figures, missing)
    if _wanted(options, "embedder"):
        progress("embedder")
        figures["embedder"] = _models_embedder.measure(options.more.intents, options.seed)
    figures["files_mb"] = round(sum(f["mb"] for f in figures["files"].values()), 2)
    if missing:
        figures["missing"] = missing
    return figures


def _exits(
    options: Options, figures: Figures, missing: dict[str, str], model: Path, loaded: Greedy
) -> None:
    exits = model.with_suffix(".exits.gguf")
    if not exits.is_file():
        figures["exits"] = None
        missing["exits"] = f"{exits.name} is not {_where(options)}"
        return
    progress("general: its exits")
    count = QUICK_QUESTIONS if options.quick else EXIT_QUESTIONS
    figures["files"]["general.exits"] = _size(exits)
    figures["exits"] = _models_exits.measure(model, exits, loaded, count, options.seed)


def _size(path: Path) -> Figures:
    return {"mb": round(path.stat().st_size / 1e6, 2)}


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        default=None,
        help=f"models to ask, with commas between: {', '.join(_NAMES)}; default: all",
    )
    parser.add_argument(
        "--models", type=Path, default=None, help="ask the NAME.gguf of this folder instead"
    )
    parser.add_argument(
        "--mawps", type=Path, default=None, help="mawps_train.json, for arithmetic.mawps"
    )
    parser.add_argument(
        "--intents", type=Path, default=None, help="CLINC150's file, for the embedder's intents"
    )
    parser.add_argument(
        "--full-precision",
        type=Path,
        default=Path(".cache/training"),
        help="training's folder, with NAME/NAME.f32.gguf, to measure what quantization costs",
    )


if __name__ == "__main__":
    run(__doc__ or "", measure, extend)
