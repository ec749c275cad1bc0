"""How well questions are understood: `python -m benchmarks.understanding --json`.

The questions are our own, in wordings and of names that training never saw
(agents/classifier/training/held_out.txt). `accuracy` counts a question as right when it goes to
its own name, and one that fits no name when it goes to none; all well-known names are in the
mesh. `new_name` adds names that are known only from a description and five examples.

`--intents FILE` (CLINC150) and `--routing FILE` (graded answers of a weak and a strong model)
bring what a published data set is needed for; without them those keys are null.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.classifier.catalogue import WELL_KNOWN, KnownName
from agents.classifier.regression import auroc
from agents.classifier.relevance import NONE, Relevance, RelevanceClassifier
from agents.classifier.training import gap_questions, questions, topics
from agents.configure import PartsConfig, build
from benchmarks import (
    _report,
    _understanding_complexity,
    _understanding_gap,
    _understanding_intents,
    _understanding_router,
)

VARIANTS = 4  # of a line with numbers, two of one without; --quick asks each once
BINS = 10


def calibration_error(pairs: Sequence[tuple[float, bool]]) -> float:
    """Expected calibration error over ten bins of equal width (Naeini et al. 2015)."""
    error = 0.0
    for number in range(BINS):
        low, high = number / BINS, (number + 1) / BINS
        inside = [p for p in pairs if low <= p[0] < high or (number == BINS - 1 and p[0] == 1)]
        if inside:
            sure = sum(p for p, _ in inside) / len(inside)
            right = sum(r for _, r in inside) / len(inside)
            error += len(inside) / len(pairs) * abs(sure - right)
    return error


def chosen(relevance: Relevance, threshold: float) -> str:
    """The name that a question goes to, or NONE."""
    return relevance.best.name if relevance.best.probability >= threshold else NONE


def ask(
    source: questions.Questions, labels: Sequence[str], rng: random.Random, *, quick: bool
) -> list[tuple[str, str]]:
    """(question, label) for the lines under ``labels``."""
    asked = []
    for label in labels:
        for line in source.asked[label]:
            count = 1 if quick else VARIANTS if "{a}" in line else 2
            asked += [(text, label) for text in questions.variants(line, rng, count)]
    return asked


def measure_known(
    classifier: RelevanceClassifier, asked: Sequence[tuple[str, str]], threshold: float
) -> dict[str, Any]:
    """Well-known names and nothing else in the mesh."""
    began = time.perf_counter()
    seen = [(classifier.classify(text, WELL_KNOWN), text, label) for text, label in asked]
    spent = time.perf_counter() - began
    right: dict[str, list[bool]] = {}
    pairs = []
    wrong = []
    for relevance, text, label in seen:
        found = chosen(relevance, threshold)
        right.setdefault(label or "out_of_scope", []).append(found == label)
        every = [(s.probability, s.name) for s in relevance.ranked]
        sure, likeliest = max([*every, (relevance.out_of_scope, NONE)])
        pairs.append((sure, likeliest == label))
        if found != label:
            wrong.append({"question": text, "label": label, "found": found})
    inside = [ok for label, oks in right.items() if label != "out_of_scope" for ok in oks]
    return {
        "relevance": {
            "accuracy": round(sum(map(sum, right.values())) / len(seen), 4),
            "in_scope_accuracy": round(sum(inside) / len(inside), 4),
            "by_name": {label: round(sum(oks) / len(oks), 4) for label, oks in right.items()},
            "ece": round(calibration_error(pairs), 4),
            "us_per_question": round(spent / len(seen) * 1e6),
            "questions": len(seen),
            "threshold": threshold,
        },
        "oos": {
            "auroc": round(
                auroc(
                    [r.out_of_scope for r, _, label in seen if label == NONE],
                    [r.out_of_scope for r, _, label in seen if label != NONE],
                ),
                4,
            ),
            "questions": sum(label == NONE for _, _, label in seen),
        },
        "wrong": wrong,
    }


def measure_new(
    classifier: RelevanceClassifier,
    source: questions.Questions,
    rng: random.Random,
    threshold: float,
) -> dict[str, Any]:
    """Each new name alone beside the well-known ones, then all of them at once."""
    by_name: dict[str, float] = {}
    alone: list[bool] = []
    together: list[bool] = []
    for known in source.new:
        lines = source.asked[known.name][questions.ADVERTISED :]
        asked = [text for line in lines for text in questions.variants(line, rng, 2)]
        oks = [_goes_to(classifier, text, known, [known], threshold) for text in asked]
        by_name[known.name] = round(sum(oks) / len(oks), 4)
        alone += oks
        together += [_goes_to(classifier, t, known, source.new, threshold) for t in asked]
    return {
        "new_name": round(sum(alone) / len(alone), 4),
        "new_names_at_once": round(sum(together) / len(together), 4),
        "new_names": by_name,
        "new_name_questions": len(alone),
    }


def measure_topics(
    classifier: RelevanceClassifier, rng: random.Random, threshold: float
) -> dict[str, Any]:
    """The questions that the general model's own training keeps for evaluation."""
    asked = topics.asked(rng, topics.HELD_OUT)
    right: dict[str, list[bool]] = {}
    for text, label in asked:
        found = chosen(classifier.classify(text, WELL_KNOWN), threshold)
        right.setdefault(label or "out_of_scope", []).append(found == label)
    return {
        "accuracy": round(sum(map(sum, right.values())) / len(asked), 4),
        "by_name": {label: round(sum(oks) / len(oks), 4) for label, oks in right.items()},
        "questions": len(asked),
    }


def _goes_to(
    classifier: RelevanceClassifier,
    text: str,
    right: KnownName,
    new: Sequence[KnownName],
    threshold: float,
) -> bool:
    return chosen(classifier.classify(text, [*WELL_KNOWN, *new]), threshold) == right.name


PARTS = ("relevance", "intents", "complexity", "gap", "router")


def measure_relevance(options: _report.Options) -> dict[str, Any]:
    """`relevance` and `wrong`, which lists what was misunderstood, for whoever improves it."""
    given = options.more.classifier
    parts = build(PartsConfig(classifier=given)) if given else build()
    rng = random.Random(options.seed)
    source = questions.load("held_out.txt")
    labels = [*(known.name for known in WELL_KNOWN), NONE]
    asked = ask(source, labels, rng, quick=options.quick)
    _report.progress(f"{len(asked)} questions in held-out wordings")
    figures = measure_known(parts.classifier, asked, parts.thresholds.name)
    _report.progress("names that are seen for the first time")
    figures["relevance"] |= measure_new(parts.classifier, source, rng, parts.thresholds.name)
    figures["relevance"]["general_topics"] = measure_topics(
        parts.classifier, rng, parts.thresholds.name
    )
    # How well "none of them" is told among our own questions; `oos` itself is CLINC150's.
    figures["relevance"]["oos_auroc"] = figures.pop("oos")["auroc"]
    figures["wrong"] = figures.pop("wrong")[:40]
    return figures


def measure(options: _report.Options) -> dict[str, Any]:
    """The figures of the parts that were asked for."""
    only = options.more.only
    figures: dict[str, Any] = {}
    if "relevance" in only:
        figures |= measure_relevance(options)
    if "intents" in only:
        _report.progress("intents")
        figures["intent"], figures["oos"] = _understanding_intents.measure(
            options.more.intents, options.seed
        )
    if "complexity" in only:
        _report.progress("complexity")
        figures["complexity"] = _understanding_complexity.measure(options.seed, quick=options.quick)
    if "router" in only:
        _report.progress("router")
        figures["router"] = _understanding_router.measure(
            options.more.routing, options.seed, quick=options.quick
        )
    if "gap" in only:
        figures["gap"] = _understanding_gap.measure(
            options.seed,
            quick=options.quick,
            out=options.out,
            ece=calibration_error,
            only=options.more.domains,
        )
    return figures


def extend(parser: argparse.ArgumentParser) -> None:
    """The data sets, and which parts to measure."""
    parser.add_argument(
        "--domains",
        nargs="+",
        choices=list(gap_questions.domains()),
        default=[],
        help="of doubt; default: all whose model is there",
    )
    parser.add_argument("--intents", type=Path, help="clinc150_train_val.json")
    parser.add_argument("--routing", type=Path, help="mmlu_weak_strong_train.csv")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure"
    )
    parser.add_argument(
        "--classifier", default="", help="relevance classifier; default: the node's"
    )


if __name__ == "__main__":
    _report.run("How well questions are understood.", measure, extend)
