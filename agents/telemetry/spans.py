"""One piece of work with its beginning and its end; spans of one trace may lie on many nodes.

The ids are those of the call header: 16 bytes of trace, 8 bytes of span, as OpenTelemetry and
W3C Trace Context have them, so that a trace goes on into whatever collects it.
"""

from __future__ import annotations

from collections import deque

import msgspec

SPAN_BYTES = 8
MAX_SPANS = 1024  # kept for `gossamer trace`; a request leaves two to twenty


class Span(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``at`` is wall time in seconds since 1970; ids are hexadecimal.

    ``kind`` is internal (a whole question), client (a call of a node) or server (a call served).
    """

    trace: str
    span: str
    name: str
    kind: str
    at: float
    elapsed_s: float
    parent: str = ""
    node: str = ""  # of a client span: the node that was called
    model: str = ""
    outcome: str = "ok"  # or the code of the error
    first_token_s: float = -1.0
    input_tokens: int = 0
    output_tokens: int = 0


def root_span(trace: bytes) -> str:
    """The span of the whole request: known to whoever knows the trace."""
    return trace[-SPAN_BYTES:].hex()


class SpanBook:
    """The latest spans of this node."""

    def __init__(self, size: int = MAX_SPANS) -> None:
        self._spans: deque[Span] = deque(maxlen=size)

    def add(self, span: Span) -> None:
        """Keep a span; the oldest one goes."""
        self._spans.append(span)

    def of(self, trace: str) -> list[Span]:
        """The spans of a trace that are still kept, in the order of their beginning."""
        return sorted((s for s in self._spans if s.trace == trace), key=lambda span: span.at)
