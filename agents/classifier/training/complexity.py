"""Fits the complexity head: ``python -m agents.classifier.training.complexity`` (a minute).

Steps are known for generated compound questions (the planner's own training draws them) and one
for single ones; lengths are those of the embedded models' own answers. What is held out: parts,
connectors and topics that the draw keeps for evaluation.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from agents.classifier import complexity
from agents.classifier.complexity import HeadComplexity, HeadWeights
from agents.classifier.regression import ridge_fit, softmax_fit
from agents.classifier.shipped import COMPLEXITY_FILE
from agents.classifier.training import grading, topics
from capabilities.slm.training import plans

SEED = 20_261
COMPOUND, SINGLE, ASKED = 6000, 2000, 300
ROUNDS, RATE, DECAY, RIDGE = 20, 0.03, 1e-2, 5.0
_LIST_END = "\nRequest: "  # what capabilities.slm.tasks.plan_request puts before the question


@dataclass(frozen=True)
class Counted:
    """A question and the number of steps that answer it."""

    text: str
    steps: int


def compound(rng: random.Random, count: int, *, held_out: bool) -> list[Counted]:
    """Questions of one to five steps, as the planner is taught them."""
    made = []
    for _ in range(count):
        example = plans.example(rng, held_out=held_out)
        steps = len(json.loads(example.answer)["steps"])
        text = example.question.rpartition(_LIST_END)[2]
        made.append(Counted(text, min(steps, complexity.MOST_STEPS)))
    return made


def single(rng: random.Random, count: int, *, held_out: bool) -> list[Counted]:
    """Questions about the mesh, calculations, and of the wide world: one step each."""
    kind = topics.HELD_OUT if held_out else topics.TRAINED
    asked = topics.asked(rng, kind)
    return [Counted(text, 1) for text, _ in (rng.choice(asked) for _ in range(count))]


def rows_of(texts: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """What the head sees, as rows."""
    return np.array([complexity.counts(text) for text in texts], dtype=np.float32)


def lengths(seed: int, count: int) -> list[tuple[str, int]]:
    """Questions with the tokens that the embedded models' answers to them took."""
    found = []
    for domain in ("arithmetic_distracted", "mesh"):
        found += [(row.question, row.tokens) for row in grading.grade(domain, count, seed)]
    return found


def train(seed: int) -> HeadWeights:
    """The head; the same on every machine up to rounding."""
    rng = random.Random(seed)
    asked = compound(rng, COMPOUND, held_out=False) + single(rng, SINGLE, held_out=False)
    labels = np.array([one.steps - 1 for one in asked], dtype=np.int64)
    rows = rows_of([one.text for one in asked])
    mean, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    scaled, level = softmax_fit(
        (rows - mean) / spread, labels, complexity.MOST_STEPS, rounds=ROUNDS,
        rate=RATE, decay=DECAY, seed=seed,
    )  # fmt: skip
    weights = scaled / spread[:, None]
    bias = level - mean @ weights
    measured = lengths(seed, ASKED)
    target = np.array([math.log(max(1, tokens)) for _, tokens in measured])
    own = rows_of([text for text, _ in measured]).astype(np.float64)
    tokens, base = ridge_fit(own, target, decay=RIDGE)
    return HeadWeights(
        steps=[[round(float(v), 4) for v in row] for row in weights.T],
        steps_bias=[round(float(v), 4) for v in bias],
        tokens=[round(float(v), 4) for v in tokens],
        tokens_bias=round(base, 4),
        made_by=f"agents.classifier.training.complexity, seed {seed}",
    )


def main() -> None:
    """Train and write the file beside the classifier."""
    here = Path(__file__).resolve().parent.parent / COMPLEXITY_FILE
    parser = argparse.ArgumentParser(description="Fit the complexity head.")
    parser.add_argument("--out", type=Path, default=here)
    out: Path = parser.parse_args().out
    weights = train(SEED)
    out.write_bytes(msgspec.json.encode(weights) + b"\n")
    held = compound(random.Random(1), 500, held_out=True)
    head = HeadComplexity(weights)
    right = sum(head.steps_of(one.text) == one.steps for one in held)
    print(f"{out.name}: {right} of {len(held)} held-out plans right", file=sys.stderr)


if __name__ == "__main__":
    main()
