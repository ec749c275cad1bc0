"""Words that nobody wrote before: what copies and quotes must work on any word, not on known ones.

A small model that meets a slot filled from a list of twenty learns the twenty: it then writes the
likeliest of them where another one stands in the text. With words put together from any pieces of
the vocabulary it has to look.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from capabilities.slm.training import outside, vocabulary
from capabilities.slm.training.tokenizer import load_tokenizer

if TYPE_CHECKING:
    import random

__all__ = ["common", "nonsense", "sentence", "strange"]

_SHORTEST, _LONGEST = 3, 14  # letters of a word put together from pieces
# What parts a request, or begins a question: salad must not read like it.
_JOINING = (
    "and also then first second third next last once after before as well with plus but or if when "
    "what which who whom whose how why where this that it both them two three four one"
)


@cache
def _pieces() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The vocabulary's pieces made of letters: those that begin a word, those that go on."""
    tokenizer = load_tokenizer()
    begin: list[str] = []
    further: list[str] = []
    for number in range(tokenizer.get_vocab_size()):
        text = tokenizer.decode([number])
        if text.strip().isascii() and text.strip().isalpha():
            (begin if text.startswith(" ") else further).append(text.strip())
    return tuple(sorted(begin)), tuple(sorted(further))


@cache
def _common() -> tuple[str, ...]:
    return tuple(sorted(set(vocabulary.COMMON.split()) - set(_JOINING.split())))


def common(rng: random.Random) -> str:
    """One of the words that carry every sentence; none that joins two requests."""
    return rng.choice(_common())


def nonsense(rng: random.Random) -> str:
    """Two or three pieces of the vocabulary as one word, in small letters."""
    begin, further = _pieces()
    while True:
        parts = [rng.choice(begin if rng.random() < 0.7 else further)]
        parts += [rng.choice(further) for _ in range(rng.choice((1, 1, 2)))]
        word = "".join(parts).lower()
        if _SHORTEST <= len(word) <= _LONGEST:
            return word


def strange(rng: random.Random) -> str:
    """A word that no task knows: of the wide world, invented, or nonsense."""
    draw = rng.random()
    if draw < 0.35:
        return rng.choice(outside.outside_words()[0])
    if draw < 0.55:
        return outside.invented(rng)
    return nonsense(rng)


def sentence(rng: random.Random, words: int) -> str:
    """So many words without sense, a number among them at times."""
    said = []
    for _ in range(words):
        draw = rng.random()
        if draw < 0.1:
            said.append(str(rng.randrange(10 ** rng.randrange(1, 5))))
        else:
            said.append(common(rng) if draw < 0.5 else strange(rng))
    return " ".join(said)
