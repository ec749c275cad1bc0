"""Questions about traffic, and the scratchpad by which a tiny model judges its state itself.

The rule is the Highway Capacity Manual's level of service (capabilities.standards.traffic). "Speed
went from 51 to 30 mph, limit 45, volume 1900 of capacity 1800, rain" becomes

    V51,30L45m;Q1900/1800   as told: speeds and limit, `m` in miles, `k` in kilometres per hour;
                            volume and capacity
    L45m030:~~4             the last speed with its marks for this limit (see bands)
    t051:0=05>3-            the earlier speed against it: slower (`+` faster, `=` the same)
    Q1800/1900:1=19>8!      volume against capacity, digit by digit: over it (`.` not)
    i no w rain             incident and weather
    F                       the level

and the answer names level and state, then what to do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from capabilities.slm.training import traffic_words as words
from capabilities.slm.training.bands import compare, near_edges, walk
from capabilities.slm.training.chat import Example
from capabilities.slm.training.subjects import elsewhere, phrase, practise
from capabilities.slm.training.wordings import dress
from capabilities.standards.traffic import STATES, Flow, edges

if TYPE_CHECKING:
    import random

SPEED_WIDTH, VOLUME_WIDTH = 3, 4  # digits
# The exhibit covers 25 to 55 mi/h; the rest is asked less often.
LIMITS = {
    "mph": ((25, 30, 35, 40, 45, 50, 55), (60, 65, 70)),
    "km/h": ((40, 50, 60, 70, 80, 90), (30, 100, 110, 120, 130)),
}
DECLINED_SHARE = 0.13
OPENING = re.compile(r".+\n")  # what was told
STANDARD = "by the HCM."
OFF_TOPIC = "I only judge traffic."
NO_READING = "I need the average speed and the speed limit."
NO_UNIT = "Is that km/h or mph?"
ODD_LIMIT = "I do not know that speed limit."
DECLINING = (OFF_TOPIC, NO_READING, NO_UNIT, ODD_LIMIT)
ADVICE = {
    "A": "Drive as planned.",
    "B": "Drive as planned.",
    "C": "Expect little delay.",
    "D": "Expect some delay.",
    "E": "Expect long delays; another route may be better.",
    "F": "Avoid it: take another route or wait.",
}
OVER_CAPACITY = " More cars than it can take."
TRENDS = {"+": " Getting faster.", "-": " Getting slower.", "=": " Speed is steady."}
INCIDENTS = {
    "crash": " Crash: keep a lane free for help.",
    "closed": " A lane is closed: change lanes early.",
    "works": " Road works: drive slowly there.",
    "no": "",
}
WEATHER = {
    "rain": " Wet road: keep more distance.",
    "snow": " The road may be ice: drive slowly.",
    "fog": " Fog: lights on.",
    "no": "",
}


@dataclass(frozen=True)
class Case:
    flow: Flow
    earlier: int | None = None
    incident: str = "no"
    weather: str = "no"

    @property
    def trend(self) -> str:
        """`+`, `-` or `=` from the earlier speed; empty without one."""
        if self.earlier is None:
            return ""
        now = self.flow.speed
        return "+" if now > self.earlier else "-" if now < self.earlier else "="

    @property
    def lead(self) -> str:
        level = self.flow.level
        return f"Level {level}, {STATES[level]}, {STANDARD}"

    @property
    def answer(self) -> str:
        over = OVER_CAPACITY if self.flow.over_capacity else ""
        trend = TRENDS[self.trend] if self.trend else ""
        about = f"{trend}{INCIDENTS[self.incident]}{WEATHER[self.weather]}"
        return f"{self.lead} {ADVICE[self.flow.level]}{over}{about}"


def scratchpad(case: Case) -> str:
    """The working of `case`, as the model is to write it between the think tags."""
    flow = case.flow
    limit = f"L{flow.limit}{flow.unit[0]}"
    told = f"V{'' if case.earlier is None else f'{case.earlier},'}{flow.speed}{limit}"
    lines = [f"{limit}{walk(flow.speed, edges(flow.limit, flow.unit), SPEED_WIDTH)}"]
    if case.earlier is not None:
        lines.append(f"t{compare(case.earlier, flow.speed, SPEED_WIDTH)}{case.trend}")
    if flow.volume is not None and flow.capacity is not None:
        told += f";Q{flow.volume}/{flow.capacity}"
        pairs = compare(flow.volume, flow.capacity, VOLUME_WIDTH)
        mark = "!" if flow.over_capacity else "."
        lines.append(f"Q{flow.capacity:0{VOLUME_WIDTH}}/{pairs}{mark}")
    return "\n".join((told, *lines, f"i {case.incident} w {case.weather}", flow.level))


def _volumes(rng: random.Random) -> tuple[int, int]:
    """Volume and capacity in vehicles per hour: below, above, close to each other, or equal."""
    capacity = rng.choice((600, 800, 900, 1000, 1200, 1500, 1600, 1800, 1900, 2000, 2200, 2400))
    if rng.random() < 0.4:
        capacity = rng.randint(300, 4500)
    draw = rng.random()
    if draw < 0.25:
        return min(
            9999, max(0, capacity + rng.choice((-100, -10, -1, 0, 0, 1, 1, 10, 100)))
        ), capacity
    return rng.randint(capacity // 10, capacity * (2 if draw > 0.75 else 1)), capacity


def sample_case(rng: random.Random) -> Case:
    unit = rng.choice(tuple(LIMITS))
    limit = rng.choice(LIMITS[unit][rng.random() < 0.25])
    speed = near_edges(rng, edges(limit, unit), limit + limit // 4)
    flow = Flow(speed, limit, unit)
    if rng.random() < 0.25:
        volume, capacity = _volumes(rng)
        flow = replace(flow, volume=volume, capacity=capacity)
    earlier = None
    if rng.random() < 0.18:
        close = rng.random() < 0.5
        earlier = max(0, speed + rng.randint(-9, 9)) if close else rng.randint(0, limit + 10)
    return Case(
        flow,
        earlier,
        rng.choice(tuple(words.INCIDENTS)) if rng.random() < 0.3 else "no",
        rng.choice(tuple(words.WEATHER)) if rng.random() < 0.35 else "no",
    )


def _question(rng: random.Random, case: Case, *, held_out: bool, units: bool = True) -> str:
    flow = case.flow
    unit = rng.choice(words.UNITS[flow.unit]) if units else ""
    on_speed, on_limit = rng.choice(((unit, unit), (unit, unit), (unit, ""), ("", unit)))
    speed, limit = f"{flow.speed}{on_speed}", f"{flow.limit}{on_limit}"
    if case.earlier is not None:
        earlier = f"{case.earlier}{on_speed if rng.random() < 0.4 else ''}"
        parts = [
            phrase(rng, words.HISTORIES, held_out).format(u=earlier, v=speed),
            phrase(rng, words.LIMITS, held_out).format(l=limit),
        ]
    elif rng.random() < 0.25:
        parts = [phrase(rng, words.BOTH, held_out).format(v=speed, l=limit)]
    else:
        parts = [
            phrase(rng, words.SPEEDS, held_out).format(v=speed),
            phrase(rng, words.LIMITS, held_out).format(l=limit),
        ]
        if rng.random() < 0.3:
            parts.reverse()
    extra = []
    if flow.volume is not None:
        extra.append(phrase(rng, words.VOLUMES, held_out).format(q=flow.volume, c=flow.capacity))
    elif rng.random() < 0.12:
        extra.append(rng.choice(words.VOLUME_ALONE).format(q=rng.randint(50, 3000)))
    if case.incident != "no":
        extra.append(phrase(rng, words.INCIDENTS[case.incident], held_out, 0.15))
    if case.weather != "no":
        extra.append(phrase(rng, words.WEATHER[case.weather], held_out, 0.15))
    if rng.random() < 0.2:
        beside = [b for b in words.BESIDE if case.incident == "no" or "incident" not in b]
        extra.append(rng.choice(beside).format(a=rng.randrange(2, 24), b=rng.randrange(100, 900)))
    rng.shuffle(extra)
    for text in extra:
        parts.insert(rng.choice((0, len(parts), len(parts))), text)
    return phrase(rng, words.FRAMES, held_out, 0.5).format(
        r=rng.choice((", ", ", ", "; ")).join(parts)
    )


def _system(rng: random.Random) -> str:
    return rng.choice(words.SYSTEM_PROMPTS) if rng.random() < 0.2 else ""


def _declined(rng: random.Random, *, held_out: bool) -> Example:
    draw = rng.random()
    if draw < 0.45:
        question, answer = elsewhere(rng, "traffic", held_out=held_out), OFF_TOPIC
    elif draw < 0.75:
        pool = words.NO_READINGS_HELD_OUT if held_out else words.NO_READINGS
        question, answer = rng.choice(pool), NO_READING
        question = question.format(
            a=rng.randrange(1, 99), b=rng.randrange(100, 3000), l=10 * rng.randrange(2, 13)
        )
    else:
        case, units, answer = sample_case(rng), False, NO_UNIT
        if draw < 0.88:
            limit = rng.choice((27, 33, 47, 52, 58, 66, 73, 75, 85, 95, 135))
            case, units, answer = (
                replace(case, flow=replace(case.flow, limit=limit)),
                True,
                ODD_LIMIT,
            )
        question = _question(rng, case, held_out=held_out, units=units)
    return Example(
        question=dress(rng, question, held_out=held_out),
        answer=answer,
        system=_system(rng),
        category="decline",
        new_wording=held_out,
    )


def _example(rng: random.Random, *, held_out: bool) -> Example:
    case = sample_case(rng)
    return Example(
        question=dress(rng, _question(rng, case, held_out=held_out), held_out=held_out),
        answer=case.answer,
        scratchpad=scratchpad(case),
        system=_system(rng),
        category=case.flow.level,
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
    """The level and state that an answer states; the whole answer when it states none."""
    return answer.split(f" {STANDARD}", maxsplit=1)[0].removesuffix(",")
