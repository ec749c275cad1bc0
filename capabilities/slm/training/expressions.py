"""Calculations of several steps: written, and worked one operation at a time.

An expression is a number as written (`"12.50"`) or `(left, operation, right)`. The scratchpad of
several steps states the whole, works the leftmost operation that is ready, restates, and so on:

    (3+4)*5             as asked
    3+4                 what comes first, with its working (see working.py)
    0003+0004 ... r00007
    =7*5                what is left
    7*5 ...
    =35
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from capabilities.slm.training.working import OutOfRange, as_text, number_of, work

Expression = str | tuple["Expression", str, "Expression"]

_TIGHT = "*/"


@dataclass(frozen=True)
class Solved:
    """The whole scratchpad, and the value as text."""

    scratchpad: str
    value: str
    rounded: bool


def write(expression: Expression, *, spaces: bool = False) -> str:
    """The expression with no more brackets than it needs."""
    gap = " " if spaces else ""

    def part(inner: Expression, outer: str, *, right: bool) -> str:
        if isinstance(inner, str):
            return f"({inner})" if right and inner.startswith("-") else inner
        text = write(inner, spaces=spaces)
        looser = inner[1] not in _TIGHT and outer in _TIGHT
        # a-(b+c), a/(b*c) and a-(b-c) mean something else without their brackets.
        same = right and (outer in "-/") and (inner[1] in _TIGHT) == (outer in _TIGHT)
        regroups = right and outer == "*" and inner[1] == "/"
        return f"({text})" if looser or same or regroups else text

    if isinstance(expression, str):
        return expression
    left, operation, right = expression
    first, second = part(left, operation, right=False), part(right, operation, right=True)
    return f"{first}{gap}{operation}{gap}{second}"


def numbers(expression: Expression) -> list[str]:
    """The numbers of `expression` as written, from left to right."""
    if isinstance(expression, str):
        return [expression]
    return numbers(expression[0]) + numbers(expression[2])


def operations(expression: Expression) -> int:
    if isinstance(expression, str):
        return 0
    return 1 + operations(expression[0]) + operations(expression[2])


def exact_value(expression: Expression) -> Fraction:
    """The value without rounding; raises ZeroDivisionError."""
    if isinstance(expression, str):
        return number_of(expression)
    left, operation, right = expression
    first, second = exact_value(left), exact_value(right)
    if operation == "+":
        return first + second
    if operation == "-":
        return first - second
    return first * second if operation == "*" else first / second


@lru_cache(maxsize=4096)  # a draw is solved to see that it fits, then for pad and answer
def solve(expression: Expression) -> Solved:
    """Work `expression` step by step; raises OutOfRange. Only a last quotient may be rounded."""
    if isinstance(expression, str):
        raise OutOfRange("nothing to calculate")
    text = f"{write(expression)}\n"
    rest: Expression = expression
    several = operations(expression) > 1
    while not isinstance(rest, str):
        (left, operation, right), rest = _next(rest)
        try:
            worked = work(left, operation, right)
        except OutOfRange as stopped:
            stopped.so_far = text
            raise
        if worked.rounded and rest:
            raise OutOfRange("a rounded result on the way")
        value = as_text(worked.value)
        rest = _put(rest, value)
        if several:
            text += f"{_step(left, operation, right)}\n{worked.text}\n={write(rest)}"
            text += "" if isinstance(rest, str) else "\n"
        else:
            text += worked.text
    return Solved(text, rest, worked.rounded)


LONGEST = 400  # characters of a scratchpad, about as many tokens: above it, none is asked for
_HERE = "?"  # where the result of the step goes


def _step(left: str, operation: str, right: str) -> str:
    return write((left, operation, right))


def _next(
    expression: tuple[Expression, str, Expression],
) -> tuple[tuple[str, str, str], Expression]:
    """The leftmost operation on two numbers, and the expression with a hole in its place.

    The hole is empty text when nothing else is left.
    """
    left, operation, right = expression
    if isinstance(left, str) and isinstance(right, str):
        return (left, operation, right), ""
    if not isinstance(left, str):
        step, rest = _next(left)
        return step, (rest or _HERE, operation, right)
    assert not isinstance(right, str)
    step, rest = _next(right)
    return step, (left, operation, rest or _HERE)


def _put(expression: Expression, value: str) -> Expression:
    if isinstance(expression, str):
        return value if expression in ("", _HERE) else expression
    return _put(expression[0], value), expression[1], _put(expression[2], value)


# The forms of several steps, by operations; drawn with the letters as numbers.
_FORMS: tuple[Expression, ...] = (
    (("a", "+", "b"), "+", "c"),
    (("a", "+", "b"), "-", "c"),
    (("a", "-", "b"), "-", "c"),
    (("a", "-", "b"), "+", "c"),
    ("a", "-", ("b", "-", "c")),
    ("a", "-", ("b", "+", "c")),
    (("a", "*", "b"), "+", "c"),
    ("a", "+", ("b", "*", "c")),
    (("a", "*", "b"), "-", "c"),
    ("a", "-", ("b", "*", "c")),
    (("a", "+", "b"), "*", "c"),
    ("a", "*", ("b", "+", "c")),
    (("a", "-", "b"), "*", "c"),
    ("a", "*", ("b", "-", "c")),
    (("a", "*", "b"), "*", "c"),
    (("a", "+", "b"), "/", "c"),
    (("a", "-", "b"), "/", "c"),
    ("a", "/", ("b", "+", "c")),
    ("a", "/", ("b", "-", "c")),
    (("a", "/", "b"), "+", "c"),
    (("a", "/", "b"), "-", "c"),
    (("a", "/", "b"), "*", "c"),
    (("a", "*", "b"), "/", "c"),
    ("a", "+", ("b", "/", "c")),
    ("a", "-", ("b", "/", "c")),
    ((("a", "+", "b"), "+", "c"), "+", "d"),
    ((("a", "+", "b"), "-", "c"), "+", "d"),
    (("a", "+", "b"), "*", ("c", "-", "d")),
    (("a", "+", "b"), "*", ("c", "+", "d")),
    (("a", "*", "b"), "+", ("c", "*", "d")),
    (("a", "*", "b"), "-", ("c", "*", "d")),
    ((("a", "+", "b"), "*", "c"), "-", "d"),
    ((("a", "*", "b"), "+", "c"), "-", "d"),
    (("a", "-", "b"), "/", ("c", "-", "d")),
)


def filled(form: Expression, values: dict[str, str]) -> Expression:
    """`form` with `values` for its letters."""
    if isinstance(form, str):
        return values.get(form, form)  # a number of the form itself stays
    return filled(form[0], values), form[1], filled(form[2], values)


def sample_expression(rng: random.Random) -> Expression:
    """Two or three operations on numbers of mostly one or two digits that can be worked."""
    form = rng.choice(_FORMS)
    letters = sorted(set(numbers(form)))
    while True:
        values = {}
        for letter in letters:
            digits = rng.choices((1, 2, 3), weights=(5, 4, 1))[0]
            values[letter] = str(
                rng.randrange(1 if digits == 1 else 10 ** (digits - 1), 10**digits)
            )
        expression = filled(form, values)
        try:
            if exact_value(expression) < 0 and rng.random() < 0.8:
                continue
            if len(solve(expression).scratchpad) <= LONGEST:
                return expression
        except (OutOfRange, ZeroDivisionError):
            continue
