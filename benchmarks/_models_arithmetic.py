"""Arithmetic: held-out calculations letter for letter, word problems and MAWPS by their number."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from capabilities.slm.training import arithmetic
from capabilities.slm.training.chat import Example

Ask = Callable[[Sequence[Example]], list[str]]

# A quotient is rounded to two decimals, so a published answer may differ by half a hundredth.
TOLERANCE = 0.006
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def value_of(answer: str) -> float | None:
    """The number after the last equals sign; None when the answer states none."""
    _, found, after = answer.rpartition("=")
    number = _NUMBER.search(after) if found else None
    return float(number.group()) if number else None


def same_number(expected: float, answer: str) -> bool:
    found = value_of(answer)
    return found is not None and abs(found - expected) <= TOLERANCE


def exact_cases(rng: random.Random, count: int) -> list[Example]:
    """Held-out calculations on whole numbers: + - * and divisions without a rest."""
    found: list[Example] = []
    while len(found) < count:
        example = arithmetic.held_out_example(rng)
        if example.category in arithmetic.INTEGER_CATEGORIES:
            found.append(example)
    return found


def stories(rng: random.Random, count: int) -> list[Example]:
    return [arithmetic.held_out_story(rng) for _ in range(count)]


def measure(
    ask: Ask, count: int, seed: int, mawps: Path | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures and raw samples of an arithmetic model."""
    rng = random.Random(seed)
    whole, told = exact_cases(rng, count), stories(rng, count)
    others = [arithmetic.held_out_example(rng) for _ in range(count)]
    others = [e for e in others if e.category not in arithmetic.INTEGER_CATEGORIES]
    raw = _asked(ask, whole, "exact") + _asked(ask, others, "other") + _asked(ask, told, "story")
    by: dict[str, list[bool]] = {}
    for row in raw:
        ok = row["right"]
        by.setdefault(row["part"], []).append(ok)
        by.setdefault(row["category"], []).append(ok)
        if row["part"] == "exact":
            by.setdefault("new_wording" if row["new_wording"] else "known_wording", []).append(ok)
    figures: dict[str, Any] = {
        "exact": share(by["exact"]),
        "word_problems": share(by["story"]),
        "mawps": None,
        "exact_without_division": share(
            [row["right"] for row in raw if row["part"] == "exact" and row["category"] != "divide"]
        ),
        "questions": count,
        **{key: share(by[key]) for key in sorted(by) if key not in ("exact", "story", "other")},
    }
    if mawps is None:
        figures["missing"] = {"mawps": "--mawps FILE (mawps_train.json) is not given"}
    else:
        rows = _mawps(ask, mawps, count, rng)
        raw += rows
        figures["mawps"] = share([row["right"] for row in rows])
        figures["mawps_questions"] = len(rows)
    return figures, raw


def share(values: Sequence[bool]) -> float:
    return round(sum(values) / len(values), 4)


def _asked(ask: Ask, examples: list[Example], part: str) -> list[dict[str, Any]]:
    rows = []
    for example, answer in zip(examples, ask(examples), strict=True):
        right = answer == example.answer
        if part == "story":
            # What counts is the number: 3 * 4 is as good as 4 * 3.
            expected = value_of(example.answer)
            right = expected is not None and same_number(expected, answer)
        rows.append(
            {
                "part": part,
                "question": example.question,
                "category": example.category,
                "new_wording": example.new_wording,
                "expected": example.answer,
                "answer": answer,
                "right": right,
            }
        )
    return rows


def _mawps(ask: Ask, path: Path, count: int, rng: random.Random) -> list[dict[str, Any]]:
    """All questions of the file, or a sample of `count`; the answers are read, never kept."""
    items = json.loads(path.read_text(encoding="utf-8"))
    if len(items) > count:
        items = rng.sample(items, count)
    examples = [Example(question=item["original_text"], answer="") for item in items]
    return [
        {"part": "mawps", "category": "mawps", "id": item["id"], "answer": answer,
         "expected": item["ans"], "right": same_number(float(item["ans"]), answer)}
        for item, answer in zip(items, ask(examples), strict=True)
    ]  # fmt: skip
