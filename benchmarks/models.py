"""What the embedded models can do: `python -m benchmarks.models --json`.

Evaluates the shipped GGUF files through llama.cpp, greedily, on held-out questions. No figure comes
from training: what is printed is what a node would answer.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import _models_specialists as specialists
from benchmarks._greedy import Greedy
from benchmarks._report import Options, progress, run
from capabilities.slm.embedded import EmbeddedModel, embedded_models
from capabilities.slm.training import arithmetic, general
from capabilities.slm.training.chat import Example

QUESTIONS = 1000
QUICK_QUESTIONS = 120
THINK_END = "<|/think|>"

Judge = Callable[[Example, str], bool]


def ask(model: Greedy, examples: Sequence[Example]) -> list[str]:
    """The visible answer to each example, by the model's own chat template."""
    prompts = []
    for example in examples:
        messages = [{"role": "system", "content": example.system}] if example.system else []
        for question, answer in example.history:
            messages += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        messages.append({"role": "user", "content": example.question})
        prompts.append(model.prompt(messages))
    return [model.text(reply).split(THINK_END)[-1].strip() for reply in model.replies(prompts)]


def is_right(example: Example, answer: str) -> bool:
    """Letter for letter one of the answers that the example allows."""
    return answer in (example.alternatives or (example.answer,))


def shares(
    examples: Sequence[Example], right: Sequence[bool], key: Callable[[Example], str]
) -> dict[str, float]:
    """The share that is right, by `key` of the example."""
    seen = Counter(key(e) for e in examples)
    good = Counter(key(e) for e, ok in zip(examples, right, strict=True) if ok)
    return {name: round(good[name] / seen[name], 4) for name in sorted(seen)}


def evaluate(
    model: Greedy, held_out: Callable[[random.Random], Example], count: int, seed: int
) -> tuple[list[Example], list[bool], list[dict[str, Any]]]:
    """Ask `count` held-out questions; the examples, whether each was right, the raw samples."""
    rng = random.Random(seed)
    examples = [held_out(rng) for _ in range(count)]
    answers = ask(model, examples)
    right = [is_right(e, a) for e, a in zip(examples, answers, strict=True)]
    raw = [
        {"question": e.question, "system": e.system, "category": e.category,
         "expected": e.answer, "answer": a, "right": ok}
        for e, a, ok in zip(examples, answers, right, strict=True)
    ]  # fmt: skip
    return examples, right, raw


def arithmetic_figures(model: Greedy, options: Options) -> tuple[dict[str, Any], list[Any]]:
    count = QUICK_QUESTIONS if options.quick else QUESTIONS
    examples, right, raw = evaluate(model, arithmetic.held_out_example, count, options.seed)
    by_wording = shares(
        examples, right, lambda e: "new_wording" if e.new_wording else "known_wording"
    )
    figures = {
        "exact": round(sum(right) / count, 4),
        "questions": count,
        **shares(examples, right, lambda e: e.category),
        **by_wording,
    }
    return figures, raw


def general_figures(model: Greedy, options: Options) -> tuple[dict[str, Any], list[Any]]:
    count = QUICK_QUESTIONS if options.quick else QUESTIONS
    examples, right, raw = evaluate(model, general.held_out_example, count, options.seed)
    by_category = shares(examples, right, lambda e: e.category)
    # Handed to the expert, in whichever words.
    declined = shares(
        [e for e in examples if e.category == general.CALCULATION],
        [
            sample["answer"] in general.expert_answers()
            for e, sample in zip(examples, raw, strict=True)
            if e.category == general.CALCULATION
        ],
        lambda e: e.category,
    )
    figures = {
        "topic_accuracy": by_category[general.TOPIC],
        "declines_calculation": declined[general.CALCULATION],
        "says_it_does_not_know": by_category[general.UNKNOWN],
        "topics": len(general.load_topics()),
        "questions": count,
    }
    return figures, raw


def specialist_figures(name: str) -> Callable[[Greedy, Options], tuple[dict[str, Any], list[Any]]]:
    def figures(model: Greedy, options: Options) -> tuple[dict[str, Any], list[Any]]:
        count = QUICK_QUESTIONS if options.quick else QUESTIONS
        return specialists.measure(name, lambda e: ask(model, e), count, options.seed)

    return figures


FIGURES = {
    "arithmetic": arithmetic_figures,
    "general": general_figures,
    **{name: specialist_figures(name) for name in specialists.SPECIALISTS},
}
# The figure of each model that `quantized_loss` compares.
HEADLINE = {
    "arithmetic": "exact",
    "general": "topic_accuracy",
    **{name: specialist.figure for name, specialist in specialists.SPECIALISTS.items()},
}


def file_facts(model: EmbeddedModel, loaded: Greedy) -> dict[str, Any]:
    return {"mb": round(model.path.stat().st_size / 1e6, 2), **loaded.facts()}


def measure(options: Options) -> dict[str, Any]:
    figures: dict[str, Any] = {"files": {}}
    losses: dict[str, float] = {}
    for name, model in embedded_models().items():
        if name not in FIGURES or (options.more.only and name not in options.more.only.split(",")):
            continue
        progress(f"{name}: asking")
        loaded = Greedy(model.path)
        figures["files"][name] = file_facts(model, loaded)
        figures[name], raw = FIGURES[name](loaded, options)
        loaded.close()
        progress(f"{name}: {json.dumps(figures[name])}")
        if options.out:
            (options.out / f"{name}.json").write_text(json.dumps(raw, indent=1))
        full = options.more.full_precision / name / f"{name}.f32.gguf"
        if full.is_file():
            loaded = Greedy(full)
            before, _ = FIGURES[name](loaded, options)
            loaded.close()
            losses[name] = round(before[HEADLINE[name]] - figures[name][HEADLINE[name]], 4)
        else:
            progress(f"{name}: {full} is not there, quantized loss not measured")
    if losses:
        figures["quantized_loss"] = max(losses.values())
        figures["quantized_loss_by_model"] = losses
    return figures


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only", default=None, help="models to ask, with commas between; default: all"
    )
    parser.add_argument(
        "--full-precision",
        type=Path,
        default=Path(".cache/training"),
        help="training's folder, with NAME/NAME.f32.gguf, to measure what quantization costs",
    )


if __name__ == "__main__":
    run(__doc__ or "", measure, extend)
