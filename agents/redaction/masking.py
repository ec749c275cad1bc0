"""Masking and unmasking: one map per conversation, kept here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from agents.redaction.rules import Detector, Find, Listed
from mesh.core.errors import GossamerError

MAX_TEXT_CHARS = 64 * 1024  # a longer text keeps the detectors busy for seconds
MAX_PLACEHOLDERS = 4096  # per conversation; beyond it a text is refused, never sent unmasked
HELD_CHARS = 48  # the longest spelling of a placeholder that a stream waits for

_IN_BRACKETS: Final = (
    r"(?:\\?<|&lt;|\[)[ \t]{0,2}(?P<kind>[A-Za-z]{2,16})[ \t]{0,2}(?:\\?_|-|[ \t])?[ \t]{0,2}"
    r"(?P<number>\d{1,4})[ \t]{0,2}(?:\\?>|&gt;|\])"
)
_BARE: Final = r"(?<![A-Za-z0-9_])(?P<bare>[A-Z]{2,16})\\?_(?P<count>\d{1,4})(?![A-Za-z0-9_])"
_PLACEHOLDER: Final = re.compile(f"{_IN_BRACKETS}|{_BARE}")
# The end of a stream so far that may grow into a placeholder: an open bracket with only what a
# placeholder can hold behind it, or a bare word in capitals.
_OPENING: Final = re.compile(
    rf"(?:\\|\\?<|&(?:l(?:t;?)?)?|\[)[A-Za-z0-9_\\& \t;-]{{0,{HELD_CHARS}}}\Z"
    rf"|(?<![A-Za-z0-9_])[A-Z]{{1,16}}(?:\\?_?|\\?_\d{{1,4}})\Z"
)


class PersonalDataLeft(GossamerError):
    """Masking is required and personal data would leave all the same; nothing was sent."""

    code = "personal_data"

    def __init__(self, kinds: Sequence[str]) -> None:
        found = ", ".join(sorted({kind.lower() for kind in kinds}))
        super().__init__(
            f"this text may not leave: it still seems to hold personal data ({found})",
            hint="take it out, name it in [redaction], or keep the question in the mesh",
        )
        self.kinds = tuple(sorted(set(kinds)))


class Redactor:
    """Detectors, in order of precedence, the wider nets that refuse, and what is let through.

    ``required``: what :meth:`Masking.outgoing` does with a text that cannot be masked whole.
    """

    def __init__(
        self,
        detectors: Sequence[Detector],
        residues: Sequence[Detector] = (),
        keep: Sequence[str] = (),
        *,
        required: bool = True,
    ) -> None:
        self.required = required
        self._detectors = tuple(detectors)
        self._residues = tuple(residues)
        self._keep = tuple(Listed("KEEP", [text]) for text in keep)

    def spans(self, text: str) -> list[Find]:
        """What is personal data in ``text``, in order and without overlaps.

        Findings that overlap become one, of the kind of the longest (the earlier detector's
        when equally long): half a finding left over would leave half a secret.
        """
        kept = {(find.start, find.end) for keep in self._keep for find in keep.find(text)}
        found = [
            (find.start, find.start - find.end, rank, find)
            for rank, detector in enumerate(self._detectors)
            for find in detector.find(text)
            if (find.start, find.end) not in kept
        ]
        spans: list[Find] = []
        best = (0, 0)
        for start, length, rank, find in sorted(found, key=lambda x: x[:3]):
            if not spans or start >= spans[-1].end:
                spans.append(find)
                best = (length, rank)
                continue
            last = spans[-1]
            kind = find.kind if (length, rank) < best else last.kind
            best = min(best, (length, rank))
            spans[-1] = Find(last.start, max(last.end, find.end), kind)
        return spans

    def residual(self, masked: str) -> tuple[str, ...]:
        """The kinds of personal data that a masked text still seems to hold."""
        blank = _PLACEHOLDER.sub(lambda match: "\0" * len(match.group()), masked)
        for keep in self._keep:
            for find in keep.find(blank):
                blank = blank[: find.start] + "\0" * (find.end - find.start) + blank[find.end :]
        nets = (*self._detectors, *self._residues)
        return tuple(sorted({find.kind for net in nets for find in net.find(blank)}))

    def begin(self) -> Masking:
        """A map for one conversation."""
        return Masking(self)


class Masking:
    """The placeholders of one conversation. The same value gets the same placeholder.

    ``counters`` counts what was masked, by kind; they may be shown, the map may not.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._placeholders: dict[tuple[str, str], str] = {}  # (kind, value): placeholder
        self._values: dict[tuple[str, int], str] = {}
        self._next: Counter[str] = Counter()
        self.counters: Counter[str] = Counter()

    def __repr__(self) -> str:
        # A map that stands in a log has left the node.
        return f"Masking({len(self._values)} placeholders)"

    def mask(self, text: str) -> str:
        """``text`` with a placeholder for each finding; raises
        :class:`~mesh.core.errors.GossamerError` for a text too long to look through."""
        if len(text) > MAX_TEXT_CHARS:
            raise GossamerError(
                f"a text of {len(text)} characters is too long to be masked",
                hint=f"send at most {MAX_TEXT_CHARS} at once",
            )
        # What already looks like a placeholder is the writer's; ours count on from there.
        for match in _PLACEHOLDER.finditer(text):
            kind, number = _key(match)
            if (kind, number) not in self._values:
                self._next[kind] = max(self._next[kind], number)
        pieces, place = [], 0
        for find in self._redactor.spans(text):
            pieces += [
                text[place : find.start],
                self._placeholder(find.kind, text[find.start : find.end]),
            ]
            place = find.end
        return "".join([*pieces, text[place:]])

    def mask_or_refuse(self, text: str) -> str:
        """As :meth:`mask`, for where masking is required: raises :class:`PersonalDataLeft` when
        the masked text still seems to hold personal data. The error names kinds, no values."""
        masked = self.mask(text)
        left = self._redactor.residual(masked)
        if left:
            raise PersonalDataLeft(left)
        return masked

    def outgoing(self, text: str) -> str:
        """What may leave for the cloud in place of ``text``: :meth:`mask_or_refuse` where
        masking is required, else :meth:`mask`. Every text that leaves goes through here."""
        return self.mask_or_refuse(text) if self._redactor.required else self.mask(text)

    def unmask(self, text: str) -> str:
        """``text`` with the values put back, also where a model wrote ``<person 1>``,
        ``[PERSON_1]`` or ``PERSON_1``. Placeholders of nobody stay as they are."""
        return self.unmask_after("", text)

    def unmask_after(self, before: str, text: str) -> str:
        """As :meth:`unmask`, for a ``text`` that continues ``before``: "X" and then "PERSON_1"
        are no placeholder, as "XPERSON_1" is none."""
        whole, place, pieces = before + text, len(before), []
        for match in _PLACEHOLDER.finditer(whole, place):
            pieces += [whole[place : match.start()], self._values.get(_key(match), match.group())]
            place = match.end()
        return "".join([*pieces, whole[place:]])

    def stream(self) -> StreamUnmasker:
        """For an answer that comes in pieces."""
        return StreamUnmasker(self)

    def _placeholder(self, kind: str, value: str) -> str:
        key = (kind, value)  # as it is spelt: "ANNA" must come back as "ANNA"
        known = self._placeholders.get(key)
        if known is None:
            if len(self._placeholders) >= MAX_PLACEHOLDERS or self._next[kind] >= 9999:
                raise GossamerError(
                    "this conversation holds more personal data than can be masked",
                    hint="begin a new one",
                )
            self._next[kind] += 1
            known = self._placeholders[key] = f"<{kind}_{self._next[kind]}>"
            self._values[kind, self._next[kind]] = value
        self.counters[kind] += 1
        return known


def _key(match: re.Match[str]) -> tuple[str, int]:
    kind, number = match["kind"] or match["bare"], match["number"] or match["count"]
    return kind.upper(), int(number)


class StreamUnmasker:
    """Unmasks an answer piece by piece: what may be the beginning of a placeholder waits."""

    def __init__(self, masking: Masking) -> None:
        self._masking = masking
        self._held = ""
        self._before = ""  # the last character that was let go, as the model wrote it

    def feed(self, piece: str) -> str:
        """What can be shown now; at most some 50 characters wait for the next piece."""
        text = self._held + piece
        cut = _open_end(text)
        self._held = text[cut:]
        return self._let_go(text[:cut])

    def finish(self) -> str:
        """The rest, once the answer is whole."""
        rest, self._held = self._held, ""
        return self._let_go(rest)

    def _let_go(self, text: str) -> str:
        shown = self._masking.unmask_after(self._before, text)
        self._before = text[-1:] or self._before
        return shown


def _open_end(text: str) -> int:
    """From where on ``text`` may still grow into a placeholder; its length if nowhere."""
    place = max(0, len(text) - 2 * HELD_CHARS)
    bare = []
    for match in _PLACEHOLDER.finditer(text):
        if match["bare"]:
            bare.append(match)  # may go on: PERSON_1 becomes PERSON_12
        else:
            place = max(place, match.end())  # closed by its bracket
    while opening := _OPENING.search(text, place):
        start = opening.start()
        around = next((m for m in bare if m.start() < start < m.end()), None)
        if around is None:
            return start
        if around.end() == len(text):
            return around.start()
        place = around.end()
    return len(text)
