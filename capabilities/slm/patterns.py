"""A regular expression as GBNF for the inside of a JSON string; pure.

The subset that ECMA-262 and Python read alike: characters, classes, groups, alternatives,
repetitions, and anchors at the ends. What refers back or looks around is no grammar and is
refused. Every sentence matches; a repetition without end is cut at :data:`OPEN_REPEAT`, and
``.``, ``\\W`` and negated classes give printable characters only.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

from capabilities.slm.errors import BadRequest, Unsupported

OPEN_REPEAT = 40  # times of a repetition without end
AROUND = 20  # characters before and after a pattern that is not anchored
MAX_CHARS = 500
MAX_DEPTH = 12
MAX_TIMES = 1_000

Ranges = tuple[tuple[int, int], ...]
_DIGIT: Ranges = ((48, 57),)
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Ranges = ((9, 10), (12, 13), (32, 32))
_KINDS = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROLS = {"n": 10, "r": 13, "t": 9, "f": 12}
_ASCII: Ranges = ((32, 126),)
_PRINTED: Ranges = ((32, 126), (0xA1, 0x2027), (0x202A, 0xD7FF), (0xE000, 0xFFFD))
# How JSON writes what may not stand in a string as it is; other controls are left out.
_WRITTEN = {34: '\\"', 92: "\\\\", 10: "\\n", 13: "\\r", 9: "\\t", 12: "\\f"}


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Repeat:
    """A node ``least`` to ``most`` times, ``most`` -1 without end."""

    node: Node
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Group:
    """Alternatives, each a sequence."""

    choices: tuple[tuple[Node, ...], ...]


Node = Chars | Repeat | Group


def to_gbnf(pattern: str, least: int = 0, most: int | None = None) -> str:
    """An expression of strings that match, ``least`` to ``most`` characters long, no quotes.

    Raises BadRequest for what is no pattern, Unsupported for what no grammar can hold.
    """
    if len(pattern) > MAX_CHARS:
        raise BadRequest(f"a pattern of {len(pattern)} characters; it may have {MAX_CHARS}")
    choices = _Reader(pattern).read()
    fitting = [choice for choice in choices if _may_fit(choice, least, most)]
    if not fitting:
        raise BadRequest(
            "the JSON schema has a pattern whose strings are all longer or shorter than it allows"
        )
    return " | ".join(_write(_within(choice, least, most)) for choice in fitting)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> list[tuple[Node, ...]]:
        """The alternatives, each with what stands around it where it is not anchored."""
        around = Repeat(Chars(_PRINTED), 0, AROUND)
        found: list[tuple[Node, ...]] = []
        while True:
            begins = self._skip("^")
            nodes = self._sequence(0)
            ends = self._skip("$")
            found.append((*([] if begins else [around]), *nodes, *([] if ends else [around])))
            if self._at == len(self._text):
                return found
            if not self._skip("|"):
                raise self._refuse(self._text[self._at])

    def _choices(self, depth: int) -> Group:
        if depth > MAX_DEPTH:
            raise BadRequest(f"the groups of a pattern are nested deeper than {MAX_DEPTH}")
        found = [self._sequence(depth)]
        while self._skip("|"):
            found.append(self._sequence(depth))
        return Group(tuple(found))

    def _sequence(self, depth: int) -> tuple[Node, ...]:
        nodes: list[Node] = []
        while (char := self._peek()) and char not in "|)^$":
            nodes.append(self._repeat(self._atom(depth)))
        return tuple(nodes)

    @staticmethod
    def _one_char(group: Group) -> Node:
        """A group of single characters is a class."""
        found: list[tuple[int, int]] = []
        for choice in group.choices:
            if len(choice) != 1 or not isinstance(choice[0], Chars):
                return group
            found += choice[0].ranges
        return Chars(tuple(found))

    def _atom(self, depth: int) -> Node:
        char = self._next()
        if char == "(":
            return self._one_char(self._group(depth))
        if char == "[":
            return Chars(self._class())
        if char == ".":
            return Chars(_PRINTED)
        if char == "\\":
            return Chars(self._escape())
        if char in "*+?{":
            raise BadRequest(f"a pattern repeats nothing at {char!r}", hint="write \\ before it")
        return Chars(((ord(char), ord(char)),))

    def _group(self, depth: int) -> Group:
        if self._skip("?") and not self._skip(":"):
            self._skip("P")
            name, closed, _ = self._text[self._at :].partition(">")
            if not closed or not name.startswith("<") or not name[1:].isidentifier():
                raise self._refuse("(?" + self._peek())
            self._at += len(name) + 1
        group = self._choices(depth + 1)
        if not self._skip(")"):
            if self._peek():
                raise self._refuse(self._peek())
            raise BadRequest("a pattern opens a bracket that it does not close")
        return group

    def _repeat(self, node: Node) -> Node:
        char = self._peek()
        if char not in ("*", "+", "?", "{"):
            return node
        self._at += 1
        least, most = {"*": (0, -1), "+": (1, -1), "?": (0, 1)}.get(char, (0, 0))
        if char == "{":
            inner, closed, _ = self._text[self._at :].partition("}")
            low, comma, high = inner.partition(",")
            if not closed or not low.isdecimal() or (high and not high.isdecimal()):
                raise BadRequest("a repetition of a pattern is written {2}, {2,} or {2,5}")
            self._at += len(inner) + 1
            least = int(low)
            most = int(high) if high else (-1 if comma else least)
            if max(least, most) > MAX_TIMES or 0 <= most < least:
                raise BadRequest(f"a repetition of a pattern grows and stays within {MAX_TIMES}")
        self._skip("?")  # lazy or not, the strings are the same
        if self._peek() in ("*", "+", "?", "{"):
            raise self._refuse(char + self._peek())
        return Repeat(node, least, most)

    def _class(self) -> Ranges:
        negated = self._skip("^")
        found: list[tuple[int, int]] = []
        base = _PRINTED
        while not self._skip("]"):
            escape = self._text[self._at : self._at + 2].lower()
            if escape in ("\\d", "\\w", "\\s"):
                base = _ASCII  # what else is a digit, a letter or a space, the dialects disagree
            ranges = self._member()
            one = len(ranges) == 1 and ranges[0][0] == ranges[0][1]
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                upper = self._member()
                if not one or len(upper) != 1 or not ranges[0][0] <= upper[0][1]:
                    raise BadRequest("a range in a pattern's class runs backwards")
                ranges = ((ranges[0][0], upper[0][1]),)
            found += ranges
        return _without(base, found) if negated else tuple(found)

    def _member(self) -> Ranges:
        char = self._next()
        if char == "\\":
            return self._escape()
        if char == "[":  # some dialects open a class within the class
            raise self._refuse("[ within a class")
        return ((ord(char), ord(char)),)

    def _escape(self) -> Ranges:
        char = self._next()
        if char in _KINDS:
            return _KINDS[char]
        if char.lower() in _KINDS:  # beyond ASCII the dialects disagree
            return _without(_ASCII, _KINDS[char.lower()])
        if char in "xu":
            digits = self._text[self._at : self._at + (2 if char == "x" else 4)]
            if len(digits) < (2 if char == "x" else 4) or set(digits) - set(string.hexdigits):
                raise BadRequest("an escape of a pattern has too few digits")
            self._at += len(digits)
            return ((int(digits, 16), int(digits, 16)),)
        if char in _CONTROLS:
            return ((_CONTROLS[char], _CONTROLS[char]),)
        if char.isalnum():
            raise self._refuse("\\" + char)
        return ((ord(char), ord(char)),)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        if not char:
            raise BadRequest("a pattern ends in the middle of something")
        self._at += 1
        return char

    def _skip(self, char: str) -> bool:
        if self._peek() == char:
            self._at += 1
            return True
        return False

    def _refuse(self, what: str) -> Unsupported:
        return Unsupported(
            f"a pattern with {what!r} at position {self._at}, which no grammar can hold there",
            hint="use classes, groups, alternatives, repetitions, and anchors at the ends",
        )


def _without(ranges: Sequence[tuple[int, int]], holes: Sequence[tuple[int, int]]) -> Ranges:
    """Ranges with others taken out."""
    left = list(ranges)
    for begin, end in holes:
        below = [(low, min(high, begin - 1)) for low, high in left]
        above = [(max(low, end + 1), high) for low, high in left]
        left = [(low, high) for low, high in sorted({*below, *above}) if low <= high]
    return tuple(left)


def _lengths(node: Node) -> tuple[int, int]:
    """The least and the most characters of a node."""
    if isinstance(node, Chars):
        return 1, 1
    if isinstance(node, Repeat):
        low, high = _lengths(node.node)
        most = OPEN_REPEAT + node.least if node.most < 0 else node.most
        return low * node.least, high * most
    sums = [
        (sum(_lengths(one)[0] for one in choice), sum(_lengths(one)[1] for one in choice))
        for choice in node.choices
    ]
    return min(low for low, _ in sums), max(high for _, high in sums)


def _may_fit(nodes: tuple[Node, ...], least: int, most: int | None) -> bool:
    low, high = _lengths(Group((nodes,)))
    open_ended = any(isinstance(node, Repeat) and node.most < 0 for node in nodes)
    return (high >= least or open_ended) and (most is None or low <= most)


def _within(nodes: tuple[Node, ...], least: int, most: int | None) -> tuple[Node, ...]:
    """The same with the repetitions of single characters narrowed until the length fits.

    Raises Unsupported where more than one part would have to be counted.
    """
    low, high = _lengths(Group((nodes,)))
    if low >= least and (most is None or high <= most):
        return nodes
    free = [
        (at, node)
        for at, node in enumerate(nodes)
        if isinstance(node, Repeat) and isinstance(node.node, Chars)
    ]
    at_free = {at for at, _ in free}
    low, high = _lengths(Group((tuple(n for at, n in enumerate(nodes) if at not in at_free),)))
    low, high = low + sum(n.least for _, n in free), high + sum(n.least for _, n in free)
    made, missing = list(nodes), max(0, least - low)
    for left, (at, node) in zip(range(len(free), 0, -1), free, strict=True):
        # What is missing to the least length goes into the last, of what is left each takes part.
        begin = node.least + (missing if left == 1 else 0)
        end = max(_lengths(node)[1], begin) if node.most < 0 else node.most
        if most is not None:
            end = min(end, node.least + (most - high) // left)
            high += max(0, end - node.least)
        if begin > end:
            break
        made[at] = Repeat(node.node, begin, end)
    else:
        if free:
            return tuple(made)
    raise Unsupported(
        "a JSON schema whose pattern and minLength or maxLength must be counted together",
        hint="write the length into the pattern, as in ^[a-z]{2,8}$",
    )


def _write(nodes: tuple[Node, ...]) -> str:
    return " ".join(filter(None, map(_one, nodes))) or '""'


def _one(node: Node) -> str:
    if isinstance(node, Chars):
        return _set(node.ranges)
    if isinstance(node, Group):
        return "(" + " | ".join(map(_write, node.choices)) + ")"
    most = OPEN_REPEAT + node.least if node.most < 0 else node.most
    if most == 0:
        return ""
    return f"{_one(node.node)}{{{node.least},{most}}}"


def _set(ranges: Ranges) -> str:
    """A set of characters as JSON writes them."""
    plain = _without(ranges, [(0, 31), (34, 34), (92, 92), (127, 160), (0xD800, 0xDFFF)])
    parts = []
    if plain:
        spans = (_char(a) if a == b else f"{_char(a)}-{_char(b)}" for a, b in plain)
        parts.append("[" + "".join(spans) + "]")
    for code, text in _WRITTEN.items():
        if any(low <= code <= high for low, high in ranges):
            parts.append('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
    if not parts:
        raise Unsupported("a pattern with a class of characters that cannot be written")
    return parts[0] if len(parts) == 1 else "(" + " | ".join(parts) + ")"


def _char(code: int) -> str:
    char = chr(code)
    if char.isascii() and char.isalnum():
        return char
    if code <= 0xFF:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
