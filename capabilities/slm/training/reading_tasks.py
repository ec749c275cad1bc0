"""Tasks for the readers of a text that is too long for one, written from a question about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from capabilities.slm.tasks import READING_TASKS, reading_request
from capabilities.slm.training import outside, reading
from capabilities.slm.training.chat import Example
from capabilities.slm.training.wordings import fill

if TYPE_CHECKING:
    import random

CATEGORY = "reading_tasks"
_ALSO_SHARE = 0.7  # of the questions that are trained on, asked in further ways

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
_ATTRIBUTES = (
    "temperature", "load", "battery", "price", "cost", "weight", "speed", "length", "power", "age",
    "size", "pressure", "budget", "income", "margin", "rate", "delay", "output",
)  # fmt: skip


def example(rng: random.Random, *, held_out: bool) -> Example:
    """A question about a text too long to read at once, and what its readers are to find."""
    known, new, tasks = rng.choice(_QUESTIONS)
    if not held_out and rng.random() < _ALSO_SHARE:
        known, number = rng.choice(_ALSO_ASKED)
        tasks = _QUESTIONS[number][2]
    subjects = []
    for _ in "abc":
        draw = rng.random()
        subject = reading.some_device(rng, held_out)
        if draw < 0.5:
            word = rng.choice(outside.outside_words()[1]) if held_out else reading.strange(rng)
            subject = f"the {outside.invented(rng) if draw < 0.1 else word}"
        subjects.append(subject)
    first, second = rng.sample(_ATTRIBUTES, 2)
    if not held_out and rng.random() < reading.STRANGE_SHARE:
        first, second = reading.strange(rng), reading.strange(rng)
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
        category=CATEGORY,
        new_wording=held_out,
    )
