"""Documents and what an agent knows, as programs see them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from agents.library.doors import Doors
from agents.views import AnswerView

PIECE_CHARS = 16_000  # of a document in one request, which has a size limit
READ_S = 120.0
ADD_SILENCE_S = 120.0  # between two files of a folder
GRACE_S = 5.0


class DocumentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a document: ``answer.statements`` cite it word for word, and
    ``answer.missing`` is what is not in it. ``supervisor_tokens`` went to the model that led."""

    answer: AnswerView
    rounds: int
    chunks: int
    jobs: int
    supervisor: str
    supervisor_tokens: int
    worker: str
    not_believed: int
    failed_jobs: int


class KnowledgeAdded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of documents that were added; ``served`` are the names that answer from what
    is known now, ``problems`` the files that were left out, and why."""

    domain: str
    access: str
    files: int
    passages: int
    new: int
    problems: list[dict[str, str]] = []
    served: list[str] = []


class KnownEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A passage of a document or a learnt answer, with how like the search it is."""

    id: int
    cosine: float
    kind: str
    domain: str
    question: str
    text: str
    source: str
    access: str
    quality: float = 1.0
    hits: int = 0
    citations: list[dict[str, str]] = []


class Knowing:
    """The verbs of an :class:`~agents.library.remote.Agent` about documents and knowledge."""

    _doors: Doors

    async def ask_document(
        self,
        document: str,
        question: str,
        *,
        timeout_s: float = READ_S,
        reach: str = "mesh",
        supervisor: str = "rules",
        worker: str = "",
        trace: str = "",
    ) -> DocumentAnswer:
        """A question about a long text, which is read in pieces over the mesh and forgotten.

        ``supervisor`` is rules, model or cloud; ``worker`` the name that reads (empty: the
        extractive reader).
        """
        held = ""
        for start in range(0, max(1, len(document)), PIECE_CHARS):
            sent = await self.document_put(document[start : start + PIECE_CHARS], held)
            held = sent["document"]
        args = {
            "document": held,
            "question": question,
            "timeout_s": timeout_s,
            "reach": reach,
            "supervisor": supervisor,
            "worker": worker,
            "trace": trace,
        }
        return await self.ask_held(args)

    async def document_put(self, text: str, document: str = "") -> dict[str, Any]:
        """A piece of a document; ``document`` of the reply names it for the next piece."""
        found: dict[str, Any] = await self._doors.fetch(
            "document_put", {"document": document, "text": text}
        )
        return found

    async def ask_held(self, args: dict[str, Any]) -> DocumentAnswer:
        """The question about a document that was put in pieces; see :meth:`ask_document`."""
        silence_s = float(args["timeout_s"]) + GRACE_S
        found = await self._doors.fetch("ask_document", args, silence_s=silence_s)
        return msgspec.convert(found, DocumentAnswer)

    async def knowledge_add(
        self, path: Path | str, *, domain: str = "documents", access: str = "node", days: float = 0
    ) -> KnowledgeAdded:
        """Add a file or a folder that the agent can read; ``access`` is node, mesh or
        group:NAME, ``days`` how long it stays (0: until it is removed)."""
        whole = await asyncio.to_thread(Path(path).resolve)
        args = {
            "path": str(whole), "domain": domain, "access": access, "days": days,
        }  # fmt: skip
        found = await self._doors.fetch("knowledge_add", args, silence_s=ADD_SILENCE_S)
        return msgspec.convert(found, KnowledgeAdded)

    async def knowledge(self, domain: str = "") -> dict[str, Any]:
        """What is known: sources, entries, bytes, names served."""
        found: dict[str, Any] = await self._doors.fetch("knowledge_list", {"domain": domain})
        return found

    async def knowledge_search(
        self, text: str, *, domain: str = "", limit: int = 5
    ) -> list[KnownEntry]:
        """The entries nearest to a text, best first."""
        args = {"text": text, "domain": domain, "limit": limit}
        return msgspec.convert(await self._doors.fetch("knowledge_search", args), list[KnownEntry])

    async def knowledge_remove(
        self, *, source: str = "", domain: str = "", ids: list[int] | None = None
    ) -> int:
        """Forget a document, a domain or single entries; how many went."""
        args = {"source": source, "domain": domain, "ids": ids or []}
        return int((await self._doors.fetch("knowledge_remove", args))["removed"])

    async def knowledge_feedback(self, entry: int, *, right: bool) -> dict[str, Any]:
        """Say whether an answer from memory was right."""
        args = {"entry": entry, "right": right}
        found: dict[str, Any] = await self._doors.fetch("knowledge_feedback", args)
        return found
