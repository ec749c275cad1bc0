"""Fits how far a model may be believed, from its graded answers.

    python -m agents.classifier.training.gap

Asks the embedded models questions on which they are right now and wrong then, beside ordinary
ones, grades them, and writes two curves per model: one for drafts of which nothing dear is
known, and one that also goes by likeness to the question and to graded ones. ``--log FILE`` takes
graded answers of any model instead: one JSON object a line with the fields of
:class:`~agents.classifier.training.grading.Graded`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from agents.classifier import doubt
from agents.classifier.doubt import Curve, Signal
from agents.classifier.gap import refuses
from agents.classifier.known import Graded as Memory
from agents.classifier.regression import TooFewExamples, isotonic_fit, logistic_fit
from agents.classifier.shipped import CURVES_FILE
from agents.classifier.training import gap_questions, grading
from agents.classifier.training.grading import Graded
from mesh.core.errors import ConfigError

SEED = 20_261
LEAST = 40  # answers of one model: fewer cannot weigh seventeen signals
FOLDS = 5
DECAY = 1.0
MEMORY = 100_000  # graded questions while fitting: all of them
# What a curve for an agent without an embedder, or without a second draft, cannot go by.
PLAIN = frozenset({doubt.SECOND, doubt.LIKENESS, doubt.KNOWN})


class Seen(msgspec.Struct, frozen=True):
    """A graded answer as the curve sees it."""

    found: dict[str, float]
    right: bool


def prepare(
    rows: Sequence[Graded], graded: Sequence[Graded] | None = None, *, embedder: Any = None
) -> list[Seen]:
    """The signals of each row. ``graded`` are the answers that neighbours are sought among;
    without it they are the rows themselves, each without its own."""
    if embedder is None:
        from capabilities.embedding.static import shipped

        embedder = shipped()
    vectors = embedder.embed([row.question for row in rows])
    answers = embedder.embed([row.answer for row in rows])
    memory = Memory(size=MEMORY if graded is None else max(1, len(graded)))
    if graded is not None:
        for row, vector in zip(graded, embedder.embed([r.question for r in graded]), strict=True):
            memory.add(row.model, vector, right=row.right)
        known = [memory.known(r.model, v) for r, v in zip(rows, vectors, strict=True)]
    else:
        known = _left_out(rows, vectors)
    return [
        Seen(
            doubt.signals(
                row.evidence,
                question=row.question,
                answer=row.answer,
                second=row.second or None,
                likeness=float(vector @ answer),
                known=near,
            ),
            row.right,
        )
        for row, vector, answer, near in zip(rows, vectors, answers, known, strict=True)
    ]


def _left_out(rows: Sequence[Graded], vectors: Any) -> list[float | None]:
    """What the neighbours say, a fifth of the rows asked of the other four fifths."""
    known: list[float | None] = [None] * len(rows)
    for fold in range(FOLDS):
        memory = Memory(size=max(1, len(rows)))
        for number, row in enumerate(rows):
            if number % FOLDS != fold:
                memory.add(row.model, vectors[number], right=row.right)
        for number in range(fold, len(rows), FOLDS):
            known[number] = memory.known(rows[number].model, vectors[number])
    return known


def fit(
    model: str,
    seen: Sequence[Seen],
    *,
    isotonic: bool = True,
    without: frozenset[str] = frozenset(),
    file_sha256: str = "",
) -> Curve:
    """The curve of one model; ``without`` are signals that it is not to weigh. Raises
    :class:`TooFewExamples`."""
    if len(seen) < LEAST or not 0 < sum(s.right for s in seen) < len(seen):
        right = sum(s.right for s in seen)
        raise TooFewExamples(
            f"{model}: {len(seen)} graded answers, {right} of them right, are too few to fit on",
            hint=f"at least {LEAST}, some of them right and some wrong",
        )
    names = [
        name for name in doubt.SIGNALS if name not in without and any(name in s.found for s in seen)
    ]
    columns = np.array([[s.found.get(name, np.nan) for name in names] for s in seen])
    mean = np.nanmean(columns, axis=0)
    spread = np.maximum(np.nanstd(columns, axis=0), 1e-6)
    rows = np.nan_to_num((columns - mean) / spread, nan=0.0)
    target = np.array([float(s.right) for s in seen])
    weights, bias = logistic_fit(rows, target, decay=DECAY)
    curve = Curve(
        model=model,
        signals={
            name: Signal(*(round(float(v), 6) for v in triple))
            for name, *triple in zip(names, weights, mean, spread, strict=True)
        },
        bias=round(bias, 6),
        questions=len(seen),
        file_sha256=file_sha256,
        made_by="agents.classifier.training.gap",
    )
    if not isotonic:
        return curve
    # The step is fitted on scores of curves that did not see the answer, or it would find the
    # curve surer than it is on new ones.
    scores = np.zeros(len(seen))
    for fold in range(FOLDS):
        kept = np.arange(len(seen)) % FOLDS != fold
        part, level = logistic_fit(rows[kept], target[kept], decay=DECAY)
        scores[~kept] = 1 / (1 + np.exp(-np.clip(rows[~kept] @ part + level, -30, 30)))
    knots, shares = isotonic_fit(*_grouped(scores.tolist(), target.tolist()))
    return msgspec.structs.replace(
        curve, scores=[round(k, 6) for k in knots], shares=[round(s, 6) for s in shares]
    )


def _grouped(scores: list[float], right: list[float]) -> tuple[list[float], list[float]]:
    """Means of twenty-five neighbours each: single outcomes would make steps of zero and one."""
    order = sorted(zip(scores, right, strict=True))
    parts = np.array_split(np.array(order), max(2, len(order) // 25))
    return [float(p[:, 0].mean()) for p in parts], [float(p[:, 1].mean()) for p in parts]


def answered(rows: Iterable[Graded]) -> list[Graded]:
    """Without the refusals: that a model declines is plain, and no matter of doubt."""
    return [row for row in rows if row.answer and not refuses(row.answer)]


def curves(rows: Sequence[Graded]) -> list[Curve]:
    """Two curves per model that has graded answers enough; raises :class:`TooFewExamples`."""
    by_model: dict[str, list[Graded]] = {}
    for row in answered(rows):
        by_model.setdefault(row.model, []).append(row)
    if not by_model:
        raise TooFewExamples("no graded answers", hint="every model declined every question?")
    made = []
    for model, some in by_model.items():
        files = {row.file_sha256 for row in some}
        if len(files) > 1:
            raise TooFewExamples(f"{model}: the answers are of {len(files)} files of it")
        seen = prepare(random.Random(SEED).sample(some, len(some)))
        for without in (PLAIN, frozenset[str]()):
            made.append(fit(model, seen, without=without, file_sha256=next(iter(files))))
    return made


def main() -> None:
    """See the module."""
    shipped = Path(__file__).resolve().parent.parent / CURVES_FILE
    parser = argparse.ArgumentParser(
        description="Fit how far models may be believed.",
        epilog="example: python -m agents.classifier.training.gap --log graded.jsonl --out my.json",
    )
    parser.add_argument("--count", type=int, default=400, help="questions per domain")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--log", type=Path, help="graded answers instead of asking")
    parser.add_argument(
        "--out", type=Path, default=shipped, help="default: the file that the package ships"
    )
    given = parser.parse_args()
    try:
        made = curves(_rows(given.log, given.count, given.seed))
    except (TooFewExamples, ConfigError) as error:
        parser.exit(1, f"{error.sentence()}\n")
    given.out.write_bytes(msgspec.json.encode(made) + b"\n")
    for curve in made:
        print(
            f"{curve.model}: {len(curve.signals)} signals on {curve.questions} answers",
            file=sys.stderr,
        )


def _rows(log: Path | None, count: int, seed: int) -> list[Graded]:
    if log is not None:
        try:
            return grading.read(log)
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(f"{log} cannot be read: {error}") from error
    rows = []
    for domain in (*gap_questions.domains(), *gap_questions.ordinary()):
        print(f"{domain}: {count} questions", file=sys.stderr)
        rows += grading.grade(domain, count, seed)
    return rows


if __name__ == "__main__":
    main()
