"""Reading: facts found in reports and logs, or not there.

Texts of 200 to 400 tokens are generated: logs of nodes and sensors line by line, reports of a day
in sentences. In what is trained on, two thirds of the names and things are words nobody knows
(variety.py): finding must not rest on a list of words. A question asks for one fact. The answer
quotes the line or sentence word for word (from its subject on, where the fact stands behind it),
then names the fact; an absent fact, as often as not beside one that looks like it, is said to be
absent. Half of what is trained on is shorter: finding a place again is learned on a few lines
first.

The scratchpad says what is looked for, then copies what the text tells of it:

    extract fan-51: who                     the subject, and what of it
    fan-51 was cleaned (heat) by Ida        the line from its subject on; `none` where none names it
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from capabilities.slm.tasks import (
    EXTRACT,
    EXTRACT_JSON,
    NOT_THERE,
    extract_request,
)
from capabilities.slm.training import variety
from capabilities.slm.training.chat import Example
from capabilities.slm.training.wordings import fill, loosened, sections

if TYPE_CHECKING:
    import random

EXTRACT_CATEGORY = "extract"
QUESTIONS_FILE = Path(__file__).parent / "reading_questions.txt"
_ABSENT_SHARE = 0.25
_ABSENT_SHARE_TRAINED = 0.33
_LINES = (9, 17)  # of a text: with their length about 200 to 400 tokens
_LINES_SHORT = (2, 9)
_SHORT_SHARE = 0.45  # of the texts that are trained on
STRANGE_SHARE = 0.65  # of names, things and causes that are trained on
_ALSO_SHARE = 0.7  # of the questions that are trained on, asked in further ways
_TOGETHER = (4, 9)  # questions about one text that is trained on
_LOOSE_SHARE = 0.1  # of the questions that are trained on, with words that do not matter


def _words(text: str) -> list[str]:
    return text.split()


_PEOPLE = _words("Anna Tom Maria Ben Lena Paul Nina Omar Sara Max Ida Leo Mia Noah Emma Jonas")
_PEOPLE_HELD_OUT = _words("Clara Victor Rosa Hugo Petra Ivan")
_DEVICES = _words("node-# sensor-# camera-# pump-# gate-# board-# meter-# fan-# unit-# lamp-#")
_DEVICES_HELD_OUT = _words("probe-# valve-# station-#")
_PLACES = (
    "hall #", "room #", "street #", "floor #", "the park", "the market", "the school", "the office",
    "the garden", "the river", "the station", "the bridge", "the north gate", "the roof",
)  # fmt: skip
_PLACES_HELD_OUT = ("the library", "the harbour", "yard #", "the south door")
# What a device measures: name, unit, the range of its values, its decimals.
_MEASURES = (
    ("temperature", "C", -10, 45, 1),
    ("humidity", "%", 10, 99, 0),
    ("pressure", "hPa", 960, 1040, 0),
    ("PM2.5", "ug/m3", 2, 180, 0),
    ("PM10", "ug/m3", 4, 300, 0),
    ("NO2", "ppb", 1, 120, 0),
    ("speed", "km/h", 5, 120, 0),
    ("load", "%", 1, 100, 0),
    ("battery", "%", 1, 100, 0),
    ("noise", "dB", 30, 110, 0),
    ("power", "W", 2, 900, 0),
    ("pulse", "bpm", 45, 150, 0),
    ("queue", "tasks", 0, 40, 0),
)
_MEASURES_HELD_OUT = (("voltage", "V", 3, 24, 1), ("water level", "cm", 5, 400, 0))
_EVENTS = (
    "was (stopped|started|repaired|replaced|cleaned|checked|moved|tested)",
    "was (switched off|switched on|restarted|updated)",
)
_CAUSES = (
    "a leak", "a power cut", "an error", "high load", "a full disk", "an update", "a storm",
    "a lost link", "a test", "low battery", "dust", "a broken cable", "heat", "a false alarm",
)  # fmt: skip
_CAUSES_HELD_OUT = ("a worn belt", "frost", "a wrong setting")


@dataclass(frozen=True)
class Asked:
    """A question to a fact, held out and not; its answer, and `what` of the subject it asks for.

    `kind` names its further forms in reading_questions.txt: {who} is the subject, {what} what of
    it, {event} what befell it.
    """

    known: str
    new: str
    answer: str
    what: str
    kind: str

    def of(self, old: str, subject: str) -> Asked:
        """The same of another subject."""
        known, new = self.known.replace(old, subject), self.new.replace(old, subject)
        return replace(self, known=known, new=new)


@dataclass(frozen=True)
class Fact:
    """One line of a text, and what it answers.

    `key` begins with the subject. `event` is what befell it, as a participle.
    """

    line: str
    key: tuple[str, str]
    asked: tuple[Asked, ...]
    event: str = ""

    @property
    def tail(self) -> str:
        """The line from its subject on."""
        return self.line[self.line.index(self.key[0]) :]


def _time(rng: random.Random) -> str:
    return f"{rng.randrange(24):02}:{rng.randrange(60):02}"


def _value(rng: random.Random, measure: tuple[str, str, int, int, int]) -> str:
    _, unit, low, high, decimals = measure
    number = rng.uniform(low, high)
    text = f"{number:.{decimals}f}"
    return f"{text}%" if unit == "%" else f"{text} {unit}"


_KEPT = frozenset(
    word
    for text in (*_PEOPLE_HELD_OUT, *_DEVICES_HELD_OUT, *_PLACES_HELD_OUT, *_CAUSES_HELD_OUT,
                 *(measure[0] for measure in _MEASURES_HELD_OUT))
    for word in text.lower().replace("-", " ").split()
)  # fmt: skip


def strange(rng: random.Random) -> str:
    while (word := variety.strange(rng)) in _KEPT:
        pass
    return word


def _pick(
    rng: random.Random,
    known: tuple[str, ...] | list[str],
    new: tuple[str, ...] | list[str],
    forms: tuple[str, ...],
    held_out: bool,
) -> str:
    """One of `known`, at times of `new`; to train as often a strange word in one of `forms`."""
    if held_out:
        text = rng.choice(new if rng.random() < 0.3 else known)
    elif rng.random() < STRANGE_SHARE:
        text = rng.choice(forms).replace("@", strange(rng))
    else:
        text = rng.choice(known)
    return text.replace("#", str(rng.randrange(1, 100)))


def some_device(rng: random.Random, held_out: bool) -> str:
    return _pick(rng, _DEVICES, _DEVICES_HELD_OUT, ("@-#", "@-#", "@", "@ #"), held_out)


def _place(rng: random.Random, held_out: bool) -> str:
    return _pick(rng, _PLACES, _PLACES_HELD_OUT, ("the @", "the @", "@ #", "@"), held_out)


def _person(rng: random.Random, held_out: bool) -> str:
    return _pick(rng, _PEOPLE, _PEOPLE_HELD_OUT, ("@",), held_out).capitalize()


def _measure(rng: random.Random, held_out: bool) -> tuple[str, str, int, int, int]:
    if held_out:
        return rng.choice(_MEASURES_HELD_OUT if rng.random() < 0.3 else _MEASURES)
    if rng.random() >= STRANGE_SHARE:
        return rng.choice(_MEASURES)
    name = " ".join(strange(rng) for _ in range(rng.choice((1, 1, 2))))
    unit = rng.choice(("%", "C", "km", "W", "kg", "s", "m", "l", strange(rng)))
    return name, unit, 0, 10 ** rng.randrange(1, 5), rng.choice((0, 0, 1))


def _reading_line(rng: random.Random, style: int, *, held_out: bool) -> Fact:
    device, measure = some_device(rng, held_out), _measure(rng, held_out)
    what, value, at = measure[0], _value(rng, measure), _time(rng)
    lines = (
        f"{at} {device} {what} {value}",
        f"[{at}] {device}: {what}={value}",
        f"At {at} {device} measured a {what} of {value}.",
        f"{device} reported {what} {value} at {at}.",
        f"{at} INFO {device} {what} is {value}",
    )
    asked = (
        Asked(f"what (is|was) the {what} of {device}", f"which {what} did {device} show", value,
              what, "value"),
        Asked(f"how (high|much) (is|was) the {what} (of|at) {device}", f"{device}: {what}?", value,
              what, "value"),
        Asked(f"when did {device} (report|measure) (its|the) {what}",
              f"at what time was the {what} of {device} taken", at, f"{what} when", "value_when"),
    )  # fmt: skip
    return Fact(lines[style], (device, what), asked)


def _event_line(rng: random.Random, style: int, *, held_out: bool) -> Fact:
    device, place = some_device(rng, held_out), _place(rng, held_out)
    person = _person(rng, held_out)
    causes = ("a @", "@", "high @", "a lost @", "a @ #")
    cause = _pick(rng, _CAUSES, _CAUSES_HELD_OUT, causes, held_out)
    event, at = fill(rng, rng.choice(_EVENTS)), _time(rng)
    if not held_out and rng.random() < STRANGE_SHARE:
        event = f"was {strange(rng).removesuffix('e')}ed"
    lines = (
        f"{at} {device} in {place} {event} by {person}: {cause}",
        f"[{at}] {device} {event} ({cause}) by {person}, {place}",
        f"At {at} {device} in {place} {event} by {person} because of {cause}.",
        f"{person} reports from {place}: {device} {event} at {at} after {cause}.",
        f"{at} WARN {device} {event}, cause {cause}, by {person} at {place}",
    )
    asked = (
        Asked("(who (saw to|took care of|dealt with)|name the one who saw to|whose work was) "
              f"{device}", f"which person worked on {device}", person, "who", "person"),
        Asked(f"((why|because of what) {event.replace('was', 'was ' + device, 1)}"
              f"|(for which reason|why) was {device} seen to|give the reason for {device})",
              f"what was the cause with {device}", cause, "why", "cause"),
        Asked(f"((when|on the clock, when) {event.replace('was', 'was ' + device, 1)}"
              f"|(when|at which hour) was {device} seen to)",
              f"at what time did that happen to {device}", at, "when", "when"),
        Asked(f"(where is|what is the location of|where does one find) {device}",
              f"in which place is {device}", place, "where", "where"),
    )  # fmt: skip
    return Fact(lines[style], (device, "event"), asked, event.removeprefix("was "))


_NUMBERS = (
    ("(visitors|cars|parcels|calls|trains|bikes|patients|letters)", "counted"),
    ("(euros|litres|tonnes|kilometres|hours)", "recorded"),
)


def _count_line(rng: random.Random, style: int, *, held_out: bool) -> Fact:
    place = _place(rng, held_out)
    kinds, verb = rng.choice(_NUMBERS)
    kind, count = fill(rng, kinds), str(rng.randrange(2, 5000))
    if not held_out and rng.random() < STRANGE_SHARE:
        kind = f"{strange(rng)}s"
    lines = (
        f"{place} {kind} {count}",
        f"[{place}] {kind}: {count}",
        f"In total {count} {kind} were {verb} at {place}.",
        f"At {place} they {verb} {count} {kind}.",
        f"INFO {place} {verb} {kind} {count}",
    )
    asked = (
        Asked(f"how many {kind} (were there|were {verb}) at {place}",
              f"what is the number of {kind} at {place}", count, kind, "count"),
    )  # fmt: skip
    return Fact(lines[style], (place, kind), asked)


def _text(rng: random.Random, *, held_out: bool) -> tuple[str, list[Fact]]:
    """A report or a log, and its facts; no two facts answer the same question."""
    style = rng.randrange(5)
    makers = [_reading_line, _event_line, _count_line]
    weights = rng.choice(((6, 2, 1), (2, 6, 1), (3, 3, 3), (8, 0, 1)))
    short = not held_out and rng.random() < _SHORT_SHARE
    count = rng.randrange(*(_LINES_SHORT if short else _LINES))
    facts: list[Fact] = []
    while len(facts) < count:
        fact = rng.choices(makers, weights=weights)[0](rng, style, held_out=held_out)
        # A name within another one's would leave open which of them is asked about.
        if all(_apart(fact.key, other.key) for other in facts):
            facts.append(fact)
    title = rng.choice(("Report of the day.", "Log", "Notes of the shift.", "", "", "Readings:"))
    lines = [fact.line for fact in facts]
    joint = " " if style in (2, 3) and rng.random() < 0.7 else "\n"
    return joint.join([title, *lines] if title else lines), facts


def _apart(key: tuple[str, str], other: tuple[str, str]) -> bool:
    one, two = f" {key[0]} ", f" {other[0]} "
    return key != other and (one == two or not (one in two or two in one))


def extract_example(rng: random.Random, *, held_out: bool) -> Example:
    """A text and a question for a fact of it, or for one that is not there."""
    text, facts = _text(rng, held_out=held_out)
    as_json = rng.random() < 0.4
    return _asking(rng, text, facts, as_json=as_json, held_out=held_out)


def extract_examples(rng: random.Random) -> Example:
    """To train on: one text and several questions, each as if it were asked alone."""
    text, facts = _text(rng, held_out=False)
    as_json = rng.random() < 0.4
    first, *others = (
        _asking(rng, text, facts, as_json=as_json, held_out=False)
        for _ in range(rng.randrange(*_TOGETHER))
    )
    return replace(first, siblings=tuple(others))


def _asking(
    rng: random.Random, text: str, facts: list[Fact], *, as_json: bool, held_out: bool
) -> Example:
    value: str | None
    if rng.random() < (_ABSENT_SHARE if held_out else _ABSENT_SHARE_TRAINED):
        fact, quote = _absent(rng, facts, held_out=held_out), None
        asked, value = rng.choice(fact.asked), None
        beside = next((other for other in facts if other.key[0] == fact.key[0]), None)
        seen = beside.tail if beside else "none"
    else:
        fact = rng.choice(facts)
        asked = rng.choice(fact.asked)
        value, seen = asked.answer, fact.tail
        quote = fact.tail if value in fact.tail else fact.line
    question = _question(rng, fact, asked, held_out=held_out)
    if as_json:
        answer = json.dumps({"citation": quote, "answer": value}, ensure_ascii=False)
    else:
        answer = NOT_THERE if quote is None else f'"{quote}" So: {value}'
    return Example(
        question=extract_request(text, question),
        answer=answer,
        scratchpad=f"{EXTRACT_CATEGORY} {fact.key[0]}: {asked.what}\n{seen}",
        system=EXTRACT_JSON if as_json else EXTRACT,
        category=EXTRACT_CATEGORY,
        new_wording=held_out,
    )


def _question(rng: random.Random, fact: Fact, asked: Asked, *, held_out: bool) -> str:
    if not held_out and rng.random() < _ALSO_SHARE:
        further = sections(QUESTIONS_FILE)
        kinds = [kind for kind in (asked.kind, f"{asked.kind}_of") if kind in further]
        pattern = rng.choice(further[rng.choice(kinds)])
        put = {"who": fact.key[0], "what": asked.what.removesuffix(" when"), "event": fact.event}
        question = fill(rng, pattern).format(**put)
    else:
        question = _filled(rng, asked.new if held_out and rng.random() < 0.5 else asked.known)
    if not held_out and rng.random() < _LOOSE_SHARE:
        question = loosened(rng, question)
    if rng.random() < 0.6:
        question = question[:1].upper() + question[1:]
    if not question.endswith("?"):
        question += rng.choice(("?", "?", "?", ""))
    return question


def _filled(rng: random.Random, pattern: str) -> str:
    """`fill` from the innermost choice outwards."""
    while "(" in pattern:
        pattern = fill(rng, pattern)
    return pattern


def _absent(rng: random.Random, facts: list[Fact], *, held_out: bool) -> Fact:
    """A fact that the text lacks: often another measure of a device that is there."""
    keys = {fact.key for fact in facts}
    while True:
        maker = rng.choice((_reading_line, _reading_line, _event_line, _count_line))
        fact = maker(rng, 0, held_out=held_out)
        if rng.random() < (0.6 if held_out else 0.5):
            # The same subject as a fact that is there, or the same attribute of another one.
            subject = rng.choice(facts).key[0]
            old = fact.key[0]
            asked = tuple(one.of(old, subject) for one in fact.asked)
            fact = replace(fact, key=(subject, fact.key[1]), asked=asked)
        if fact.key not in keys:
            return fact
