"""Reading: facts found in reports and logs, or not there; and tasks for readers of long texts.

Texts of 200 to 400 tokens are generated: logs of nodes and sensors line by line, reports of a day
in sentences. In what is trained on, half of the names and things are words that nobody knows
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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capabilities.slm.tasks import (
    EXTRACT,
    EXTRACT_JSON,
    NOT_THERE,
    READING_TASKS,
    extract_request,
    reading_request,
)
from capabilities.slm.training import outside, variety
from capabilities.slm.training.chat import Example
from capabilities.slm.training.wordings import fill, loosened

if TYPE_CHECKING:
    import random

EXTRACT_CATEGORY = "extract"
TASKS_CATEGORY = "reading_tasks"
_ABSENT_SHARE = 0.25
_LINES = (9, 17)  # of a text: with their length about 200 to 400 tokens
_LINES_SHORT = (2, 9)
_SHORT_SHARE = 0.6  # of the texts that are trained on
_STRANGE_SHARE = 0.5  # of names, things and causes that are trained on
_ALSO_SHARE = 0.7  # of the questions for readers, asked in further ways
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
class Fact:
    """One line of a text, and what it answers.

    `key` begins with the subject. Each of `asked` is (question, held-out question, answer, what of
    the subject is asked for).
    """

    line: str
    key: tuple[str, str]
    asked: tuple[tuple[str, str, str, str], ...]

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


def _strange(rng: random.Random) -> str:
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
    elif rng.random() < _STRANGE_SHARE:
        text = rng.choice(forms).replace("@", _strange(rng))
    else:
        text = rng.choice(known)
    return text.replace("#", str(rng.randrange(1, 100)))


def _device(rng: random.Random, held_out: bool) -> str:
    return _pick(rng, _DEVICES, _DEVICES_HELD_OUT, ("@-#", "@-#", "@", "@ #"), held_out)


def _place(rng: random.Random, held_out: bool) -> str:
    return _pick(rng, _PLACES, _PLACES_HELD_OUT, ("the @", "the @", "@ #", "@"), held_out)


def _person(rng: random.Random, held_out: bool) -> str:
    return _pick(rng, _PEOPLE, _PEOPLE_HELD_OUT, ("@",), held_out).capitalize()


def _measure(rng: random.Random, held_out: bool) -> tuple[str, str, int, int, int]:
    if held_out:
        return rng.choice(_MEASURES_HELD_OUT if rng.random() < 0.3 else _MEASURES)
    if rng.random() >= _STRANGE_SHARE:
        return rng.choice(_MEASURES)
    name = " ".join(_strange(rng) for _ in range(rng.choice((1, 1, 2))))
    unit = rng.choice(("%", "C", "km", "W", "kg", "s", "m", "l", _strange(rng)))
    return name, unit, 0, 10 ** rng.randrange(1, 5), rng.choice((0, 0, 1))


def _reading_line(rng: random.Random, style: int, *, held_out: bool) -> Fact:
    device, measure = _device(rng, held_out), _measure(rng, held_out)
    what, value, at = measure[0], _value(rng, measure), _time(rng)
    lines = (
        f"{at} {device} {what} {value}",
        f"[{at}] {device}: {what}={value}",
        f"At {at} {device} measured a {what} of {value}.",
        f"{device} reported {what} {value} at {at}.",
        f"{at} INFO {device} {what} is {value}",
    )
    asked = (
        (f"what (is|was) the {what} of {device}", f"which {what} did {device} show", value, what),
        (f"how (high|much) (is|was) the {what} (of|at) {device}", f"{device}: {what}?", value,
         what),
        (f"when did {device} (report|measure) (its|the) {what}",
         f"at what time was the {what} of {device} taken", at, f"{what} when"),
    )  # fmt: skip
    return Fact(lines[style], (device, what), asked)


def _event_line(rng: random.Random, style: int, *, held_out: bool) -> Fact:
    device, place = _device(rng, held_out), _place(rng, held_out)
    person = _person(rng, held_out)
    causes = ("a @", "@", "high @", "a lost @", "a @ #")
    cause = _pick(rng, _CAUSES, _CAUSES_HELD_OUT, causes, held_out)
    event, at = fill(rng, rng.choice(_EVENTS)), _time(rng)
    if not held_out and rng.random() < _STRANGE_SHARE:
        event = f"was {_strange(rng).removesuffix('e')}ed"
    lines = (
        f"{at} {device} in {place} {event} by {person}: {cause}",
        f"[{at}] {device} {event} ({cause}) by {person}, {place}",
        f"At {at} {device} in {place} {event} by {person} because of {cause}.",
        f"{person} reports from {place}: {device} {event} at {at} after {cause}.",
        f"{at} WARN {device} {event}, cause {cause}, by {person} at {place}",
    )
    asked = (
        (f"(who (saw to|took care of|dealt with)|name the one who saw to|whose work was) {device}",
         f"which person worked on {device}", person, "who"),
        (f"((why|because of what) {event.replace('was', 'was ' + device, 1)}"
         f"|(for which reason|why) was {device} seen to|give the reason for {device})",
         f"what was the cause with {device}", cause, "why"),
        (f"((when|on the clock, when) {event.replace('was', 'was ' + device, 1)}"
         f"|(when|at which hour) was {device} seen to)",
         f"at what time did that happen to {device}", at, "when"),
        (f"(where is|what is the location of|where does one find) {device}",
         f"in which place is {device}", place, "where"),
    )  # fmt: skip
    return Fact(lines[style], (device, "event"), asked)


_NUMBERS = (
    ("(visitors|cars|parcels|calls|trains|bikes|patients|letters)", "counted"),
    ("(euros|litres|tonnes|kilometres|hours)", "recorded"),
)


def _count_line(rng: random.Random, style: int, *, held_out: bool) -> Fact:
    place = _place(rng, held_out)
    kinds, verb = rng.choice(_NUMBERS)
    kind, count = fill(rng, kinds), str(rng.randrange(2, 5000))
    if not held_out and rng.random() < _STRANGE_SHARE:
        kind = f"{_strange(rng)}s"
    lines = (
        f"{place} {kind} {count}",
        f"[{place}] {kind}: {count}",
        f"In total {count} {kind} were {verb} at {place}.",
        f"At {place} they {verb} {count} {kind}.",
        f"INFO {place} {verb} {kind} {count}",
    )
    asked = (
        (f"how many {kind} (were there|were {verb}) at {place}",
         f"what is the number of {kind} at {place}", count, kind),
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
    if rng.random() < _ABSENT_SHARE:
        fact, quote, value = _absent(rng, facts, held_out=held_out), None, None
        known, new, _, what = rng.choice(fact.asked)
        beside = next((other for other in facts if other.key[0] == fact.key[0]), None)
        seen = beside.tail if beside else "none"
    else:
        fact = rng.choice(facts)
        known, new, value, what = rng.choice(fact.asked)
        seen = fact.tail
        quote = fact.tail if value in fact.tail else fact.line
    question = _filled(rng, new if held_out and rng.random() < 0.5 else known)
    if not held_out and rng.random() < _LOOSE_SHARE:
        question = loosened(rng, question)
    if rng.random() < 0.6:
        question = question[:1].upper() + question[1:]
    if not question.endswith("?"):
        question += rng.choice(("?", "?", "?", ""))
    if as_json:
        answer = json.dumps({"citation": quote, "answer": value}, ensure_ascii=False)
    else:
        answer = NOT_THERE if quote is None else f'"{quote}" So: {value}'
    return Example(
        question=extract_request(text, question),
        answer=answer,
        scratchpad=f"{EXTRACT_CATEGORY} {fact.key[0]}: {what}\n{seen}",
        system=EXTRACT_JSON if as_json else EXTRACT,
        category=EXTRACT_CATEGORY,
        new_wording=held_out,
    )


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
        if rng.random() < 0.6:
            # The same subject as a fact that is there, or the same attribute of another one.
            subject = rng.choice(facts).key[0]
            old = fact.key[0]
            asked = tuple(
                (a.replace(old, subject), b.replace(old, subject), c, d)
                for a, b, c, d in fact.asked
            )
            fact = Fact(fact.line, (subject, fact.key[1]), asked)
        if fact.key not in keys:
            return fact


# --- tasks for the readers of a long text -------------------------------------------------------

_TEXTS = (
    "the log of a mesh, {n} pages",
    "a report of {n} pages",
    "{n} pages of notes",
    "the manual of a pump",
    "the records of {n} sensors",
    "the minutes of {n} meetings",
    "a contract of {n} pages",
    "the log of a week",
)
_TEXTS_HELD_OUT = ("a book of {n} chapters", "the mails of a month")
# (question, held-out question, tasks); {a} {b} subjects, {x} {y} attributes.
_QUESTIONS = (
    ("what (is|was) the {x} of {a}", "tell me the {x} of {a}", ("Find the {x} of {a}.",)),
    ("which (one |)has the higher {x}, {a} or {b}", "is the {x} of {a} above that of {b}",
     ("Find the {x} of {a}.", "Find the {x} of {b}.")),
    ("(compare|what is the difference in) the {x} of {a} and {b}",
     "how do {a} and {b} differ in {x}",
     ("Find the {x} of {a}.", "Find the {x} of {b}.")),
    ("what (is|was) the {x} and the {y} of {a}", "give me {x} and {y} of {a}",
     ("Find the {x} of {a}.", "Find the {y} of {a}.")),
    ("how did the {x} of {a} (change|develop)", "did the {x} of {a} rise or fall",
     ("Find every {x} of {a} with its date.",)),
    ("(why|for what reason) did {a} fail", "what made {a} fail",
     ("Find what happened to {a} before it failed.",
      "Find the cause that is given for the failure of {a}.")),
    ("who is responsible for {a}", "whose task is {a}", ("Find who is responsible for {a}.",)),
    ("when was {a} (repaired|replaced|checked)", "on which day was {a} seen to",
     ("Find when {a} was repaired, replaced or checked.",)),
    ("how (often|many times) did {a} fail", "count the failures of {a}",
     ("Find every failure of {a} with its date.",)),
    ("what (is|was) the {x} of {a}, (of|) {b} and (of|) {c}", "list the {x} of {a}, {b} and {c}",
     ("Find the {x} of {a}.", "Find the {x} of {b}.", "Find the {x} of {c}.")),
    ("what does the text say about {a}", "sum up what is said of {a}",
     ("Find what the text says about {a}.",)),
    ("did {a} (cause|lead to) the failure of {b}", "is {a} to blame for the failure of {b}",
     ("Find when {b} failed and the cause that is given.", "Find what the text says about {a}.")),
)  # fmt: skip
# Further ways to ask, each by the number of the question above that has its tasks.
_ALSO_ASKED = (
    ("give me the {x} of {a}", 0),
    ("(i need|i am looking for) the {x} of {a}", 0),
    ("which {x} (is|was) (given|noted|recorded) for {a}", 0),
    ("(tell me|look up) the {x} that {a} (has|had)", 0),
    ("how high (is|was) the {x} of {a}", 0),
    ("which (one |)has the lower {x}, {a} or {b}", 1),
    ("is the {x} of {a} (higher|lower) than the {x} of {b}", 1),
    ("does {a} have a (higher|lower) {x} than {b}", 1),
    ("of {a} and {b}, which has the (higher|lower) {x}", 1),
    ("do {a} and {b} have the same {x}", 2),
    ("set the {x} of {a} against the {x} of {b}", 2),
    ("how far apart are {a} and {b} in {x}", 2),
    ("how do {a} and {b} compare in {x}", 2),
    ("give me both the {x} and the {y} of {a}", 3),
    ("which {x} and which {y} does {a} have", 3),
    ("i need the {x} of {a} (and|as well as) the {y}", 3),
    ("look up {x} and {y} for {a}", 3),
    ("did the {x} of {a} (rise|fall) over time", 4),
    ("when was the {x} of {a} (highest|lowest)", 4),
    ("show the (course|development|history) of the {x} of {a}", 4),
    ("has the {x} of {a} (gone up|gone down|stayed the same)", 4),
    ("what is the trend of the {x} of {a}", 4),
    ("what (caused|led to) the failure of {a}", 5),
    ("how come {a} failed", 5),
    ("what was behind the failure of {a}", 5),
    ("explain why {a} (failed|broke down)", 5),
    ("what (happened|went wrong) before {a} failed", 5),
    ("who (takes care of|looks after|is in charge of) {a}", 6),
    ("whom (do i|should i|can i) (ask|call) about {a}", 6),
    ("which person is (responsible for|in charge of) {a}", 6),
    ("whose job is {a}", 6),
    ("name the one responsible for {a}", 6),
    ("has {a} (ever |)been (repaired|replaced|checked)", 7),
    ("on (what|which) (day|date) was {a} (repaired|replaced|checked)", 7),
    ("when did someone (repair|replace|check) {a}", 7),
    ("how long ago was {a} (repaired|replaced|checked)", 7),
    ("what (maintenance|repair) was done on {a} and when", 7),
    ("on which (days|dates) did {a} fail", 8),
    ("how many failures did {a} have", 8),
    ("when did {a} fail (for the first time|for the last time)", 8),
    ("list (all|the) failures of {a}", 8),
    ("did {a} fail more than once", 8),
    ("which has the (highest|lowest) {x}, {a}, {b} or {c}", 9),
    ("compare {a}, {b} and {c} by {x}", 9),
    ("rank {a}, {b} and {c} by {x}", 9),
    ("do {a}, {b} and {c} have the same {x}", 9),
    ("i need the {x} of each of {a}, {b} and {c}", 9),
    ("what is (written|said|reported) about {a}", 10),
    ("(summarise|sum up) what the text says about {a}", 10),
    ("what do we (learn|find out|read) about {a}", 10),
    ("is there anything about {a} in the text", 10),
    ("where does the text mention {a} and in what way", 10),
    ("was {a} (the cause of|the reason for) the failure of {b}", 11),
    ("did {b} fail because of {a}", 11),
    ("is {a} the reason why {b} failed", 11),
    ("does {a} have anything to do with the failure of {b}", 11),
    ("could {a} have (caused|led to) the failure of {b}", 11),
)
_ATTRIBUTES = _words(
    "temperature load battery price cost weight speed length power age size pressure budget income "
    "margin rate delay output"
)


def tasks_example(rng: random.Random, *, held_out: bool) -> Example:
    """A question about a text too long to read at once, and what its readers are to find."""
    known, new, tasks = rng.choice(_QUESTIONS)
    if not held_out and rng.random() < _ALSO_SHARE:
        known, number = rng.choice(_ALSO_ASKED)
        tasks = _QUESTIONS[number][2]
    subjects = []
    for _ in "abc":
        draw = rng.random()
        subject = _device(rng, held_out)
        if draw < 0.5:
            word = rng.choice(outside.outside_words()[1]) if held_out else _strange(rng)
            subject = f"the {outside.invented(rng) if draw < 0.1 else word}"
        subjects.append(subject)
    first, second = rng.sample(_ATTRIBUTES, 2)
    if not held_out and rng.random() < _STRANGE_SHARE:
        first, second = _strange(rng), _strange(rng)
    put = dict(zip("abc", subjects, strict=True)) | {"x": first, "y": second}
    question = fill(rng, new if held_out and rng.random() < 0.5 else known)
    about = rng.choice(_TEXTS_HELD_OUT if held_out and rng.random() < 0.3 else _TEXTS)
    question = question.format(**put)
    if rng.random() < 0.6:
        question = question[:1].upper() + question[1:]
    found = [task.format(**put) for task in tasks]
    return Example(
        question=reading_request(
            about.format(n=rng.randrange(2, 400)), question + rng.choice(("?", "?", "", "."))
        ),
        answer=json.dumps({"tasks": found}, ensure_ascii=False),
        scratchpad="tasks",
        system=READING_TASKS,
        category=TASKS_CATEGORY,
        new_wording=held_out,
    )
