"""What the specialists share: loose phrases, strangers' questions, practising a beginning."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from capabilities.slm.training import (
    air_quality_words,
    traffic_words,
    vitals_words,
    vocabulary,
)
from capabilities.slm.training.chat import reply_ids
from capabilities.slm.training.tokenizer import load_tokenizer
from capabilities.slm.training.wordings import OTHER_QUESTIONS, loosened

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from capabilities.slm.training.chat import Example

# {n} is a number.
QUESTIONS = {
    "arithmetic": (
        "what is {n} + {n}",
        "{n} times {n}",
        "add {n} and {n}",
        "{n} - {n}",
        "how much is {n} divided by {n}",
        "calculate {n}.5 * {n}",
        "Anna has {n} apples and buys {n}, how many has she",
        "what is {n} percent of {n}",
    ),
    "air_quality": (
        "PM2.5 is {n} ug/m3",
        "is ozone at {n} ppb bad",
        "PM10 {n}, no wind",
        "what about the air today",
        "NO2 {n} ppb, is it healthy",
        "an air quality index of {n}",
        "CO {n}.5 ppm in the kitchen",
        "fine dust {n}, is it safe to go out",
    ),
    "vitals": (
        "a heart rate of {n}, what does it mean",
        "pulse {n}, SpO2 {n}",
        "I have a fever of {n}",
        "respiration {n}, temperature {n}.5",
        "blood oxygen {n} %",
        "I slept {n} hours and feel tired",
        "blood pressure {n}",
        "do I need a doctor",
    ),
    "traffic": (
        "speed {n} km/h, limit {n}",
        "how is the traffic on the bridge",
        "{n} vehicles per hour, capacity {n}",
        "there is an accident on lane {n}",
        "cars go {n} mph where {n} is allowed",
        "is there a jam on highway {n}",
        "average speed {n}, free flow {n}",
        "which route is faster",
    ),
}
# Questions of OTHER_QUESTIONS that are no stranger to one of the specialists.
_OWN = {
    "air_quality": ("air", "weather", "rain", "temperature"),
    "vitals": ("heart", "doctor", "temperature", "I am sad"),
    "traffic": ("traffic", "car", "far", "train"),
}
_HELD_OUT_EVERY = 5
OPENING_SHARE, LEAD_SHARE = 0.5, 0.25


def phrase(
    rng: random.Random,
    pair: tuple[Sequence[str], Sequence[str]],
    held_out: bool,
    loose: float = 0.3,
) -> str:
    """A phrase of `pair`, whose second half is held out; `loose` of the trained ones are loosened.

    A loosened phrase is none of those held out.
    """
    chosen = rng.choice(pair[held_out])
    if held_out or rng.random() >= loose:
        return chosen
    changed = loosened(rng, chosen, _strange())
    return chosen if changed in pair[1] else changed


@cache
def _strange() -> tuple[str, ...]:
    """Words that tell none of the specialists anything.

    Without them any word never met is taken for one of the rare phrases without a number.
    """
    modules = (air_quality_words, traffic_words, vitals_words)
    telling = set(re.findall(r"[a-z]+", " ".join(repr(vars(m)) for m in modules).lower()))
    pool = (
        f"{vocabulary.COMMON} {vocabulary.MESH} {vocabulary.CONVERSATION} {vocabulary.ARITHMETIC}"
    )
    words = sorted({word.lower() for word in pool.split() if word.isalpha()} - telling)
    return tuple(word for word in words if not any(sign in word for sign in _SIGNS_OF_SENSE))


_SIGNS_OF_SENSE = ("not", "air", "oxy", "conf", "heart", "snow", "rain", "wind", "wait", "crash")


def elsewhere(rng: random.Random, subject: str, *, held_out: bool) -> str:
    """A question that is none of `subject`; one in five wordings is never trained on."""
    if rng.random() < 0.5:
        other = rng.choice([name for name in QUESTIONS if name != subject])
        pool: tuple[str, ...] = QUESTIONS[other]
    else:
        own = _OWN[subject]
        pool = tuple(q for q in OTHER_QUESTIONS if not any(word in q for word in own))
    question = rng.choice([q for i, q in enumerate(pool) if (i % _HELD_OUT_EVERY == 1) == held_out])
    while "{n}" in question:
        question = question.replace("{n}", str(rng.randrange(rng.choice((10, 100, 999)))), 1)
    return question


def practise(rng: random.Random, example: Example, opening: re.Pattern[str], lead: str) -> Example:
    """`example` whole, or trained only on a beginning of its reply.

    Reading the values out of the question is learned last, so some stop where `opening` has
    matched in the scratchpad. The advice follows from what stands before it, so others stop after
    `lead` in the answer.
    """
    draw, tokenizer = rng.random(), load_tokenizer()
    found = opening.match(example.scratchpad)
    if draw < OPENING_SHARE and found:
        read = tokenizer.encode(found[0], add_special_tokens=False).ids
        return replace(example, reply_limit=1 + len(read))  # after <|think|>
    if draw < OPENING_SHARE + LEAD_SHARE:
        cut = replace(example, answer=example.answer.partition(lead)[0] + lead)
        return replace(example, reply_limit=len(reply_ids(tokenizer, cut)) - 1)  # not the end
    return example
