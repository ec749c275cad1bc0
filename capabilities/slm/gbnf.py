"""Reads a GBNF grammar before native code does, and refuses what would harm it; pure.

llama.cpp reads grammars in C++, expands repetitions by copying and walks rules by recursion. A
grammar from a peer could make it recurse without end or fill the memory, and with it end the
process of everybody's model. What passes here is small, finite and productive.
Format: GBNF as llama.cpp's grammars/README.md describes it, without token references.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field

from capabilities.slm.errors import BadRequest

MAX_CHARS = 64 * 1024  # reading takes time in proportion
MAX_DEPTH = 32  # of brackets; native code recurses once for each
MAX_ELEMENTS = 20_000  # after repetitions are copied out: native memory and time per token
MAX_REPEAT = 2_000  # llama.cpp's own limit
MAX_PASSES = 40  # over all rules, until nothing new is learnt: each may take 10 ms

_NAME = frozenset(string.ascii_letters + string.digits + "-")
_ESCAPES = {"x": 2, "u": 4, "U": 8}
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "[": "[", "]": "]", "\\": "\\"}
_HINT = "see the GBNF guide of llama.cpp, or send a JSON schema"


@dataclass(slots=True)
class Item:
    """A literal or a class of characters (both without ``body`` and ``rule``), a group or a
    rule's name, ``least`` to ``most`` times; ``most`` -1 is without end. It is written at
    ``begin`` to ``end`` of the text."""

    chars: int = 0
    rule: str = ""
    body: list[list[Item]] = field(default_factory=list)
    least: int = 1
    most: int = 1
    begin: int = 0
    end: int = 0


Rules = dict[str, list[list[Item]]]
Test = Callable[[list[list[Item]], Set[str]], bool]


def check(text: str) -> Rules:
    """Its rules, if it is right and not too much; raises BadRequest with one sentence."""
    if len(text) > MAX_CHARS:
        raise BadRequest(f"the grammar has {len(text)} characters; it may have {MAX_CHARS}")
    rules = _Reader(text).read()
    if "root" not in rules:
        raise BadRequest("the grammar has no rule called root", hint=_HINT)
    for name, rule in rules.items():
        for item in _items(rule):
            if item.rule and item.rule not in rules:
                raise BadRequest(f"rule {name} of the grammar names {item.rule}, which is nowhere")
    if sum(_size(rule) for rule in rules.values()) > MAX_ELEMENTS:
        raise BadRequest(
            f"the grammar has more than {MAX_ELEMENTS} elements, repetitions copied out",
            hint="repeat less, or use * and +",
        )
    empty = _holding(rules, _may_be_empty)
    for name, rule in rules.items():
        for item in _items(rule):
            if item.most not in (0, 1) and _may_be_empty([[_once(item)]], empty):
                raise BadRequest(
                    f"rule {name} of the grammar repeats something that may be empty",
                    hint="let the repeated part take at least one character",
                )
    _refuse_left_recursion(rules, empty)
    if "root" not in _holding(rules, _ends):
        raise BadRequest("the grammar never comes to an end", hint="give its rules a way out")
    return rules


def quote(text: str) -> str:
    """A text as a GBNF literal."""
    made = []
    for char in text:
        if char in '"\\':
            made.append("\\" + char)
        elif ord(char) < 32 or ord(char) == 127:
            made.append(f"\\x{ord(char):02X}")
        else:
            made.append(char)
    return '"' + "".join(made) + '"'


class _Reader:
    """A recursive descent over the text, never deeper than :data:`MAX_DEPTH`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> Rules:
        rules: Rules = {}
        self._space(lines=True)
        while self._at < len(self._text):
            name = self._name()
            self._space()
            self._expect("::=")
            self._space(lines=True)
            if name in rules:
                raise self._wrong(f"rule {name} stands there twice")
            rules[name] = self._alternatives(0)
            if self._at < len(self._text) and self._peek() not in "\r\n":
                raise self._wrong("the end of a line was expected")
            self._space(lines=True)
        return rules

    def _alternatives(self, depth: int) -> list[list[Item]]:
        if depth > MAX_DEPTH:
            raise BadRequest(f"the grammar's brackets are nested deeper than {MAX_DEPTH}")
        found = [self._sequence(depth)]
        while self._peek() == "|":
            self._at += 1
            self._space(lines=True)
            found.append(self._sequence(depth))
        return found

    def _sequence(self, depth: int) -> list[Item]:
        items: list[Item] = []
        while self._at < len(self._text):
            char, begin = self._peek(), self._at
            if char == '"':
                item = Item(chars=self._literal())
            elif char == "[":
                item = Item(chars=self._class())
            elif char == ".":
                self._at += 1
                item = Item(chars=1)
            elif char == "(":
                self._at += 1
                self._space(lines=True)
                item = Item(body=self._alternatives(depth + 1))
                self._expect(")")
            elif char in _NAME:
                item = Item(rule=self._name())
            else:
                break
            item.begin, item.end = begin, self._at
            self._space(lines=depth > 0)
            self._repeat(item)
            self._space(lines=depth > 0)
            items.append(item)
        return items

    def _repeat(self, item: Item) -> None:
        char = self._peek()
        if char in ("*", "+", "?"):
            self._at += 1
            item.least, item.most = {"*": (0, -1), "+": (1, -1), "?": (0, 1)}[char]
        elif char == "{":
            end = self._text.find("}", self._at)
            low, comma, high = self._text[self._at + 1 : max(end, 0)].partition(",")
            low, high = low.strip(), high.strip()
            if end < 0 or not low.isdecimal() or (high and not high.isdecimal()):
                raise self._wrong("a repetition is written {2}, {2,} or {2,5}")
            self._at = end + 1
            item.least = int(low)
            item.most = int(high) if high else (-1 if comma else int(low))
            if max(item.least, item.most) > MAX_REPEAT or 0 <= item.most < item.least:
                raise self._wrong(f"a repetition must grow and stay within {MAX_REPEAT}")
        if self._peek() in ("*", "+", "?", "{"):
            raise self._wrong("put brackets around what is repeated twice")

    def _literal(self) -> int:
        self._at += 1
        count = 0
        while self._peek() != '"':
            self._char()
            count += 1
        self._at += 1
        return count

    def _class(self) -> int:
        self._at += 1
        if self._peek() == "^":
            self._at += 1
        while self._peek() != "]":
            low = self._char()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                if self._char() < low:
                    raise self._wrong("a range of characters runs backwards")
        self._at += 1
        return 1

    def _char(self) -> int:
        """The code point of one character, escaped or not."""
        char = self._peek()
        if not char or char in "\r\n":
            raise self._wrong("a literal or a class does not end")
        self._at += 1
        if char != "\\":
            return ord(char)
        kind = self._peek()
        digits = _ESCAPES.get(kind, 0)
        if not kind or (kind not in _ESCAPES and kind not in _SIMPLE):
            raise self._wrong("an unknown escape")
        value = self._text[self._at + 1 : self._at + 1 + digits]
        if len(value) < digits or any(one not in string.hexdigits for one in value):
            raise self._wrong("an escape with too few digits")
        self._at += 1 + digits
        return int(value, 16) if digits else ord(_SIMPLE[kind])

    def _name(self) -> str:
        begin = self._at
        while self._peek() and self._peek() in _NAME:
            self._at += 1
        if begin == self._at:
            raise self._wrong("the name of a rule was expected")
        return self._text[begin : self._at]

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _expect(self, token: str) -> None:
        if not self._text.startswith(token, self._at):
            raise self._wrong(f"{token} was expected")
        self._at += len(token)

    def _space(self, *, lines: bool = False) -> None:
        while char := self._peek():
            if char == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif char in " \t" or (lines and char in "\r\n"):
                self._at += 1
            else:
                return

    def _wrong(self, what: str) -> BadRequest:
        line = self._text.count("\n", 0, self._at) + 1
        return BadRequest(f"line {line} of the grammar: {what}", hint=_HINT)


def _items(rule: list[list[Item]]) -> Iterator[Item]:
    for sequence in rule:
        for item in sequence:
            yield item
            yield from _items(item.body)


def _size(rule: list[list[Item]]) -> int:
    """Elements after repetitions are copied out; a little more than llama.cpp makes."""
    total = 0
    for sequence in rule:
        for item in sequence:
            times = max(item.least, item.most, 1) + (item.most < 0)
            total += times * (1 + item.chars + _size(item.body))
    return total + len(rule)


def _once(item: Item) -> Item:
    return Item(item.chars, item.rule, item.body)


def _may_be_empty(rule: list[list[Item]], known: Set[str]) -> bool:
    def skips(item: Item) -> bool:
        if item.least == 0:
            return True
        if item.body:
            return _may_be_empty(item.body, known)
        return item.rule in known if item.rule else item.chars == 0

    return any(all(skips(item) for item in sequence) for sequence in rule)


def _ends(rule: list[list[Item]], known: Set[str]) -> bool:
    def ends(item: Item) -> bool:
        if item.least == 0 or not (item.body or item.rule):
            return True
        return _ends(item.body, known) if item.body else item.rule in known

    return any(all(ends(item) for item in sequence) for sequence in rule)


def _holding(rules: Rules, test: Test) -> frozenset[str]:
    """The rules for which ``test`` holds, given that it holds for those found before."""
    known: set[str] = set()
    order = list(rules)
    for _ in range(MAX_PASSES):
        before = len(known)
        order.reverse()  # rules lean on those above or on those below, as a rule
        known.update(name for name in order if name not in known and test(rules[name], known))
        if len(known) == before:
            return frozenset(known)
    raise BadRequest("the rules of the grammar lean on each other too deeply", hint="simplify it")


def _first(rule: list[list[Item]], empty: Set[str]) -> Iterator[str]:
    """The rules that may stand at the very beginning of a rule."""
    for sequence in rule:
        for item in sequence:
            if item.rule:
                yield item.rule
            yield from _first(item.body, empty)
            if not _may_be_empty([[item]], empty):
                break


def _refuse_left_recursion(rules: Rules, empty: Set[str]) -> None:
    edges = {name: set(_first(rule, empty)) for name, rule in rules.items()}
    state: dict[str, bool] = {}  # True while it is open: on the way from the root to here
    for start in rules:
        way = [(start, iter(edges[start]))] if start not in state else []
        state.setdefault(start, True)
        while way:
            name, rest = way[-1]
            following = next(rest, None)
            if following is None:
                state[name] = False
                way.pop()
            elif following not in state:
                state[following] = True
                way.append((following, iter(edges[following])))
            elif state[following]:
                raise BadRequest(
                    f"rule {following} of the grammar begins with itself",
                    hint="let each rule begin with a character before it repeats",
                )
