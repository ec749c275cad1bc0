"""What a question asks for, and who does what to whom in it: reuse compares both. Pure.

It reads English, and errs on one side as :mod:`agents.cooperation.cache_facts` does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

# "How often" asks for another thing than "how"; each becomes one word.
_MEASURES = """
bad big busy clever cold cool dangerous dark deep easy far fast good hard heavy high hot large late
likely long loud many much often old quick quickly reliable safe slow small smart soon strong sure
tall warm well wide young
"""
_HOW = re.compile(rf"\bhow ({'|'.join(_MEASURES.split())})\b(?! (?:is|are|would) \d)")
ASKED = "how_"
_SAME = tuple(
    (re.compile(pattern), made)
    for pattern, made in (
        (
            r"\b(?:for what reason|how come|what (?:makes|made)"
            r"|what(?: is|'s) the reason (?:that|why|for))\b",
            "why",
        ),
        (r"\bby whom\b", "who"),
        (r"\bat what time\b", "when"),
        (r"\b(?:in|at|on) (?:which|what) place\b", "where"),
    )
)
# The forms of verbs that no ending tells; those that are other words as well are left out.
_IRREGULAR_VERBS = """
begin began begun, bleed bled, blow blew blown, break broke broken, bring brought, build built,
buy bought, catch caught, choose chose chosen, draw drew drawn, drink drank drunk, drive drove
driven, eat ate eaten, find found, fly flew flown, forget forgot forgotten, freeze froze frozen,
give gave given, grow grew grown, hear heard, hide hid hidden, hold held, keep kept, know knew
known, lend lent, lose lost, make made, mean meant, pay paid, ride rode ridden, run ran, sell sold,
send sent, shake shook shaken, sing sang sung, speak spoke spoken, spend spent, steal stole stolen,
swim swam swum, teach taught, tell told, think thought, throw threw thrown, understand understood,
wake woke woken, wear wore worn, write wrote written
"""
_FORMS = tuple(verb.split() for verb in _IRREGULAR_VERBS.split(","))
BASE_FORM = {form: forms[0] for forms in _FORMS for form in forms}
_PARTICIPLES = frozenset(forms[-1] for forms in _FORMS) | {
    "cut", "done", "hit", "hurt", "put", "read", "reset", "seen", "set", "shut", "split", "spread"
}  # fmt: skip
_BE = frozenset(["am", "are", "be", "been", "being", "get", "gets", "got", "is", "was", "were"])
_OPEN_WORDS = """
describe explain how list name show tell what when where which who whom whose why
"""
_OPEN = frozenset(_OPEN_WORDS.split())
_CLOSED_WORDS = """
am are can could did do does has have is may might must shall should was were will would
"""
_CLOSED = frozenset(_CLOSED_WORDS.split())
_JOINING = frozenset(["and", "between", "or"])
_LINKS = frozenset(["about", "at", "by", "for", "from", "in", "of", "on", "to", "with"])
_POSSESSIVE = re.compile(r"(?<=\w)['\u2019]s\b")
_WORD = re.compile(r"[^\W\d_]+")


def asked_one_way(text: str) -> str:
    """A lower-case text with what it asks for in one writing."""
    for pattern, made in _SAME:
        text = pattern.sub(made, text)
    return _HOW.sub(rf"{ASKED}\1", text)


class Frame(msgspec.Struct, frozen=True):
    """What turns the words of a question round without turning its meaning.

    ``passive``: something is done to what stands first ("is it drained"); ``links``: the little
    words between two things ("questions about health", "health questions"); ``joined``: two
    things stand side by side. ``closed``: it is answered by yes or no.
    """

    passive: bool = False
    links: tuple[str, ...] = ()
    joined: bool = False
    closed: bool = False


def frame_of(text: str) -> Frame:
    """The frame of a lower-case text."""
    words = _WORD.findall(text)
    return Frame(
        passive=_passive(words),
        links=tuple(sorted([w for w in words if w in _LINKS] + _POSSESSIVE.findall(text))),
        joined=not _JOINING.isdisjoint(words),
        closed=bool(words) and words[0] in _CLOSED and _OPEN.isdisjoint(words),
    )


def _passive(words: Sequence[str]) -> bool:
    being = False
    for word in words:
        if word in _BE:
            being = True
        elif being and ((word.endswith("ed") and len(word) > 4) or word in _PARTICIPLES):
            return True
    return False


def reversed_roles(
    first: Sequence[str], second: Sequence[str], frames: tuple[Frame, Frame]
) -> bool:
    """Whether two questions of the same words give them other parts: "from Graz to Vienna" and
    "from Vienna to Graz", but not "of old and new boards" and "of new and old ones".

    ``first`` and ``second`` are what they are about, in order.
    """
    if sorted(first) != sorted(second) or len(set(first)) != len(first):
        return False
    one, other = frames
    same = list(first) == list(second)
    if one.passive != other.passive:
        return same and len(first) >= 3  # "who trusts a node", "who is trusted by a node"
    if same or one.links != other.links or (one.joined and other.joined):
        return False
    place = {word: number for number, word in enumerate(second)}
    order = [place[word] for word in first]
    whole = range(len(order))
    around = any(
        order[a] > order[middle] > order[b]
        for a in whole
        for middle in whole[a + 1 :]
        for b in whole[middle + 1 :]
    )
    # Neighbours that changed places; a longer part that moved as one only stands elsewhere.
    swapped = any(
        order[a] == order[a + 1] + 1
        and (a == 0 or order[a - 1] < order[a + 1])
        and (a + 2 == len(order) or order[a] < order[a + 2])
        for a in whole[:-1]
    )
    return around or swapped
