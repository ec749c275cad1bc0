"""The first planner: rules that split a question into parts and never inside a calculation.

"What is 48*27 and what is 12+30?" is two steps at once, "add 3 and 4, then multiply the result
by 5" two in a row, "the sum of 3 and 4" one. When a rule is not sure, the question stays whole:
a model that reads two parts at once does better than one that reads half a part.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from agents.orchestrator.plan import Plan, Step, checked

MAX_SPLIT_CHARS = 2000  # longer texts are documents, not lists of questions

_WORDS = (
    "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|"
    "fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|"
    "eighty|ninety|hundred|thousand"
)
_NUM = rf"(?:-?\d[\d.,]*(?<![.,])|\b(?:{_WORDS})(?:[-\s](?:{_WORDS}))*\b)"
_OP = (
    r"(?:[-+*/\u00d7\u00f7^]|x\b|plus\b|minus\b|times\b|multiplied (?:by|with)\b|divided by\b|"
    r"added to\b|less\b|take away\b|subtracted from\b|taken from\b)"
)
_NOUN = r"(?:sum|product|difference|total)"
_VERBS = (
    "add|subtract|multiply|divide|deduct|double|triple|halve|square|increase|decrease|reduce|"
    "sum up|sum|take|plus|minus|times"
)
_INFIX = re.compile(rf"{_NUM}\s*{_OP}\s*{_NUM}", re.I)
_NOUN_CALC = re.compile(rf"\b{_NOUN}\s+(?:of|between)\s+{_NUM}\s+and\s+{_NUM}", re.I)
_VERB_CALC = re.compile(
    rf"\b(?:{_VERBS})\b.*?{_NUM}\s*(?:and|to|by|from|with|away from)\s+{_NUM}", re.I
)
_OPEN = re.compile(
    rf"\b(?:{_NOUN}\s+of|between|add|adding|multiply|multiplying|sum|subtract|divide|both)\s+"
    r"(?!.*\b(?:and|to|by|from|with)\b)",
    re.I,
)
_AUX = r"(?:is|are|was|were|do|does|did|can|could|will|would|should|has|have|am|'s|s)\b"
_ADJECTIVES = r"(?:many|much|busy|full|long|old|far|fast|big|warm|hot|large|often|well|safe)"
_QUESTION = re.compile(
    rf"(?:what|who|where|when|why)\s*{_AUX}|how\s+(?:{_AUX}|{_ADJECTIVES}\b)"
    rf"|(?:what|which|whose)\s+(?!you\b|i\b|we\b|they\b|it\b|he\b|she\b|the\b|a\b)[\w-]+(?:\s+[\w-]+)?\s+{_AUX}"
    r"|(?:is|are|does|do|can|could|will|would|has|have|did)\s+"
    r"(?:you|i|we|it|the|this|that|there|a|an|my|all|every|any|each|anyone|anybody|nodes?)\b"
    # "is PM2.5 of 41.7 safe": a thing with a reading, and not "is about 3 km long"
    r"|(?:is|are|was|were)\s+(?!(?:about|at|over|under|above|below|more|less|only|nearly|not)\b)"
    r"[a-z][\w.]*\s+(?:[a-z]+\s+){0,2}\d\S*\s+\S"
    r"|what\s+(?:about|happens|makes)\b|who\s+(?:made|wrote|runs|decides)\b",
    re.I,
)
_IMPERATIVE = re.compile(
    r"(?:calculate|compute|evaluate|solve|work\s+out|tell\s+me|give\s+me|show\s+me|explain|"
    r"describe|list|name|write|say|find\s+out|summari[sz]e|translate|compare|let\s+me\s+know)\b",
    re.I,
)
_ARITHMETIC = re.compile(rf"(?:{_VERBS})\b", re.I)
_BARE = re.compile(
    rf"(?:the\s+)?{_NOUN}\s+of\s+{_NUM}\s+and\s+{_NUM}|{_NUM}\s*{_OP}\s*{_NUM}", re.I
)
_LEAD = re.compile(
    r"(?:(?:please|kindly|also|now|so|and|then|next|finally|ok|okay)\b[\s,]*)+", re.I
)
_POLITE = re.compile(
    r"(?:(?:can|could|would|will)\s+you\s+(?:please\s+)?|i\s+want\s+to\s+know\s+|i\s+need\s+to\s+know\s+)"
    r"(?=\w)",
    re.I,
)
_FILLER = re.compile(
    r"(?:hi|hello|hey|good\s+(?:morning|evening|afternoon|day)|please|thanks|thank\s+you"
    r"|ok(?:ay)?|quick\s+question|two\s+(?:things|questions)|cheers)(?:\s+(?:there|all|again))?"
    r"[\s.,:!]*",
    re.I,
)
_CONNECTOR = re.compile(
    r"(?:\s*,\s*|\s+)(?:and\s+|but\s+)?(?:then|after\s+that|afterwards|next|finally)\s*,?\s+"
    r"|\s*,\s+(?:and\s+)?(?:also\s+)?|\s+and\s+(?:also\s+)?",
    re.I,
)
_SEQUENCE = re.compile(r"then|after|next|finally", re.I)
_SENTENCE = re.compile(
    r"(?<=[?!])\s+(?=\S)|\s*;\s*|\s*\n+\s*|(?<=[^\d\s.])\.\s+(?=\S)|(?<=\d)\.\s+(?=\S)"
)
_THE_RESULT = (
    r"(?:(?:the|that|this|its)\s+)?(?:previous\s+|last\s+|first\s+)?"
    r"(?:result|answer|outcome)|(?:the|that)\s+(?:sum|product|difference|total)(?!\s+of)"
)
_RESULT_REF = re.compile(rf"\b(?:{_THE_RESULT})\b", re.I)
_PRONOUN = re.compile(r"\b(?:it|that|this)\b", re.I)
_PAIR_REF = re.compile(
    r"\b(?:them|these|those|both(?:\s+(?:the\s+)?(?:results|answers|numbers|of\s+them|sums|products))?"
    r"|(?:the|these|those)\s+(?:two\s+)?(?:results|answers|two|products|sums))(?:\s+together|\s+up)?",
    re.I,
)
_COREFERENCE = re.compile(r"\b(?:it|its|they|them|their|that|those|these|he|she)\b", re.I)


class _Part(NamedTuple):
    text: str
    depends: tuple[int, ...]
    calculation: bool


class RulePlanner:
    """Splits by rules; see the module."""

    def plan(self, question: str) -> Plan:
        """The question as steps, one when no rule splits it; raises :class:`PlanRefused`."""
        text = " ".join(question.split(" ")).strip()
        parts = _parts(text) if 0 < len(text) <= MAX_SPLIT_CHARS else []
        if len(parts) < 2:
            return checked(Plan(steps=(Step(id=1, question=text),), method="rules: one part"))
        steps = tuple(
            Step(id=number, question=part.text, depends=part.depends)
            for number, part in enumerate(parts, start=1)
        )
        rows = "in a row" if any(step.depends for step in steps) else "independent"
        return checked(Plan(steps=steps, method=f"rules: {len(steps)} parts, {rows}"))


def _parts(text: str) -> list[_Part]:
    sentences = [piece.strip() for piece in _SENTENCE.split(text)]
    real = [s for s in sentences if s and not _FILLER.fullmatch(s)]
    # A sentence that asks nothing is the story that the question is about: keep it whole.
    if not real or not all(_is_request(s) or _continues(s) for s in real):
        return []
    parts: list[_Part] = []
    for number, sentence in enumerate(real):
        for position, (connector, segment) in enumerate(_segments(sentence)):
            first = number == 0 and position == 0
            if first:
                parts.append(_Part(segment, (), _is_calculation(segment)))
            elif not _append(parts, connector, segment, new_sentence=position == 0):
                joined = parts[-1].text + (connector or " ") + segment
                parts[-1] = _Part(joined, parts[-1].depends, _is_calculation(joined))
    if any(_OPEN_END.search(part.text) for part in parts[:-1]):
        return []
    return [part._replace(text=_tidy(part.text)) for part in parts]


_OPEN_END = re.compile(r"\b(?:and|or|of|the|between|how|what|to)\s*$", re.I)


def _segments(sentence: str) -> list[tuple[str, str]]:
    """The sentence cut where a connector is followed by something that may stand alone."""
    cut: list[tuple[str, str]] = []
    start, connector = 0, ""
    for match in _CONNECTOR.finditer(sentence):
        rest = _bare_request(sentence[match.end() :])
        sequence = bool(_SEQUENCE.search(match.group()))
        if match.start() > start and _may_begin(rest, sequence=sequence):
            cut.append((connector, sentence[start : match.start()].strip()))
            start, connector = match.end(), match.group()
    cut.append((connector, sentence[start:].strip()))
    return cut


def _may_begin(rest: str, *, sequence: bool) -> bool:
    if _QUESTION.match(rest) or _IMPERATIVE.match(rest) or _BARE.match(rest):
        return True
    if not _ARITHMETIC.match(rest):
        return False
    return sequence or bool(re.search(_NUM, rest, re.I) or _refers(rest))


def _append(parts: list[_Part], connector: str, segment: str, *, new_sentence: bool) -> bool:
    """Take the segment as a part of its own; False when it belongs to the one before."""
    before = parts[-1]
    sequence = bool(_SEQUENCE.search(connector)) or bool(
        re.match(r"(?:and\s+)?(?:then|now|after\s+that|finally|next)\b", segment, re.I)
    )
    request = _bare_request(segment)
    if not (new_sentence or before.calculation or _is_request(before.text)):
        return False
    if _OPEN.search(before.text):
        return False
    pair = _PAIR_REF.search(request)
    arithmetic = bool(_ARITHMETIC.match(request)) or bool(re.search(_OP, request, re.I))
    if pair and len(parts) >= 2 and before.calculation and parts[-2].calculation:
        if arithmetic or re.search(rf"\b{_NOUN}\b", request, re.I):
            pair_ids = (len(parts) - 1, len(parts))
            parts.append(_Part(_fill_pair(request, pair, pair_ids), pair_ids, True))
            return True
        return False
    if _is_calculation(request) and not _refers(request):
        text = _inherit(before.text, request) if _BARE.match(request) else request
        parts.append(_Part(text, (), True))
        return True
    if before.calculation and (arithmetic or _RESULT_REF.search(request)):
        return _append_dependent(parts, request, sequence=sequence)
    if _ARITHMETIC.match(request) or _COREFERENCE.search(request):
        return False
    if not (_QUESTION.match(request) or _IMPERATIVE.match(request)):
        return False
    parts.append(_Part(request, (), _is_calculation(request)))
    return True


def _append_dependent(parts: list[_Part], request: str, *, sequence: bool) -> bool:
    hole = f"{{{len(parts)}}}"
    for reference in (_RESULT_REF, _PRONOUN):
        match = reference.search(request)
        if match:
            text = request[: match.start()] + hole + request[match.end() :]
            break
    else:
        if not sequence and not parts[-1].calculation:
            return False
        text = _with_operand(request, hole)
    text = re.sub(rf"^double\s+{re.escape(hole)}", f"multiply {hole} by 2", text, flags=re.I)
    text = re.sub(rf"^triple\s+{re.escape(hole)}", f"multiply {hole} by 3", text, flags=re.I)
    if hole not in text:
        return False
    parts.append(_Part(text, (len(parts),), True))
    return True


def _with_operand(request: str, hole: str) -> str:
    """ "multiply by 3" with what is to be multiplied said."""
    verb, _, rest = request.partition(" ")
    kind = verb.lower()
    tail = rest.rstrip("?!. ")
    if kind in {"add", "plus"}:
        return f"{hole} plus {tail}" if kind == "plus" else f"add {tail} to {hole}"
    if kind in {"subtract", "deduct", "take"}:
        return f"subtract {tail} from {hole}"
    if kind in {"minus", "times"}:
        return f"{hole} {kind} {tail}"
    if kind in {"double", "triple", "halve", "square"}:
        return f"{kind} {hole}"
    if tail.lower().startswith(("by ", "with ")):
        return f"{verb} {hole} {tail}"
    return request


def _fill_pair(request: str, pair: re.Match[str], ids: tuple[int, int]) -> str:
    first, second = f"{{{ids[0]}}}", f"{{{ids[1]}}}"
    verb = request.split(" ", 1)[0].lower()
    both = f"{first} and {second}"
    if verb in {"subtract", "deduct"}:
        both = f"{second} from {first}"
    elif verb == "multiply":
        both = f"{first} by {second}"
    return (request[: pair.start()] + both + request[pair.end() :]).strip()


def _inherit(before: str, request: str) -> str:
    """ "7 * 8" after "what is 3 + 4" is asked as "what is 7 * 8"."""
    head = _BARE.search(before)
    lead = before[: head.start()] if head else ""
    lead = re.sub(r"\bthe\s*$", "", lead, flags=re.I)
    return f"{lead}{request}" if lead.strip() and len(lead) <= 40 and "{" not in lead else request


def _bare_request(text: str) -> str:
    """The text without "please", "and", "can you" before what is asked."""
    text = _LEAD.sub("", text, count=1) if _LEAD.match(text) else text
    polite = _POLITE.match(text)
    return text[polite.end() :] if polite else text


def _is_request(text: str) -> bool:
    bare = _bare_request(_FILLER.sub("", text, count=1) if _FILLER.match(text) else text)
    return bool(
        _QUESTION.match(bare)
        or _IMPERATIVE.match(bare)
        or _is_calculation(bare)
        or text.rstrip().endswith("?")
    )


def _continues(sentence: str) -> bool:
    request = _bare_request(sentence)
    return bool(_ARITHMETIC.match(request)) and bool(
        _refers(request) or re.search(_NUM, request, re.I)
    )


def _is_calculation(text: str) -> bool:
    return bool(_INFIX.search(text) or _NOUN_CALC.search(text) or _VERB_CALC.search(text))


def _refers(text: str) -> bool:
    return bool(_RESULT_REF.search(text) or _PRONOUN.search(text) or _PAIR_REF.search(text))


def _tidy(text: str) -> str:
    """A part as it is asked: no dangling comma, and a question mark stays only at the end."""
    return text.strip().strip(",;").strip()
