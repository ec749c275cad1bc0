"""Rewording a request without changing its meaning, and joining findings into one text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from capabilities.slm.tasks import JOIN, REWORD, join_request
from capabilities.slm.training import outside, variety
from capabilities.slm.training.chat import Example
from capabilities.slm.training.wordings import loosened

if TYPE_CHECKING:
    import random

REWORD_CATEGORY = "reword"
JOIN_CATEGORY = "join"

# Requests that mean the same; the first is the plain form that the model turns the others into,
# the second what it makes of the first. The last is never trained on.
# {a} {b} numbers in the order in which the calculation takes them, {t} a topic, {d} a device.
_ALIKE = (
    (
        "What is {a} + {b}?",
        "Add {a} and {b}.",
        "how much is {a} plus {b}",
        "the sum of {a} and {b}",
        "calculate {a} + {b}",
        "{a} and {b} together make what",
        "sum up {a} and {b}",
        "what do i get if i add {b} to {a}",
        "i need the total of {a} and {b}",
        "put {a} and {b} together",
        "increase {a} by {b}",
        "how much do {a} and {b} make",
        "what does {a} plus {b} come to",
        "tell me what {a} plus {b} is",
        "which number is {b} more than {a}",
        "what do you get for {a} plus {b}",
    ),
    (
        "What is {a} - {b}?",
        "Subtract {b} from {a}.",
        "how much is {a} minus {b}",
        "take {b} away from {a}",
        "calculate {a} - {b}",
        "{a} less {b} is what",
        "what do i get if i subtract {b} from {a}",
        "reduce {a} by {b}",
        "what is left of {a} when {b} is taken off",
        "i need {a} minus {b}",
        "start from {a} and go down by {b}",
        "what must be added to {b} to make {a}",
        "tell me what {a} minus {b} is",
        "which number is {b} less than {a}",
        "what remains of {a} without {b}",
    ),
    (
        "What is {a} * {b}?",
        "Multiply {a} by {b}.",
        "how much is {a} times {b}",
        "the product of {a} and {b}",
        "calculate {a} * {b}",
        "{a} multiplied by {b}",
        "what do i get if i multiply {a} by {b}",
        "take {a} times {b}",
        "i need the product of {a} and {b}",
        "what does {a} times {b} come to",
        "tell me what {a} times {b} is",
        "scale {a} by a factor of {b}",
        "work out {a} multiplied by {b}",
        "which number is {b} times as large as {a}",
        "what do you get for {a} times {b}",
    ),
    (
        "What is {a} / {b}?",
        "Divide {a} by {b}.",
        "how much is {a} divided by {b}",
        "split {a} into {b} parts",
        "calculate {a} / {b}",
        "the quotient of {a} and {b}",
        "what do i get if i divide {a} by {b}",
        "how many times does {b} go into {a}",
        "share {a} equally among {b}",
        "i need {a} divided by {b}",
        "what is {a} over {b}",
        "tell me what {a} divided by {b} is",
        "what times {b} makes {a}",
        "what is the ratio of {a} to {b}",
        "how often does {b} go into {a}",
    ),
    (
        "What is {t}?",
        "Explain {t}.",
        "tell me what {t} is",
        "what do you know about {t}",
        "describe {t}",
        "i want to know what {t} is",
        "what does {t} mean",
        "give me an explanation of {t}",
        "can you explain {t} to me",
        "what is meant by {t}",
        "help me understand what {t} is",
        "how would you define {t}",
        "i do not know what {t} is",
        "what exactly is {t}",
        "say in your own words what {t} is",
        "could you explain {t} to me",
    ),
    (
        "How does {t} work?",
        "Explain how {t} works.",
        "tell me how {t} works",
        "describe the way {t} works",
        "in which way does {t} work",
        "how exactly does {t} work",
        "by what principle does {t} work",
        "i would like to know how {t} works",
        "give me an explanation of how {t} works",
        "help me understand how {t} works",
        "what is the principle behind {t}",
        "can you explain to me how {t} works",
        "i do not understand how {t} works",
        "what is the working of {t}",
    ),
    (
        "What is the temperature of {d}?",
        "Read the temperature of {d}.",
        "how warm is {d}",
        "tell me how warm {d} is",
        "give me the temperature of {d}",
        "what temperature does {d} have",
        "how hot is {d}",
        "which temperature is measured at {d}",
        "i need the temperature of {d}",
        "at what temperature is {d}",
        "look up the temperature of {d}",
        "check how warm {d} is",
        "how high is the temperature of {d}",
        "which temperature has {d}",
    ),
    (
        "What is the load of {d}?",
        "Read the load of {d}.",
        "how busy is {d}",
        "tell me how busy {d} is",
        "give me the load of {d}",
        "how much load is on {d}",
        "how heavily is {d} loaded",
        "what load does {d} have",
        "under what load is {d}",
        "i need the load of {d}",
        "check how busy {d} is",
        "how high is the load on {d}",
        "look up how much load {d} has",
        "which load has {d}",
    ),
    (
        "Why did {d} stop?",
        "Find the reason why {d} stopped.",
        "what made {d} stop",
        "for what reason did {d} stop",
        "tell me why {d} stopped",
        "what caused {d} to stop",
        "how come {d} stopped",
        "i want to know why {d} stopped",
        "what brought {d} to a stop",
        "explain why {d} stopped",
        "because of what did {d} stop",
        "find out for what reason {d} stopped",
        "what is the reason that {d} stopped",
    ),
    (
        "When did {d} stop?",
        "Find the time at which {d} stopped.",
        "at what time did {d} stop",
        "tell me when {d} stopped",
        "since when is {d} off",
        "what time was it when {d} stopped",
        "since when has {d} been off",
        "i need the time at which {d} stopped",
        "look up when {d} stopped",
        "let me know at what time {d} stopped",
        "from what time on was {d} off",
        "find out when {d} stopped",
        "what was the moment at which {d} stopped",
        "what was the time when {d} stopped",
    ),
    (
        "Is the air healthy at PM2.5 of {a}?",
        "Judge the air at PM2.5 of {a}.",
        "how good is the air at PM2.5 {a}",
        "is PM2.5 of {a} bad",
        "tell me what PM2.5 of {a} means",
        "is air with PM2.5 of {a} good to breathe",
        "how healthy is air with PM2.5 of {a}",
        "i measured PM2.5 of {a}, is that healthy",
        "does PM2.5 of {a} harm my health",
        "say whether PM2.5 of {a} is unhealthy",
        "the PM2.5 is {a}, how is the air",
        "should i worry about PM2.5 of {a}",
        "rate the air at a PM2.5 level of {a}",
        "what does the index say at PM2.5 of {a}",
    ),
    (
        "Is a heart rate of {a} normal?",
        "Judge a heart rate of {a}.",
        "my pulse is {a}, is that bad",
        "should i worry about a pulse of {a}",
        "what does a heart rate of {a} mean",
        "is a pulse of {a} all right",
        "my heart beats {a} times a minute, is that normal",
        "how normal is a heart rate of {a}",
        "is a heart rate of {a} within the normal range",
        "tell me whether a pulse of {a} is normal",
        "i measured a heart rate of {a}, is that fine",
        "rate a pulse of {a}",
        "does a heart rate of {a} give cause for concern",
        "is it bad to have a pulse of {a}",
    ),
    (
        "How is the traffic at {a} km/h?",
        "Judge the traffic at {a} km/h.",
        "is {a} km/h a jam",
        "what does a speed of {a} km/h say of the road",
        "tell me about traffic at {a} km/h",
        "how well does the traffic flow at {a} km/h",
        "the cars move at {a} km/h, is that a jam",
        "is traffic at {a} km/h slow",
        "how bad is the traffic at {a} km/h",
        "rate the traffic at {a} km/h",
        "the road runs at {a} km/h, how is the traffic",
        "is the road clear at {a} km/h",
        "what does traffic at {a} km/h mean",
        "is the road full at {a} km/h",
    ),
    (
        "Will it rain in {a} hours?",
        "Say whether it rains in {a} hours.",
        "does it rain in {a} hours",
        "do i need an umbrella in {a} hours",
        "is there rain in {a} hours",
        "will there be rain in {a} hours",
        "tell me whether it will rain in {a} hours",
        "is it going to rain in {a} hours",
        "will it be raining {a} hours from now",
        "is rain forecast for {a} hours from now",
        "i want to know if it rains in {a} hours",
        "can i expect rain {a} hours from now",
        "should i expect rain in {a} hours",
    ),
)
_DEVICES = ("node-#", "sensor-#", "camera-#", "pump-#", "gate-#", "board-#")


_STRANGE_SHARE = 0.5  # of what is put into texts to train on (variety.py)
_LOOSE_SHARE = 0.3  # of the requests to train on, with words in them that change nothing


def reword_example(rng: random.Random, *, held_out: bool) -> Example:
    """A request, and the same request in other words; any wording of the same meaning is right."""
    forms = rng.choice(_ALIKE)
    if not held_out and rng.random() < _STRANGE_SHARE:
        topic = rng.choice(("", "", "the ", "a ")) + variety.strange(rng)
    elif rng.random() < 0.3:
        topic = "the " + rng.choice(outside.outside_words()[held_out])
    else:
        topic = outside.invented(rng)
    device = rng.choice(_DEVICES).replace("#", str(rng.randrange(1, 100)))
    put = {
        "a": rng.randrange(2, 10 ** rng.randrange(1, 5)),
        "b": rng.randrange(2, 10 ** rng.randrange(1, 4)),
        "t": topic,
        "d": device,
    }
    filled = [form.format(**put) for form in forms]
    asked = len(filled) - 1 if held_out else rng.randrange(len(filled) - 1)
    said = filled[asked]
    if asked > 1 and not held_out and rng.random() < _LOOSE_SHARE:
        said = loosened(rng, said)
    if asked > 1:
        if rng.random() < 0.5:
            said = said[:1].upper() + said[1:]
        said += rng.choice(("", "?", "?", "."))
    answer = filled[1] if asked == 0 else filled[0]
    return Example(
        question=said,
        answer=answer,
        alternatives=tuple(form for i, form in enumerate(filled) if i != asked and i < 2),
        scratchpad=REWORD_CATEGORY,
        system=REWORD,
        category=REWORD_CATEGORY,
        new_wording=held_out,
    )


# No task of the product: copying drilled by itself, on short texts without sense. Every task here
# copies, and a model that has not learned how learns nothing else of them.
RECITE = "Say the text again."
RECITE_PARTS = "Say each part again. Answer in JSON."
RECITE_CATEGORY = "recite"


def _item(rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.45:
        return variety.strange(rng)
    if draw < 0.55:
        return variety.common(rng)
    if draw < 0.75:
        return str(rng.randrange(10 ** rng.randrange(1, 5)))
    if draw < 0.85:
        return rng.choice(_DEVICES).replace("#", str(rng.randrange(1, 100)))
    if draw < 0.93:
        return rng.choice(_NAMES)
    return f"{rng.randrange(24):02}:{rng.randrange(60):02}"


def recite_example(rng: random.Random) -> Example:
    """Words to say again, all of them or from one of them on; or each part of what is joined."""
    if rng.random() < 0.3:
        parts = [variety.sentence(rng, rng.randrange(2, 9)) for _ in range(rng.randrange(1, 5))]
        gap = rng.choice((" and ", ", then ", ". ", "; ", "? ", ", "))
        return Example(
            question=gap.join(parts),
            answer=json.dumps(parts),
            system=RECITE_PARTS,
            category=RECITE_CATEGORY,
        )
    items = list(dict.fromkeys(_item(rng) for _ in range(rng.randrange(5, 21))))
    gap = rng.choice((" ", " ", ", ", "\n"))
    said, asked = items, ""
    if rng.random() < 0.6:
        start = rng.randrange(len(items))
        said, asked = items[start : start + 8], f"\nFrom: {items[start]}"
    return Example(
        question=gap.join(items) + asked,
        answer=gap.join(said),
        system=RECITE,
        category=RECITE_CATEGORY,
    )


_FINDINGS = (
    "{a} + {b} = {c}",
    "{a} * {b} = {c}",
    "Moderate (PM2.5 {a} ug/m3)",
    "Unhealthy for sensitive groups (PM2.5 {a} ug/m3)",
    "Good air",
    "The mean of {a} values is {b}.",
    "Free flow at {a} km/h",
    "Heavy traffic, {a} km/h",
    "No rain today",
    "Rain from {a} o'clock",
    "Heart rate {a}, low risk",
    "{d} is at {a} C",
    "{d} stopped at {a} o'clock",
    "{d} reports {a} {t}",
    "{t} is not known here",
    "{a} {t} were seen near the {t}",
    "The {t} is {t}.",
)
_FINDINGS_HELD_OUT = ("Between {a} and {b} {t}", "{d} has {a} tasks in its queue", "Low {t} at {d}")
_NAMES = (
    "knowledge.gpt/arithmetic",
    "knowledge.gpt/air_quality",
    "knowledge.gpt/traffic",
    "knowledge.gpt/vitals",
    "knowledge.gpt/weather",
    "data.gpt/temperature/raw",
    "data.gpt/traffic/trend",
    "data.gpt/air_quality/summary",
)
_SILENT_SHARE = 0.2


def _finding(rng: random.Random, *, held_out: bool) -> str:
    if not held_out and rng.random() < _STRANGE_SHARE:
        text = variety.sentence(rng, rng.randrange(1, 9))
        text = text[:1].upper() + text[1:] if rng.random() < 0.7 else text
        return text + rng.choice(("", "", ".", "!"))
    new = held_out and rng.random() < 0.5
    text = rng.choice(_FINDINGS_HELD_OUT if new else _FINDINGS)
    while "{t}" in text:
        strange = not held_out and rng.random() < _STRANGE_SHARE
        word = variety.strange(rng) if strange else rng.choice(outside.outside_words()[held_out])
        text = text.replace("{t}", word, 1)
    device = rng.choice(_DEVICES).replace("#", str(rng.randrange(1, 100)))
    numbers = {key: rng.randrange(2, 10 ** rng.randrange(1, 5)) for key in "abc"}
    return text.format(d=device, **numbers)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text[-1] in ".!?" else text + "."


def joined(findings: list[tuple[str, str]]) -> str:
    """The findings as one text with their sources, then what is missing."""
    told = [(name, text) for name, text in findings if text]
    silent = [name for name, text in findings if not text]
    sentences = [f"{_sentence(text)} ({name.rpartition('.gpt/')[2]})" for name, text in told]
    if silent:
        sentences.append(f"Missing: {', '.join(silent)}.")
    return " ".join(sentences)


def join_example(rng: random.Random, *, held_out: bool) -> Example:
    """What several names answered, and one text made of it."""
    word = outside.invented if held_out else variety.strange
    names = [*_NAMES, *dict.fromkeys(f"knowledge.gpt/{word(rng)}" for _ in range(3))]
    chosen = rng.sample(names, rng.choices((2, 3, 4, 5), weights=(4, 4, 2, 1))[0])
    findings = [
        (name, "" if rng.random() < _SILENT_SHARE else _finding(rng, held_out=held_out))
        for name in chosen
    ]
    return Example(
        question=join_request(findings),
        answer=joined(findings),
        scratchpad=JOIN_CATEGORY,
        system=JOIN,
        category=JOIN_CATEGORY,
        new_wording=held_out,
    )
