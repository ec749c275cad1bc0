"""Long answers by outline: how long, how many points, what is asked, what is believed, what must
not leave; pure.

After PICE (the strong model writes a sketch, small ones expand its points side by side) and
CoGenesis (the strong model sees a public instruction and never the private context).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from agents.redaction.rules import Find
from capabilities.messages import Generate, Message
from mesh.core.errors import GossamerError

LEAST_TOKENS = 192  # an answer that is likely shorter is written at once: an outline costs a call
MOST_LENGTH = 4096  # tokens: beyond it eight points are no paragraphs any more
POINT_TOKENS = 96  # of text for one point: a small model keeps to its theme for a paragraph
FEWEST_POINTS, MOST_POINTS = 2, 8
SKETCH_SHARE = 0.2  # of the expected length that the outline may have, PICE's bound
BUSY_SHARE = 0.5  # of that is left when the strong node is full
TOKEN_CHARS = 4  # of English text, as vocabularies of 32 thousand and more cut it
TITLE_CHARS = 60
LEAST_SKETCH_CHARS = 24  # below it a sketch says nothing that its title does not
OUTLINE_ROOM = 3  # JSON around a sketch: quotation marks, field names, brackets
MAX_PRIVATE_CHARS = 32 * 1024  # a local model's context is seldom longer
MAX_INSTRUCTION_CHARS = 8 * 1024

OUTLINE = (
    "Write an outline of an answer, not the answer. Answer in JSON: points, each with a title and "
    "a sketch of one short sentence."
)
EXPAND = "Write one paragraph of a longer text. Write only that paragraph."
PRIVATE = "Use the private context where it helps. It stays on this machine."
FIXED_TITLES = ("What it is about", "The most important points", "What follows from it")

_RUN = 3  # words in a row that are a span
_OWN_WORDS = 2  # of them that are not of everyone
_NEAR_CHARS = 4  # a word this long may be spelt otherwise and is still found
_LEAST_DIGITS = 4  # a number this long is a span by itself
_COMMON_WORDS = (
    "a about after all also am an and any are as at be been but by can could did do does for from "
    "had has have he her him his how i if in into is it its just like may me more most my no not "
    "of on one only or other our out over she should so some such than that the their them then "
    "there these they this those to up us was we were what when where which who will with would "
    "write you your please letter mail email text answer question make give tell say"
)
_COMMON = frozenset(_COMMON_WORDS.split())


class OutlineRefused(GossamerError):
    """What came back is no outline that can be worked on."""

    code = "no_outline"


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the text that is to be written."""

    title: str
    sketch: str = ""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """How long the text will likely be, and what its outline may take of that."""

    tokens: int
    points: int
    sketch_chars: int  # of all points together

    @property
    def direct(self) -> bool:
        """Whether an outline would not pay."""
        return self.tokens < LEAST_TOKENS

    @property
    def each_chars(self) -> int:
        """Of one point's sketch."""
        return max(LEAST_SKETCH_CHARS, self.sketch_chars // self.points)

    @property
    def point_tokens(self) -> int:
        """Of one point's text."""
        return max(32, math.ceil(self.tokens / self.points))


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One expansion of a point."""

    text: str
    node: str = ""
    mean_logprob: float = 0.0


class Leak(msgspec.Struct, frozen=True):
    """A span of the private text that stands in what would leave; ``fuzzy``: spelt otherwise."""

    span: str
    fuzzy: bool


class _Outline(msgspec.Struct, frozen=True):
    points: list[Point]


def budget_of(tokens: int, strong_load: float = 0.0) -> Budget:
    """What a text of so many tokens may have as its outline; a strong node that is busy (load 0
    to 1 and above) is asked for a shorter one."""
    points = max(FEWEST_POINTS, min(MOST_POINTS, round(tokens / POINT_TOKENS)))
    share = SKETCH_SHARE * (1 - (1 - BUSY_SHARE) * min(1.0, max(0.0, strong_load)))
    chars = max(points * LEAST_SKETCH_CHARS, int(tokens * TOKEN_CHARS * share))
    return Budget(tokens=tokens, points=points, sketch_chars=chars)


def schema_of(budget: Budget) -> str:
    """The JSON schema of an outline, as JSON text."""
    point = {
        "type": "object",
        "properties": {
            "title": {"type": "string", "minLength": 3, "maxLength": TITLE_CHARS},
            "sketch": {"type": "string", "maxLength": budget.each_chars},
        },
        "required": ["title", "sketch"],
        "additionalProperties": False,
    }
    points = {
        "type": "array",
        "items": point,
        "minItems": FEWEST_POINTS,
        "maxItems": budget.points,
    }
    whole = {
        "type": "object",
        "properties": {"points": points},
        "required": ["points"],
        "additionalProperties": False,
    }
    return msgspec.json.encode(whole).decode()


def outline_request(instruction: str, budget: Budget) -> Generate:
    """What the strong node is asked. It is made of the instruction and of nothing else."""
    text = budget.points * (TITLE_CHARS + budget.each_chars) * OUTLINE_ROOM
    asked = f"{instruction}\n\nAt most {budget.points} points."
    return Generate(
        messages=[Message("system", OUTLINE), Message("user", asked)],
        max_tokens=math.ceil(text / TOKEN_CHARS),
        json_schema=schema_of(budget),
    )


def read_outline(text: str, budget: Budget) -> tuple[Point, ...]:
    """The points, within their budget; raises :class:`OutlineRefused`.

    What is said of a point beyond its share is cut at a word: a provider may not keep a schema.
    """
    try:
        said = msgspec.json.decode(_bare_json(text), type=_Outline).points
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise OutlineRefused(f"the outline is not of the form: {error}") from error
    found: list[Point] = []
    for point in said:
        title = " ".join(point.title.split())
        if not _words(title) or any(_plain(title) == _plain(other.title) for other in found):
            continue
        sketch = _cut(" ".join(point.sketch.split()), budget.each_chars)
        found.append(Point(title=_cut(title, TITLE_CHARS), sketch=sketch))
    if len(found) < FEWEST_POINTS:
        raise OutlineRefused(f"the outline has {len(found)} usable points")
    return tuple(found[: budget.points])


def fixed_outline(budget: Budget) -> tuple[Point, ...]:
    """The outline that takes the place of one that no model gave."""
    return tuple(Point(title=title) for title in FIXED_TITLES[: max(FEWEST_POINTS, budget.points)])


def expansion_request(
    instruction: str,
    points: Sequence[Point],
    place: int,
    budget: Budget,
    *,
    private: str = "",
    other: int = 0,
) -> Generate:
    """What is asked of who writes one point; ``other`` above 0 asks for another candidate."""
    point = points[place]
    lines = [f"The task: {instruction}"]
    if private:
        lines = [f"Private context:\n{private}\n", *lines]
    if place:
        lines.append(f"The paragraph before is about: {points[place - 1].title}")
    if place + 1 < len(points):
        lines.append(f"The paragraph after is about: {points[place + 1].title}")
    lines.append(f"Write the paragraph about: {point.title}")
    if point.sketch:
        lines.append(f"Sketch: {point.sketch}")
    return Generate(
        messages=[
            Message("system", f"{EXPAND} {PRIVATE}" if private else EXPAND),
            Message("user", "\n".join(lines)),
        ],
        max_tokens=budget.point_tokens,
        temperature=0.7 if other else 0.0,
        seed=other,
    )


def direct_request(instruction: str, budget: Budget, private: str = "") -> Generate:
    """The whole answer at once."""
    asked = f"Private context:\n{private}\n\n{instruction}" if private else instruction
    system = [Message("system", PRIVATE)] if private else []
    return Generate(messages=[*system, Message("user", asked)], max_tokens=max(32, budget.tokens))


def best(candidates: Sequence[Candidate], point: Point) -> tuple[Candidate, float]:
    """The candidate with the highest mean log-probability plus cosine to its sketch, and that
    score; the first of equals. There must be one."""
    theme = f"{point.title} {point.sketch}"
    scored = [(one.mean_logprob + cosine(theme, one.text), one) for one in candidates]
    score, found = max(scored, key=lambda pair: pair[0])
    return found, score


def cosine(one: str, other: str) -> float:
    """The cosine of two texts' word counts, words of everyone left out; 0 to 1."""
    first = Counter(word for word in _words(one) if word not in _COMMON)
    second = Counter(word for word in _words(other) if word not in _COMMON)
    norm = math.sqrt(sum(n * n for n in first.values()) * sum(n * n for n in second.values()))
    return sum(n * second[word] for word, n in first.items()) / norm if norm else 0.0


def joined(texts: Sequence[str]) -> str:
    """The paragraphs as one text; one that says again what stood before is left out."""
    kept: list[str] = []
    for text in texts:
        if text.strip() and all(_plain(text) != _plain(other) for other in kept):
            kept.append(text.strip())
    return "\n\n".join(kept)


def leaks(private: str, outgoing: Iterable[str], known: Iterable[str] = ()) -> list[Leak]:
    """The spans of the private text that stand in one of the outgoing ones.

    A span is three words in a row of which two are not of everyone, exact or with a letter
    changed, missing or more in each; a number of four digits or more, however it is grouped; and
    what is given as ``known`` (names, addresses: what a redactor found), by its words.
    """
    words = _words(private)
    index: dict[str, set[int]] = defaultdict(set)
    for place, word in enumerate(words):
        for variant in _variants(word):
            index[variant].add(place)
    numbers = {n for n in _numbers(private) if len(n) >= _LEAST_DIGITS}
    secrets = {found for secret in known if (found := tuple(_words(secret)))}
    leaked: dict[str, bool] = {}
    for text in outgoing:
        theirs = _words(text)
        for number in _numbers(text):
            for mine in numbers:
                if mine in number:
                    leaked.setdefault(mine, False)
        for secret in secrets:
            for start in range(len(theirs) - len(secret) + 1):
                piece = theirs[start : start + len(secret)]
                if all(_near(a, b) for a, b in zip(secret, piece, strict=True)):
                    leaked.setdefault(" ".join(secret), tuple(piece) != secret)
        for span, said in _runs(words, theirs, index):
            leaked.setdefault(span, span != said)
    return [Leak(span, fuzzy) for span, fuzzy in leaked.items()]


def secrets_of(text: str, finds: Iterable[Find]) -> list[str]:
    """What a redactor found in a text, as ``known`` of :func:`leaks`; of a person also each part
    of the name."""
    found: list[str] = []
    for find in finds:
        value = text[find.start : find.end]
        found.append(value)
        if find.kind == "PERSON":
            found += [word for word in value.split() if len(word) >= _NEAR_CHARS - 1]
    return found


def _runs(
    words: Sequence[str], theirs: Sequence[str], index: dict[str, set[int]]
) -> list[tuple[str, str]]:
    """Windows of words that stand in both texts: as the first has them, and as the second."""
    found: list[tuple[str, str]] = []
    before: dict[int, int] = {}  # place in words: how many words in a row end there
    for place, word in enumerate(theirs):
        here: dict[int, int] = {}
        for at in {at for variant in _variants(word) for at in index.get(variant, ())}:
            if not _near(words[at], word):
                continue
            here[at] = before.get(at - 1, 0) + 1
            if here[at] >= _RUN:
                mine = words[at - _RUN + 1 : at + 1]
                if sum(one not in _COMMON for one in mine) >= _OWN_WORDS:
                    found.append((" ".join(mine), " ".join(theirs[place - _RUN + 1 : place + 1])))
        before = here
    return found


def _words(text: str) -> list[str]:
    flat = unicodedata.normalize("NFKD", text).casefold()
    bare = "".join(char for char in flat if not unicodedata.combining(char))
    return re.findall(r"[^\W_]+", bare)


def _plain(text: str) -> str:
    return " ".join(_words(text))


def _numbers(text: str) -> list[str]:
    """Numbers without what groups their digits."""
    return [re.sub(r"\D", "", found) for found in re.findall(r"\d(?:[ .,/()-]?\d)*", text)]


def _variants(word: str) -> set[str]:
    """The word, and it without any one letter: two words that share one differ by a letter."""
    if len(word) < _NEAR_CHARS:
        return {word}
    return {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}


def _near(one: str, other: str) -> bool:
    if one == other:
        return True
    lengths = sorted((len(one), len(other)))
    long = lengths[0] >= _NEAR_CHARS - 1 and lengths[1] >= _NEAR_CHARS
    return long and bool(_variants(one) & _variants(other))


def _cut(text: str, chars: int) -> str:
    if len(text) <= chars:
        return text
    return text[:chars].rpartition(" ")[0] or text[:chars]


def _bare_json(text: str) -> str:
    """A provider's JSON without the fence that it may stand in."""
    begin, end = text.find("{"), text.rfind("}")
    return text[begin : end + 1] if 0 <= begin < end else text
