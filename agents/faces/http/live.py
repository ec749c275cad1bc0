"""What of a question's events may be sent as text at once, since sent text is not taken back.

The step in front speaks live, the others wait in the order of the plan. When a node fails or is
doubted after its words went out, no more is sent until the whole answer is known; if that answer
is another one, it follows behind a mark that says so.
"""

from __future__ import annotations

from agents.library.events import AskedEvent, Delta, Plan, Retry, Step
from agents.views import AnswerView

OVER = frozenset({"ok", "failed", "skipped"})
CORRECTED = "\n\n[The answer above did not hold. Instead:]\n\n"


class LiveText:
    """Takes events; returns what may be sent, as (text, whether it is thinking)."""

    def __init__(self, *, hold: bool = False) -> None:
        self._hold = hold
        self._waiting: dict[int, list[tuple[str, bool]]] = {}
        self._known: dict[int, str] = {}  # status of each step
        self._sent = ""
        self._spoken: set[int] = set()  # steps of which something was sent
        self._spoiled = False  # something sent was taken back

    def event(self, event: AskedEvent) -> list[tuple[str, bool]]:
        """What this event lets out."""
        match event:
            case Plan():
                self._known.update((step.id, step.status) for step in event.steps)
            case Delta():
                self._waiting.setdefault(event.step, []).append((event.text, event.thinking))
            case Retry():
                self._waiting.pop(event.step, None)
                self._spoiled = self._spoiled or event.step in self._spoken
            case Step():
                self._known[event.step.id] = event.step.status
                if event.step.status == "failed" and event.step.id in self._spoken:
                    self._spoiled = True
            case _:
                return []
        return self._release()

    def finish(self, answer: AnswerView) -> str:
        """What is still to be sent when the whole answer is known."""
        whole = answer.text
        if not self._sent.strip():
            return whole
        if _words(self._sent) == _words(whole):
            return ""
        if whole.startswith(self._sent):
            return whole[len(self._sent) :]
        return CORRECTED + whole

    def _release(self) -> list[tuple[str, bool]]:
        out: list[tuple[str, bool]] = []
        for number in sorted(self._known.keys() | self._waiting.keys()):
            if self._hold or self._spoiled:
                break
            for piece, thinking in self._waiting.pop(number, []):
                text = piece
                if not thinking:
                    if number not in self._spoken and self._sent:
                        text = "\n" + piece.lstrip()
                    self._spoken.add(number)
                    self._sent += text
                out.append((text, thinking))
            if self._known.get(number, "") not in OVER:
                break
        return out


def _words(text: str) -> list[str]:
    return text.split()
