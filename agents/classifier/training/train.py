"""Trains ``relevance.json``: ``python -m agents.classifier.training.train`` (seconds, numpy).

First the head: a linear softmax over hashed features for the well-known names and "none".
Then, with the head's word on questions that it was not trained on (five folds), the weights of
likeness: episodes with some names that are known only by what they advertise, so that what is
learnt belongs to no name. Two episodes with the same seed are the same.
"""

from __future__ import annotations

import argparse
import base64
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agents.classifier import features
from agents.classifier.catalogue import WELL_KNOWN, KnownName
from agents.classifier.relevance import (
    LIKENESS,
    NONE,
    NOTHING,
    Head,
    Weights,
    likeness,
    nothing,
)
from agents.classifier.shipped import WEIGHTS_FILE
from agents.classifier.training import questions, topics
from capabilities.slm.training import outside

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.floating[Any]]

SEED = 20_261
FOLDS = 5
VARIANTS = {"numbers": 4, "words": 2}
HEAD_DECAY = 2e-3  # with 1e-4 the head is sure of questions that it has never seen the like of
HEAD_ROUNDS = 300
LIKENESS_DECAY = 1e-3
LIKENESS_ROUNDS = 600
REPEATS = {"new": 8, "known": 2}  # episodes per question: few lines speak for new names
NEW_NAMES = (0, 0, 1, 2, 3, 4, 6, 8)  # how many new names an episode may offer
LABELS = (*(known.name for known in WELL_KNOWN), NONE)


@dataclass(frozen=True)
class Sample:
    """A question as asked, its label, and the fold of the line that it was made from."""

    text: str
    label: str
    fold: int


def samples(source: questions.Questions, rng: random.Random) -> list[Sample]:
    """All variants of all lines; a new name keeps its own label."""
    made = []
    for label, lines in source.asked.items():
        for line in lines:
            fold = rng.randrange(FOLDS)
            count = VARIANTS["numbers" if "{a}" in line else "words"]
            made += [Sample(text, label, fold) for text in questions.variants(line, rng, count)]
    return made


def topic_samples(rng: random.Random) -> list[Sample]:
    """What the general model was taught, and what it was taught to decline."""
    made = []
    for pattern, label in topics.lines(topics.TRAINED):
        fold = rng.randrange(FOLDS)  # two ways of one line must not meet across folds
        made += [
            Sample(questions.dress(outside.fill(rng, pattern), rng), label, fold)
            for _ in range(VARIANTS["words"])
        ]
    for text, label in topics.beyond(rng, topics.TRAINED):
        made.append(Sample(questions.dress(text, rng), label, rng.randrange(FOLDS)))
    return made


def matrix(texts: list[str]) -> Matrix:
    """Hashed features as rows."""
    import numpy as np

    rows = np.zeros((len(texts), features.HASH_WIDTH), dtype=np.float32)
    for number, text in enumerate(texts):
        for index, value in features.hashed(text):
            rows[number, index] = value
    return rows


def fit_head(rows: Matrix, labels: list[int]) -> tuple[Matrix, Matrix]:
    """Weights (labels by features) and biases, classes weighted by the root of their size."""
    import numpy as np

    target = np.eye(len(LABELS), dtype=np.float32)[labels]
    counts = target.sum(axis=0)
    importance = (np.sqrt(counts.mean() / np.maximum(counts, 1)) @ target.T)[:, None]
    weight = np.zeros((len(LABELS), rows.shape[1]), dtype=np.float32)
    bias = np.zeros(len(LABELS))
    moments = [np.zeros_like(weight), np.zeros_like(weight)]
    for step in range(1, HEAD_ROUNDS + 1):
        logits = rows @ weight.T + bias
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        error = (odds / odds.sum(axis=1, keepdims=True) - target) * importance / len(rows)
        gradient = error.T @ rows + HEAD_DECAY * weight / len(LABELS)
        moments[0] = 0.9 * moments[0] + 0.1 * gradient
        moments[1] = 0.999 * moments[1] + 0.001 * gradient**2
        weight -= (
            0.03 * (moments[0] / (1 - 0.9**step)) / (np.sqrt(moments[1] / (1 - 0.999**step)) + 1e-8)
        )
        bias -= 0.5 * error.sum(axis=0)
    return weight, bias


def pack(weight: Matrix, bias: Matrix) -> Weights:
    """The head as it is shipped, likeness still empty."""
    import numpy as np

    scale = float(np.abs(weight).max()) / 127
    rows = np.round(weight / scale).astype(np.int8)
    return Weights(
        labels=list(LABELS),
        head=[base64.b64encode(row.tobytes()).decode() for row in rows],
        scale=scale,
        bias=[round(float(value), 5) for value in bias],
        likeness={},
        nothing={},
        temperature=1.0,
        made_by=f"agents.classifier.training.train, seed {SEED}",
    )


Episode = tuple[list[tuple[float, ...]], tuple[float, ...], int]


def episodes(
    made: list[Sample], heads: list[Head], source: questions.Questions, rng: random.Random
) -> list[Episode]:
    """Per question: rows of likeness to the names offered, the row of nothing, the answer."""
    built = []
    new_labels = {known.name for known in source.new}
    own_examples = {text.lower() for known in WELL_KNOWN for text in known.examples}
    lines = {text.lower(): name for name, texts in source.asked.items() if name for text in texts}
    for sample in made:
        if sample.text.lower() in own_examples:
            continue  # its likeness to itself would teach nothing
        seen = features.read(sample.text)
        head = heads[sample.fold].log_probabilities(sample.text)
        for _ in range(REPEATS["new" if sample.label in new_labels else "known"]):
            new = _new_names(sample, source, seen.content, lines, rng)
            offered = [*WELL_KNOWN, *new]
            rows = [likeness(seen, known, head) for known in offered]
            right = [n for n, known in enumerate(offered) if known.name == sample.label]
            built.append((rows, nothing(seen, rows, head), right[0] if right else len(rows)))
    return built


def _new_names(
    sample: Sample,
    source: questions.Questions,
    content: frozenset[str],
    lines: dict[str, str],
    rng: random.Random,
) -> list[KnownName]:
    """Some new names, with examples that are not the question itself."""
    chosen = rng.sample(source.new, min(len(source.new), rng.choice(NEW_NAMES)))
    if any(known.name == sample.label for known in source.new) and rng.random() < 0.7:
        chosen = [k for k in chosen if k.name != sample.label]
        chosen += [k for k in source.new if k.name == sample.label]
    offered = []
    for known in chosen:
        texts = source.asked[known.name]
        if sample.label == NONE:
            words = {word for text in texts for word in features.read(text).content}
            # A question labelled "none" may well belong to a name made up elsewhere.
            if content & words or lines.get(sample.text.lower()) == known.name:
                continue
        others = [t for t in texts if features.read(t).content != content]
        examples = tuple(rng.sample(others, min(len(others), rng.choice((3, 4, 5, 5, 6)))))
        offered.append(KnownName(known.name, known.domain, known.description, examples))
    return offered


def fit_likeness(built: list[Episode], rng: random.Random) -> tuple[Matrix, Matrix, float]:
    """A conditional logit: weights of LIKENESS and NOTHING, and its temperature."""
    import numpy as np

    order = list(built)
    rng.shuffle(order)
    cut = len(order) * 4 // 5
    wide = max(len(rows) for rows, _, _ in order)

    def tensors(part: list[Episode]) -> tuple[Matrix, Matrix, Matrix, NDArray[np.int64]]:
        names = np.zeros((len(part), wide, len(LIKENESS)))
        absent = np.zeros((len(part), wide))
        for number, (rows, _, _) in enumerate(part):
            names[number, : len(rows)] = rows
            absent[number, len(rows) :] = -1e9
        none = np.array([row for _, row, _ in part])
        right = np.array([wide if a == len(rows) else a for rows, _, a in part])
        return names, absent, none, right

    weight, base = np.zeros(len(LIKENESS)), np.zeros(len(NOTHING))

    def logits(data: tuple[Matrix, Matrix, Matrix, NDArray[np.int64]]) -> Matrix:
        names, absent, none, _ = data
        joined = np.concatenate([names @ weight + absent, (none @ base)[:, None]], axis=1)
        shifted: Matrix = joined - joined.max(axis=1, keepdims=True)
        return shifted

    train = tensors(order[:cut])
    both = np.concatenate([weight, base])
    first, second = np.zeros_like(both), np.zeros_like(both)
    for step in range(1, LIKENESS_ROUNDS + 1):
        odds = np.exp(logits(train))
        odds /= odds.sum(axis=1, keepdims=True)
        odds[np.arange(cut), train[3]] -= 1
        gradient = np.concatenate(
            [
                np.einsum("nk,nkf->f", odds[:, :-1], train[0]) / cut,
                odds[:, -1] @ train[2] / cut,
            ]
        )
        gradient += LIKENESS_DECAY * both
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        both -= 0.03 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        weight, base = both[: len(LIKENESS)], both[len(LIKENESS) :]
    rest = tensors(order[cut:])
    heats = [0.7 + 0.05 * n for n in range(30)]
    raw = logits(rest)

    def loss(heat: float) -> float:
        scaled = raw / heat
        top = np.log(np.exp(scaled).sum(axis=1))
        return float((top - scaled[np.arange(len(scaled)), rest[3]]).mean())

    heat = min(heats, key=loss)
    print(f"left out: loss {loss(heat):.4f} at temperature {heat:.2f}", file=sys.stderr)
    right = (raw.argmax(axis=1) == rest[3]).mean()
    print(f"left out: {right:.4f} right of {len(rest[3])}", file=sys.stderr)
    return weight, base, heat


def train() -> Weights:
    """All of it; the same weights on every machine up to rounding."""
    rng = random.Random(SEED)
    source = questions.load("questions.txt")
    made = samples(source, rng) + topic_samples(rng)
    rows = matrix([sample.text for sample in made])
    labels = [LABELS.index(s.label if s.label in LABELS else NONE) for s in made]
    heads = []
    for fold in range(FOLDS):
        kept = [n for n, sample in enumerate(made) if sample.fold != fold]
        heads.append(Head(pack(*fit_head(rows[kept], [labels[n] for n in kept]))))
        print(f"fold {fold + 1} of {FOLDS}", file=sys.stderr)
    weight, base, heat = fit_likeness(episodes(made, heads, source, rng), rng)
    packed = pack(*fit_head(rows, labels))
    return msgspec.structs.replace(
        packed,
        likeness=dict(zip(LIKENESS, (round(float(v), 4) for v in weight), strict=True)),
        nothing=dict(zip(NOTHING, (round(float(v), 4) for v in base), strict=True)),
        temperature=round(heat, 3),
    )


def main() -> None:
    """Train and write the file beside the classifier."""
    here = Path(__file__).resolve().parent.parent / WEIGHTS_FILE
    parser = argparse.ArgumentParser(description="Train the relevance classifier.")
    parser.add_argument("--out", type=Path, default=here)
    out: Path = parser.parse_args().out
    out.write_bytes(msgspec.json.format(msgspec.json.encode(train()), indent=1) + b"\n")
    print(f"{out.name}: {out.stat().st_size / 1024:.0f} KiB", file=sys.stderr)


if __name__ == "__main__":
    main()
