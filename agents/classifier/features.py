"""What the lexical classifier sees of a text: words, pieces of words, and its shape.

Numbers become one word, whatever they are, and so do operators: "48 * 27" and "7 * 8" must
look alike, and no number may be remembered. Word pieces (character n-grams) let "encrypted"
meet "encryption". Features are strings; :func:`hashed` folds them into a fixed width.
"""

from __future__ import annotations

import math
import re
import zlib
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

HASH_WIDTH = 4096
NUMBER = "<num>"
OPERATOR = "<op>"
MAX_CHARS = 600  # a longer text says in its beginning what it is about

NUMBER_WORDS = frozenset(
    [
        "dozen", "eight", "eighteen", "eighty", "eleven", "fifteen", "fifty", "five", "forty",
        "four", "fourteen", "hundred", "million", "nine", "nineteen", "ninety", "one", "seven",
        "seventeen", "seventy", "six", "sixteen", "sixty", "ten", "thirteen", "thirty", "thousand",
        "three", "twelve", "twenty", "two", "zero",
    ]
)  # fmt: skip
# Spoken operators, and verbs of calculation: with two numbers beside them they make a sum.
SPOKEN = frozenset(
    [
        "add", "added", "adding", "addition", "cubed", "decrease", "deduct", "difference", "divide",
        "divided", "double", "equal", "equals", "half", "increase", "less", "minus",
        "multiplication", "multiplied", "multiply", "percent", "plus", "power", "product",
        "quotient", "root", "square", "squared", "subtract", "subtracted", "subtracting",
        "subtraction", "sum", "times", "together", "total", "triple", "twice", "x",
    ]
)  # fmt: skip
# Words that say how one asks and not about what. Weight near zero, not zero: "who are you".
STOP = frozenset(
    [
        "a", "about", "all", "am", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by",
        "can", "could", "d", "did", "do", "does", "down", "for", "from", "get", "give", "had",
        "has", "have", "he", "here", "how", "i", "if", "in", "into", "is", "it", "its", "just",
        "know", "let", "like", "ll", "m", "many", "may", "me", "might", "much", "must", "my",
        "need", "no", "not", "now", "of", "on", "or", "our", "out", "over", "please", "re", "s",
        "say", "shall", "she", "should", "show", "so", "some", "t", "tell", "than", "that", "the",
        "their", "them", "then", "there", "these", "they", "this", "those", "to", "up", "ve",
        "want", "was", "we", "were", "what", "when", "where", "which", "who", "whom", "whose",
        "why", "will", "with", "would", "yes", "you", "your",
    ]
)  # fmt: skip
STOP_WEIGHT = 0.15

_SIGNS = "-+*/\u00d7\u00f7^%="  # with the signs for times and divided by
_TOKEN = re.compile(rf"\d+(?:[.,]\d+)*|[a-z]+|[{_SIGNS}]")
_CALCULATION = re.compile(
    rf"{NUMBER}\s(?:{OPERATOR}|plus|minus|times|x|less|divided by|multiplied by|multiplied with"
    rf"|added to|take away|taken from|subtracted from|over|to the power of|percent of|mod)\s"
    rf"{NUMBER}"
)


class Text(NamedTuple):
    """One text as features. Vectors are sparse and of length one (empty when there is none)."""

    tokens: tuple[str, ...]
    words: dict[str, float]
    pieces: dict[str, float]
    content: frozenset[str]  # stems of the words that say what it is about
    calculation: float  # 0 none, 0.5 numbers and a spoken operator, 1 number operator number


@lru_cache(maxsize=256)
def read(text: str) -> Text:
    """The features of a text; equal texts share one result, which must not be changed."""
    tokens = _tokens(text)
    words: dict[str, float] = {}
    pieces: dict[str, float] = {}
    content: set[str] = set()
    previous = "^"
    for token in tokens:
        weight = STOP_WEIGHT if token in STOP else 1.0
        root = stem(token)
        words[root] = words.get(root, 0.0) + weight
        pair = f"{previous} {root}"
        words[pair] = words.get(pair, 0.0) + 0.5 * max(weight, 0.4)
        previous = root
        if weight == 1.0 and token not in (NUMBER, OPERATOR):
            content.add(root)
            for piece in word_pieces(token):
                pieces[piece] = pieces.get(piece, 0.0) + 1.0
    return Text(tokens, _unit(words), _unit(pieces), frozenset(content), _calculation(tokens))


@lru_cache(maxsize=4096)
def word_pieces(word: str) -> tuple[str, ...]:
    """Character 3- and 4-grams of one word with its borders."""
    framed = f"^{word}$"
    return tuple(
        framed[start : start + size]
        for size in (3, 4)
        for start in range(max(1, len(framed) - size + 1))
    )


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    """A word without its commonest endings: enough that "nodes" and "node" are one."""
    for ending in ("ings", "ing", "ies", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            root = word[: -len(ending)]
            return root + "y" if ending == "ies" else root.rstrip("e")
    return word.rstrip("e") if len(word) > 3 else word


def cosine(first: dict[str, float], second: dict[str, float]) -> float:
    """Similarity of two unit vectors, 0 to 1."""
    if len(second) < len(first):
        first, second = second, first
    return sum(value * second.get(key, 0.0) for key, value in first.items())


@lru_cache(maxsize=64)
def hashed(text: str) -> tuple[tuple[int, float], ...]:
    """The features as (index below HASH_WIDTH, value) for the trained head."""
    seen = read(text)
    found: dict[str, float] = {f"w {key}": value for key, value in seen.words.items()}
    for key, value in seen.pieces.items():
        found[f"p {key}"] = 0.7 * value
    # "who are you" is all stop words: the head may learn from them what likeness must not.
    spoken = ["^", *seen.tokens, "$"]
    share = 1.0 / math.sqrt(len(spoken))
    for first, second in pairwise(spoken):
        for key in (f"u {second}", f"b {first} {second}"):
            found[key] = found.get(key, 0.0) + 0.6 * share
    numbers = seen.tokens.count(NUMBER)
    found[f"s numbers {min(numbers, 3)}"] = 0.3
    found[f"s calculation {seen.calculation}"] = 0.6
    found[f"s words {min(8, len(seen.content))}"] = 0.15
    if seen.tokens:
        found[f"s first {seen.tokens[0]}"] = 0.2
    folded: dict[int, float] = {}
    for feature, value in found.items():
        code = zlib.crc32(feature.encode())
        # The sign bit keeps collisions from adding up (Weinberger et al. 2009).
        index, sign = code % HASH_WIDTH, 1.0 if code & 0x80000000 else -1.0
        folded[index] = folded.get(index, 0.0) + sign * value
    return tuple(sorted(folded.items()))


def _tokens(text: str) -> tuple[str, ...]:
    lowered = text[:MAX_CHARS].lower().replace("\u2019", "'").replace("'", " ")
    out: list[str] = []
    for match in _TOKEN.finditer(lowered):
        word = match.group()
        after_number = bool(out) and out[-1] == NUMBER
        if word[0].isdigit() or word in NUMBER_WORDS:
            if not after_number:  # "forty-eight" is one number
                out.append(NUMBER)
        elif word in _SIGNS:
            rest = lowered[match.end() :]
            hyphen = word == "-" and rest[:1].isalpha()
            if not hyphen and (after_number or rest.lstrip()[:1].isdigit()):
                out.append(OPERATOR)
        elif word == "x" and after_number:
            out.append(OPERATOR)
        else:
            out.append(word)
    return tuple(out)


def _calculation(tokens: tuple[str, ...]) -> float:
    numbers = tokens.count(NUMBER)
    if numbers < 2:
        return 0.25 if numbers and any(token in SPOKEN for token in tokens) else 0.0
    if _CALCULATION.search(" ".join(tokens)):
        return 1.0
    return 0.5 if any(token in SPOKEN for token in tokens) else 0.0


def _unit(vector: dict[str, float]) -> dict[str, float]:
    norm = math.sqrt(sum(value * value for value in vector.values()))
    return {key: value / norm for key, value in vector.items()} if norm else {}
