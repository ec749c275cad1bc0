"""Shows an answer while it comes: its text as it is made, then the way it took.

Several steps may speak at once. One is shown live and the others wait in the order of the plan,
so that the words of two nodes never mix on a line. In a pipe only the whole answer is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agents.faces.sheets import printable, route_line, show_sheet, steps_sheet, summary
from agents.views import AnswerView, StepView

if TYPE_CHECKING:
    from rich.console import Console

_OVER = {"ok", "failed", "skipped"}


class LiveText:
    """Text that grows on a terminal: thinking dimmed and on lines of its own, the answer plain.

    ``visible`` is what of it is answer.
    """

    def __init__(self, out: Console) -> None:
        self._out = out
        self._thinking = False
        self._inside = False  # the cursor stands behind something on its line
        self.visible = ""

    def write(self, text: str, *, thinking: bool) -> None:
        """Show a piece at once; elsewhere than on a terminal nothing is shown."""
        if not thinking:
            self.visible += text
        if not self._out.is_terminal:
            return
        if thinking != self._thinking:
            self.end_line()
            self._thinking = thinking
        text = printable(text if self._inside else text.lstrip(), lines=True)
        if text:
            self._out.print(text, style="dim" if thinking else None, end="", soft_wrap=True)
            self._inside = not text.endswith("\n")

    def end_line(self) -> None:
        """Go to a fresh line, unless the cursor stands on one."""
        if self._inside:
            self._out.print()
            self._inside = False

    def finish(self, text: str) -> None:
        """The whole text is known: show it unless it is what was shown."""
        self.end_line()
        if self._out.is_terminal and text.strip() == self.visible.strip():
            return
        if text.strip():
            # A pipe gets the text as it is; a terminal would obey what is in it.
            whole = printable(text, lines=True) if self._out.is_terminal else text
            self._out.file.write(whole.rstrip("\n") + "\n")
            self._out.file.flush()


class AnswerStream:
    """Takes the events of the verb ``ask`` and, last, its answer.

    ``out`` gets the answer, ``aside`` the route (standard error when the answer is piped, so
    that the pipe holds nothing else).
    """

    def __init__(self, out: Console, aside: Console) -> None:
        self._out = out
        self._aside = aside
        self._steps: dict[int, StepView] = {}
        self._waiting: dict[int, list[tuple[str, bool]]] = {}  # pieces not yet shown
        self._front: int | None = None
        self._text = LiveText(out)  # of the step in front
        self._shown: dict[int, str] = {}  # what was visible of the steps before it

    def event(self, event: Any) -> None:
        """One event; an unknown kind, of a newer agent, is passed over."""
        if not self._out.is_terminal or not isinstance(event, dict):
            return
        kind = event.get("type")
        if kind == "plan":
            for step in msgspec.convert(event.get("steps", []), list[StepView]):
                self._steps[step.id] = step
        elif kind == "step":
            self._step(msgspec.convert(event.get("step"), StepView))
        elif kind == "retry":
            self._void(int(event.get("step", 0)), str(event.get("reason", "")))
        elif kind == "delta":
            piece = (str(event.get("text", "")), bool(event.get("thinking")))
            self._waiting.setdefault(int(event.get("step", 0)), []).append(piece)
            self._advance()

    def finish(self, answer: AnswerView) -> None:
        """The whole answer: what of it was not shown yet, and its route."""
        self._text.end_line()
        seen = " ".join([*self._shown.values(), self._text.visible])
        if not self._out.is_terminal or seen.split() != answer.text.split():
            self._text.visible = ""  # parts of it are not the answer
            self._text.finish(answer.text)
        if len(answer.steps) == 1:
            self._note(route_line(answer.steps[0]))
        elif answer.steps:
            show_sheet(steps_sheet(answer.steps), self._aside)
        if len(answer.steps) != 1 or answer.degraded:
            self._note(summary(answer))

    def abandon(self) -> None:
        """The answer will not come: leave what was shown on a line of its own."""
        self._text.end_line()

    def _step(self, step: StepView) -> None:
        before = self._steps.get(step.id)
        if before is not None and not step.question:
            step = msgspec.structs.replace(step, question=before.question)
        self._steps[step.id] = step
        self._advance()

    def _void(self, number: int, reason: str) -> None:
        """A step begins anew elsewhere: what its lost attempt had said is not the answer."""
        self._waiting.pop(number, None)
        if self._front == number:
            self._text.end_line()
            self._text = LiveText(self._out)
        step = self._steps.get(number)
        self._note(f"{step.name if step else 'a step'} again{f': {reason}' if reason else ''}")

    def _advance(self) -> None:
        """Show what may be shown: the front step's pieces, then the next step's."""
        while True:
            if self._front is None:
                left = sorted((self._steps.keys() | self._waiting.keys()) - self._shown.keys())
                if not left:
                    return
                self._front = left[0]
                self._label(self._front)
            for text, thinking in self._waiting.pop(self._front, []):
                self._text.write(text, thinking=thinking)
            front = self._steps.get(self._front)
            if front is None or front.status not in _OVER:
                return
            if front.status != "ok" and len(self._steps) > 1:
                self._note(route_line(front))
            self._text.end_line()
            self._shown[self._front] = self._text.visible
            self._text, self._front = LiveText(self._out), None

    def _label(self, number: int) -> None:
        """Say which of several steps speaks; one step alone needs no label."""
        step = self._steps.get(number)
        if step is not None and len(self._steps) > 1:
            self._note(f"[{step.id}] {step.question or step.name}")

    def _note(self, line: str) -> None:
        self._text.end_line()
        self._aside.print(printable(line), style="dim", soft_wrap=True)
