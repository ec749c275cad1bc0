"""A question over several nodes arrives at an OpenTelemetry collector as one trace."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

service = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2",
    reason="pip install 'gossamer-mesh[otel]'",
)

pytestmark = pytest.mark.e2e

PATIENCE_S = 110.0
DEMO = "from agents.faces.cli import main; main()"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A collector's address, and what it was sent: (node, span)."""
    got: list[Any] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            for resource in service.ExportTraceServiceRequest.FromString(body).resource_spans:
                about = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.scope_spans:
                    got.extend((about, span) for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_question_is_one_trace_over_its_nodes(collector: tuple[str, list[Any]]) -> None:
    url, got = collector
    done = subprocess.run(
        [sys.executable, "-c", DEMO, "demo", "--once", "--json", "What is 48 * 27?"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GOSSAMER_TELEMETRY__OTLP_ENDPOINT": url},
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    spans = [(about, span) for about, span in got if span.trace_id.hex() == answer["trace"]]
    nodes = {about["service.instance.id"] for about, _ in spans}
    assert set(answer["nodes"]) | {answer["asked"]} <= nodes
    ids = {span.span_id for _, span in spans}
    roots = [span for _, span in spans if not span.parent_span_id]
    assert len(roots) == 1
    assert all(span.parent_span_id in ids for _, span in spans if span.parent_span_id)
    words = str([span.attributes for _, span in spans])
    assert "48 * 27" not in words
    assert "= 1296" not in words
