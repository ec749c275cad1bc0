"""The general model: talk about the mesh, plans that the orchestrator takes, facts from texts."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from agents.orchestrator.plan import Plan, PlanRefused, Step, checked
from benchmarks._models_arithmetic import share
from capabilities.slm.training import general, plans, reading, reading_tasks, texts
from capabilities.slm.training.chat import Example

Ask = Callable[[Sequence[Example]], list[str]]

READING_TOKENS = (200, 400)  # of the texts that facts are looked for in


def plan_of(text: str) -> Plan | None:
    """The plan that the orchestrator makes of `text`; None when it takes none."""
    try:
        return checked(msgspec.convert({**json.loads(text), "method": "model"}, Plan))
    except (ValueError, TypeError, msgspec.ValidationError, PlanRefused):
        return None


def same_plan(expected: str, found: Plan | None) -> bool:
    """Whether names, dependencies and the steps' questions (their case aside) are the same."""
    wanted = plan_of(expected)
    if wanted is None or found is None or len(wanted.steps) != len(found.steps):
        return False
    pairs = zip(wanted.steps, found.steps, strict=True)
    return all(_meaning(a) == _meaning(b) for a, b in pairs)


def _meaning(step: Step) -> tuple[int, str, tuple[int, ...], str]:
    return step.id, step.name, step.depends, step.question.lower()


def extract_cases(rng: random.Random, count: int, tokens: Callable[[str], int]) -> list[Example]:
    """Questions about held-out texts of 200 to 400 tokens; one in four asks for what is absent."""
    found: list[Example] = []
    low, high = READING_TOKENS
    while len(found) < count:
        example = reading.extract_example(rng, held_out=True)
        text = example.question.partition("\nQuestion:")[0]
        if low <= tokens(text) <= high:
            found.append(example)
    return found


def is_right(example: Example, answer: str) -> bool:
    """Letter for letter one of the answers that the example allows; plans by their meaning."""
    if example.category == plans.CATEGORY:
        return same_plan(example.answer, plan_of(answer))
    return answer in (example.alternatives or (example.answer,))


def measure(
    ask: Ask, tokens: Callable[[str], int], tasks: Sequence[str], count: int, seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures and raw samples. What `tasks` lacks, the model was not trained for: null."""
    rng = random.Random(seed)
    raw = _asked(ask, [general.held_out_example(rng) for _ in range(count)])
    chat: dict[str, list[bool]] = {}
    for row in raw:
        # Handed to the expert, in whichever words.
        handed = (
            row["category"] == general.CALCULATION and row["answer"] in general.expert_answers()
        )
        chat.setdefault(row["category"], []).append(row["right"] or handed)
    figures: dict[str, Any] = {
        "plan_valid": None,
        "plan_right": None,
        "extract": None,
        "topic_accuracy": share(chat[general.TOPIC]),
        "declines_calculation": share(chat[general.CALCULATION]),
        "says_it_does_not_know": share(chat[general.UNKNOWN]),
        "topics": len(general.load_topics()),
        "questions": count,
    }
    makers: dict[str, Callable[[], list[Example]]] = {
        "plan": lambda: [plans.example(rng, held_out=True) for _ in range(count)],
        "extract": lambda: extract_cases(rng, count, tokens),
        "reading_tasks": lambda: [reading_tasks.example(rng, held_out=True) for _ in range(count)],
        "reword": lambda: [texts.reword_example(rng, held_out=True) for _ in range(count)],
        "join": lambda: [texts.join_example(rng, held_out=True) for _ in range(count)],
    }
    missing: dict[str, str] = {}
    for task, make in makers.items():
        keys = ("plan_valid", "plan_right") if task == "plan" else (task,)
        if task not in tasks:
            missing |= dict.fromkeys(keys, f"the model's file does not list the task {task!r}")
            figures |= dict.fromkeys(keys)
            continue
        rows = _asked(ask, make())
        raw += rows
        figures[keys[-1]] = share([row["right"] for row in rows])
        if task == "plan":
            figures["plan_valid"] = share([plan_of(row["answer"]) is not None for row in rows])
        if task == "extract":
            absent = [row["right"] for row in rows if row["absent"]]
            figures["extract_absent"] = share(absent) if absent else None
    if missing:
        figures["missing"] = missing
    return figures, raw


def _asked(ask: Ask, examples: list[Example]) -> list[dict[str, Any]]:
    return [
        {
            "question": example.question,
            "system": example.system,
            "category": example.category,
            "expected": example.answer,
            "answer": answer,
            "absent": '"citation": null' in example.answer or example.answer == reading.NOT_THERE,
            "right": is_right(example, answer),
        }
        for example, answer in zip(examples, ask(examples), strict=True)
    ]
