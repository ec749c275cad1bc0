"""What two questions must share to have one answer: numbers, units, operations, negations, names.

A comparison for reuse, so it errs on one side: two questions that may differ do differ, and
the cost is an answer that is worked out again. It reads English; of other languages it still
compares numbers, signs, capitals and words.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

import msgspec

from agents.cooperation.cache_asking import (
    ASKED,
    BASE_FORM,
    Frame,
    asked_one_way,
    frame_of,
    reversed_roles,
)

MAX_CHARS = 4096  # a longer question is never reused: comparing it is no cheaper than answering

_SIGNS = {"+": "+", "-": "-", "\u2212": "-", "*": "*", "\u00d7": "*", "/": "/", "\u00f7": "/",
          "^": "^", "=": "", "<": "<", ">": ">"}  # fmt: skip
# Words for an operation. "of", "and" and "by" say nothing alone.
_OPERATIONS = {
    **dict.fromkeys(("plus", "add", "added", "adding", "sum", "together", "addition"), "+"),
    **dict.fromkeys(("minus", "subtract", "subtracted", "subtracting", "subtraction", "deduct",
                     "difference", "take", "taken", "away"), "-"),
    **dict.fromkeys(("times", "multiply", "multiplied", "multiplying", "product",
                     "multiplication"), "*"),
    **dict.fromkeys(("divide", "divided", "dividing", "quotient", "division"), "/"),
    **dict.fromkeys(("squared", "power", "cubed"), "^"),
}  # fmt: skip
_NEGATIONS = frozenset(
    ["cannot", "except", "neither", "never", "no", "nobody", "none", "nor", "not", "nothing",
     "unless", "without"]
)  # fmt: skip
# Two questions with different ones of these ask for different things.
_OPPOSITES = frozenset(
    ["above", "below", "best", "bottom", "cold", "each", "left", "less", "more", "remain",
     "when", "where", "who", "whom", "whose", "why",
     "coldest", "ended", "ends", "fall", "falling", "fastest",
     "fewer", "fewest", "highest", "hottest", "indoor",
     "indoors", "inside", "largest", "least", "longest", "lowest",
     "min", "minimum", "most", "next", "oldest",
     "outdoor", "outdoors", "outside", "previous", "rise", "rising", "shortest", "slowest",
     "smallest", "start", "started", "starts", "stop", "tomorrow", "top",
     "worst", "yesterday", "youngest"]
)  # fmt: skip
_WORD_NUMBERS = {
    "zero": 0, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
    "ninety": 90, "hundred": 100, "thousand": 1000, "million": 10**6, "half": 0.5, "dozen": 12,
    "twice": 2, "double": 2, "triple": 3,
}  # fmt: skip
# Longer writings first; each becomes one word, so that what is written two ways is one unit.
_UNITS = tuple(
    (re.compile(pattern), unit)
    for pattern, unit in (
        (
            r"micro ?grams?(?: (?:per|a) cubic met(?:er|re))?"
            r"|[u\u00b5\u03bc]g ?/ ?m(?:3|\u00b3|\^3)",
            "ugm3",
        ),
        (r"milli ?grams? (?:per|a) cubic met(?:er|re)|mg ?/ ?m(?:3|\u00b3|\^3)", "mgm3"),
        (r"parts? per million|(?<![a-z])ppm\b", "ppm"),
        (r"parts? per billion|(?<![a-z])ppb\b", "ppb"),
        (r"kilomet(?:er|re)s? (?:per|an) hour|(?<![a-z])(?:km ?/ ?h|kmh|kph)\b", "kmh"),
        (r"miles? (?:per|an) hour|(?<![a-z])(?:mi ?/ ?h|mph)\b", "mph"),
        (r"(?:beats? )?(?:per|a) minute|/ ?min\b|(?<![a-z])bpm\b", "permin"),
        (r"degrees? (?:celsius|c\b)|\u00b0 ?c\b|\bcelsius\b", "degc"),
        (r"degrees? (?:fahrenheit|f\b)|\u00b0 ?f\b|\bfahrenheit\b", "degf"),
        (r"\bper ?cent\b|%", "pct"),
        (r"\bmm ?hg\b", "mmhg"),
        (r"(?<=\d) ?(?:km|kilomet(?:er|re)s?)\b", " km"),
        (r"(?<=\d) ?(?:kg|kilo(?:gram)?s?)\b", " kg"),
        (r"(?<=\d) ?(?:cm|centimet(?:er|re)s?)\b", " cm"),
        (r"(?<=\d) ?(?:mm|millimet(?:er|re)s?)\b", " mm"),
        (r"(?<=\d) ?(?:m|met(?:er|re)s?)\b", " metre"),
        (r"(?<=\d) ?(?:g|grams?)\b", " gram"),
        (r"(?<=\d) ?(?:s|secs?|seconds?)\b", " second"),
        (r"(?<=\d) ?(?:mins?|minutes?)\b", " minute"),
        (r"(?<=\d) ?(?:h|hrs?|hours?)\b", " hour"),
        (r"(?<=\d) ?(?:days?)\b", " day"),
        (r"(?<=\d) ?(?:c)\b", " degc"),
        (r"(?<=\d) ?(?:f)\b", " degf"),
        (r"\$|\bdollars?\b|\busd\b", " usd "),
        (r"\u20ac|\beuros?\b|\beur\b", " eur "),
        (r"\u00a3|\bpounds?\b|\bgbp\b", " gbp "),
    )
)  # fmt: skip
_N = r"(-?\d+(?:\.\d+)?)"
_CURRENCIES = frozenset(["usd", "eur", "gbp"])
_UNIT_WORDS = frozenset(unit.strip() for _, unit in _UNITS)
# What a number is of, where two names of one thing are common; each becomes one word as well.
_QUANTITIES = tuple(
    (re.compile(rf"\b(?:{pattern})(?![a-z\d])"), f" q{name} ")
    for name, pattern in (
        ("pm25", r"pm ?2[._]5|fine (?:dust|particles?|particulates?)"),
        ("pm10", r"pm ?10|coarse (?:dust|particles?)"),
        ("ozone", r"o ?3|ozone"),
        ("nitrogen", r"no ?2|nitrogen dioxide"),
        ("sulphur", r"so ?2|sul(?:ph|f)ur dioxide"),
        ("carbon", r"co|carbon monoxide"),
        ("pulse", r"(?:my |the )?pulse(?: rate)?|hr|heart[ _]?(?:rate|beats?)"),
        ("breath", r"rr|respirat(?:ion|ory)(?:[ _]rate)?|breathing(?: rate)?|breathes|breaths"),
        ("oxygen", r"spo ?2|(?:blood )?(?:oxygen )?saturation|blood oxygen"),
        ("skin", r"skin temp(?:erature)?|temp(?:erature)? of the skin"),
        ("heat", r"(?:body )?temp(?:erature)?"),
        ("pressure", r"blood[ _]pressure|bp"),
        ("limit", r"(?:speed )?limit|allowed|maximum|free flow(?: speed)?"),
        ("volume", r"volume|demand"),
        ("capacity", r"capacity"),
    )
)
# The unit that goes without saying; written or not, it is the same reading.
_USUAL_UNITS = {"qpulse": "permin", "qbreath": "permin", "qoxygen": "pct", "qpressure": "mmhg"}
_REWRITES = tuple(
    (re.compile(pattern), made)
    for pattern, made in (
        (r"[-=]+>|\u2192", " "),
        (
            rf"{_N} (?:is )?(?:subtracted |taken |away |taken away )?from {_N}(?! to\b)",
            r"\2 minus \1",
        ),
        (rf"how many times does {_N} (?:fit|go) into {_N}", r"\2 divided \1"),
        (r"\b(\d+)(?:st|nd|rd|th) (?:part )?of (\d+(?:\.\d+)?)", r"\2 divided \1"),
        (rf"one of {_N} equal parts of {_N}", r"\2 divided \1"),
        (r"\b(multiply|multiplied|add|added) (?:up )?together", r"\1"),
        (rf"{_N} less than {_N}", r"\2 minus \1"),
        (rf"{_N} more than {_N}", r"\1 plus \2"),
        (rf"{_N} less {_N}", r"\1 minus \2"),
        (rf"{_N} over {_N}", r"\1 divided \2"),
        (rf"(?:decreased?|reduced?|lower(?:ed)?) {_N} by {_N}", r"\1 minus \2"),
        (rf"{_N} (?:decreased|reduced|lowered) by {_N}", r"\1 minus \2"),
        (rf"(?:increased?|raised?) {_N} by {_N}", r"\1 plus \2"),
        (rf"{_N} (?:increased|raised) by {_N}", r"\1 plus \2"),
        (rf"(?:sum|total) of {_N} and {_N}", r"\1 plus \2"),
        (rf"difference between {_N} and {_N}", r"\1 minus \2"),
        (rf"{_N} and {_N} (?:together|in total|altogether)", r"\1 plus \2"),
    )
)
_CONTRACTION = re.compile(r"(?<=\w)n['\u2019]t\b")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_TOKEN = re.compile(
    r"(?<![\w.)])-\d+(?:\.\d+)?(?![\w])"  # a signed number
    r"|\d+(?:\.\d+)?(?![a-z_\d])|\.\d+"  # a number
    r"|[^\W_][\w.]*[\w]|[^\W_]"  # a word, also one with digits: pm2.5, o3
    r"|[-+*/^=<>\u00d7\u00f7\u2212]"
)
_ENTITY = re.compile(r"(?<![.!?:\"'(] )(?<!^)\b[A-Z][\w-]*")


_QUANTITY_WORDS = frozenset(made.strip() for _, made in _QUANTITIES)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What reuse compares; made by :func:`facts_of`.

    ``figures``: numbers with their units, what they are of, and operations, as :func:`_settled`
    orders them. ``names`` are words with a capital inside a sentence, lower-cased. ``words``
    are all other words, in their order; ``frame``: what may turn them round.
    """

    figures: tuple[str, ...] = ()
    numbers: int = 0
    negations: int = 0
    opposites: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    frame: Frame = Frame()
    whole: bool = True  # false: the text was too long to compare

    def key(self) -> str:
        """Equal for all questions that could share an answer, as far as figures go."""
        return f"{' '.join(self.figures)}|{self.negations % 2}"


def facts_of(text: str) -> Facts:
    """The facts of a question, of which only the first ``MAX_CHARS`` characters are read."""
    whole = len(text) <= MAX_CHARS
    text = text[:MAX_CHARS]
    shouted = text.upper() == text  # capitals then say nothing
    names = set() if shouted else {name.lower() for name in _ENTITY.findall(text)} - {"i"}
    tokens = _TOKEN.findall(_written_one_way(text))
    figures: list[_Figure] = []
    opposites: set[str] = set()
    words: list[str] = []
    calculating: list[tuple[int, str]] = []
    negations, currency = 0, ""
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else ""
        after = tokens[place + 1] if place + 1 < len(tokens) else ""
        value = _number(token)
        if value:
            if value.startswith("-") and (_number(before) or before in _UNIT_WORDS):
                figures.append(_Figure("operation", "-"))  # "431 -54"
                value = value[1:]
            figures.append(_Figure("number", value, currency))
            currency = ""
        elif token in _UNIT_WORDS:
            if token in _CURRENCIES and not _number(before):
                currency = token
            elif figures and figures[-1].kind == "number":
                figures[-1].unit = token
        elif token in _QUANTITY_WORDS:
            figures.append(_Figure("quantity", token))
        elif token in _SIGNS:
            ended = _number(before) or before in _UNIT_WORDS
            if ended and _number(after) and _SIGNS[token]:
                figures.append(_Figure("operation", _SIGNS[token]))
        elif token in _OPERATIONS:
            figures.append(_Figure("operation", _OPERATIONS[token]))
            calculating.append((len(words), token))
        elif token in _NEGATIONS:
            negations += 1
        else:
            if token in _OPPOSITES or token.startswith(ASKED):
                opposites.add(token)
            words.append("found" if _is_found(token, before) else _stem(token))
    numbers = sum(figure.kind == "number" for figure in figures)
    if numbers:  # they say what is asked for: "how many is 3 and 4"
        opposites = {word for word in opposites if not word.startswith(ASKED)}
    else:  # nothing is calculated: "taken out of the mesh"
        for place, token in reversed(calculating):
            words.insert(place, _stem(token))
    return Facts(
        figures=_settled(figures, numbers),
        numbers=numbers,
        negations=negations,
        opposites=tuple(sorted(opposites)),
        names=tuple(sorted(names)),
        words=tuple(words),
        frame=frame_of(text.lower()),
        whole=whole,
    )


def difference(first: Facts, second: Facts) -> str:
    """What keeps two questions from having one answer, as the end of a sentence; empty: nothing."""
    if not (first.whole and second.whole):
        return "it is too long to compare"
    if first.figures != second.figures:
        return "its figures differ"
    if first.negations % 2 != second.negations % 2:
        return "one of the two says not"
    if first.opposites != second.opposites:
        odd = sorted(set(first.opposites) ^ set(second.opposites))
        return f"only one of the two says {odd[0]}"
    strange = _unnamed(first, second) or _unnamed(second, first)
    if strange:
        return f"only one of the two names {strange}"
    if not first.numbers and reversed_roles(
        _subjects(first), _subjects(second), (first.frame, second.frame)
    ):
        return "the same words stand in another order"
    return _substituted(first.words, second.words) or _each_its_own(first, second)


def _each_its_own(first: Facts, second: Facts) -> str:
    """Without figures to hold them together, two questions that each speak of something that the
    other does not are two questions: "when a node leaves", "when a node is full"."""
    if first.numbers:
        return ""
    if first.frame.closed != second.frame.closed:
        return "only one of the two is answered by yes or no"
    one, other = about(first) - about(second), about(second) - about(first)
    return f"one says {min(one)}, the other {min(other)}" if one and other else ""


def _unnamed(first: Facts, second: Facts) -> str:
    """A name of the first that the second does not hold in any writing."""
    held = {_stem(word) for word in (*second.names, *second.words)} | set(second.names)
    figures = " ".join(second.figures)
    for name in first.names:
        plain = _written_one_way(name)
        known = all(
            _stem(part) in held or part in figures or _number(part) or part in _PLAIN
            for part in _TOKEN.findall(plain)
        )
        if not known:
            return name
    return ""


def _written_one_way(text: str) -> str:
    """Lower case; units, quantities and spoken sums each in one writing."""
    plain = asked_one_way(_THOUSANDS.sub("", _CONTRACTION.sub(" not", text.lower())))
    for pattern, made in (*_QUANTITIES, *((p, f" {unit} ") for p, unit in _UNITS)):
        plain = pattern.sub(made, plain)
    plain = " ".join(plain.split())
    for pattern, made in _REWRITES:
        plain = pattern.sub(made, plain)
    return plain


class _Figure:
    def __init__(self, kind: str, text: str, unit: str = "") -> None:
        self.kind, self.text, self.unit = kind, text, unit

    def __str__(self) -> str:
        return self.text + (f"_{self.unit}" if self.unit else "")


def _substituted(first: tuple[str, ...], second: tuple[str, ...]) -> str:
    """The same frame with another word in it asks for another thing: "capital of France"."""
    if len(first) != len(second):
        return ""
    odd = [(a, b) for a, b in zip(first, second, strict=True) if a != b]
    if not odd or len(odd) > max(1, len(first) // 3) or len(first) < 2:
        return ""
    if all(a in _ASKING and b in _ASKING for a, b in odd):
        return ""
    return f"one says {odd[0][0]}, the other {odd[0][1]}"


def _settled(figures: list[_Figure], numbers: int) -> tuple[str, ...]:
    """Figures in an order that the wording does not change.

    A quantity takes the figures behind it along, and these groups are sorted: "pulse 52, SpO2
    91" is "SpO2 91, pulse 52". What stands before the first quantity keeps its order. Of two
    numbers with one operation the operation comes first: "add 12 and 30" is "12 + 30".
    """
    signs = {figure.text for figure in figures if figure.kind == "operation"}
    if not numbers:
        return tuple(sorted({str(f) for f in figures if f.kind == "quantity"}))
    if numbers == 2 and len(signs) == 1:
        figures = [f for f in figures if f.kind != "operation"]
        figures.insert(0, _Figure("operation", signs.pop()))
    groups: list[list[str]] = [[]]
    usual = ""
    for figure in figures:
        if figure.kind == "quantity":
            groups.append([])
            usual = _USUAL_UNITS.get(figure.text, "")
        elif figure.unit == usual:
            figure.unit = ""
        groups[-1].append(str(figure))
    first, *others = groups
    return (*first, *(text for group in sorted(others) for text in group))


def _number(token: str) -> str:
    if not token:
        return ""
    if token in _WORD_NUMBERS:
        return _plain(str(_WORD_NUMBERS[token]))
    if token[0].isdigit() or (len(token) > 1 and token[0] in "-." and token[1].isdigit()):
        return _plain(token)
    return ""


def _plain(text: str) -> str:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return ""
    return format(number.normalize(), "f") if number else "0"


def _is_found(word: str, before: str) -> bool:
    """ "Where do I find it" only asks where it is; "how do bees find flowers" is of finding."""
    return word == "find" and before not in {"i", "one", "to", "we", "you"}


def _stem(word: str) -> str:
    """Crude on purpose: "nodes" is "node", "finding" is "find", "found" as well."""
    word = BASE_FORM.get(word, word)
    for ending in ("ence", "ance", "ing", "ies", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word[:-1] if word.endswith("e") and len(word) > 4 else word  # "change" is "chang"


# Words that only ask; any of them may stand for another.
_ASKING_WORDS = """
a an answer are ask be calculate can check compute could describe do does evaluate explain find
for get give how i is it know let like look make me much need now of out please rate require
result say show solve state tell that thanks the this to value want what whats which will work
would you
"""
_ASKING = frozenset(map(_stem, _ASKING_WORDS.split()))
_LITTLE_WORDS = """
about also am and as at because become been between but by did from had has have he here her him
his if in into its just may might more most must my no nor not on one only or our over own shall
she should so some such than their them then there these they those through too under until up us
very was we were when where while who whom whose why with your
"""
_LITTLE = frozenset(map(_stem, _LITTLE_WORDS.split()))
_PLAIN = frozenset(["the", "a", "an", "my", "is", "of", "what", "how", "and", "or"])
# Without a figure, what these ask for is another thing tomorrow.
_VOLATILE = frozenset(["now", "today", "tonight", "currently", "latest", "yesterday", "tomorrow"])


def volatile(facts: Facts) -> bool:
    """Whether the answer depends on when it is asked; figures make a question self-contained."""
    return not facts.numbers and any(word in _VOLATILE for word in facts.words)


def content_of(text: str) -> frozenset[str]:
    """What a text is about: its words without those that only ask, and its quantities."""
    found = _TOKEN.findall(_written_one_way(text))
    return frozenset(
        _stem(token)
        for token in found
        if len(token) > 1 and not _number(token) and _stem(token) not in _ASKING | _LITTLE
    )


def figures_of(text: str) -> frozenset[str]:
    """The numbers of a text, each in one writing, without their units."""
    found = _TOKEN.findall(_written_one_way(text))
    return frozenset(value for token in found if (value := _number(token)))


def about(facts: Facts) -> frozenset[str]:
    """What a question is about: its words and names without those that only ask."""
    return frozenset((*_subjects(facts), *map(_stem, facts.names))) - _ASKING - _LITTLE


def _subjects(facts: Facts) -> tuple[str, ...]:
    """The words that a question is about, in their order."""
    return tuple(word for word in facts.words if len(word) > 1 and word not in _ASKING | _LITTLE)
