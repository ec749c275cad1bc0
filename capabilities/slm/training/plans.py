"""Compound requests and the plans that answer them, as JSON (its form: capabilities/slm/tasks.py).

A request is made of parts in many wordings, joined in many ways; each part is a step under the name
of the prompt's list that knows its matter. A part that needs an earlier result holds `{n}` where
the result of step n goes, and says so in `depends`. A part that no listed name knows has none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capabilities.slm.tasks import MAX_PLAN_STEPS, PLAN, plan_request
from capabilities.slm.training import outside, variety
from capabilities.slm.training.chat import Example
from capabilities.slm.training.wordings import fill, loosened

if TYPE_CHECKING:
    import random

CATEGORY = "plan"
_NAMES = (
    "knowledge.gpt/arithmetic",
    "knowledge.gpt/air_quality",
    "knowledge.gpt/vitals",
    "knowledge.gpt/traffic",
    "knowledge.gpt/weather",
    "knowledge.gpt/general",
    "data.gpt/air_quality/raw",
    "data.gpt/air_quality/summary",
    "data.gpt/traffic/trend",
    "data.gpt/vitals/summary",
    "data.gpt/temperature/raw",
    "computation.gpt/generate",
)
# What is asked of each name: {n}, {m} are numbers, {w} a noun.
_PARTS = {
    "knowledge.gpt/arithmetic": (
        "what is {n} (+|-|*|plus|minus|times) {m}",
        "(calculate|compute|work out) {n} (+|-|*) {m}",
        "(add|sum up) {n} and {m}",
        "subtract {n} from {m}",
        "multiply {n} (by|with) {m}",
        "divide {m} by {n}",
        "how much is {n} (times|plus|minus|divided by) {m}",
        "the (sum|product|difference) of {n} and {m}",
        "{n} (+|-|*|/|times) {m}",
    ),
    "knowledge.gpt/air_quality": (
        "is a (PM2.5|PM10|NO2) of {n} (healthy|good|bad)",
        "what does a (PM2.5|PM10|NO2) of {n} mean",
        "how (good|bad|healthy) is the air (at|with) {n} ug/m3 of (PM2.5|PM10)",
        "(can|should) i (run|walk) outside (at|with) PM2.5 (of|at) {n}",
        "judge the air at {n} ug/m3 (PM10|PM2.5)",
        "is the air (clean|healthy) at {n} ppb of (ozone|NO2)",
    ),
    "knowledge.gpt/vitals": (
        "is a (heart rate|pulse) of {n} (too high|normal|worrying)",
        "what does a (heart rate|pulse|respiration) of {n} mean",
        "my (pulse|heart rate) is {n}, (is that bad|is that normal|should i worry)",
        "judge a (pulse|heart rate) of {n} (and|with) SpO2 (of|at) {m}",
        "is {n} breaths a minute (normal|much|too fast)",
    ),
    "knowledge.gpt/traffic": (
        "how is (the traffic|the road) at {n} km/h with a limit of {m}",
        "is {n} km/h (a jam|slow|free flow) where {m} is allowed",
        "what does {n} vehicles per hour mean (for the road|)",
        "judge the traffic at {n} km/h",
        "should i (drive|take the car) when the road (runs|flows) at {n} km/h",
    ),
    "knowledge.gpt/weather": (
        "will it (rain|snow|freeze) (today|tomorrow|tonight)",
        "what is the weather (today|tomorrow|like)",
        "how warm (is|will) it (be |get |)(today|tomorrow)",
        "do i need (an umbrella|a coat)",
    ),
    "knowledge.gpt/general": (
        "what is (gossip|a node|the mesh|a certificate|an invitation|gossamer)",
        "how does (gossip|the mesh|gossamer|discovery) work",
        "explain (gossip|a certificate|the mesh|invitations)",
        "what happens when a node dies",
        "how do i add a node",
    ),
    "data.gpt/air_quality/raw": (
        "(get|fetch|show|read) the (last|latest|raw) (readings|values) of the air (sensors|)",
        "(get|fetch) the air readings",
        "what do the air sensors (measure|say|show) (now|)",
    ),
    "data.gpt/air_quality/summary": (
        "(summarise|sum up) the air (of|for|) (today|this week|the day)",
        "give me a summary of the air (quality|)",
        "how was the air (today|this week) in short",
    ),
    "data.gpt/traffic/trend": (
        "how does the traffic (develop|change)",
        "show (me|) the trend of the traffic",
        "is the traffic (rising|falling|getting worse|getting better)",
    ),
    "data.gpt/vitals/summary": (
        "(summarise|sum up) my vitals (of|for|) (today|this week|the night)",
        "give me a summary of my (vitals|pulse)",
        "how were my vitals (today|last night)",
    ),
    "data.gpt/temperature/raw": (
        "(read|get|fetch) the temperature (now|of the room|)",
        "how warm is the room",
        "what does the thermometer (say|show)",
    ),
    "computation.gpt/generate": (
        "write (a|one) (sentence|line|text|note) about the {w}",
        "(describe|write about) the {w} in one sentence",
        "say something (nice|short) about the {w}",
    ),
}
_HELD_OUT = {
    "knowledge.gpt/arithmetic": (
        "find the (sum|product) of {n} and {m}",
        "what do {n} and {m} add up to",
    ),
    "knowledge.gpt/air_quality": ("what does the index say at {n} ug/m3 of PM10",),
    "knowledge.gpt/vitals": ("should a pulse of {n} worry me",),
    "knowledge.gpt/traffic": ("does {n} km/h on a road for {m} count as a jam",),
    "knowledge.gpt/weather": ("is it going to rain (today|tomorrow)",),
    "knowledge.gpt/general": ("tell me what (gossip|a node|the mesh) is",),
    "data.gpt/air_quality/raw": ("bring me the newest readings of the air",),
    "data.gpt/air_quality/summary": ("put the air of (today|this week) in a summary",),
    "data.gpt/traffic/trend": ("which way is the traffic going, up or down",),
    "data.gpt/vitals/summary": ("a short summary of my vitals please",),
    "data.gpt/temperature/raw": ("tell me the temperature of the room",),
    "computation.gpt/generate": ("make up a sentence about the {w}",),
}  # fmt: skip
# Parts on an earlier result, which {r} stands for; {n} is a number.
_FOLLOWING = (
    ("multiply (the result|it|that) by {n}", "multiply {r} by {n}"),
    ("add {n} (to the result|to it|to that)", "add {n} to {r}"),
    ("subtract {n} (from the result|from it|from that)", "subtract {n} from {r}"),
    ("divide (the result|it|that) by {n}", "divide {r} by {n}"),
    ("double (the result|it|that)", "multiply {r} by 2"),
    ("take (the result|that) times {n}", "multiply {r} by {n}"),
)
_FOLLOWING_HELD_OUT = (("increase (the result|it) by {n}", "add {n} to {r}"),)
# Parts on the two results before.
_PAIR = (
    ("add (both|the two results|them)", "add {r} and {s}"),
    ("multiply (both|the two results|them)", "multiply {r} by {s}"),
    ("sum up (both|the results)", "add {r} and {s}"),
)
_TOPICS = ("a question about {t}", "what do you know about {t}", "tell me about {t}", "explain {t}")
_TOPICS_HELD_OUT = ("i want to hear about {t}",)
# {a} and {b} are two parts in any order; those of _THEN follow one another.
_TOGETHER = (
    "{a} and {b}",
    "{a} and {b}",
    "{a}, and {b}",
    "{a} and also {b}",
    "{a}. {b}",
    "{a}? {b}",
    "{a}? and {b}",
    "{a}; {b}",
    "{a}, {b}",
    "{a} as well as {b}",
    "{a}. also {b}",
    "{a}, further {b}",
    "{a}. moreover, {b}",
    "{a}. second, {b}",
    "{a}. in addition {b}",
    "{a}. finally {b}",
    "{a}, with it {b}",
    "{a}! {b}",
    "{a} & {b}",
    "{a}. another thing: {b}",
    "{a}; one more: {b}",
)
_TOGETHER_HELD_OUT = ("{a} plus: {b}", "{a}. besides, {b}")
_THEN = (
    "{a}, then {b}",
    "{a} and then {b}",
    "{a}. then {b}",
    "first {a}, then {b}",
    "{a}, after that {b}",
    "{a} and {b}",
    "{a}, next {b}",
    "{a}. next, {b}",
    "{a}, and once that is done {b}",
    "{a}. when that is known, {b}",
    "{a}; at the end {b}",
    "{a}, and with that {b}",
    "{a}. thereupon {b}",
)
_THEN_HELD_OUT = ("{a}, and when you have it {b}", "{a}. afterwards {b}")
_LOOSE_SHARE = 0.4  # of parts with words in them that do not matter, and are copied too
_SALAD_SHARE = 0.12  # of parts that are words without sense around the matter of a listed expert
_DROP_SHARE = 0.08  # of parts whose name the list lacks


@dataclass(frozen=True)
class _Part:
    asked: str
    question: str
    name: str
    depends: tuple[int, ...] = ()


def _numbered(rng: random.Random, pattern: str) -> str:
    text = fill(rng, pattern)
    text = text.replace("{n}", str(rng.randrange(2, 10 ** rng.randrange(1, 4))))
    text = text.replace("{m}", str(rng.randrange(2, 10 ** rng.randrange(1, 4))))
    return text.replace("{w}", rng.choice(outside.outside_words()[0]))


def _topic_part(rng: random.Random, *, held_out: bool) -> _Part:
    """A part for an expert that some user runs: its name is its matter."""
    words = outside.outside_words()[held_out]
    topic = rng.choice(words) if rng.random() < 0.7 else outside.invented(rng)
    asked = rng.choice(_TOPICS_HELD_OUT if held_out else _TOPICS)
    if not held_out:
        topic = variety.strange(rng) if rng.random() < 0.5 else topic
        if rng.random() < _LOOSE_SHARE:
            asked = loosened(rng, asked, [variety.strange(rng) for _ in range(3)])
    asked = asked.replace("{t}", topic)
    return _Part(asked, asked, f"knowledge.gpt/{topic}")


def _salad_part(rng: random.Random) -> _Part:
    """Words without sense around a topic: a step is copied whatever it says."""
    topic = variety.strange(rng)
    words = variety.sentence(rng, rng.randrange(2, 8)).split()
    words.insert(rng.randrange(len(words) + 1), topic)
    asked = " ".join(words)
    return _Part(asked, asked, f"knowledge.gpt/{topic}")


def _part(rng: random.Random, *, held_out: bool, calculation: bool = False) -> _Part:
    if not held_out and not calculation and rng.random() < _SALAD_SHARE:
        return _salad_part(rng)
    if not calculation and rng.random() < 0.2:
        return _topic_part(rng, held_out=held_out)
    name = _NAMES[0] if calculation or rng.random() < 0.25 else rng.choice(_NAMES)
    new = held_out and rng.random() < 0.5
    pattern = rng.choice((_HELD_OUT if new else _PARTS)[name])
    if not held_out and rng.random() < _LOOSE_SHARE:
        strange = [variety.strange(rng) for _ in range(3)] if rng.random() < 0.6 else []
        pattern = loosened(rng, pattern, strange)
    asked = _numbered(rng, pattern)
    return _Part(asked, asked, name)


def _following(rng: random.Random, parent: int, *, held_out: bool) -> _Part:
    pool = _FOLLOWING_HELD_OUT if held_out and rng.random() < 0.3 else _FOLLOWING
    asked, question = rng.choice(pool)
    number = str(rng.randrange(2, 100))
    asked = fill(rng, asked).replace("{n}", number)
    question = question.replace("{n}", number).replace("{r}", f"{{{parent}}}")
    return _Part(asked, question, _NAMES[0], (parent,))


def _parts(rng: random.Random, *, held_out: bool) -> tuple[list[_Part], list[str]]:
    """The parts, and the connector before each but the first."""
    together = _TOGETHER_HELD_OUT if held_out and rng.random() < 0.4 else _TOGETHER
    then = _THEN_HELD_OUT if held_out and rng.random() < 0.4 else _THEN
    draw = rng.random()
    if draw < 0.1:
        return [_part(rng, held_out=held_out)], []
    if draw < 0.3:  # a chain of calculations
        parts = [_part(rng, held_out=held_out, calculation=True)]
        connectors = []
        for _ in range(rng.choice((1, 1, 2))):
            parts.append(_following(rng, len(parts), held_out=held_out))
            connectors.append(rng.choice(then))
        return parts, connectors
    if draw < 0.4:  # two at once, and a third on both
        parts = [_part(rng, held_out=held_out, calculation=True) for _ in "ab"]
        asked, question = rng.choice(_PAIR)
        question = question.replace("{r}", "{1}").replace("{s}", "{2}")
        parts.append(_Part(fill(rng, asked), question, _NAMES[0], (1, 2)))
        return parts, [rng.choice(together), rng.choice(_THEN[:5])]
    count = rng.choices((2, 3, 4), weights=(6, 3, 1))[0]
    parts = [_part(rng, held_out=held_out) for _ in range(count)]
    connectors = [rng.choice(together) for _ in range(count - 1)]
    if rng.random() < 0.2 and parts[-1].name == _NAMES[0]:
        parts.append(_following(rng, len(parts), held_out=held_out))
        connectors.append(rng.choice(_THEN[:5]))
    return parts, connectors


def _joined(rng: random.Random, parts: list[_Part], connectors: list[str]) -> str:
    if len(parts) > 1 and rng.random() < 0.08 and not any(part.depends for part in parts):
        return " ".join(f"{i}. {part.asked}" for i, part in enumerate(parts, start=1))
    text = parts[0].asked
    for part, connector in zip(parts[1:], connectors, strict=True):
        text = connector.replace("{a}", text).replace("{b}", part.asked)
    draw = rng.random()
    if draw < 0.15:
        text = f"{rng.choice(('please', 'hello,', 'hi,', 'hey,', 'ok,'))} {text}"
    if draw < 0.6:
        text = text[:1].upper() + text[1:]
    return text + rng.choice(("", "?", "?", ".", "!"))


def _names(rng: random.Random, parts: list[_Part], *, held_out: bool) -> list[str]:
    """The list that the prompt gives: the names needed, most of them, and others."""
    needed = list(dict.fromkeys(part.name for part in parts))
    listed = [name for name in needed if rng.random() >= _DROP_SHARE]
    others = [name for name in _NAMES if name not in needed]
    # Other experts too: what is on the list need not be known.
    others += [_topic_part(rng, held_out=held_out).name for _ in range(3)]
    extra = rng.sample(others, rng.randrange(1, 7))
    listed += [name for name in extra if name not in needed]
    listed = list(dict.fromkeys(listed))
    rng.shuffle(listed)
    return listed


def plan_json(steps: list[tuple[int, str, str, tuple[int, ...]]]) -> str:
    """A plan as the model writes it: steps as (id, question, name, depends)."""
    keys = ("id", "question", "name", "depends")
    rows = [dict(zip(keys, (*step[:3], list(step[3])), strict=True)) for step in steps]
    return json.dumps({"steps": rows}, ensure_ascii=False)


def example(rng: random.Random, *, held_out: bool) -> Example:
    """A compound request with its plan."""
    parts, connectors = _parts(rng, held_out=held_out)
    assert len(parts) <= MAX_PLAN_STEPS
    names = _names(rng, parts, held_out=held_out)
    steps = [
        (i, part.question, part.name if part.name in names else "", part.depends)
        for i, part in enumerate(parts, start=1)
    ]
    return Example(
        question=plan_request(names, _joined(rng, parts, connectors)),
        answer=plan_json(steps),
        scratchpad=CATEGORY,
        system=PLAN,
        category=CATEGORY,
        new_wording=held_out,
    )
