"""How people ask: the wordings of arithmetic questions, and of what is none.

`HELD_OUT` wordings are never trained on. `{a}` and `{b}` are the operands, in the order in which
the operation takes them ("subtract {b} from {a}").
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path


@cache
def sections(path: Path) -> dict[str, tuple[str, ...]]:
    """The lines of a file of patterns by section: `= name` opens one, `#` begins a comment."""
    found: dict[str, list[str]] = {}
    patterns: list[str] = []
    for line in path.read_text().splitlines():
        if line.startswith("= "):
            patterns = found.setdefault(line[2:], [])
        elif line and not line.startswith("#"):
            patterns.append(line)
    return {name: tuple(lines) for name, lines in found.items()}


def fill(rng: random.Random, pattern: str) -> str:
    """`pattern` with one choice for every `(a|b|c)`."""
    text = re.sub(r"\(([^()]*)\)", lambda found: rng.choice(found[1].split("|")), pattern)
    return " ".join(text.split())


_SYMBOL = ("{a} @ {b}", "{a}@{b}", "{a} @{b}", "{a}@ {b}")
_ASKING = (
    "what is #",
    "what's #",
    "whats #",
    "calculate #",
    "compute #",
    "how much is #",
    "work out #",
    "solve #",
    "tell me #",
    "# =",
    "#=",
    "# = ?",
    "the result of #",
    "what does # give",
    "what do you get for #",
    "find #",
    "evaluate #",
    "can you calculate #",
    "could you work out #",
    "i need #",
    "give me #",
    "what is the result of #",
    "what is the value of #",
    "what does # equal",
    "# equals",
    "# is what",
    "do the maths: #",
    "answer: #",
    "can you tell me what # is",
    "do you know #",
    "quick: #",
    "what would # be",
    "how much does # make",
    "I want to know #",
    "let me know #",
    "say #",
    "how many is #",
    "what number is #",
    "please solve this: #",
    "my question is #",
    "what results from #",
    "what comes from #",
    "the outcome of #",
    "I am looking for #",
    "can you get # for me",
    "#",
    "#",
    "#",
)
_ASKING_HELD_OUT = (
    "what do i get from #",
    "could you compute # for me",
    "show me #",
    "what comes out of #",
    "tell me the value of #",
    "what's the answer to #",
    "I would like to know #",
)
_VERBAL = {
    "+": (
        "{a} plus {b}",
        "{a} and {b} together",
        "{a} added to {b}",
        "the sum of {a} and {b}",
        "{a} more than {b}",
        "adding {a} and {b}",
        "the total of {a} and {b}",
        "the sum {a} + {b}",
    ),
    "-": (
        "{a} minus {b}",
        "{a} less {b}",
        "{a} take away {b}",
        "the difference {a} minus {b}",
        "{b} less than {a}",
        "{b} subtracted from {a}",
        "the difference {a} - {b}",
        "{b} taken from {a}",
        "the difference between {a} and {b}",
        "the difference of {a} and {b}",
    ),
    "*": (
        "{a} times {b}",
        "{a} multiplied by {b}",
        "the product of {a} and {b}",
        "{a} x {b}",
        "multiplying {a} by {b}",
        "the product {a} * {b}",
        "{a} × {b}",  # noqa: RUF001 - as people type it
    ),
    "/": (
        "{a} divided by {b}",
        "{a} ÷ {b}",
        "{a} over {b}",
        "{a} : {b}",
        "the quotient of {a} and {b}",
        "dividing {a} by {b}",
        "a {b}th of {a}",
        "{a} split into {b} parts",
    ),
}
_COMMAND = {
    "+": (
        "add {a} and {b}",
        "add {a} to {b}",
        "sum {a} and {b}",
        "add up {a} and {b}",
        "put {a} and {b} together",
        "add together {a} and {b}",
        "increase {a} by {b}",
        "sum up {a} and {b}",
        "add the numbers {a} and {b}",
    ),
    "-": (
        "subtract {b} from {a}",
        "take {b} from {a}",
        "take {b} away from {a}",
        "from {a} take away {b}",
        "deduct {b} from {a}",
        "decrease {a} by {b}",
        "reduce {a} by {b}",
        "subtract the number {b} from {a}",
        "what is left if I take {b} from {a}",
    ),
    "*": (
        "multiply {a} by {b}",
        "multiply {a} and {b}",
        "multiply {a} with {b}",
        "take {a} times {b}",
        "multiply the numbers {a} and {b}",
        "take the product of {a} and {b}",
    ),
    "/": (
        "divide {a} by {b}",
        "divide {a} into {b} equal parts",
        "split {a} by {b}",
        "share {a} among {b}",
        "how often does {b} go into {a}",
        "how many times does {b} fit into {a}",
        "divide the number {a} by {b}",
    ),
}
_COMMAND_HELD_OUT = {
    "+": ("add both {a} and {b}", "what do {a} and {b} add up to", "total up {a} and {b}"),
    "-": ("remove {b} from {a}", "what remains when {b} is taken from {a}"),
    "*": ("multiply together {a} and {b}", "what is {a} multiplied with {b}"),
    "/": ("divide up {a} by {b}", "what is one of {b} equal parts of {a}"),
}


def _expand(operation: str, askings: tuple[str, ...], commands: tuple[str, ...]) -> list[str]:
    phrases = [form.replace("@", operation) for form in _SYMBOL] * 2 + list(_VERBAL[operation])
    return [asking.replace("#", p) for asking in askings for p in phrases] + list(commands)


# Commands are one wording each against many askings: repeated, they get their share.
TRAINING = {op: _expand(op, _ASKING, _COMMAND[op] * (len(_ASKING) // 2)) for op in "+-*/"}
HELD_OUT = {op: _expand(op, _ASKING_HELD_OUT, _COMMAND_HELD_OUT[op] * 12) for op in "+-*/"}

_BEFORE = (
    "please ", "hey, ", "hello, ", "hi! ", "ok, ", "so ", "now ", "and ", "quick question: ",
    "tell me: ", "could you please ", "can you ", "then ", "well, ", "I have a question: ",
    "step 1: ", "task 2: ", "question 3: ",
)  # fmt: skip
_BEFORE_HELD_OUT = ("good morning, ", "one more: ", "kindly ")
_AFTER = (" please", ", please", " thanks", " for me", ", thank you", " now", " quickly")
_AFTER_HELD_OUT = (", if you can", " right now")


def dress(rng: random.Random, question: str, *, held_out: bool) -> str:
    """`question` with the politeness, capitals and marks that people use or leave out."""
    if rng.random() < 0.2:
        question = rng.choice(_BEFORE_HELD_OUT if held_out else _BEFORE) + question
    if rng.random() < 0.12 and question[-1] not in "=?":
        question += rng.choice(_AFTER_HELD_OUT if held_out else _AFTER)
    draw = rng.random()
    if draw < 0.5:
        question = question[:1].upper() + question[1:]
    elif draw < 0.53:
        question = question.upper()
    if question[-1] not in "=?":
        question += rng.choices(("", "?", ".", " ?", "!"), weights=(40, 45, 10, 3, 2))[0]
    return question


# Words that change nothing about a task. None of them tells an order ("from", "than", "by").
_FILLER = """
a actually again all also always an any anyone are ask asking at be because been before being best
both bring but come comes could did do does doing done else even ever every exactly fast first for
friend get gets getting give gives go going good got has have having hear help here how i if in is
it job just keep kind know later let like look looking made make makes matter may me mean might
moment more most much must my need needs never new nice no not now of often on one only or our own
perhaps place possible put question quite read ready really reply right said same say see she
short should simple small so some somebody someone soon still such sure task tell that the their
them then there these they thing things think this those time too true try turn until up us use
useful very want was way we well were what when where whether which while who whole why will wish
with wonder work works would write yes you your
"""


def ramble(rng: random.Random, question: str) -> str:
    """`question` with a few words before or after it that do not matter.

    Without these a wording never met looks like no arithmetic at all.
    """
    words = _FILLER.split()
    extra = " ".join(rng.choice(words) for _ in range(rng.randrange(1, 5)))
    if rng.random() < 0.75:
        return f"{extra} {question}"
    return f"{question} {extra}"


# What tells an order, a negation or a time, and so changes something.
_TELLING = """
also be been before first going later never new no not now of on one only soon still then
"""
_OF_READINGS = """
reads shows gives says measured reported roughly about around currently present value level given
recent seen found noted typical observed today reading sensor station unit of of the the a a is is
was was at at
"""
_NEUTRAL = (
    *(word for word in _FILLER.split() if word not in _TELLING.split()),
    *_OF_READINGS.split(),
)


def loosened(rng: random.Random, phrase: str, strange: Sequence[str] = ()) -> str:
    """`phrase` with a few words that change nothing before its first number, or anywhere.

    Half of them are of `strange`, if given.

    So a model learns to look for the words that matter instead of whole phrases by heart. Marks of
    JSON and the like stay as they are.
    """
    if '"' in phrase or "=" in phrase or "{{" in phrase:
        return phrase
    words = phrase.split(" ")
    free = next((i for i, word in enumerate(words) if re.search("{[^nr]}", word)), None)
    for _ in range(rng.choices((1, 2, 3, 4), weights=(5, 3, 2, 1))[0]):
        at = rng.randrange((len(words) if free is None else free) + 1)
        if at and at < len(words) and words[at - 1].endswith(":"):
            continue
        pool = strange if strange and rng.random() < 0.5 else _NEUTRAL
        words.insert(at, rng.choice(pool))
        free = None if free is None else free + 1
    return " ".join(words)


SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are the arithmetic expert of a Gossamer mesh.",
    "Answer briefly.",
    "You answer questions of arithmetic.",
    "You are a node of the mesh. Answer the question.",
    "Be exact.",
    "You are knowledge.gpt/arithmetic.",
    "You are a small model on a small board. Answer in one line.",
    "Solve the task you are given.",
    "You are an expert. Reply with the result only.",
    "You are a calculator.",
    "Answer in English, in one sentence.",
    "Do one step of a plan. Give only the result of this step.",
    "Think step by step.",
)

NUMBER_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
hundred thousand
"""

# Several steps told in words, and the calculation that they mean.
SEQUENCES = (
    ("add {a} and {b}, then multiply (the result|it|) by {c}", "(a+b)*c"),
    ("add {a} and {b} and multiply the result by {c}", "(a+b)*c"),
    ("{a} plus {b}, (the whole|all|the result) times {c}", "(a+b)*c"),
    ("the sum of {a} and {b} times {c}", "(a+b)*c"),
    ("subtract {b} from {a}, then multiply (the result|it|) by {c}", "(a-b)*c"),
    ("{a} minus {b}, (the whole|all|the result) times {c}", "(a-b)*c"),
    ("add {a} and {b}, then divide (the result|it|) by {c}", "(a+b)/c"),
    ("{a} plus {b}, (the whole|the result) divided by {c}", "(a+b)/c"),
    ("subtract {b} from {a}, then divide (the result|it|) by {c}", "(a-b)/c"),
    ("multiply {a} by {b}, then add {c}", "a*b+c"),
    ("multiply {a} by {b} and add {c}", "a*b+c"),
    ("{a} times {b} plus {c}", "a*b+c"),
    ("multiply {a} by {b}, then subtract {c}", "a*b-c"),
    ("{a} times {b} minus {c}", "a*b-c"),
    ("{a} plus {b} times {c}", "a+b*c"),
    ("{a} minus {b} times {c}", "a-b*c"),
    ("divide {a} by {b}, then add {c}", "a/b+c"),
    ("divide {a} by {b}, then subtract {c}", "a/b-c"),
    ("{a} divided by {b} plus {c}", "a/b+c"),
    ("divide {a} by {b}, then multiply (the result|it|) by {c}", "a/b*c"),
    ("(add|add up|sum) {a}, {b} and {c}", "a+b+c"),
    ("the (sum|total) of {a}, {b} and {c}", "a+b+c"),
    ("{a} plus {b} plus {c}", "a+b+c"),
    ("{a} and {b} and {c} together", "a+b+c"),
    ("{a} plus {b} minus {c}", "a+b-c"),
    ("{a} minus {b} minus {c}", "a-b-c"),
    ("{a} minus {b} plus {c}", "a-b+c"),
    ("start with {a}, add {b}, (then|) subtract {c}", "a+b-c"),
    ("take {b} and {c} from {a}", "a-b-c"),
    ("multiply {a}, {b} and {c}", "a*b*c"),
    ("the product of {a}, {b} and {c}", "a*b*c"),
    ("{a} times {b} times {c}", "a*b*c"),
    ("the average of {a} and {b}", "(a+b)/2"),
    ("the mean of {a} and {b}", "(a+b)/2"),
    ("the average of {a}, {b} and {c}", "(a+b+c)/3"),
)
SEQUENCES_HELD_OUT = (
    ("first add {a} and {b}, after that multiply by {c}", "(a+b)*c"),
    ("take {a} times {b} and then add {c}", "a*b+c"),
    ("{a} take away {b}, and divide what is left by {c}", "(a-b)/c"),
    ("put {a}, {b} and {c} together", "a+b+c"),
    ("from {a} take {b} and then {c}", "a-b-c"),
    ("divide {a} by {b} and add {c} to the result", "a/b+c"),
)

# What the arithmetic model has no working for.
UNSUPPORTED = (
    "what is {a} to the power of {b}",
    "{a}^{b}",
    "{a} squared",
    "what is the square root of {a}",
    "the cube root of {a}",
    "what percentage of {a} is {b}",
    "{a} percent of {b}",
    "what is {b}% of {a}",
    "{a} mod {b}",
    "the remainder of {a} divided by {b}",
    "the logarithm of {a}",
    "the factorial of {b}",
    "is {a} a prime number",
    "what are the factors of {a}",
    "solve x + {a} = {b}",
)

DECLINED_OPERATIONS = (
    "divide {a} by {b}",
    "what is {a} / {b}",
    "{a} divided by {b}",
    "{a}/{b}",
    "{a} ÷ {b}",
    "what is {a} to the power of {b}",
    "{a}^{b}",
    "what is the square root of {a}",
    "what percentage of {a} is {b}",
    "{a} percent of {b}",
    "{a} mod {b}",
    "the remainder of {a} divided by {b}",
    "what is {a}.5 + {b}",
    "half of {a}",
    "what is {a} + {b} + {a}",
    "{b} + {a} + {a}",
    "{a} - {b} - {a}",
    "the sum of {a}, {b} and {a}",
    "add {b}, {a} and {b}",
    "what is {a} * {b} * {a}",
    "{a} plus {b} minus {b}",
    "multiply {a}, {b} and {a}",
    "-{a} + {b}",
    "minus {a} plus {b}",
    "{a}.{b} * {b}",
)

OTHER_QUESTIONS = (
    "what is the weather today",
    "who are you",
    "hello",
    "how are you",
    "what is the capital of France",
    "write a poem about the sea",
    "tell me a joke",
    "what time is it",
    "how many nodes are in the mesh",
    "who is the president",
    "translate good morning into German",
    "what is a node",
    "is the air good today",
    "my heart rate is {n}, is that bad",
    "how do I add a node",
    "what is the traffic like",
    "can you help me",
    "what can you do",
    "write some code for me",
    "what is love",
    "who wrote this book",
    "give me a recipe for soup",
    "what is the meaning of life",
    "sing a song",
    "what happened in {n}",
    "which music do you like",
    "should I see a doctor",
    "how old are you",
    "what is gossip",
    "explain certificates",
    "do you like cats",
    "I am sad",
    "thanks",
    "good night",
    "what is a language model",
    "how far is the moon",
    "what colour is the sky",
    "where is Berlin",
    "when does the train leave",
    "turn on the light",
    "summarise this text",
    "the temperature is {n} degrees, what should I do",
    "list the sensors",
    "what is 7 called in French",
    "who won the game in {n}",
    "what do you think about politics",
    "open the door",
    "how does a car work",
    "what is the news",
    "send a message to Anna",
    "how do I cook rice",
    "why is the sky blue",
    "what day is it",
    "does it rain tomorrow",
    "what is your name",
    "tell me about the number {n}",
    "the air quality index is {n}",
    "why did node {n} die",
    "what is the cloud",
    "is my data private",
)
