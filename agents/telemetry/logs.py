"""Log lines for people or for programs; each names the request that it belongs to.

``log_format = "json"`` writes one object a line: time, level, logger, message, and the trace
where there is one. What was asked and answered stands in no line unless ``log_content`` says so.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import msgspec

TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

current_trace: ContextVar[str] = ContextVar("current_trace", default="")


class JsonFormatter(logging.Formatter):
    """One JSON object a line; ``extra={"facts": {...}}`` adds fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if trace := getattr(record, "trace", "") or current_trace.get():
            line["trace"] = trace
        facts = getattr(record, "facts", None)
        if isinstance(facts, dict):
            line |= {key: value for key, value in facts.items() if key not in line}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class TextFormatter(logging.Formatter):
    """A line for people; facts stand behind the message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end."""
        text = super().format(record)
        trace = getattr(record, "trace", "") or current_trace.get()
        facts = getattr(record, "facts", None) or {}
        more = [f"{key}={value}" for key, value in facts.items()]
        return " ".join([text, *more, *([f"trace={trace}"] if trace else [])])


def set_up(level: str, form: str) -> None:
    """Log to standard error from now on, as text or as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(TEXT_FORMAT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
