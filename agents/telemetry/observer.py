"""Where an agent's work is told once, and from where it goes to counts, spans, feed and log."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Protocol

from agents.telemetry.feed import Feed
from agents.telemetry.meter import FIRST_TOKEN, REQUEST_DURATION, TOKEN_USAGE, Meter
from agents.telemetry.spans import Span, SpanBook, root_span
from agents.telemetry.tracebook import TraceBook, TraceRecord
from agents.telemetry.working import Working
from capabilities.messages import Done, decode_event
from mesh.core.errors import GossamerError, WireError
from mesh.core.identity import Signed

if TYPE_CHECKING:
    from agents.ledger.book import LedgerBook

log = logging.getLogger("gossamer.request")

TAKEN_RUNGS = "escalation."


class SpanSink(Protocol):
    """Where spans go besides this node's own book, OpenTelemetry's exporter for one."""

    def export(self, span: Span) -> None:
        """Take a span; must not wait."""

    def close(self) -> None:
        """Send what is left."""


class Observer:
    """One per agent. ``log_content`` puts questions and answers into the log."""

    def __init__(self, *, log_content: bool = False) -> None:
        self.meter = Meter()
        self.spans = SpanBook()
        self.traces = TraceBook()
        self.feed = Feed()
        self.working = Working()
        self.ledger: LedgerBook | None = None
        self.sink: SpanSink | None = None
        self._log_content = log_content

    def span(self, span: Span) -> None:
        """A piece of work is over."""
        self.spans.add(span)
        if self.sink is not None:
            self.sink.export(span)
        if self.feed.watched:
            self.feed.tell({"type": "span", "span": span})

    def request(self, verb: str, question: str, trace: str) -> RequestWatch:
        """A request of this agent's own people begins."""
        record = TraceRecord(trace=trace, verb=verb, question=question, at=time.time(), events=[])
        return RequestWatch(self, self.traces.open(record))

    def finished(self, record: TraceRecord) -> None:
        """A request is over: count it, log it, tell it."""
        outcome = record.error or "ok"
        self.span(
            Span(
                trace=record.trace,
                span=root_span(bytes.fromhex(record.trace)),
                name=record.verb,
                kind="internal",
                at=record.at,
                elapsed_s=record.elapsed_s,
                outcome=outcome,
            )
        )
        self.meter.count("gossamer.requests", verb=record.verb, outcome=outcome)
        answer = record.answer if isinstance(record.answer, dict) else {}
        if answer.get("degraded"):
            self.meter.count("gossamer.answers.degraded")
        self._count_way(answer)
        node = answer.get("node")
        facts: dict[str, Any] = {
            "verb": record.verb,
            "outcome": outcome,
            "elapsed_s": round(record.elapsed_s, 4),
            "nodes": answer.get("nodes") or ([node] if node else []),
        }
        if self._log_content:
            facts |= {"question": record.question, "answer": answer.get("text", "")}
        log.info("request", extra={"trace": record.trace, "facts": facts})
        if self.feed.watched:
            self.feed.tell({"type": "request", "phase": "end", **record.line(), "answer": answer})

    def _count_way(self, answer: dict[str, Any]) -> None:
        cost = answer.get("cost")
        if isinstance(cost, int | float) and cost > 0:
            self.meter.count("gossamer.cost", float(cost))
        for line in answer.get("decisions") or []:
            rule, action = str(line.get("rule", "")), str(line.get("action", ""))
            if rule.startswith(TAKEN_RUNGS) and action.startswith(("take", "stop")):
                self.meter.count("gossamer.escalations", rung=rule.removeprefix(TAKEN_RUNGS))


class RequestWatch:
    """One request under way; used as a context that sees how it ends."""

    def __init__(self, observer: Observer, record: TraceRecord) -> None:
        self._observer = observer
        self.record = record
        self._began = time.monotonic()

    def __enter__(self) -> RequestWatch:
        feed = self._observer.feed
        if feed.watched:
            feed.tell({"type": "request", "phase": "begin", **self.record.line()})
        return self

    def event(self, event: Any) -> None:
        """Something happened on the way."""
        self.record.note(time.monotonic() - self._began, event)
        feed = self._observer.feed
        if feed.watched:
            feed.tell(
                {"type": "request", "phase": "event", "trace": self.record.trace, "event": event}
            )

    def answered(self, answer: Any) -> None:
        """The answer, as plain values."""
        self.record.answer = answer

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self.record.elapsed_s = time.monotonic() - self._began
        if isinstance(error, GossamerError):
            self.record.error = error.code
        elif error is not None and self.record.answer is None:
            self.record.error = "cancelled" if not isinstance(error, Exception) else "internal"
        self._observer.finished(self.record)


class WatchedCall(AsyncIterator[bytes]):
    """The messages of a call, timed; ``over`` gets the span when it ends, however it ends, and
    may return the receipt of a call that was served."""

    def __init__(
        self, source: AsyncIterator[bytes], begun: Span, over: Callable[[Span], Signed | None]
    ):
        self.receipt: Signed | None = None
        self._source = source
        self._begun = begun
        self._over: Callable[[Span], Signed | None] | None = over
        self._began = time.monotonic()
        self._first_s = -1.0
        self._last = b""

    async def __anext__(self) -> bytes:
        try:
            message = await anext(self._source)
        except StopAsyncIteration:
            self._end("ok")
            raise
        except GossamerError as error:
            self._end(error.code)
            raise
        except BaseException as error:
            self._end("internal" if isinstance(error, Exception) else "cancelled")
            raise
        if self._first_s < 0:
            self._first_s = time.monotonic() - self._began
        self._last = message
        return message

    async def aclose(self) -> None:
        """Cancel the call."""
        self._end("cancelled")
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()

    def _end(self, outcome: str) -> None:
        over, self._over = self._over, None
        if over is None:
            return
        done = _done(self._last) if outcome in {"ok", "cancelled"} else None
        if done is not None:
            outcome = "ok"  # closed after the last message
        usage = done.usage if done else None
        begun = self._begun
        self.receipt = over(
            Span(
                trace=begun.trace,
                span=begun.span,
                parent=begun.parent,
                name=begun.name,
                kind=begun.kind,
                at=begun.at,
                node=begun.node,
                elapsed_s=time.monotonic() - self._began,
                model=(done.model if done else "") or begun.model,
                outcome=outcome,
                first_token_s=self._first_s,
                input_tokens=usage.prompt_tokens if usage else 0,
                output_tokens=usage.completion_tokens if usage else 0,
            )
        )


def begun(*, trace: str, span: str, name: str, kind: str, **more: Any) -> Span:
    """A span that begins now."""
    return Span(trace=trace, span=span, name=name, kind=kind, at=time.time(), elapsed_s=0.0, **more)


def count_served(meter: Meter, span: Span) -> None:
    """What a served call adds to the counts."""
    labels = {"name": span.name, "model": span.model}
    meter.count("gossamer.served", name=span.name, outcome=span.outcome)
    meter.observe(REQUEST_DURATION, span.elapsed_s, **labels)
    if span.first_token_s >= 0:
        meter.observe(FIRST_TOKEN, span.first_token_s, **labels)
    if span.output_tokens:
        for kind, tokens in (("input", span.input_tokens), ("output", span.output_tokens)):
            meter.observe(TOKEN_USAGE, float(tokens), type=kind, **labels)


def _done(message: bytes) -> Done | None:
    if not message:
        return None
    try:
        event = decode_event(message)
    except WireError:
        return None  # a subscription's sample
    return event if isinstance(event, Done) else None
