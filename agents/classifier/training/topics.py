"""What the general model was taught to talk about, as questions with the name they belong to.

The topics file of the model's own training keeps questions for evaluation apart; so do we.
"""

from __future__ import annotations

import random

from agents.classifier.catalogue import ARITHMETIC, GENERATE, MESH
from agents.classifier.relevance import NONE
from capabilities.slm.training import outside

# Talk about the one who is asked; every other topic is about the mesh.
ABOUT_ITSELF = frozenset(
    [
        *("greeting", "how_are_you", "thanks", "goodbye", "who_are_you", "are_you_human"),
        *("who_made_you", "what_can_you_do", "your_limits", "how_big_are_you", "languages"),
    ]
)
TRAINED, HELD_OUT = "? ", "! "
OUTSIDE = 250


def lines(kind: str) -> list[tuple[str, str]]:
    """(pattern, name) of the questions of one kind, TRAINED or HELD_OUT."""
    found = []
    topic = ""
    for line in outside.TOPICS_FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("= "):
            topic = line[2:].strip()
        elif line.startswith(kind):
            found.append((line[2:], GENERATE if topic in ABOUT_ITSELF else MESH))
    return found


def beyond(rng: random.Random, kind: str) -> list[tuple[str, str]]:
    """(question, label): calculations, and as many questions about the wide world."""
    held_out = kind == HELD_OUT
    made = [(outside.calculation(rng, held_out=held_out), ARITHMETIC) for _ in range(OUTSIDE)]
    return made + [(outside.unknown(rng, held_out=held_out), NONE) for _ in range(OUTSIDE)]


def asked(rng: random.Random, kind: str) -> list[tuple[str, str]]:
    """(question, label): one way of every line, and what lies beyond."""
    made = [(outside.fill(rng, pattern), name) for pattern, name in lines(kind)]
    return made + beyond(rng, kind)
