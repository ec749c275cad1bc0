"""A hub on this machine: the part of the Hugging Face protocol that a download speaks."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """``files`` of one repository. ``cut``: bytes after which the next download breaks off.
    ``wrong``: announce another checksum; ``extra``: announce fewer bytes."""

    repo: str
    files: dict[str, bytes]
    cut: int = 0
    refuses_after_cut: bool = False
    wrong: bool = False
    extra: int = 0
    endpoint: str = ""
    tokens: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            hub.tokens.append(self.headers.get("Authorization", ""))
            if path.startswith(f"/api/models/{hub.repo}"):
                siblings = [{"rfilename": name} for name in hub.files]
                tree = [
                    {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                    for name, data in hub.files.items()
                ]
                made: Any = (
                    tree
                    if "/tree/" in path
                    else {
                        "id": hub.repo,
                        "modelId": hub.repo,
                        "sha": COMMIT,
                        "siblings": siblings,
                    }
                )
                self._send(200, json.dumps(made).encode(), {"Content-Type": "application/json"})
                return
            name = path.rpartition("/resolve/")[2].partition("/")[2]
            if not path.startswith(f"/{hub.repo}/resolve/") or name not in hub.files:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            self._file(hub.files[name], body=body)

        def _file(self, data: bytes, *, body: bool) -> None:
            etag = hashlib.sha256(data + b"!" * hub.wrong).hexdigest()
            headers = {
                "ETag": f'"{etag}"',
                "X-Linked-Etag": f'"{etag}"',
                "X-Linked-Size": str(len(data) - hub.extra),
                "X-Repo-Commit": COMMIT,
                "Accept-Ranges": "bytes",
            }
            asked = self.headers.get("Range", "")
            begin = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
            if body:
                if hub.refuses_after_cut and not hub.cut:
                    self._send(403, b"", {})
                    return
                hub.ranges.append(asked)
            if not body:
                self._send(200, b"", {**headers, "Content-Length": str(len(data))})
                return
            if begin:
                headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
            cut, hub.cut = hub.cut, 0
            self._send(206 if begin else 200, data[begin:], headers, cut)

        def _send(self, status: int, data: bytes, headers: dict[str, str], cut: int = 0) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data[: cut or len(data)])
            if cut:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
