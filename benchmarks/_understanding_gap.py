"""Doubt: do signals tell a model's right answers from its wrong ones, and is the number honest?

Each domain's questions are ones that the embedded model gets right now and wrong then; refusals
are left out, since they are plain. Curves are fitted on one draw of questions and measured on
another; `auroc_shipped` and `ece_shipped` are those of the curves that the package ships, which
know neither half (nor the embedder's signals). Domains on which a model is right more or less
often than the bounds are reported, but not counted.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.classifier.gap import Draft, EvidenceGap
from agents.classifier.regression import TooFewExamples, auroc
from agents.classifier.shipped import shipped_curves
from agents.classifier.training import gap, gap_questions, grading
from agents.classifier.training.grading import Graded
from benchmarks._report import progress

COUNTED = (0.3, 0.8)  # share right of a question set that says something about doubt
FIT, TEST = 600, 600
QUICK = 120


def measure(
    seed: int, *, quick: bool, out: Path | None, ece: Any, only: Sequence[str] = ()
) -> dict[str, Any]:
    """``gap``: means over the domains counted; ``ece`` pools their answers."""
    fitted, tested = (QUICK, QUICK) if quick else (FIT, TEST)
    figures: dict[str, Any] = {}
    pooled: list[tuple[float, bool]] = []
    raw: list[Graded] = []
    for domain in only or gap_questions.domains():
        progress(f"doubt: {domain}")
        graded = grading.grade(domain, fitted + tested, seed)
        raw += graded
        rows = gap.answered(graded)
        share = statistics.fmean(row.right for row in rows) if rows else 0.0
        entry: dict[str, Any] = {
            "answered": len(rows),
            "declined": len(graded) - len(rows),
            "right": round(share, 4),
            "counted": COUNTED[0] <= share <= COUNTED[1],
        }
        figures[domain] = entry
        shuffled = random.Random(seed).sample(rows, len(rows))
        train, held = shuffled[: len(rows) // 2], shuffled[len(rows) // 2 :]
        try:
            curve = gap.fit(rows[0].model if rows else domain, gap.prepare(train))
        except TooFewExamples as error:
            entry |= {"counted": False, "missing": error.sentence()}
            continue
        seen = gap.prepare(held, train)
        pairs = [(curve.probability(s.found), s.right) for s in seen]
        entry["auroc"] = round(_auroc([(curve.score(s.found), s.right) for s in seen]), 4)
        entry["auroc_mean_logprob"] = round(
            _auroc([(row.evidence.mean_logprob, row.right) for row in held]), 4
        )
        entry["auroc_working_mean_logprob"] = round(
            _auroc([(row.evidence.working_mean_logprob, row.right) for row in held]), 4
        )
        entry["auroc_known_before"] = round(
            _auroc([(s.found.get("known", 0.5), s.right) for s in seen]), 4
        )
        entry["ece"] = round(ece(pairs), 4)
        if entry["counted"]:
            pooled += pairs
        own = _shipped(held)
        if own:
            entry["auroc_shipped"] = round(_auroc(own), 4)
            entry["ece_shipped"] = round(ece(own), 4)
    if out:
        grading.write(out / "graded.jsonl", raw)
    counted = [entry for entry in figures.values() if entry["counted"]]
    return {
        "auroc": _mean(counted, "auroc"),
        "auroc_mean_logprob": _mean(counted, "auroc_mean_logprob"),
        "ece": round(ece(pooled), 4) if pooled else None,
        "domains": figures,
    }


def _shipped(rows: Sequence[Graded]) -> list[tuple[float, bool]]:
    """What an agent as it is shipped holds of each answer; nothing where no curve is of the file
    that answered."""
    judge = EvidenceGap(curves=shipped_curves())
    drafts = [
        Draft(
            text=row.answer,
            finish=row.finish,
            evidence=row.evidence,
            model=row.model,
            question=row.question,
            file_sha256=row.file_sha256,
        )
        for row in rows
    ]
    if not drafts or not judge.judge(drafts[0], 0.0).judged_by.startswith("a curve"):
        return []
    return [(judge.probability(draft), row.right) for draft, row in zip(drafts, rows, strict=True)]


def _auroc(pairs: list[tuple[float, bool]]) -> float:
    return auroc([score for score, ok in pairs if ok], [score for score, ok in pairs if not ok])


def _mean(entries: list[dict[str, Any]], key: str) -> float | None:
    return round(statistics.fmean(entry[key] for entry in entries), 4) if entries else None
