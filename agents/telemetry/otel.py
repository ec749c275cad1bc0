"""Spans to an OpenTelemetry collector; needs the otel extra.

The ids are those that travelled in the call header, so spans of several nodes meet in one trace.
They are handed to the exporter as they are: OpenTelemetry's own tracer would draw other ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.telemetry.spans import Span
from mesh.core.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

PATH = "/v1/traces"  # OTLP over HTTP
NS = 1_000_000_000


class OtelSink:
    """Sends spans to ``endpoint`` in the background; raises :class:`ConfigError` without the extra.

    ``exporter`` replaces the one of the endpoint, for tests and other protocols.
    """

    def __init__(self, endpoint: str, node: str, *, exporter: SpanExporter | None = None) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise ConfigError(
                "telemetry.otlp_endpoint needs OpenTelemetry, which is not installed",
                hint="pip install 'gossamer-mesh[otel]'",
            ) from error
        self._resource = Resource.create({"service.name": "gossamer", "service.instance.id": node})
        url = endpoint if endpoint.endswith(PATH) else endpoint.rstrip("/") + PATH
        self._processor = BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=url))

    def export(self, span: Span) -> None:
        """Put a span into the queue; a full queue drops it, nobody waits."""
        self._processor.on_end(self._readable(span))

    def close(self) -> None:
        """Send what is left."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]

    def _readable(self, span: Span) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        def context(number: str) -> SpanContext:
            return SpanContext(
                trace_id=int(span.trace, 16),
                span_id=int(number, 16),
                is_remote=span.kind == "server",
                trace_flags=TraceFlags(TraceFlags.SAMPLED),
            )

        kinds = {"client": SpanKind.CLIENT, "server": SpanKind.SERVER}
        good = span.outcome == "ok"
        return ReadableSpan(
            name=f"{'chat' if span.kind != 'internal' else 'ask'} {span.name}",
            context=context(span.span),
            parent=context(span.parent) if span.parent else None,
            kind=kinds.get(span.kind, SpanKind.INTERNAL),
            resource=self._resource,
            attributes=_attributes(span),
            status=Status(StatusCode.OK) if good else Status(StatusCode.ERROR, span.outcome),
            start_time=int(span.at * NS),
            end_time=int((span.at + span.elapsed_s) * NS),
        )


def _attributes(span: Span) -> dict[str, str | int | float]:
    """Names of OpenTelemetry's conventions for generative AI; no text of anybody."""
    found: dict[str, str | int | float] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gossamer",
        "gen_ai.request.model": span.name,
    }
    if span.model:
        found["gen_ai.response.model"] = span.model
    if span.node:
        found["server.address"] = span.node
    if span.output_tokens:
        found["gen_ai.usage.input_tokens"] = span.input_tokens
        found["gen_ai.usage.output_tokens"] = span.output_tokens
    if span.first_token_s >= 0:
        found["gossamer.first_token_s"] = round(span.first_token_s, 4)
    if span.outcome != "ok":
        found["error.type"] = span.outcome
    return found
