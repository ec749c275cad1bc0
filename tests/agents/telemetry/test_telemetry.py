"""What an agent tells of its work: counted once, bounded, and without anybody's words."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence

import pytest

from agents.telemetry.feed import Feed
from agents.telemetry.logs import JsonFormatter, TextFormatter, current_trace
from agents.telemetry.meter import FIRST_TOKEN, MAX_SERIES, OTHER, Meter
from agents.telemetry.observer import Observer, WatchedCall, begun
from agents.telemetry.spans import Span, SpanBook
from agents.telemetry.tracebook import MAX_EVENTS, TraceBook, TraceRecord
from capabilities.messages import Delta, Done, Usage, encode
from mesh.core.errors import Rejected

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def span(**changes: object) -> Span:
    known = {"trace": TRACE, "span": SPAN, "name": "x", "kind": "server", "at": 1.0}
    return Span(**{**known, "elapsed_s": 0.5, **changes})  # type: ignore[arg-type]


def test_a_histogram_counts_a_value_in_the_bucket_that_it_is_at_most() -> None:
    meter = Meter()
    for value in (0.001, 0.0011, 99.0):
        meter.observe(FIRST_TOKEN, value, name="x")
    series = meter.series()[0]
    assert series.counts[:2] == [1, 1]
    assert series.counts[-1] == 1
    assert series.value == 3


def test_names_that_peers_choose_cannot_fill_the_memory() -> None:
    meter = Meter()
    for number in range(MAX_SERIES + 50):
        meter.count("gossamer.served", name=f"n{number}")
    assert len(meter.series()) == MAX_SERIES + 1
    assert meter.value("gossamer.served", name=OTHER) == 50


def test_a_slow_watcher_loses_the_oldest_and_is_told_how_many() -> None:
    async def run() -> None:
        feed = Feed()
        watcher = feed.join()
        for number in range(1030):
            feed.tell(number)
        events = watcher.take()
        assert events[0] == {"type": "lost", "events": 6}
        assert events[-1] == 1029
        assert watcher.take() == []
        feed.leave(watcher)
        assert not feed.watched

    asyncio.run(run())


def test_a_trace_is_found_by_the_beginning_of_its_id_and_the_oldest_goes() -> None:
    book = TraceBook(size=2)
    for name in ("aaaa1", "bbbb1", "bbbb2"):
        book.open(TraceRecord(trace=name, verb="ask", question="?", at=0.0, events=[]))
    found = book.find("bbbb")
    assert found is not None
    assert found.trace == "bbbb2"
    assert book.find("aaaa") is None
    assert book.find("bb") is None


def test_pieces_of_text_in_a_row_are_one_event_and_events_are_bounded() -> None:
    record = TraceRecord(trace="x", verb="ask", question="?", at=0.0, events=[])
    for text in "abc":
        record.note(0.1, {"type": "delta", "step": 1, "text": text, "thinking": False})
    assert record.events == [(0.1, {"type": "delta", "step": 1, "text": "abc", "thinking": False})]
    for _ in range(MAX_EVENTS + 5):
        record.note(0.2, {"type": "retry"})
    assert len(record.events) == MAX_EVENTS
    assert record.dropped == 6


def test_the_latest_spans_of_a_trace_are_kept_in_order() -> None:
    book = SpanBook(size=2)
    for at in (3.0, 2.0, 1.0):
        book.add(span(at=at))
    assert [one.at for one in book.of(TRACE)] == [1.0, 2.0]
    assert book.of("other") == []


async def _messages(bodies: Sequence[bytes], error: Exception | None) -> AsyncIterator[bytes]:
    for body in bodies:
        yield body
    if error is not None:
        raise error


@pytest.mark.parametrize(
    ("error", "outcome"), [(None, "ok"), (Rejected("full"), "rejected"), (ValueError(), "internal")]
)
def test_a_call_leaves_one_span_however_it_ends(error: Exception | None, outcome: str) -> None:
    done = Done(text="a", finish="stop", usage=Usage(prompt_tokens=3, completion_tokens=5))
    bodies = [encode(Delta(text="a")), *([encode(done)] if error is None else [])]
    spans: list[Span] = []

    async def run() -> None:
        call = WatchedCall(
            _messages(bodies, error),
            begun(trace=TRACE, span=SPAN, name="x", kind="server"),
            spans.append,
        )
        try:
            async for _ in call:
                pass
        except (Rejected, ValueError):
            pass
        await call.aclose()

    asyncio.run(run())
    assert [one.outcome for one in spans] == [outcome]
    assert spans[0].output_tokens == (5 if error is None else 0)
    assert spans[0].first_token_s >= 0


def test_a_call_that_is_closed_early_says_so() -> None:
    spans: list[Span] = []

    async def run() -> None:
        call = WatchedCall(
            _messages([encode(Delta(text="a"))] * 3, None),
            begun(trace=TRACE, span=SPAN, name="x", kind="client"),
            spans.append,
        )
        await anext(call)
        await call.aclose()

    asyncio.run(run())
    assert [one.outcome for one in spans] == ["cancelled"]


def line(formatter: logging.Formatter, **extra: object) -> str:
    record = logging.LogRecord("gossamer.x", logging.INFO, "f", 1, "hello %s", ("you",), None)
    record.__dict__.update(extra)
    return formatter.format(record)


def test_a_json_line_holds_its_trace_and_its_facts() -> None:
    token = current_trace.set(TRACE)
    try:
        found = json.loads(line(JsonFormatter(), facts={"nodes": ["oak"], "level": "forged"}))
    finally:
        current_trace.reset(token)
    assert found["message"] == "hello you"
    assert found["trace"] == TRACE
    assert found["nodes"] == ["oak"]
    assert found["level"] == "INFO"
    assert "\n" not in line(JsonFormatter())
    assert line(TextFormatter("%(message)s"), trace=TRACE).endswith(f"trace={TRACE}")


@pytest.mark.parametrize("wanted", [False, True])
def test_words_stand_in_the_log_only_when_asked_for(
    wanted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    observer = Observer(log_content=wanted)
    with (
        caplog.at_level(logging.INFO, "gossamer.request"),
        observer.request("ask", "a secret question", TRACE) as watch,
    ):
        watch.answered({"text": "a secret answer", "cost": 0.25, "degraded": True})
    told = " ".join(line(JsonFormatter(), facts=r.facts) for r in caplog.records)
    assert ("secret" in told) is wanted
    assert observer.meter.value("gossamer.cost") == 0.25
    assert observer.meter.value("gossamer.answers.degraded") == 1
    assert observer.meter.value("gossamer.requests", verb="ask", outcome="ok") == 1


def test_spans_reach_opentelemetry_with_the_ids_that_travelled() -> None:
    export = pytest.importorskip(
        "opentelemetry.sdk.trace.export.in_memory_span_exporter",
        reason="pip install 'gossamer-mesh[otel]'",
    )
    from agents.telemetry.otel import OtelSink

    exporter = export.InMemorySpanExporter()
    sink = OtelSink("http://127.0.0.1:1", "oak", exporter=exporter)
    sink.export(span(parent="00f067aa0ba902b7", output_tokens=5, input_tokens=3, model="m"))
    sink.export(span(kind="client", outcome="deadline", node="elm"))
    sink._processor.force_flush()
    served, called = exporter.get_finished_spans()
    assert served.context.trace_id == int(TRACE, 16)
    assert served.context.span_id == int(SPAN, 16)
    assert served.parent.span_id == 0x00F067AA0BA902B7
    assert served.attributes["gen_ai.usage.output_tokens"] == 5
    assert served.resource.attributes["service.instance.id"] == "oak"
    assert called.attributes["error.type"] == "deadline"
    assert not called.status.is_ok
    sink.close()
