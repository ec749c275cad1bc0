"""Questions on which the embedded models are right now and wrong then: what doubt is fitted on.

Each domain draws held-out questions of a model's own training and makes them harder: a number
that does not belong, misspelt and muttered words. Where a specialist's file is not shipped, its
domain is left out.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from capabilities.slm.embedded import embedded_models
from capabilities.slm.training import air_quality, arithmetic, general, traffic, vitals, wordings

OPERATIONS = "+-*"


@dataclass(frozen=True)
class Drawn:
    """A question with every answer that is right."""

    text: str
    right: frozenset[str]


Draw = Callable[[random.Random], Drawn]


def misspelt(rng: random.Random, text: str, share: float) -> str:
    """``text`` with a letter lost, swapped or doubled in so many of its longer words."""
    return " ".join(
        _slip(rng, word) if len(word) > 3 and word.isalpha() and rng.random() < share else word
        for word in text.split(" ")
    )


def _slip(rng: random.Random, word: str) -> str:
    at = rng.randrange(len(word) - 1)
    kind = rng.randrange(3)
    if kind == 0:
        return word[:at] + word[at + 1 :]
    if kind == 1:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + word[at] + word[at:]


def _task(rng: random.Random) -> tuple[str, frozenset[str]]:
    operation = rng.choice(OPERATIONS)
    most = 2 if operation == "*" else 3
    left, right = (_operand(rng, rng.randrange(1, most + 1)) for _ in range(2))
    task = arithmetic.Task(left, operation, right)
    wording = rng.choice(wordings.HELD_OUT[operation])
    return wording.format(a=left, b=right), frozenset([task.answer])


def _operand(rng: random.Random, digits: int) -> int:
    return rng.randrange(0 if digits == 1 else 10 ** (digits - 1), 10**digits)


def distracted(rng: random.Random) -> Drawn:
    """A calculation beside a number that is no part of it."""
    text, right = _task(rng)
    other = _operand(rng, rng.randrange(1, 4))
    frame = rng.choice(
        ("i am {n}, {q}", "room {n} asks: {q}", "{q} (page {n})", "question {n}, {q}",
         "by {n} o clock, {q}", "{q}, says line {n}", "for seat {n}: {q}")
    )  # fmt: skip
    return Drawn(frame.format(n=other, q=text), right)


def muttered(rng: random.Random) -> Drawn:
    """A calculation in held-out words, misspelt, among words that do not matter."""
    text, right = _task(rng)
    for _ in range(3):
        text = wordings.ramble(rng, text)
    return Drawn(misspelt(rng, text, 0.9), right)


def about_the_mesh(rng: random.Random) -> Drawn:
    """A held-out question about the mesh, misspelt, among words that do not matter."""
    topic = rng.choice(general.load_topics())
    example = general.topic_example(rng, topic, held_out=True)
    text = misspelt(rng, example.question, 0.35)
    for _ in range(2):
        text = wordings.ramble(rng, text)
    return Drawn(text, frozenset(example.alternatives or (example.answer,)))


def _specialist(module: object, slips: float) -> Draw:
    """Held-out questions with ``slips`` of the longer words misspelt: as many as make the model
    go wrong now and then."""

    def draw(rng: random.Random) -> Drawn:
        example = module.held_out_example(rng)  # type: ignore[attr-defined]
        text = misspelt(rng, example.question, slips)
        for _ in range(2):
            text = wordings.ramble(rng, text)
        return Drawn(text, frozenset(example.alternatives or (example.answer,)))

    return draw


# Domain: (model, what draws its questions).
_DOMAINS: dict[str, tuple[str, Draw]] = {
    "arithmetic_distracted": ("arithmetic", distracted),
    "arithmetic_muttered": ("arithmetic", muttered),
    "mesh": ("general", about_the_mesh),
    "air_quality": ("air_quality", _specialist(air_quality, 0.5)),
    "vitals": ("vitals", _specialist(vitals, 0.25)),
    "traffic": ("traffic", _specialist(traffic, 0.25)),
}


def _plain(draw: Callable[[random.Random], object]) -> Draw:
    def drawn(rng: random.Random) -> Drawn:
        example = draw(rng)
        answers = example.alternatives or (example.answer,)  # type: ignore[attr-defined]
        return Drawn(example.question, frozenset(answers))  # type: ignore[attr-defined]

    return drawn


def _calculation(rng: random.Random) -> Drawn:
    return Drawn(*_task(rng))


def _topic(rng: random.Random) -> object:
    return general.topic_example(rng, rng.choice(general.load_topics()), held_out=True)


# What people ask without any mischief: a curve that never saw it would doubt it as well.
_ORDINARY: dict[str, tuple[str, Draw]] = {
    "arithmetic_ordinary": ("arithmetic", _calculation),
    "mesh_ordinary": ("general", _plain(_topic)),
    "air_quality_ordinary": ("air_quality", _plain(air_quality.held_out_example)),
    "vitals_ordinary": ("vitals", _plain(vitals.held_out_example)),
    "traffic_ordinary": ("traffic", _plain(traffic.held_out_example)),
}


def ordinary() -> dict[str, tuple[str, Draw]]:
    """Held-out questions as they are, of the models that are there; most are answered right."""
    there = embedded_models()
    return {name: pair for name, pair in _ORDINARY.items() if pair[0] in there}


def domains() -> dict[str, tuple[str, Draw]]:
    """Those whose model is there."""
    there = embedded_models()
    return {name: pair for name, pair in _DOMAINS.items() if pair[0] in there}
