"""Compound requests and the plans that answer them, as JSON (its form: capabilities/slm/tasks.py).

A request is made of parts in many wordings, joined in many ways; each part is a step under the name
of the prompt's list that knows its matter. A part that needs an earlier result holds `{n}` where
the result of step n goes, and says so in `depends`. A part that no listed name knows has none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from capabilities.slm.tasks import MAX_PLAN_STEPS, PLAN, plan_request
from capabilities.slm.training import outside, plan_words, variety
from capabilities.slm.training.chat import Example
from capabilities.slm.training.wordings import fill, loosened

if TYPE_CHECKING:
    import random

_T = TypeVar("_T")
_Texts = tuple[str, ...]
_Steps = tuple[tuple[str, str], ...]  # what is asked, and the step that is meant

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
# Kept for evaluation; what is trained on lies in plan_words.py.
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
_FOLLOWING_HELD_OUT = (("increase (the result|it) by {n}", "add {n} to {r}"),)
_TOPICS_HELD_OUT = ("i want to hear about {t}",)
_TOGETHER_HELD_OUT = ("{a} plus: {b}", "{a}. besides, {b}")
_THEN_HELD_OUT = ("{a}, and when you have it {b}", "{a}. afterwards {b}")
_LOOSE_SHARE = 0.4  # of parts with words in them that do not matter, and are copied too
_SALAD_SHARE = 0.12  # of parts that are words without sense around the matter of a listed expert
_DROP_SHARE = 0.08  # of parts whose name the list lacks
_DROP_SHARE_TRAINED = 0.2  # more of what is trained on: a name that is nearly right is a temptation
_OWN_SHARE = 0.45  # of the wordings that are trained on, from plan_words.py; the rest from its text


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


def _own_or(rng: random.Random, own: tuple[_T, ...], further: tuple[_T, ...]) -> tuple[_T, ...]:
    return own if rng.random() < _OWN_SHARE else further


def _topic_part(rng: random.Random, *, held_out: bool) -> _Part:
    """A part for an expert that some user runs: its name is its matter."""
    words = outside.outside_words()[held_out]
    topic = rng.choice(words) if rng.random() < 0.7 else outside.invented(rng)
    asked = rng.choice(_TOPICS_HELD_OUT) if held_out else ""
    if not held_out:
        asked = rng.choice(_own_or(rng, plan_words.TOPICS, plan_words.further("topics")))
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
    pool = (_HELD_OUT if new else plan_words.PARTS)[name]
    pattern = rng.choice(pool if held_out else _own_or(rng, pool, plan_words.further(name)))
    if not held_out and rng.random() < _LOOSE_SHARE:
        strange = [variety.strange(rng) for _ in range(3)] if rng.random() < 0.6 else []
        pattern = loosened(rng, pattern, strange)
    asked = _numbered(rng, pattern)
    return _Part(asked, asked, name)


def _following(rng: random.Random, parent: int, *, held_out: bool) -> _Part:
    new = held_out and rng.random() < 0.3
    pool: _Steps = _FOLLOWING_HELD_OUT if new else plan_words.FOLLOWING
    if not held_out:
        pool = _own_or(rng, pool, plan_words.further_steps("following"))
    asked, question = rng.choice(pool)
    number = str(rng.randrange(2, 100))
    asked = fill(rng, asked).replace("{n}", number)
    question = question.replace("{n}", number).replace("{r}", f"{{{parent}}}")
    return _Part(asked, question, _NAMES[0], (parent,))


def _parts(rng: random.Random, *, held_out: bool) -> tuple[list[_Part], list[str]]:
    """The parts, and the connector before each but the first."""
    together: _Texts = plan_words.TOGETHER
    if held_out and rng.random() < 0.4:
        together = _TOGETHER_HELD_OUT
    then: _Texts = _THEN_HELD_OUT if held_out and rng.random() < 0.4 else plan_words.THEN
    pairs: _Steps = plan_words.PAIR
    if not held_out:
        together = _own_or(rng, together, plan_words.further("together"))
        then = _own_or(rng, then, plan_words.further("then"))
        pairs = _own_or(rng, pairs, plan_words.further_steps("pair"))
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
        asked, question = rng.choice(pairs)
        question = question.replace("{r}", "{1}").replace("{s}", "{2}")
        parts.append(_Part(fill(rng, asked), question, _NAMES[0], (1, 2)))
        return parts, [rng.choice(together), rng.choice(plan_words.THEN[:5])]
    count = rng.choices((2, 3, 4), weights=(6, 3, 1))[0]
    parts = [_part(rng, held_out=held_out) for _ in range(count)]
    connectors = [rng.choice(together) for _ in range(count - 1)]
    if rng.random() < 0.2 and parts[-1].name == _NAMES[0]:
        parts.append(_following(rng, len(parts), held_out=held_out))
        connectors.append(rng.choice(plan_words.THEN[:5]))
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
    drop = _DROP_SHARE if held_out else _DROP_SHARE_TRAINED
    listed = [name for name in needed if rng.random() >= drop]
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
