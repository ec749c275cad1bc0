"""Questions of arithmetic, and the scratchpad by which a tiny model answers them itself.

Every step of the scratchpad is a lookup at a fixed distance: the task is copied as it was asked,
padded to a fixed width, then worked column by column, lowest digit first, with the carry written
out. Nothing is ever held in mind. `1234 + 567`:

    1234+567            the task, as asked
    1234+0567           padded to four digits each
    a4+7+0=11           column a: digit, digit, carry in = carry out, digit
    b3+6+1=10           ... (all columns stand on one line)
    r01801              last carry and the digits, highest first; the answer drops its zeros

A difference first compares the digits from the top until they differ and puts the larger number
first (`k` keeps, `s` swaps, and the answer is negative). A product of two by two digits writes its
digit products (e to h), then adds the two rows as above.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace

from capabilities.slm.training.chat import Example
from capabilities.slm.training.wordings import (
    DECLINED_OPERATIONS,
    HELD_OUT,
    NUMBER_WORDS,
    OTHER_QUESTIONS,
    SYSTEM_PROMPTS,
    TRAINING,
    dress,
    ramble,
)

HELD_OUT_SHARE = 10  # one pair of operands in ten is never trained on
DECLINED_SHARE = 0.14
CUT_SHARE = 0.6
NOT_ARITHMETIC = "I only do arithmetic."
OUT_OF_RANGE = (
    "I only add or subtract two numbers of up to four digits, or multiply two of up to two digits."
)
IN_WORDS = "I only read numbers that are written in digits."
CATEGORIES = (
    "add",
    "subtract",
    "negative",
    "multiply",
    "decline",
)


@dataclass(frozen=True)
class Task:
    """`left operation right`, the operation one of + - *."""

    left: int
    operation: str
    right: int

    @property
    def value(self) -> int:
        if self.operation == "+":
            return self.left + self.right
        if self.operation == "-":
            return self.left - self.right
        return self.left * self.right

    @property
    def category(self) -> str:
        if self.operation == "-":
            return "negative" if self.value < 0 else "subtract"
        return "add" if self.operation == "+" else "multiply"

    @property
    def answer(self) -> str:
        return f"{self.left} {self.operation} {self.right} = {self.value}"

    @property
    def held_out(self) -> bool:
        """Whether this pair of operands, in either order, is kept for evaluation."""
        low, high = sorted((self.left, self.right))
        digest = hashlib.blake2b(f"{low},{high}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0


def scratchpad(task: Task) -> str:
    """The working of `task`, as the model is to write it between the think tags."""
    asked = f"{task.left}{task.operation}{task.right}\n"
    if task.operation == "*":
        return asked + _product(task.left, task.right)
    padded = f"{task.left:04}{task.operation}{task.right:04}\n"
    if task.operation == "+":
        return asked + padded + _sum_columns(task.left, task.right)
    return asked + padded + _difference(task.left, task.right)


def _sum_columns(left: int, right: int) -> str:
    text, carry, digits = "", 0, ""
    for label, x, y in zip("abcd", f"{left:04}"[::-1], f"{right:04}"[::-1], strict=True):
        total = int(x) + int(y) + carry
        text += f"{label}{x}+{y}+{carry}={total:02}"
        carry, digit = divmod(total, 10)
        digits = f"{digit}{digits}"
    return f"{text}r{carry}{digits}"


def _difference(left: int, right: int) -> str:
    text = ""
    for x, y in zip(f"{left:04}", f"{right:04}", strict=True):
        text += f"{x}{'=' if x == y else '<' if x < y else '>'}{y}"
        if x != y:
            break
    larger, smaller = max(left, right), min(left, right)
    text += f"{'s' if left < right else 'k'}{larger:04}-{smaller:04}\n"
    borrow, digits = 0, ""
    for label, x, y in zip("abcd", f"{larger:04}"[::-1], f"{smaller:04}"[::-1], strict=True):
        value = int(x) - int(y) - borrow
        next_borrow, digit = int(value < 0), value % 10
        text += f"{label}{x}-{y}-{borrow}={next_borrow}{digit}"
        borrow, digits = next_borrow, f"{digit}{digits}"
    return f"{text}r{borrow}{digits}"


def _product(left: int, right: int) -> str:
    text, rows = f"{left:02}*{right:02}\n", []
    tens, ones = divmod(left, 10)
    steps = zip((("e", "f"), ("g", "h")), reversed(divmod(right, 10)), strict=True)
    for (low, high), factor in steps:
        first = ones * factor
        second = tens * factor
        total = second + first // 10
        text += f"{low}{ones}*{factor}={first:02}"
        text += f"{high}{tens}*{factor}={second:02}+{first // 10}={total:02}"
        rows.append(total * 10 + first % 10)
    upper = rows[1] * 10
    return f"{text}\n{rows[0]:04}+{upper:04}\n{_sum_columns(rows[0], upper)}"


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

    Sums and differences of 1 to 4 digits each, products of 1 or 2 digits each.
    """
    operation = rng.choices("+-*", weights=(32, 40, 28))[0]
    if operation == "*":
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


def _system(rng: random.Random) -> str:
    return rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.3 else ""


def _words_for_number(rng: random.Random) -> str:
    return " ".join(rng.choice(NUMBER_WORDS.split()) for _ in range(rng.choice((1, 1, 2))))


def _declined(rng: random.Random, *, held_out: bool) -> Example:
    if rng.random() < 0.5:
        pool = [q for i, q in enumerate(OTHER_QUESTIONS) if (i % 5 == 0) == held_out]
        question, answer = rng.choice(pool), NOT_ARITHMETIC
        if "{n}" in question:
            question = question.replace("{n}", str(rng.randrange(1, 2000)))
    elif rng.random() < 0.25:
        answer = IN_WORDS
        operation = rng.choice("+-*")
        first, second = _words_for_number(rng), _words_for_number(rng)
        if rng.random() < 0.2:
            first = str(_number(rng, rng.choice((1, 2))))
        question = rng.choice(TRAINING[operation]).format(a=first, b=second)
    else:
        answer = OUT_OF_RANGE
        left, right = (_number(rng, rng.choice((1, 2, 3, 4))) for _ in range(2))
        kind = rng.randrange(3)
        if kind == 0:
            question = rng.choice(DECLINED_OPERATIONS).format(a=left, b=right)
        else:
            operation = "*" if kind == 1 else rng.choice("+-")
            left = _number(rng, rng.choice((3, 4) if kind == 1 else (5, 5, 6)))
            if rng.random() < 0.5:
                left, right = right, left
            question = rng.choice(TRAINING[operation]).format(a=left, b=right)
    return Example(
        question=dress(rng, question, held_out=held_out),
        answer=answer,
        system=_system(rng),
        category="decline",
        new_wording=held_out,
    )


def sample(rng: random.Random) -> Example:
    """One training example: never a held-out pair, never a held-out wording."""
    if rng.random() < DECLINED_SHARE:
        return _declined(rng, held_out=False)
    while True:
        task = sample_task(rng, hard=True)
        if not task.held_out:
            break
    wording = rng.choice(TRAINING[task.operation]).format(a=task.left, b=task.right)
    if rng.random() < 0.25:
        wording = ramble(rng, wording)
    example = _example(rng, task, wording, held_out=False)
    if rng.random() < CUT_SHARE:
        # Reading the task out of a sentence is learned last: practise it without the columns,
        # which make up two thirds of a reply and are learned first.
        opening = example.scratchpad[
            : example.scratchpad.index("a" if task.operation != "*" else "e")
        ]
        example = replace(example, reply_limit=1 + len(opening))  # a token each, after <|think|>
    return example


def held_out_example(rng: random.Random) -> Example:
    """One evaluation example: a held-out pair, half of them in a held-out wording."""
    if rng.random() < 0.04:
        return _declined(rng, held_out=True)
    while True:
        task = sample_task(rng, hard=False)
        if task.held_out:
            break
    new_wording = rng.random() < 0.5
    wordings = (HELD_OUT if new_wording else TRAINING)[task.operation]
    wording = rng.choice(wordings).format(a=task.left, b=task.right)
    return _example(rng, task, wording, held_out=new_wording)


def _example(rng: random.Random, task: Task, wording: str, *, held_out: bool) -> Example:
    return Example(
        question=dress(rng, wording, held_out=held_out),
        answer=task.answer,
        scratchpad=scratchpad(task),
        system=_system(rng),
        category=task.category,
        new_wording=held_out,
    )
