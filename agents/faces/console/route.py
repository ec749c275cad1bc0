"""A question and its answer with the way they took, while it happens and afterwards; pure."""

from __future__ import annotations

from typing import Any

import msgspec

from agents.faces.console.marks import (
    NODE_TONES,
    Line,
    Span,
    line,
    seconds,
    step_span,
    width_of,
    wrapped,
)
from agents.faces.console.world import is_escalation
from agents.faces.sheets import printable
from agents.halves import halves_line
from agents.library.events import AskedEvent, Delta, Plan, Retry, Step
from agents.views import AnswerView, StepView
from capabilities.messages import Halves

OVER = {"ok", "failed", "skipped"}


class Part(msgspec.Struct, kw_only=True):
    """One step so far: what is known of it, and what its node has said."""

    view: StepView
    text: str = ""
    thinking: int = 0  # tokens of the scratchpad
    tokens: int = 0  # visible ones
    said: list[tuple[str, str]] = []  # who made which piece, where two machines make the text
    lost: list[str] = []  # nodes that did not do


class Turn:
    """One question. ``error`` is set when it ends without an answer."""

    def __init__(self, question: str) -> None:
        self.question = question
        self.parts: dict[int, Part] = {}
        self.answer: AnswerView | None = None
        self.error = ""

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.answer is not None or bool(self.error)

    def event(self, event: AskedEvent) -> None:
        """Take one event of the library's ``stream``."""
        match event:
            case Plan():
                for step in event.steps:
                    self._known(step)
            case Step():
                self._known(event.step)
            case Delta():
                part = self._part(event.step)
                if event.thinking:
                    part.thinking += event.tokens
                else:
                    part.text += event.text
                    if event.by or part.said:
                        part.said.append((event.by, event.text))
                    part.tokens += event.tokens
            case Retry():
                part = self._part(event.step)
                reason = f": {event.reason}" if event.reason else ""
                part.lost.append(f"{part.view.node or 'a node'}{reason}")
                part.text, part.tokens, part.thinking = "", 0, 0
                part.said.clear()
            case AnswerView():
                self.answer = event
                for step in event.steps:
                    self._known(step)

    def _part(self, number: int) -> Part:
        if number not in self.parts:
            view = StepView(id=number, name="", node="", question="", status="running")
            self.parts[number] = Part(view=view)
        return self.parts[number]

    def _known(self, step: StepView) -> None:
        before = self.parts.get(step.id)
        if before is None:
            self.parts[step.id] = Part(view=step)
            return
        old = before.view
        before.view = msgspec.structs.replace(
            step,
            question=step.question or old.question,
            depends=step.depends or old.depends,
            confidence=step.confidence if step.confidence >= 0 else old.confidence,
        )


def turn_lines(turn: Turn, width: int, currency: str = "") -> list[Line]:
    """Question, answer (or what of it has come), route."""
    found = [
        line(Span("> ", "busy"), Span(part, "head")) for part in wrapped(turn.question, width - 2)
    ]
    found += _text_lines(turn, width)
    found += route_lines(turn, width)
    if turn.error:
        found += [line(Span(part, "bad")) for part in wrapped(f"✗ {turn.error}", width)]
    if turn.answer is not None:
        found.append(_sum_line(turn.answer, currency))
        found += [line(Span(f"  {note}", "dim")) for note in turn.answer.notes]
        missing = "; ".join(turn.answer.missing)
        if turn.answer.degraded:
            text = f"! degraded{f': {missing}' if missing else ''}"
            found += [line(Span(part, "warn")) for part in wrapped(text, width)]
    return found


def _text_lines(turn: Turn, width: int) -> list[Line]:
    """The text, each part marked with the step that it came from where there are several."""
    many = len(turn.parts) > 1
    answer, tones = turn.answer, tones_of(turn)
    if answer is not None and answer.statements and many:
        return [
            line(
                Span(f"[{said.step or '-'}] " if not i else "    ", "name"),
                Span(part, tones.get(said.node, "")),
            )
            for said in answer.statements
            for i, part in enumerate(wrapped(said.text, width - 4))
        ]
    by_token = not many and coloured(turn, answer.text if answer is not None else "", width - 2)
    if by_token:
        return [(Span("  "), *row) for row in by_token]
    if answer is not None and not (many and _is_joined(turn, answer)):
        tone = tones.get(answer.nodes[0], "") if len(answer.nodes) == 1 else ""
        return [line("  ", Span(part, tone)) for part in wrapped(answer.text, width - 2)]
    found = []
    for number, part in sorted(turn.parts.items()):
        mark = f"[{number}] " if many else "  "
        for i, text in enumerate(
            wrapped(part.text.strip(), width - len(mark)) if part.text else ()
        ):
            tone = tones.get(part.view.node, "")
            found.append(line(Span(mark if not i else " " * len(mark), "name"), Span(text, tone)))
    return found


def coloured(turn: Turn, whole: str, width: int) -> list[Line]:
    """The text of one step that two machines made, each token in the colour of who made it, with
    a line that says whose is which; nothing where it is not known, or the answer is another."""
    part = next(iter(turn.parts.values()), None)
    if part is None or not part.said:
        return []
    said = [(by, printable(text, lines=True)) for by, text in part.said]
    if whole and "".join(text for _, text in said).split() != whole.split():
        return []
    tones = {
        by: NODE_TONES[i % len(NODE_TONES)]
        for i, by in enumerate(dict.fromkeys(by for by, _ in said if by))
    }
    owners = [by for by, text in said for char in text if not char.isspace()]
    rows, place = [], 0
    for text in wrapped("".join(text for _, text in said).strip(), width):
        spans: list[Span] = []
        for char in text:
            tone = tones.get(owners[min(place, len(owners) - 1)], "")
            place += not char.isspace()
            if spans and spans[-1].tone == tone:
                spans[-1] = Span(spans[-1].text + char, tone)
            else:
                spans.append(Span(char, tone))
        rows.append(tuple(spans))
    marks = [Span(f"{by} ", tone) for by, tone in tones.items()]
    return [*rows, line(Span("tokens by ", "dim"), *marks)]


def tones_of(turn: Turn) -> dict[str, str]:
    """A colour for each node that has a part in the answer; its words have the same."""
    nodes = dict.fromkeys(part.view.node for _, part in sorted(turn.parts.items()))
    return {node: NODE_TONES[i % len(NODE_TONES)] for i, node in enumerate(n for n in nodes if n)}


def _is_joined(turn: Turn, answer: AnswerView) -> bool:
    """Whether the answer is its steps' texts one after the other."""
    said = " ".join(part.text for _, part in sorted(turn.parts.items()))
    return said.split() == answer.text.split()


def route_lines(turn: Turn, width: int) -> list[Line]:
    """The way: one line a step, then what was tried in vain, why, and what was paid."""
    found: list[Line] = []
    tones = tones_of(turn)
    for number, part in sorted(turn.parts.items()):
        step = part.view
        spans: list[str | Span] = [Span("  "), step_span(step.status)]
        spans.append(Span(f" {number} ", "name"))
        spans.append(step.name or "...")
        if step.node:
            spans += [Span(" on ", "dim"), Span(step.node, tones.get(step.node, "head"))]
            if step.remote:
                spans.append(Span(" (remote)", "dim"))
        progress = Span(f"  {_progress(part)}", "dim")
        if width_of(row := line(*spans, progress)) <= width:
            found.append(row)
        else:
            found += [line(*spans), line(Span(f"      {_progress(part)}", "dim"))]
        if step.question and len(turn.parts) > 1:
            found += [
                line(Span(f"      {text}", "dim")) for text in wrapped(step.question, width - 6)
            ]
        tried = part.lost or step.attempts[:-1]
        if tried:
            found += _inset(f"not by {'; '.join(tried)}", width, "warn")
        for rung in _rungs(turn.answer, number):
            found += _inset(rung, width, "dim")
        if step.error:
            found += _inset(step.error, width, "bad")
        if step.note:
            found += _inset(step.note, width, "dim")
        if step.halves is not None:
            found += _inset(f"two machines: {halves_line(step.halves)}", width, "dim")
        if step.cloud is not None:
            paid = step.cloud
            about = "at most " if paid.estimated else ""
            text = (
                f"{paid.provider} {paid.model}: {about}{paid.cost:.6f} {paid.currency}, {paid.why}"
            )
            found += [line(Span(f"      {piece}", "warn")) for piece in wrapped(text, width - 6)]
    return found


def _inset(text: str, width: int, tone: str) -> list[Line]:
    return [line(Span(f"      {piece}", tone)) for piece in wrapped(text, width - 6)]


def _progress(part: Part) -> str:
    step = part.view
    if step.status == "waiting":
        after = f" for {', '.join(map(str, step.depends))}" if step.depends else ""
        return f"waits{after}"
    if step.status == "running":
        return f"{part.tokens} tokens" + (f", {part.thinking} thought" if part.thinking else "")
    took = seconds(step.elapsed_s)
    if step.status != "ok":
        return f"{step.status} after {took}"
    rate = f", {step.tokens / step.elapsed_s:.0f}/s" if step.elapsed_s > 0 and step.tokens else ""
    sure = f", sure {step.confidence:.2f}" if step.confidence >= 0 else ""
    return f"{step.tokens} tokens in {took}{rate}{sure}"


def _rungs(answer: AnswerView | None, step: int) -> list[str]:
    """The rungs of the ladder that were taken for a step."""
    if answer is None:
        return []
    found = []
    for decision in answer.decisions:
        if decision.get("step") == step and is_escalation(decision):
            rung = str(decision.get("rule", "")).removeprefix("escalation.")
            found.append(f"rung {rung}: {decision.get('action', '')}"[:120])
    return found


def _sum_line(answer: AnswerView, currency: str) -> Line:
    tokens = sum(step.tokens for step in answer.steps)
    cost = f"{answer.cost:.6f} {currency}".strip() if answer.cost else "nothing"
    where = ", ".join(answer.nodes) or "no node"
    text = f"  {where}; {tokens} tokens, {seconds(answer.elapsed_s)}, cost {cost}"
    trace = f", trace {answer.trace[:8]}" if answer.trace else ""
    return line(Span(text + trace, "dim"))


def turn_of(record: dict[str, Any], until_s: float | None = None) -> Turn:
    """The turn of a kept request (the verb ``trace``), as it stood after ``until_s`` seconds."""
    turn = Turn(str(record.get("question") or ""))
    for at_s, event in record.get("events") or ():
        if until_s is not None and at_s > until_s:
            return turn
        told = _told(event)
        if told is not None:
            turn.event(told)
    if until_s is not None and until_s < float(record.get("elapsed_s") or 0.0):
        return turn
    try:
        turn.event(msgspec.convert(record.get("answer"), AnswerView))
    except msgspec.ValidationError:
        answer = record.get("answer")
        if isinstance(answer, dict) and answer.get("text"):
            turn.event(_of_generation(answer))
    turn.error = str(record.get("error") or "")
    return turn


def _of_generation(answer: dict[str, Any]) -> AnswerView:
    """A generation, which has no plan, as an answer of one step."""
    usage = answer.get("usage")
    tokens = int((usage if isinstance(usage, dict) else {}).get("completion_tokens") or 0)
    text, node = str(answer["text"]), str(answer.get("node") or "")
    took = float(answer.get("elapsed_s") or 0.0)
    step = StepView(
        id=0,
        name=str(answer.get("name") or ""),
        node=node,
        question="",
        status="ok",
        elapsed_s=took,
        tokens=tokens,
        halves=msgspec.convert(answer.get("halves"), Halves | None),
    )
    return AnswerView(text=text, degraded=False, elapsed_s=took, steps=[step], nodes=[node])


def _told(event: Any) -> AskedEvent | None:
    try:
        told: Plan | Step | Delta | Retry = msgspec.convert(event, Plan | Step | Delta | Retry)
    except msgspec.ValidationError:
        return None
    return told
