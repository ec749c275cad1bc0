"""Routers on graded answers of a weak and a strong model: how much of the gap they recover."""

from __future__ import annotations

import csv
import random
import statistics
from pathlib import Path
from typing import Any

from agents.classifier.routing import Neighbours, Past, Router, SimilarityWeighted, apgr
from capabilities.embedding.static import shipped
from mesh.core.errors import ConfigError

SPLITS = 3
TRAIN_SHARE = 0.7
MISSING = "--routing FILE (mmlu_weak_strong_train.csv) is not given"


def measure(path: Path | None, seed: int, *, quick: bool) -> dict[str, Any]:
    """``router``: means over splits of our own; null with the reason without the file."""
    if path is None:
        empty = dict.fromkeys(("apgr", "apgr_random", "apgr_similarity"))
        return {**empty, "missing": MISSING}
    past = read(path)
    found: dict[str, list[float]] = {
        key: [] for key in ("apgr", "apgr_random", "apgr_similarity", "apgr_neighbours")
    }
    for split in range(1 if quick else SPLITS):
        chance = random.Random(f"{seed} {split}")
        shuffled = chance.sample(past, len(past))
        cut = int(TRAIN_SHARE * len(shuffled))
        train, held = shuffled[:cut], shuffled[cut:]
        texts = [one.text for one in held]
        embedder = shipped()
        scored: dict[str, Any] = {
            "apgr": Router.fit(train, embedder=embedder).scores(texts),
            "apgr_random": [chance.random() for _ in texts],
            "apgr_similarity": SimilarityWeighted(train, embedder).scores(texts),
            "apgr_neighbours": Neighbours(train, embedder).scores(texts),
        }
        weak, strong = [one.weak for one in held], [one.strong for one in held]
        for key, scores in scored.items():
            found[key].append(apgr(scores, weak, strong))
    return {
        **{key: round(statistics.fmean(values), 4) for key, values in found.items()},
        "by_split": {key: [round(v, 4) for v in values] for key, values in found.items()},
        "questions": len(past),
        "weak": round(statistics.fmean(one.weak for one in past), 4),
        "strong": round(statistics.fmean(one.strong for one in past), 4),
    }


def read(path: Path) -> list[Past]:
    """Columns: subject, prompt, then whether the weak and whether the strong model was right."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    if not rows or any(len(row) < 4 for row in rows):
        raise ConfigError(f"{path} does not hold a weak and a strong model's grades")
    return [
        Past(text=row[1], weak=float(row[2] == "True"), strong=float(row[3] == "True"))
        for row in rows
    ]
