"""Reads the committed questions and makes variants of them, seeded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources

from agents.classifier.catalogue import KnownName
from agents.classifier.relevance import NONE

ADVERTISED = 5  # the first lines of a new name are its examples
_NUMBERS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)
_SMALL, _TENS = _NUMBERS.split()[:19], _NUMBERS.split()[19:]
_BEFORE = ("please ", "hey, ", "hello, ", "so ", "ok, ", "and ", "quick question: ", "now ")
_AFTER = (" please", ", please", " thanks", " for me")


@dataclass(frozen=True)
class Questions:
    """Questions by label (a name, or NONE), and the names known only from what they say."""

    asked: dict[str, list[str]]
    new: list[KnownName] = field(default_factory=list)


def load(file: str) -> Questions:
    """``questions.txt`` or ``held_out.txt``."""
    text = resources.files(__package__).joinpath(file).read_text(encoding="utf-8")
    asked: dict[str, list[str]] = {}
    new: list[KnownName] = []
    label = NONE
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if not line.startswith("["):
            asked[label].append(line)
            continue
        head = line.strip("[]")
        if head.startswith("new "):
            label, domain, description = (part.strip() for part in head[4:].split("|"))
            new.append(KnownName(label, domain, description))
        else:
            label = NONE if head == "none" else head
        asked[label] = []
    named = [
        KnownName(n.name, n.domain, n.description, tuple(asked[n.name][:ADVERTISED])) for n in new
    ]
    return Questions(asked, named)


def number(rng: random.Random) -> str:
    """A number as people write it: mostly digits, sometimes words."""
    if rng.random() < 0.2:
        value = rng.randrange(1, 100)
        if value < 20:
            return _SMALL[value - 1]
        tens, ones = divmod(value, 10)
        return _TENS[tens - 2] + (f"-{_SMALL[ones - 1]}" if ones else "")
    return str(rng.randrange(10 ** rng.choice((1, 2, 2, 3, 4))))


def fill(template: str, rng: random.Random) -> str:
    """Numbers in the places of ``{a}`` and ``{b}``."""
    return template.replace("{a}", number(rng)).replace("{b}", number(rng))


def dress(question: str, rng: random.Random) -> str:
    """The question with the politeness, capitals and marks that people use or leave out."""
    if rng.random() < 0.15:
        question = rng.choice(_BEFORE) + question
    if rng.random() < 0.08 and question[-1] not in "?.!=":
        question += rng.choice(_AFTER)
    draw = rng.random()
    if draw < 0.3:
        question = question[:1].upper() + question[1:]
    elif draw < 0.4:
        question = question.lower()
    if draw > 0.7:
        question = question.rstrip("?.!")
    return question


def variants(template: str, rng: random.Random, count: int) -> Iterator[str]:
    """``count`` ways of asking one line; a line without numbers varies only in its dress."""
    for _ in range(count):
        yield dress(fill(template, rng), rng)
