"""Ask again in other words when unsure: paraphrases, and one opinion out of several.

PAG (paraphrase and aggregate): only an unsure question is reworded, each wording is classified,
and the opinions are weighed by how sure each is (the article's
reference 16, PAG-LLM). A language model may do the rewording (``Paraphraser``); without one,
rules do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Paraphraser = Callable[[str], Sequence[str]]
MAX_WORDINGS = 6  # each is classified: the price of an unsure question

# What people wrap a wish in. Taking it off leaves the wish; it never carries the subject.
_WRAPPING = re.compile(
    r"^(?:(?:hi|hey|hello|ok|okay|so|well|now|please|kindly|excuse me)[\s,:!]+)+"
    r"|^(?:can|could|would|will) you (?:please |kindly )?(?:tell me |help me |let me know )?"
    r"|^(?:i (?:would like|want|need|wish|'d like)(?: you)? to )(?:know )?"
    r"|^(?:i was wondering (?:if|whether) (?:you could )?)"
    r"|^(?:tell me|let me know|do you know|i wonder|i need to know) "
    r"|(?:[\s,]+(?:please|thanks|thank you|for me|right now|if you can|if possible))+$",
    re.I,
)
# Pairs that mean nearly the same in a request; either way round.
_SAME = (
    ("what is", "tell me"),
    ("what's", "what is"),
    ("how much", "what amount of"),
    ("how do i", "how can i"),
    ("how long", "how much time"),
    ("show me", "give me"),
    ("list", "show"),
    ("begin", "start"),
    ("turn off", "switch off"),
    ("turn on", "switch on"),
    ("set up", "make"),
    ("find", "look for"),
    ("buy", "purchase"),
    ("cancel", "stop"),
    ("change", "modify"),
    ("fix", "repair"),
    ("big", "large"),
    ("kid", "child"),
    ("picture", "photo"),
    ("phone", "mobile"),
    ("trip", "journey"),
    ("car", "vehicle"),
    ("meal", "food"),
    ("job", "work"),
    ("get", "receive"),
    ("near me", "close by"),
    ("need", "want"),
)  # fmt: skip
_EITHER = [
    (re.compile(rf"\b{re.escape(before)}\b", re.I), after)
    for pair in _SAME
    for before, after in (pair, pair[::-1])
]
_CONTRACTED = {
    "i'm": "i am", "what's": "what is", "where's": "where is", "who's": "who is",
    "can't": "cannot", "don't": "do not", "doesn't": "does not", "it's": "it is",
    "i've": "i have", "i'll": "i will", "won't": "will not", "let's": "let us",
}  # fmt: skip
_CONTRACTION = re.compile("|".join(map(re.escape, _CONTRACTED)), re.I)


def reword(text: str) -> list[str]:
    """Other wordings of a request, most faithful first, at most MAX_WORDINGS; none for a text
    that the rules know nothing of."""
    found: dict[str, None] = {}
    plain = _unwrapped(text)
    whole = _CONTRACTION.sub(lambda match: _CONTRACTED[match.group().lower()], plain)
    for one in (plain, whole):
        found[one] = None
    for pattern, other in _EITHER:
        changed = pattern.sub(other, whole, count=1)
        if changed != whole:
            found[changed] = None
    if found:
        found[f"please {whole}"] = None
    found.pop(text, None)
    return [one for one in found if one.strip()][:MAX_WORDINGS]


def aggregate(opinions: Sequence[Sequence[float]]) -> list[float]:
    """One distribution out of several, each weighed by its own greatest probability.

    Raises ValueError when there are none or their lengths differ.
    """
    if not opinions:
        raise ValueError("no opinions to aggregate")
    weights = [max(opinion) for opinion in opinions]
    total = sum(weights) or 1.0
    return [
        sum(weight * value for weight, value in zip(weights, values, strict=True)) / total
        for values in zip(*opinions, strict=True)
    ]


def _unwrapped(text: str) -> str:
    stripped = text.strip()
    while True:
        shorter = _WRAPPING.sub("", stripped).strip()
        if shorter == stripped or not shorter:
            return stripped
        stripped = shorter
