"""Routes that OpenAI's API has no word for: questions about documents, and what the agent knows.

POST /v1/documents          a document, or its next piece; the reply names it
POST /v1/documents/ask      a question about it, or about a text in the request
POST /v1/knowledge          add a document to the knowledge base
GET  /v1/knowledge          what is known
POST /v1/knowledge/search   the entries nearest to a text
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agents.faces.http.errors import HttpError, http_error
from agents.faces.http.schema import Wishes
from agents.faces.http.serving import Server, json_response, read
from agents.faces.http.sse import unless_gone
from agents.library.knowing import PIECE_CHARS, READ_S, DocumentAnswer, KnowledgeAdded, KnownEntry
from mesh.core.errors import GossamerError

Text = Annotated[str, Meta(min_length=1)]
FileName = Annotated[str, Meta(pattern=r"^[^/\\\x00-\x1f]{1,100}\.(?:txt|md|html)$")]


class DocumentPiece(msgspec.Struct, kw_only=True):
    """``document`` is empty for the first piece, then what the reply to that one said."""

    text: Text
    document: str = ""


class DocumentHeld(msgspec.Struct, kw_only=True):
    """The document so far; it is forgotten ten minutes after its last piece, or once asked."""

    document: str
    chars: int


class DocumentQuestion(msgspec.Struct, kw_only=True):
    """A question about ``document``, which was sent before, or about ``text``."""

    question: Text
    document: str = ""
    text: str = ""
    supervisor: Literal["rules", "model", "cloud"] = "rules"
    gossamer: Wishes | None = None


class KnowledgeDocument(msgspec.Struct, kw_only=True):
    """A document to know: ``name`` says its kind by its ending. ``access`` is node (this agent's
    own questions), mesh, or group:NAME; ``days`` 0 keeps it until it is removed."""

    name: FileName
    text: Text
    domain: str = "documents"
    access: str = "node"
    days: Annotated[float, Meta(ge=0, le=36_500)] = 0


class KnowledgeSearch(msgspec.Struct, kw_only=True):
    """A text to look for in what is known."""

    text: Text
    domain: str = ""
    limit: Annotated[int, Meta(ge=1, le=50)] = 5


class KnowledgeFound(msgspec.Struct, kw_only=True):
    """Entries, best first."""

    data: list[KnownEntry]


class KnowledgeListed(msgspec.Struct, kw_only=True):
    """What is known: each document or node that it comes from, and the names that serve it."""

    sources: list[dict[str, Any]]
    entries: int
    bytes: int
    served: list[str]


async def put(request: Request) -> Response:
    """A piece of a document."""
    asked = await read(request, DocumentPiece)
    held = await _held(Server.of(request), asked.text, asked.document)
    return json_response(held)


async def ask(request: Request) -> Response:
    """A question about a document."""
    server = Server.of(request)
    asked = await read(request, DocumentQuestion)
    if bool(asked.document) == bool(asked.text):
        raise HttpError(
            400, "a question is about 'document' or about 'text'", code="invalid_value",
            param="document",
        )  # fmt: skip
    wishes = asked.gossamer or Wishes()
    if asked.text:
        asked.document = (await _held(server, asked.text)).document
    args = {
        "document": asked.document,
        "question": asked.question,
        "supervisor": asked.supervisor,
        "reach": wishes.reach,
        "timeout_s": wishes.timeout_s or READ_S,
        "trace": wishes.trace,
    }
    try:
        return json_response(await unless_gone(request, server.agent.ask_held(args)))
    except GossamerError as error:
        raise http_error(error) from None


async def add(request: Request) -> Response:
    """A document for the knowledge base: the agent reads it as a file of its name."""
    server = Server.of(request)
    asked = await read(request, KnowledgeDocument)
    with tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
        path = Path(folder) / asked.name
        try:
            path.write_text(asked.text, encoding="utf-8")
            found = await server.agent.knowledge_add(
                path, domain=asked.domain, access=asked.access, days=asked.days
            )
        except (OSError, UnicodeEncodeError) as error:
            raise HttpError(
                400, f"this document cannot be kept: {error}", code="invalid_value", param="text"
            ) from None
        except GossamerError as error:
            raise http_error(error) from None
    return json_response(found)


async def listed(request: Request) -> Response:
    """What is known."""
    try:
        found = await Server.of(request).agent.knowledge()
    except GossamerError as error:
        raise http_error(error) from None
    return json_response(msgspec.convert(found, KnowledgeListed))


async def search(request: Request) -> Response:
    """The entries nearest to a text."""
    asked = await read(request, KnowledgeSearch)
    try:
        found = await Server.of(request).agent.knowledge_search(
            asked.text, domain=asked.domain, limit=asked.limit
        )
    except GossamerError as error:
        raise http_error(error) from None
    return json_response(KnowledgeFound(data=found))


async def _held(server: Server, text: str, document: str = "") -> DocumentHeld:
    """The text in as many pieces as the agent's door takes."""
    try:
        for start in range(0, len(text), PIECE_CHARS):
            sent = await server.agent.document_put(text[start : start + PIECE_CHARS], document)
            document = str(sent["document"])
    except GossamerError as error:
        raise http_error(error) from None
    return DocumentHeld(document=document, chars=int(sent["chars"]))


ROUTES = [
    Route("/v1/documents", put, methods=["POST"]),
    Route("/v1/documents/ask", ask, methods=["POST"]),
    Route("/v1/knowledge", add, methods=["POST"]),
    Route("/v1/knowledge", listed, methods=["GET"]),
    Route("/v1/knowledge/search", search, methods=["POST"]),
]
# For the document at /openapi.json: path, operation, request, answer, what it does.
POSTS = (
    ("/v1/documents", "document", DocumentPiece, DocumentHeld, None,
     "A document to ask about, or its next piece."),
    ("/v1/documents/ask", "askDocument", DocumentQuestion, DocumentAnswer, None,
     "A question about a document, read in pieces over the mesh; the answer cites it."),
    ("/v1/knowledge", "addKnowledge", KnowledgeDocument, KnowledgeAdded, None,
     "Add a document to the knowledge base of this agent."),
    ("/v1/knowledge/search", "searchKnowledge", KnowledgeSearch, KnowledgeFound, None,
     "The entries of the knowledge base nearest to a text."),
)  # fmt: skip
GETS = (("/v1/knowledge", "knowledge", KnowledgeListed, "What the knowledge base holds."),)
