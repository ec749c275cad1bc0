"""Questions about vital signs, and the scratchpad by which a tiny model ranks their urgency itself.

The rule is NEWS2 (capabilities.standards.vitals). "heart rate 118, SpO2 93 %, alert, skin
temperature 33.1, after a run" becomes

    P118;S93;C-             as told: pulse, saturation, conscious (`-` as it should be, `+` not)
    1P118:~D5=2>02.         the first: its digits with marks (see bands); its points; the sum so
                            far; `.` or, after any three points, `!`
    2S093:~~2=2>04.         saturation
    3C-=0>04.               conscious
    n active skin           what NEWS2 does not score

and the answer names level and score, what to do, what to tell a provider. Temperatures are counted
in tenths.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capabilities.slm.training import variety, vitals_links
from capabilities.slm.training import vitals_words as words
from capabilities.slm.training.bands import near_edges, walk
from capabilities.slm.training.chat import Example
from capabilities.slm.training.subjects import elsewhere, phrase, practise
from capabilities.slm.training.wordings import dress
from capabilities.standards.vitals import COMPLETE, LEVELS, PARAMETERS, RED, STATES, Score, score

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

WIDTH = 3
_SALAD_SHARE = 0.25  # of the frames to train on
_COMPOSED_SHARE = 0.5  # of the readings and notes to train on
LETTERS = {
    "pulse": "P",
    "respiration": "R",
    "spo2": "S",
    "systolic": "B",
    "temperature": "T",
    "oxygen": "O",
    "consciousness": "C",
}
LOWEST = {"pulse": 25, "respiration": 4, "spo2": 70, "systolic": 60, "temperature": 330}  # steps
HIGHEST = {"pulse": 200, "respiration": 45, "spo2": 100, "systolic": 250, "temperature": 420}
NORMAL = {
    "pulse": (51, 90),
    "respiration": (12, 20),
    "spo2": (96, 100),
    "systolic": (111, 160),
    "temperature": (361, 380),
}
SHARES = {
    "pulse": 30,
    "respiration": 18,
    "spo2": 20,
    "systolic": 9,
    "temperature": 12,
    "oxygen": 6,
    "consciousness": 8,
}
COUNTS = (12, 24, 27, 20, 9, 4, 4)  # how often one to seven parameters are told
DECLINED_SHARE = 0.12
STATED_SHARE = 0.3
OPENING = re.compile(r".+\n")  # what was told
STANDARD = "risk: NEWS2"
OFF_TOPIC = "I only judge vital signs."
NO_READING = "I need a pulse, breathing rate, SpO2, blood pressure or temperature."
IN_CELSIUS = "Give the temperature in Celsius."
DECLINING = (OFF_TOPIC, NO_READING, IN_CELSIUS)
ADVICE = (
    "Keep measuring.",
    "One reading is far out: let a clinician see it soon.",
    "Have a clinician see it urgently.",
    "Get emergency help now.",
)
TOLD_STATES = {"oxygen": "on oxygen", "consciousness": "not alert"}
ACTIVE = " Taken while active: measure again at rest."
UNSCORED = {
    ("skin",): " Skin temperature is not scored.",
    ("sleep",): " Sleep is not scored.",
    ("skin", "sleep"): " Skin temperature and sleep are not scored.",
}
NO_DIAGNOSIS = " No diagnosis."


@dataclass(frozen=True)
class Case:
    """`observed` as told, numbers as text and states as booleans; `notes` in the order of NOTES."""

    observed: Mapping[str, str | bool]
    notes: tuple[str, ...] = ()

    @property
    def score(self) -> Score:
        return score(self.observed)

    @property
    def lead(self) -> str:
        found = self.score
        extent = f"partial, {len(found.points)} of {COMPLETE}" if found.partial else "complete"
        return f"{LEVELS[found.level]} {STANDARD} score {found.total}, {extent}."

    @property
    def answer(self) -> str:
        tell = [
            f"{PARAMETERS[key].title} {self.observed[key]}"
            if key in PARAMETERS
            else TOLD_STATES[key]
            for key, points in self.score.points.items()
            if points
        ]
        text = f"{self.lead} {ADVICE[self.score.level]}"
        if tell:
            text += f" Tell a provider: {', '.join(tell)}."
        if "active" in self.notes:
            text += ACTIVE
        text += UNSCORED.get(tuple(note for note in self.notes if note != "active"), "")
        return text + NO_DIAGNOSIS


def scratchpad(case: Case) -> str:
    """The working of `case`, as the model is to write it between the think tags."""
    points = case.score.points
    lines = [";".join(_written(key, case.observed[key]) for key in points)]
    total, red = 0, False
    for number, (key, scored) in enumerate(points.items(), start=1):
        told = case.observed[key]
        if isinstance(told, bool):
            working = _written(key, told)
        else:
            parameter = PARAMETERS[key]
            working = f"{LETTERS[key]}{walk(parameter.steps(told), parameter.edges, WIDTH)}"
        total, red = total + scored, red or scored == RED
        lines.append(f"{number}{working}={scored}>{total:02}{'!' if red else '.'}")
    return "\n".join((*lines, f"n {' '.join(case.notes) or 'no'}"))


def _written(key: str, told: str | bool) -> str:
    if isinstance(told, bool):
        return f"{LETTERS[key]}{'+' if told else '-'}"
    return f"{LETTERS[key]}{told}"


def _value(rng: random.Random, key: str, *, well: bool) -> str:
    if well:
        steps = rng.randint(*NORMAL[key])
    else:
        steps = near_edges(rng, PARAMETERS[key].edges, HIGHEST[key], LOWEST[key])
    if key != "temperature":
        return str(steps)
    whole, tenths = divmod(steps, 10)
    return str(whole) if not tenths and rng.random() < 0.6 else f"{whole}.{tenths}"


def sample_case(rng: random.Random, stated: float = 0.0) -> Case:
    """A case; with the chance `stated` a state (oxygen, consciousness) is told on top."""
    keys: list[str] = []
    for _ in range(rng.choices(range(1, COMPLETE + 1), weights=COUNTS)[0]):
        left = [key for key in SHARES if key not in keys]
        keys += rng.choices(left, weights=[SHARES[key] for key in left])
    if not set(keys) & set(PARAMETERS):
        keys[0] = "pulse"
    state = rng.choice(tuple(STATES))
    if rng.random() < stated and state not in keys:
        keys.insert(rng.randrange(len(keys) + 1), state)
    well = rng.choice((0.85, 0.5, 0.15, 0.0))
    observed: dict[str, str | bool] = {}
    for key in keys:
        if key in STATES:
            observed[key] = rng.random() < 0.35
        else:
            observed[key] = _value(rng, key, well=rng.random() < well)
    chances = {"active": 0.2, "skin": 0.2, "sleep": 0.15}
    return Case(observed, tuple(note for note in words.NOTES if rng.random() < chances[note]))


def _composed(rng: random.Random, key: str) -> str:
    """A reading as a name, a link and its number `{v}`; none of the phrases that are held out."""
    while True:
        name = rng.choice(vitals_links.NAMES[key].split(", "))
        link, unit = rng.choice(vitals_links.LINKS), rng.choice(vitals_links.UNITS[key])
        text = f"{rng.choice(vitals_links.OWNERS)}{name}{link}{{v}}{unit}"
        if text not in words.READINGS[key][1]:
            return text


def _composed_note(rng: random.Random, note: str) -> str:
    """What is not scored, put together in the same way."""
    while True:
        if note == "active":
            frame = rng.choice(vitals_links.DOING_FRAMES)
            text = frame.replace("#", rng.choice(vitals_links.DOING))
        else:
            skin = note == "skin"
            name = rng.choice(
                (vitals_links.SKIN_NAMES if skin else vitals_links.SLEEP_NAMES).split(", ")
            )
            value = rng.choice(("{t}", "{t} C") if skin else ("{h} hours", "{h} h", "{h}.5 hours"))
            text = f"{rng.choice(vitals_links.OWNERS)}{name}{rng.choice(vitals_links.LINKS)}{value}"
        if text not in words.NOTES[note][1]:
            return text


def _question(rng: random.Random, case: Case, *, held_out: bool) -> str:
    def fill(text: str, value: str = "") -> str:
        return text.format(
            v=value,
            d=rng.randrange(40, max(41, int(value) - 15)) if value.isdigit() else 80,
            t=f"{rng.randrange(29, 37)}.{rng.randrange(10)}",
            h=rng.randrange(2, 11),
            a=rng.randrange(18, 96),
        )

    parts = []
    for key, told in case.observed.items():
        if isinstance(told, bool):
            parts.append(phrase(rng, words.STATES[key, told], held_out, 0.2))
        else:
            composed = not held_out and rng.random() < _COMPOSED_SHARE
            text = _composed(rng, key) if composed else phrase(rng, words.READINGS[key], held_out)
            parts.append(fill(text, told))
    extra = []
    for note in case.notes:
        composed = not held_out and rng.random() < _COMPOSED_SHARE
        text = (
            _composed_note(rng, note)
            if composed
            else phrase(rng, words.NOTES[note], held_out, 0.15)
        )
        extra.append(fill(text))
    if rng.random() < 0.2:
        beside = [b for b in words.BESIDE if "active" not in case.notes or "rest" not in b]
        extra.append(fill(rng.choice(beside)))
    for text in extra:
        parts.insert(rng.choice((rng.randrange(len(parts) + 1), len(parts))), text)
    join = rng.choice((" and ", " with ", "; ")) if len(parts) == 2 and rng.random() < 0.4 else ", "
    if len(parts) > 2 and rng.random() < 0.25:
        parts[-1] = f"and {parts[-1]}"
    frame = phrase(rng, words.FRAMES, held_out, 0.5)
    if not held_out and rng.random() < _SALAD_SHARE:
        frame = _salad(rng)
    return frame.format(r=join.join(parts))


def _salad(rng: random.Random) -> str:
    """A frame of words without sense: whatever stands around the readings tells nothing of them."""
    count = rng.randrange(1, 6)
    before = [word for word in variety.sentence(rng, count).split() if not word.isdigit()]
    after = [word for word in variety.sentence(rng, count).split() if not word.isdigit()]
    draw = rng.random()
    head = f"{' '.join(before)}{rng.choice((' ', ': ', ': ', ', '))}" if draw < 0.7 else ""
    tail = f"{rng.choice((', ', '. ', '. ', ' '))}{' '.join(after)}" if draw > 0.4 else ""
    return f"{head}{{r}}{tail}"


def _system(rng: random.Random) -> str:
    return rng.choice(words.SYSTEM_PROMPTS) if rng.random() < 0.2 else ""


def _declined(rng: random.Random, *, held_out: bool) -> Example:
    draw = rng.random()
    if draw < 0.5:
        question, answer = elsewhere(rng, "vitals", held_out=held_out), OFF_TOPIC
    elif draw < 0.85:
        pool = words.NO_READINGS_HELD_OUT if held_out else words.NO_READINGS
        question, answer = rng.choice(pool).format(a=rng.randrange(2, 90)), NO_READING
    else:
        case = sample_case(rng)
        fever = rng.choice(words.FAHRENHEIT).format(
            f=f"{rng.randrange(93, 107)}.{rng.randrange(10)}"
        )
        others = {k: v for k, v in case.observed.items() if k != "temperature"}
        parts = [fever]
        if others:
            told = _question(rng, Case(others), held_out=held_out)
            parts.insert(rng.randrange(2), told)
        question, answer = ", ".join(parts), IN_CELSIUS
    return Example(
        question=dress(rng, question, held_out=held_out),
        answer=answer,
        system=_system(rng),
        category="decline",
        new_wording=held_out,
    )


def _example(rng: random.Random, *, held_out: bool, stated: float = 0.0) -> Example:
    case = sample_case(rng, stated)
    return Example(
        question=dress(rng, _question(rng, case, held_out=held_out), held_out=held_out),
        answer=case.answer,
        scratchpad=scratchpad(case),
        system=_system(rng),
        category=LEVELS[case.score.level],
        new_wording=held_out,
    )


def sample(rng: random.Random) -> Example:
    """One training example, never in a held-out wording."""
    if rng.random() < DECLINED_SHARE:
        return _declined(rng, held_out=False)
    # States are the hardest to read: a number tells a reading, nothing tells a state.
    example = _example(rng, held_out=False, stated=STATED_SHARE)
    return practise(rng, example, OPENING, STANDARD)


def held_out_example(rng: random.Random) -> Example:
    """One evaluation example, half of them in a held-out wording."""
    held_out = rng.random() < 0.5
    if rng.random() < 0.04:
        return _declined(rng, held_out=held_out)
    return _example(rng, held_out=held_out)


def category_of(answer: str) -> str:
    """The level that an answer states; the whole answer when it states none."""
    return answer.split(f" {STANDARD}", maxsplit=1)[0]
