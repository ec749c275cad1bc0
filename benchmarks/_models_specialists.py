"""The specialists of air, vitals and traffic against the standards that they learned.

Each figure is the share of held-out questions whose stated category (air), level (vitals) or level
of service (traffic) is the one that the standard's own rule gives: `capabilities.standards`. Half
of the questions are asked in wordings that were never trained on, and a third of all numbers stand
on a threshold of the standard or right beside one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from capabilities.slm.training import air_quality, traffic, vitals
from capabilities.slm.training.chat import Example

DECLINE = "decline"
STRANGERS = 200  # of those to decline: few among the thousand, so asked for themselves

Ask = Callable[[Sequence[Example]], list[str]]


@dataclass(frozen=True)
class Specialist:
    """`figure` is the key under which figures.md wants the share of right categories.

    `declining` are the sentences by which it declines.
    """

    figure: str
    held_out: Callable[[random.Random], Example]
    category_of: Callable[[str], str]
    declining: tuple[str, ...]


SPECIALISTS = {
    "air_quality": Specialist(
        "category", air_quality.held_out_example, air_quality.category_of, air_quality.DECLINING
    ),
    "vitals": Specialist("triage", vitals.held_out_example, vitals.category_of, vitals.DECLINING),
    "traffic": Specialist(
        "state", traffic.held_out_example, traffic.category_of, traffic.DECLINING
    ),
}


def cases(
    specialist: Specialist, rng: random.Random, count: int, *, declined: bool
) -> list[Example]:
    """`count` held-out questions that are to be declined, or to be answered."""
    found: list[Example] = []
    while len(found) < count:
        example = specialist.held_out(rng)
        if (example.category == DECLINE) == declined:
            found.append(example)
    return found


def shares(pairs: Sequence[tuple[str, bool]]) -> dict[str, float]:
    """The share that is right, by the first of each pair."""
    seen, right = Counter(key for key, _ in pairs), Counter(key for key, ok in pairs if ok)
    return {key: round(right[key] / seen[key], 4) for key in sorted(seen)}


def measure(name: str, ask: Ask, count: int, seed: int) -> tuple[dict[str, Any], list[Any]]:
    """Figures of the specialist `name`, and the raw samples; `ask` gives the visible answers."""
    specialist, rng = SPECIALISTS[name], random.Random(seed)
    examples = cases(specialist, rng, count, declined=False)
    strangers = cases(specialist, rng, min(count, STRANGERS), declined=True)
    answers = ask([*examples, *strangers])
    raw: list[dict[str, Any]] = [
        {
            "question": example.question,
            "system": example.system,
            "category": example.category,
            "new_wording": example.new_wording,
            "expected": example.answer,
            "answer": answer,
            "right": specialist.category_of(answer) == specialist.category_of(example.answer),
            "exact": answer == example.answer,
            "declined": answer in specialist.declining,
        }
        for example, answer in zip([*examples, *strangers], answers, strict=True)
    ]
    answered, declined = raw[:count], raw[count:]
    wording = {True: "new_wording", False: "known_wording"}
    return {
        specialist.figure: _share(answered, "right"),
        "whole_answer": _share(answered, "exact"),
        "declines": _share(declined, "declined"),
        "declines_with_the_reason": _share(declined, "exact"),
        "questions": count,
        "declined_questions": len(declined),
        **shares([(wording[r["new_wording"]], r["right"]) for r in answered]),
        "by_category": shares([(r["category"], r["right"]) for r in answered]),
    }, raw


def _share(rows: Sequence[dict[str, Any]], key: str) -> float:
    return round(sum(bool(row[key]) for row in rows) / len(rows), 4)
