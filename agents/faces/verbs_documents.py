"""Questions about a document: it comes in pieces, since a request is bounded, and is forgotten."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from agents.faces.arguments import number_of
from agents.faces.client import Result
from agents.faces.control import Handler, unary
from agents.orchestrator.options import AskOptions
from mesh.core.errors import ConfigError, WireError

if TYPE_CHECKING:
    from agents.agent import Agent

MAX_DOCUMENTS = 4  # held at once: a client that never asks must not fill the memory
MAX_CHARS = 4 << 20  # of one document, as the reader takes
KEPT_S = 600.0  # an unasked document is forgotten


class _Held:
    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.chars = 0
        self.touched = time.monotonic()


class DocumentVerbs:
    """``document_put`` takes a piece of a document, ``ask_document`` asks about the whole."""

    def __init__(self, agent: Agent, options: Callable[[dict[str, Any]], AskOptions]) -> None:
        self._agent = agent
        self._options = options
        self._held: dict[str, _Held] = {}

    def handlers(self) -> Mapping[str, Handler]:
        """Verb to handler."""
        return {"document_put": unary(self._put), "ask_document": self._ask}

    async def _put(self, args: dict[str, Any]) -> dict[str, Any]:
        text, name = args.get("text"), str(args.get("document") or "")
        if not isinstance(text, str):
            raise WireError("'text' is a piece of the document")
        now = time.monotonic()
        self._held = {k: h for k, h in self._held.items() if now - h.touched < KEPT_S}
        if not name:
            if len(self._held) >= MAX_DOCUMENTS:
                del self._held[min(self._held, key=lambda key: self._held[key].touched)]
            name = os.urandom(8).hex()
            self._held[name] = _Held()
        held = self._find(name)
        held.chars += len(text)
        if held.chars > MAX_CHARS:
            del self._held[name]
            raise ConfigError(
                f"a document has at most {MAX_CHARS} characters", hint="ask about a part of it"
            )
        held.pieces.append(text)
        held.touched = now
        return {"document": name, "chars": held.chars}

    def _find(self, name: str) -> _Held:
        held = self._held.get(name)
        if held is None:
            raise ConfigError(
                "the agent does not hold this document any more", hint="send it again"
            )
        return held

    async def _ask(self, args: dict[str, Any]) -> AsyncIterator[Any]:
        from agents.cooperation.documents import DocumentOptions, Read

        document = "".join(self._find(str(args.get("document") or "")).pieces)
        del self._held[str(args["document"])]
        question = str(args.get("question") or "")
        options = self._options(args)
        choices = DocumentOptions(
            worker=str(args.get("worker") or ""),
            supervisor=str(args.get("supervisor") or "rules"),
            chunk_chars=int(number_of(args, "chunk_chars", 0, low=0, high=3000)),
        )
        observer = self._agent.observer
        with observer.request("ask_document", question, options.trace.hex()) as watch:
            events = self._agent.documents.read(document, question, options, choices)
            async with aclosing(events):
                async for event in events:
                    plain = msgspec.to_builtins(event)
                    if isinstance(event, Read):
                        watch.answered(plain["answer"])
                        plain.pop("type")
                        yield Result(plain)
                    else:
                        watch.event(plain)
                        yield plain
