"""The working of one operation: a scratchpad in which every step is a lookup at a fixed distance.

The task is copied as it was asked, padded to a fixed width, then worked column by column, lowest
digit first, with the carry written out. Nothing is ever held in mind. `1234 + 567`:

    1234+567            the task, as asked
    1234+0567           padded to four digits each
    a4+7+0=11           column a: digit, digit, carry in = carry out, digit
    b3+6+1=10           ... (all columns stand on one line)
    r01801              last carry and the digits, highest first; the answer drops its zeros

A difference first compares the digits from the top until they differ and puts the larger number
first (`k` keeps, `s` swaps, and the answer is negative). A product of two by two digits writes its
digit products (e to h), then adds the two rows as above; one of four digits by one goes along the
columns. Decimals lose their point first (`p2`: the result has two decimals). A sign is settled
before anything else (`v3-5`: as it is; `m5+3`: the result turns negative).

A quotient of up to four digits by up to two first writes the nine multiples of the divisor, then
takes the labelled digits of the dividend one by one: `1296 / 48`,

    w1x2y9z6/48         the digits, each with its label
    1:0482:096...       the multiples
    w001q0x012q0        remainder and next digit, the quotient's digit
    y129q2096           ... with its multiple, subtracted in columns:
    a9-6-0=03b2-9-0=13c1-0-1=00
    z336q7336...r0027   the quotient

A remainder goes on with zeros (u, v, t) to the third decimal, and `h` rounds to the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

SHOWN_DECIMALS = 2  # what a quotient is rounded to, and the most that an operand may have
_MOST_DIGITS = 4
_MOST = 10**_MOST_DIGITS - 1
_DIGIT_LABELS = "wxyz"
_ZERO_LABELS = "uvt"


class OutOfRange(ValueError):
    """An operation that the columns have no room for; a division by zero is one too.

    `so_far` is the scratchpad of several steps up to the one that has no room.
    """

    so_far = ""


@dataclass(frozen=True)
class Worked:
    """`text` starts after the asked line and ends without a line break."""

    text: str
    value: Fraction
    rounded: bool = False


def as_text(value: Fraction) -> str:
    """`value` in digits, without trailing zeros; raises OutOfRange beyond four decimals."""
    scaled = value * 10_000
    if scaled.denominator != 1:
        raise OutOfRange(f"{value} has no short decimal form")
    whole, part = divmod(abs(scaled.numerator), 10_000)
    decimals = f"{part:04}".rstrip("0")
    return f"{'-' if value < 0 else ''}{whole}{'.' if decimals else ''}{decimals}"


@lru_cache(maxsize=65_536)  # reading a fraction out of text is most of the work of a draw
def number_of(text: str) -> Fraction:
    """A number as written."""
    return Fraction(text)


def decimals_of(text: str) -> int:
    """How many digits stand behind the point of a number as written."""
    return len(text.partition(".")[2])


def work(left: str, operation: str, right: str) -> Worked:
    """The working of `left operation right`, operands as written; raises OutOfRange."""
    first, second = number_of(left), number_of(right)
    if max(decimals_of(left), decimals_of(right)) > SHOWN_DECIMALS:
        raise OutOfRange("too many decimals")
    if first >= 0 and second >= 0:
        return _unsigned(left, operation, right)
    bare_left, bare_right = left.lstrip("-"), right.lstrip("-")
    mark, operation, swapped = _settle_signs(first < 0, operation, second < 0)
    if swapped:
        bare_left, bare_right = bare_right, bare_left
    inner = _unsigned(bare_left, operation, bare_right)
    text = f"{mark}{bare_left}{operation}{bare_right}\n{inner.text}"
    return Worked(text, -inner.value if mark == "m" else inner.value, inner.rounded)


def _settle_signs(left: bool, operation: str, right: bool) -> tuple[str, str, bool]:
    """For operands of which `left`, `right` are negative: mark, operation, whether they swap."""
    if operation in "*/":
        return ("v" if left == right else "m"), operation, False
    if operation == "+":
        if left and right:
            return "m", "+", False
        return "v", "-", left
    if left and right:
        return "v", "-", True
    return ("m" if left else "v"), "+", False


def _unsigned(left: str, operation: str, right: str) -> Worked:
    places = decimals_of(left), decimals_of(right)
    if operation == "/":
        return _quotient(left, right)
    if operation == "*":
        return _product(left, right, sum(places))
    common = max(places)
    first, second = (int(number_of(text) * 10**common) for text in (left, right))
    _check(first, second)
    mark = f"p{common} " if common else ""
    if operation == "+":
        text = f"{mark}{first:04}+{second:04}\n{_sum_columns(first, second)}"
        return Worked(text, Fraction(first + second, 10**common))
    text = f"{mark}{first:04}-{second:04}\n{_difference(first, second)}"
    return Worked(text, Fraction(first - second, 10**common))


def _check(*numbers: int) -> None:
    if max(numbers) > _MOST:
        raise OutOfRange(f"{max(numbers)} has more than {_MOST_DIGITS} digits")


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
    columns, borrow, digits = _difference_columns(f"{larger:04}", f"{smaller:04}")
    text += f"{'s' if left < right else 'k'}{larger:04}-{smaller:04}\n"
    return f"{text}{columns}r{borrow}{digits}"


def _difference_columns(larger: str, smaller: str) -> tuple[str, int, str]:
    """The columns, the last borrow and the digits, of two numbers of equal width."""
    text, borrow, digits = "", 0, ""
    for label, x, y in zip("abcd", larger[::-1], smaller[::-1], strict=False):
        value = int(x) - int(y) - borrow
        next_borrow, digit = int(value < 0), value % 10
        text += f"{label}{x}-{y}-{borrow}={next_borrow}{digit}"
        borrow, digits = next_borrow, f"{digit}{digits}"
    return text, borrow, digits


def _product(left: str, right: str, places: int) -> Worked:
    if places > SHOWN_DECIMALS:
        raise OutOfRange("the product has too many decimals")
    first, second = (int(text.replace(".", "")) for text in (left, right))
    mark = f"p{places} " if places else ""
    value = Fraction(first * second, 10**places)
    if max(first, second) <= 99:
        return Worked(mark + _two_by_two(first, second), value)
    longer, factor = max(first, second), min(first, second)
    _check(longer)
    if factor > 9:
        raise OutOfRange("neither two by two digits nor a factor of one digit")
    text, carry, digits = f"{mark}{longer:04}*{factor}\n", 0, ""
    for label, digit in zip("efgh", f"{longer:04}"[::-1], strict=True):
        total = int(digit) * factor + carry
        text += f"{label}{digit}*{factor}+{carry}={total:02}"
        carry, low = divmod(total, 10)
        digits = f"{low}{digits}"
    return Worked(f"{text}r{carry}{digits}", value)


def _two_by_two(left: int, right: int) -> str:
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


def _quotient(left: str, right: str) -> Worked:
    """Long division. Operands are scaled until the divisor is whole."""
    if number_of(right) == 0:
        raise OutOfRange("a division by zero")
    shift = decimals_of(right)
    divisor = int(number_of(right) * 10**shift)
    places = max(0, decimals_of(left) - shift)
    dividend = int(number_of(left) * 10 ** (shift + places))
    _check(dividend)
    if divisor > 99:
        raise OutOfRange("the divisor has more than two digits")
    mark = f"p{places} " if places else ""
    labelled = "".join(a + b for a, b in zip(_DIGIT_LABELS, f"{dividend:04}", strict=True))
    text = f"{mark}{labelled}/{divisor:02}\n"
    text += "".join(f"{k}:{k * divisor:03}" for k in range(1, 10)) + "\n"
    remainder, digits = 0, ""
    incoming = [*zip(_DIGIT_LABELS, f"{dividend:04}", strict=True)]
    more = [(label, "0") for label in _ZERO_LABELS[: SHOWN_DECIMALS + 1 - places]]
    while incoming or (remainder and more):
        label, digit = (incoming or more).pop(0)
        current = remainder * 10 + int(digit)
        count, remainder = divmod(current, divisor)
        text += f"{label}{current:03}q{count}"
        digits += str(count)
        if count:
            taken = f"{count * divisor:03}"
            text += taken + _difference_columns(f"{current:03}", taken)[0]
    text += f"r{digits}"
    decimals = places + len(digits) - _MOST_DIGITS
    if decimals <= SHOWN_DECIMALS:
        return Worked(text, Fraction(int(digits), 10**decimals), rounded=bool(remainder))
    up = int(digits[-1]) >= 5  # half goes up, as people round
    whole = int(digits[:-1]) + up
    value = Fraction(whole, 10**SHOWN_DECIMALS)
    rounded = bool(remainder) or digits[-1] != "0"
    return Worked(f"{text}h{whole:0{len(digits) - 1}}", value, rounded=rounded)
