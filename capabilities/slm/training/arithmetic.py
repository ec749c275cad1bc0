"""Questions of arithmetic, and the examples that a tiny model learns to answer them from.

How it computes stands in working.py (one operation) and expressions.py (several). Here is what it
is asked: integers, decimals, divisions, several steps, word problems, and what it must decline.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace
from functools import cache

from capabilities.slm.training.chat import Example
from capabilities.slm.training.expressions import (
    LONGEST,
    Expression,
    exact_value,
    filled,
    numbers,
    operations,
    sample_expression,
    solve,
    write,
)
from capabilities.slm.training.stories import parse_form, story
from capabilities.slm.training.wordings import (
    HELD_OUT,
    NUMBER_WORDS,
    OTHER_QUESTIONS,
    SEQUENCES,
    SEQUENCES_HELD_OUT,
    SYSTEM_PROMPTS,
    TRAINING,
    UNSUPPORTED,
    dress,
    fill,
    ramble,
)
from capabilities.slm.training.working import OutOfRange

HELD_OUT_SHARE = 10  # one set of operands in ten is never trained on
NOT_ARITHMETIC = "I only do arithmetic."
OUT_OF_RANGE = (
    "I only add, subtract and divide numbers of up to four digits, divide by up to two digits, "
    "and multiply two by two digits or four by one."
)
UNKNOWN_OPERATION = "I only add, subtract, multiply and divide."
BY_ZERO = "Nothing can be divided by zero."
IN_WORDS = "I only read numbers that are written in digits."

# What the bar `arithmetic.exact` counts: whole numbers, + - * and divisions without a rest.
INTEGER_CATEGORIES = ("add", "subtract", "negative", "multiply", "divide")
TASKS = ("integers", "division", "decimals", "steps", "words")
CATEGORIES = (*INTEGER_CATEGORIES, "rounded", "decimals", "steps", "words", "decline")

# What training draws, by share; division is the hardest to learn, stories the widest.
_MIXTURE = {
    "integers": 0.17,
    "division": 0.24,
    "decimals": 0.06,
    "steps": 0.1,
    "words": 0.37,
    "decline": 0.06,
}
_CLOSE_SHARE = 0.4  # of hard divisions: see sample_division
# The share of examples cut after the task is read, copied and padded: reading it out of a
# sentence is learned last, the columns make up most of a reply and are learned first.
_CUT = {"integers": 0.6, "division": 0.3, "decimals": 0.4, "steps": 0.3, "words": 0.75}


@dataclass(frozen=True)
class Task:
    """`left operation right` on whole numbers, the operation one of + - * /."""

    left: int
    operation: str
    right: int

    @property
    def expression(self) -> Expression:
        return (str(self.left), self.operation, str(self.right))

    @property
    def value(self) -> int:
        """The exact value; meaningless for a quotient with a rest."""
        return int(exact_value(self.expression))

    @property
    def category(self) -> str:
        if self.operation == "-":
            return "negative" if self.value < 0 else "subtract"
        return {"+": "add", "*": "multiply", "/": "divide"}[self.operation]

    @property
    def answer(self) -> str:
        return answer_of(self.expression)

    @property
    def held_out(self) -> bool:
        return is_held_out(self.expression)


def is_held_out(expression: Expression) -> bool:
    """Whether these operands, in any order, are kept for evaluation."""
    operands = sorted(numbers(expression), key=lambda text: (float(text), text))
    digest = hashlib.blake2b(",".join(operands).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0


def answer_of(expression: Expression) -> str:
    """`48 * 27 = 1296`; a rounded result says so."""
    solved = solve(expression)
    note = " (rounded)" if solved.rounded else ""
    return f"{write(expression, spaces=True)} = {solved.value}{note}"


def scratchpad(task: Task) -> str:
    """The working of `task`, as the model is to write it between the think tags."""
    return solve(task.expression).scratchpad


def _number(rng: random.Random, digits: int) -> int:
    """A number with exactly `digits` digits, rich in zeros, nines and repeated digits."""
    low = 0 if digits == 1 else 10 ** (digits - 1)
    if rng.random() < 0.75:
        return rng.randrange(low, 10**digits)
    pool = rng.choice(("09", "01", "019", "5", "123", "9", "0123456789"))
    number = int("".join(rng.choice(pool) for _ in range(digits)))
    return number if number >= low else number + low


def sample_task(rng: random.Random, *, hard: bool) -> Task:
    """A task; `hard` oversamples carries, borrows, near-equal and short operands.

    Sums and differences of 1 to 4 digits each; products of 1 or 2 digits each, or up to four
    digits by one.
    """
    operation = rng.choices("+-*", weights=(32, 40, 28))[0]
    if operation == "*":
        if rng.random() < 0.15:
            left, right = _number(rng, rng.choice((3, 3, 4))), _number(rng, 1)
            return Task(left, operation, right) if rng.random() < 0.5 else Task(right, "*", left)
        left, right = (_number(rng, rng.choice((1, 2, 2, 2))) for _ in range(2))
        return Task(left, operation, right)
    # People ask about short numbers; the figures should say how the long ones fare.
    lengths = (1, 1, 2, 2, 2, 3, 3, 4, 4) if hard else (1, 2, 3, 3, 4, 4, 4)
    left, right = (_number(rng, rng.choice(lengths)) for _ in range(2))
    if hard:
        kind = rng.randrange(10)
        if kind == 0:  # equal, or nearly: the comparison goes deep, the result has leading zeros
            right = max(0, min(9999, left + rng.choice((-11, -10, -2, -1, 0, 1, 2, 9, 10, 100))))
        elif kind == 1:  # the same leading digits
            right = left // 100 * 100 + rng.randrange(100)
        elif kind == 2 and operation == "+":  # a carry through every column
            left = rng.randrange(10000)
            right = 9999 - left + rng.choice((0, 1, 1, 2))
        elif kind == 2:  # a borrow through every column
            left = rng.choice((10, 100, 1000)) * rng.randrange(1, 10)
            right = rng.randrange(1, 10 ** len(str(left)))
    if rng.random() < 0.5:
        left, right = right, left
    return Task(min(left, 9999), operation, min(right, 9999))


def sample_division(rng: random.Random, *, exact: bool, hard: bool = False) -> Task:
    """A quotient of up to four digits by up to two, without a rest if `exact`.

    What goes wrong in a long division is a digit chosen where what is left lies just above or just
    below a multiple of the divisor: the next digits of the quotient are 0, 1, 8 or 9 then. `hard`
    draws such quotients more often than they come.
    """
    divisor = _number(rng, rng.choice((1, 1, 2, 2, 2))) or rng.randrange(1, 10)
    if hard and rng.random() < _CLOSE_SHARE:
        digits = rng.choice("123456789") + "".join(
            rng.choice("0189") for _ in range(rng.choice((1, 1, 2)))
        )
        rest = 0 if exact else rng.randrange(divisor)
        dividend = divisor * int(digits) + rest
        if dividend < 10_000:
            return Task(dividend, "/", divisor)
    if exact:
        most = min(999, 9999 // divisor)
        quotient = rng.randrange(1, min(most, rng.choice((20, 100, 100, 1000))) + 1)
        return Task(divisor * quotient, "/", divisor)
    return Task(_number(rng, rng.choice((1, 2, 2, 3, 3, 4))), "/", divisor)


def sample_decimals(rng: random.Random) -> tuple[str, str, str]:
    """One operation with at least one decimal, that the columns have room for."""
    while True:
        places = rng.choice((1, 1, 2))
        texts = []
        for _ in range(2):
            digits = rng.choice((1, 2, 2, 3, 3, 4))
            own = rng.choice((places, places, 0, 1))
            number = _number(rng, digits)
            texts.append(f"{number / 10**own:.{own}f}" if own else str(number))
        operation = rng.choices("+-*/", weights=(35, 35, 15, 15))[0]
        if "." not in texts[0] + texts[1]:
            continue
        expression = (texts[0], operation, texts[1])
        try:
            solve(expression)
        except OutOfRange:
            continue
        return expression


def _system(rng: random.Random) -> str:
    return rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.3 else ""


def _words_for_number(rng: random.Random) -> str:
    return " ".join(rng.choice(NUMBER_WORDS.split()) for _ in range(rng.choice((1, 1, 2))))


def _declined(rng: random.Random, *, held_out: bool) -> Example:
    draw = rng.random()
    pad = ""
    if draw < 0.5:
        pool = [q for i, q in enumerate(OTHER_QUESTIONS) if (i % 5 == 0) == held_out]
        question, answer = rng.choice(pool), NOT_ARITHMETIC
        question = question.replace("{n}", str(rng.randrange(1, 2000)))
    elif draw < 0.6:
        answer = IN_WORDS
        operation = rng.choice("+-*/")
        first, second = _words_for_number(rng), _words_for_number(rng)
        question = rng.choice(TRAINING[operation]).format(a=first, b=second)
    elif draw < 0.78:
        answer = UNKNOWN_OPERATION
        left, right = (_number(rng, rng.choice((1, 2, 3, 4))) for _ in range(2))
        question = rng.choice(UNSUPPORTED).format(a=left, b=right)
    elif draw < 0.83:
        answer, left = BY_ZERO, _number(rng, rng.choice((1, 2, 3)))
        question = rng.choice(TRAINING["/"]).format(a=left, b=0)
    elif draw < 0.93:
        answer = OUT_OF_RANGE
        operation = rng.choice("+-**/")
        left = _number(rng, rng.choice((3, 4) if operation == "*" else (5, 5, 6)))
        right = _number(rng, rng.choice((2, 3) if operation == "*" else (1, 2, 3, 4)))
        if rng.random() < 0.5 and operation != "/":
            left, right = right, left
        question = rng.choice(TRAINING[operation]).format(a=left, b=right)
    else:
        question, pad = _too_large_on_the_way(rng)
        answer = OUT_OF_RANGE
    return Example(
        question=dress(rng, question, held_out=held_out),
        answer=answer,
        scratchpad=pad,
        system=_system(rng),
        category="decline",
        new_wording=held_out,
    )


def _too_large_on_the_way(rng: random.Random) -> tuple[str, str]:
    """Several steps of which a later one has no room: worked as far as it goes."""
    while True:
        values = {letter: str(_number(rng, rng.choice((2, 2, 3)))) for letter in "abc"}
        form = rng.choice(("a*b*c", "(a+b)*c", "a*b+c", "(a-b)*c"))
        expression = filled(parse_form(form), values)
        try:
            solve(expression)
        except OutOfRange as stopped:
            if stopped.so_far.count("\n=") > 0:
                return f"what is {write(expression, spaces=True)}", stopped.so_far


def sample(rng: random.Random) -> Example:
    """One training example: never held-out operands, never a held-out wording."""
    kind = rng.choices(tuple(_MIXTURE), weights=tuple(_MIXTURE.values()))[0]
    if kind == "decline":
        return _declined(rng, held_out=False)
    while True:
        question, expression, category = _asked(rng, kind, held_out=False, hard=True)
        if not is_held_out(expression):
            break
    if kind != "words" and rng.random() < 0.25:
        question = ramble(rng, question)
    example = _example(rng, question, expression, category, held_out=False)
    if rng.random() < _CUT[kind]:
        lines = example.scratchpad.splitlines()
        # One operation: the padded line too. Every character is about a token.
        opening = lines[0] if operations(expression) > 1 else "\n".join(lines[:2]) + "\n"
        example = replace(example, reply_limit=2 + len(opening))  # and <|think|> before it
    return example


# What evaluation draws, by share.
_EVALUATED = {"integers": 0.4, "division": 0.25, "decimals": 0.1, "steps": 0.2, "decline": 0.05}


def held_out_example(rng: random.Random) -> Example:
    """One evaluation example: held-out operands, half of them in a held-out wording."""
    kind = rng.choices(tuple(_EVALUATED), weights=tuple(_EVALUATED.values()))[0]
    if kind == "decline":
        return _declined(rng, held_out=True)
    return _held_out(rng, kind, new_wording=rng.random() < 0.5)


def held_out_story(rng: random.Random) -> Example:
    """A word problem with held-out numbers, told in a held-out way."""
    return _held_out(rng, "words", new_wording=True)


def held_out_any(rng: random.Random) -> Example:
    """What the training run watches: calculations and stories."""
    return held_out_story(rng) if rng.random() < 0.3 else held_out_example(rng)


def _held_out(rng: random.Random, kind: str, *, new_wording: bool) -> Example:
    while True:
        question, expression, category = _asked(rng, kind, held_out=new_wording, hard=False)
        if is_held_out(expression):
            return _example(rng, question, expression, category, held_out=new_wording)


def _asked(
    rng: random.Random, kind: str, *, held_out: bool, hard: bool
) -> tuple[str, Expression, str]:
    """A question, its calculation and its category."""
    wordings = HELD_OUT if held_out else TRAINING
    if kind == "words":
        question, expression = story(rng, held_out=held_out)
        return question, expression, "words"
    if kind == "steps":
        if rng.random() < 0.35:
            return (*_told_in_steps(rng, held_out=held_out), "steps")
        expression = sample_expression(rng)
        text = write(expression, spaces=rng.random() < 0.6)
        if rng.random() < 0.15:
            text = text.replace("*", "×").replace("/", "÷")  # noqa: RUF001 - as people type it
        return rng.choice(_frames(held_out)).replace("#", text), expression, "steps"
    if kind == "decimals":
        left, operation, right = sample_decimals(rng)
        expression = (left, operation, right)
        category = "decimals"
    else:
        task = sample_task(rng, hard=hard)
        category = task.category
        if kind == "division":
            exact = rng.random() < (0.7 if hard else 0.8)
            task = sample_division(rng, exact=exact, hard=hard)
            category = "divide" if task.left % task.right == 0 else "rounded"
        expression = task.expression
        left, operation, right = str(task.left), task.operation, str(task.right)
        if hard and kind == "integers" and operation != "*" and rng.random() < 0.06:
            left = f"-{task.left or 1}"
            expression, category = (left, operation, right), "negative"
    return rng.choice(wordings[str(operation)]).format(a=left, b=right), expression, category


def _told_in_steps(rng: random.Random, *, held_out: bool) -> tuple[str, Expression]:
    pattern, form = rng.choice(SEQUENCES_HELD_OUT if held_out else SEQUENCES)
    while True:
        values = {letter: str(_number(rng, rng.choice((1, 1, 2, 2, 3)))) for letter in "abc"}
        expression = filled(_form(form), values)
        try:
            if len(solve(expression).scratchpad) > LONGEST:
                continue
        except OutOfRange:
            continue
        text = fill(rng, pattern).format(**values)
        return rng.choice(_frames(held_out)).replace("#", text), expression


@cache
def _form(text: str) -> Expression:
    return parse_form(text)


@cache
def _frames(held_out: bool) -> tuple[str, ...]:
    """How a calculation is asked for, with # for it."""
    known = {w.replace("{a} + {b}", "#") for w in TRAINING["+"] if "{a} + {b}" in w}
    new = {w.replace("{a} + {b}", "#") for w in HELD_OUT["+"] if "{a} + {b}" in w}
    # Half are bare: most people type nothing but the calculation.
    chosen = sorted(new if held_out else known)
    return (*chosen, *["#"] * len(chosen), *["what is #"] * (len(chosen) // 2))


def _example(
    rng: random.Random, question: str, expression: Expression, category: str, *, held_out: bool
) -> Example:
    return Example(
        question=question if category == "words" else dress(rng, question, held_out=held_out),
        answer=answer_of(expression),
        scratchpad=solve(expression).scratchpad,
        system=_system(rng),
        category=category,
        new_wording=held_out,
    )
