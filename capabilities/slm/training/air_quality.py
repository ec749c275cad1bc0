"""Questions about the air, and the scratchpad by which a tiny model judges them itself.

The rule is the US EPA's index (capabilities.standards.air_quality). "PM2.5 went from 30.2 to 41.7,
ozone 0.065 ppm, no wind" becomes

    F30.2,41.7u;O0.065m     as told: fine particles in `u`, ozone in units of 1,000 steps (`m`)
    F0417:~333>3F           the last value in four digits of steps with marks (see bands); `>`: the
                            worst so far is category 3, from F
    t0302:0=03<4+           the first against the last by digits: rising (`-` falling, `=`)
    O0065:~~22>3F           ozone; 3 stays the worst
    w still                 what of the weather matters

and the answer names category and pollutant, then what to do, trend and weather.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from capabilities.slm.training import air_quality_words as words
from capabilities.slm.training.bands import BANDS, compare, near_edges, walk
from capabilities.slm.training.chat import Example
from capabilities.slm.training.subjects import elsewhere, phrase, practise
from capabilities.slm.training.wordings import dress
from capabilities.standards.air_quality import CATEGORIES, POLLUTANTS, Reading, worst

if TYPE_CHECKING:
    import random

WIDTH = 4  # digits: every edge and every concentration that is asked fits
LETTERS = {"pm2_5": "F", "pm10": "C", "o3": "O", "no2": "N", "so2": "S", "co": "K"}
HIGHEST = {"pm2_5": 5000, "pm10": 700, "o3": 300, "no2": 2000, "so2": 400, "co": 500}  # steps
SHARES = {"pm2_5": 30, "pm10": 18, "o3": 20, "no2": 14, "so2": 8, "co": 10}
DECLINED_SHARE = 0.12
OPENING = re.compile(r".+\n")  # what was told
STANDARD = "by the US AQI"
OFF_TOPIC = "I only judge air quality."
NO_READING = "I need a concentration of PM2.5, PM10, ozone, NO2, SO2 or CO."
DECLINING = (OFF_TOPIC, NO_READING)
ADVICE = (
    "Fine for everyone.",
    "Only very sensitive people may feel it.",
    "Children, old people and those with heart or lung disease should do less outside.",
    "Everyone should do less outside; sensitive people should stay in.",
    "Everyone should stay in if possible.",
    "Emergency: everyone should stay in with windows closed.",
)
TRENDS = {"+": " Rising.", "-": " Falling.", "=": " Steady."}
WEATHER = {
    "still": " Still air keeps it here.",
    "wind": " Wind will clear it.",
    "rain": " Rain will clear it.",
    "hot": " Heat makes more ozone.",
    "no": "",
}


@dataclass(frozen=True)
class Told:
    """A reading as told: `text` is its number, `large` says whether it counts 1,000 steps.

    `earlier` are the numbers before it, the oldest first, told in the same unit.
    """

    key: str
    text: str
    large: bool = False
    earlier: tuple[str, ...] = ()

    def reading(self, text: str) -> Reading:
        """`text` as a reading in the unit of the standard."""
        value = Decimal(text)
        if self.key == "o3" and not self.large:
            value /= 1000
        if self.key in ("no2", "so2") and self.large:
            value *= 1000
        return Reading(self.key, value)

    def steps(self, text: str) -> int:
        return POLLUTANTS[self.key].steps(self.reading(text).concentration)

    @property
    def written(self) -> str:
        """The reading as it was told, for the first line of the scratchpad."""
        values = ",".join((*self.earlier, self.text))
        return f"{LETTERS[self.key]}{values}{'m' if self.large else 'u'}"

    @property
    def trend(self) -> str:
        """`+`, `-` or `=` from the oldest value to the last; empty when there is but one."""
        if not self.earlier:
            return ""
        first, last = self.steps(self.earlier[0]), self.steps(self.text)
        return "+" if last > first else "-" if last < first else "="


@dataclass(frozen=True)
class Case:
    told: tuple[Told, ...]
    weather: str = "no"

    @property
    def worst(self) -> Reading:
        return worst(t.reading(t.text) for t in self.told)

    @property
    def lead(self) -> str:
        reading = self.worst
        title = POLLUTANTS[reading.key].title
        return f"{CATEGORIES[reading.category]} {STANDARD}, from {title}."

    @property
    def answer(self) -> str:
        trend = next((t.trend for t in self.told if t.trend), "")
        return (
            f"{self.lead} {ADVICE[self.worst.category]}"
            f"{TRENDS[trend] if trend else ''}{WEATHER[self.weather]}"
        )


def scratchpad(case: Case) -> str:
    """The working of `case`, as the model is to write it between the think tags."""
    lines = [";".join(told.written for told in case.told)]
    for count, told in enumerate(case.told, start=1):
        reading = worst(t.reading(t.text) for t in case.told[:count])
        steps, edges = told.steps(told.text), POLLUTANTS[told.key].edges
        worst_so_far = f"{BANDS[reading.category]}{LETTERS[reading.key]}"
        lines.append(f"{LETTERS[told.key]}{walk(steps, edges, WIDTH)}>{worst_so_far}")
        if told.earlier:
            lines.append(f"t{compare(told.steps(told.earlier[0]), steps, WIDTH)}{told.trend}")
    return "\n".join((*lines, f"w {case.weather}"))


def _written(rng: random.Random, key: str, steps: int, *, large: bool) -> str:
    """`steps` as people write them: with more or fewer decimals than the standard takes."""
    value = POLLUTANTS[key].step * steps
    if key in ("no2", "so2") and large:
        value /= 1000
    if key == "o3" and not large:
        value = Decimal(steps)
    text = f"{value:.3f}" if large else f"{value:f}"
    if "." in text:
        whole = text.rstrip("0").rstrip(".")
        if rng.random() < (0.3 if large or text.endswith(".0") else 0.0):
            text = whole
        elif not large and rng.random() < 0.05:
            text += str(rng.randrange(10))  # finer than the standard: cut off
    elif rng.random() < 0.04:
        text += f".{rng.randrange(10)}"
    return text


def _told(rng: random.Random, key: str, *, history: bool) -> Told:
    pollutant = POLLUTANTS[key]
    large = key == "o3" and rng.random() < 0.5
    large = large or (key in ("no2", "so2") and rng.random() < 0.15)
    steps = near_edges(rng, pollutant.edges, HIGHEST[key])
    text = _written(rng, key, steps, large=large)
    earlier: tuple[str, ...] = ()
    if history:
        earlier = tuple(
            _written(rng, key, _before(rng, steps, HIGHEST[key]), large=large) for _ in range(2)
        )
    return Told(key, text, large, earlier)


def _before(rng: random.Random, steps: int, highest: int) -> int:
    if rng.random() < 0.12:
        return steps
    if rng.random() < 0.5:
        return max(0, steps + rng.randint(-steps // 3 - 2, steps // 3 + 2))
    return rng.randint(0, highest if rng.random() < 0.3 else min(highest, 2 * steps + 5))


def _unit(rng: random.Random, told: Told) -> str:
    if told.large:
        return rng.choice((" ppm", " ppm", "ppm", " parts per million"))
    if told.key == "o3":
        return rng.choice((" ppb", " ppb", "ppb", " parts per billion"))
    if told.key in ("no2", "so2"):
        return rng.choice((" ppb", " ppb", "ppb", ""))
    if told.key == "co":
        return rng.choice((" ppm", " ppm", "ppm", ""))
    return rng.choice(
        (" ug/m3", " µg/m3", " µg/m³", "ug/m3", "", " micrograms per cubic metre", " micrograms")
    )


def sample_case(rng: random.Random) -> Case:
    keys: list[str] = []
    for _ in range(rng.choices((1, 2, 3, 4), weights=(62, 26, 10, 2))[0]):
        left = [key for key in POLLUTANTS if key not in keys]
        keys += rng.choices(left, weights=[SHARES[key] for key in left])
    moving = rng.choice(keys) if rng.random() < 0.25 else ""
    told = tuple(_told(rng, key, history=key == moving) for key in keys)
    return Case(told, rng.choice(tuple(words.WEATHER)) if rng.random() < 0.45 else "no")


def _question(rng: random.Random, case: Case, *, held_out: bool) -> tuple[str, Case]:
    """How `case` is asked, and the case as it was asked (two values of three may be told)."""
    parts, told_now = [], []
    for told in case.told:
        name, unit = rng.choice(words.NAMES[told.key]), _unit(rng, told)
        if told.earlier:
            template = phrase(rng, words.HISTORIES, held_out)
            earlier = told.earlier if "{w}" in template else told.earlier[:1]
            in_all = rng.random() < 0.4
            first, middle = (f"{v}{unit if in_all else ''}" for v in told.earlier)
            parts.append(template.format(n=name, u=first, w=middle, v=f"{told.text}{unit}"))
            told_now.append(replace(told, earlier=earlier))
        else:
            template = phrase(rng, words.READINGS, held_out)
            parts.append(template.format(n=name, v=f"{told.text}{unit}"))
            told_now.append(told)
    if case.weather != "no":
        parts.insert(
            rng.choice((0, len(parts), len(parts))),
            phrase(rng, words.WEATHER[case.weather], held_out, 0.15),
        )
    for _ in range(rng.choices((0, 1, 2), weights=(80, 16, 4))[0]):
        beside = rng.choice(words.BESIDE).format(a=rng.randrange(1, 60), b=rng.randrange(100, 1100))
        parts.insert(rng.randrange(len(parts) + 1), beside)
    join = rng.choice(words.JOINS)
    measured = join.join(parts) if len(parts) == 2 else ", ".join(parts)
    return phrase(rng, words.FRAMES, held_out, 0.5).format(r=measured), replace(
        case, told=tuple(told_now)
    )


def _system(rng: random.Random) -> str:
    return rng.choice(words.SYSTEM_PROMPTS) if rng.random() < 0.2 else ""


def _declined(rng: random.Random, *, held_out: bool) -> Example:
    if rng.random() < 0.55:
        question, answer = elsewhere(rng, "air_quality", held_out=held_out), OFF_TOPIC
    else:
        pool = words.NO_READINGS_HELD_OUT if held_out else words.NO_READINGS
        question, answer = rng.choice(pool), NO_READING
        question = question.format(
            a=rng.randrange(1, 60), b=rng.randrange(100, 1500), p=rng.choice(words.PLACES)
        )
    return Example(
        question=dress(rng, question, held_out=held_out),
        answer=answer,
        system=_system(rng),
        category="decline",
        new_wording=held_out,
    )


def _example(rng: random.Random, *, held_out: bool) -> Example:
    question, case = _question(rng, sample_case(rng), held_out=held_out)
    return Example(
        question=dress(rng, question, held_out=held_out),
        answer=case.answer,
        scratchpad=scratchpad(case),
        system=_system(rng),
        category=CATEGORIES[case.worst.category],
        new_wording=held_out,
    )


def sample(rng: random.Random) -> Example:
    """One training example, never in a held-out wording."""
    if rng.random() < DECLINED_SHARE:
        return _declined(rng, held_out=False)
    return practise(rng, _example(rng, held_out=False), OPENING, STANDARD)


def held_out_example(rng: random.Random) -> Example:
    """One evaluation example, half of them in a held-out wording."""
    held_out = rng.random() < 0.5
    if rng.random() < 0.04:
        return _declined(rng, held_out=held_out)
    return _example(rng, held_out=held_out)


def category_of(answer: str) -> str:
    """The category that an answer states; the whole answer when it states none."""
    return answer.split(f" {STANDARD}", maxsplit=1)[0]
