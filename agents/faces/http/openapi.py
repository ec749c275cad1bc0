"""The OpenAPI document, made from the types that requests are checked against."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from agents.faces.control import version
from agents.faces.http import administering, knowing, page, responses_schema, schema, writing

DONE = "[DONE]"
REF = "#/components/schemas/{name}"
ERRORS = {
    "400": "The request cannot be served as it stands; `param` names the field.",
    "401": "A key is needed.",
    "403": "This key, page or node may not.",
    "404": "Nothing has this name.",
    "408": "The request did not arrive in time.",
    "413": "The request is too large.",
    "429": "Every slot is taken; `Retry-After` says when to come again.",
    "500": "An error in this server.",
    "502": "The node that answered failed.",
    "503": "Nobody who could answer can be reached.",
    "504": "The time was over.",
}
GET_ERRORS = ("400", "401", "403", "404", "429", "503")

_POSTS = (
    ("/v1/chat/completions", "chat", schema.ChatRequest, schema.ChatCompletion, schema.ChatChunk,
     "A chat. `model` is `mesh` (the agent decides who answers), a name or a model."),
    ("/v1/completions", "completion", schema.CompletionRequest, schema.Completion,
     schema.Completion, "Text behind a prompt, through the model's own chat template."),
    ("/v1/responses", "response", responses_schema.ResponseRequest, responses_schema.ResponseBody,
     responses_schema.ResponseEvent, "An answer in the shape of the Responses API; not stored."),
    ("/v1/embeddings", "embedding", schema.EmbeddingRequest, schema.EmbeddingList, None,
     "Vectors of texts."),
    *knowing.POSTS,
    *writing.POSTS,
    *page.POSTS,
    *administering.POSTS,
)  # fmt: skip
_GETS = (
    ("/v1/models", "models", schema.ModelList, "What `model` may name now."),
    ("/v1/models/{model}", "model", schema.ModelBody, "One of them; a name may hold slashes."),
    *knowing.GETS,
    *page.GETS,
    *administering.GETS,
)
_IN_PATH = {
    "/v1/models/{model}": {"name": "model", "schema": {"type": "string"}},
    "/web/api/trace/{trace}": {
        "name": "trace",
        "schema": {"type": "string", "pattern": f"^[0-9a-f]{{{page.TRACE_CHARS}}}$"},
    },
}


@cache
def document() -> bytes:
    """The document as JSON."""
    kinds: list[Any] = [schema.ErrorBody, schema.Health]
    for _, _, asked, answered, piece, _ in _POSTS:
        kinds += [kind for kind in (asked, answered, piece) if kind]
    kinds += [listed for _, _, listed, _ in (*_GETS, *page.FEEDS)]
    kinds = list(dict.fromkeys(kinds))
    refs, components = msgspec.json.schema_components(
        kinds, ref_template=REF, schema_hook=_anything
    )
    by_kind = dict(zip(kinds, refs, strict=True))
    paths: dict[str, Any] = {}
    for path, name, asked, answered, piece, text in _POSTS:
        content: dict[str, Any] = {}
        if answered is not None:
            content["application/json"] = {"schema": by_kind[answered]}
        if piece is not None:
            content["text/event-stream"] = {
                "schema": _events(by_kind[piece], by_kind[schema.ErrorBody])
            }
        paths[path] = {
            "post": {
                "operationId": name,
                "summary": text,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": by_kind[asked]}},
                },
                "responses": {
                    "200": {"description": "The answer.", "content": content},
                    **_errors(by_kind, tuple(ERRORS)),
                },
            }
        }
    for path, name, listed, text in _GETS:
        found = _get(name, text, {"application/json": {"schema": by_kind[listed]}}, by_kind)
        paths.setdefault(path, {}).update(found)
    for path, name, seen, text in page.FEEDS:
        events = _events(by_kind[seen], by_kind[schema.ErrorBody])
        paths[path] = _get(name, text, {"text/event-stream": {"schema": events}}, by_kind)
    for path, parameter in _IN_PATH.items():
        paths[path]["get"]["parameters"] = [{**parameter, "in": "path", "required": True}]
    healthy = {"application/json": {"schema": by_kind[schema.Health]}}
    paths["/healthz"] = {
        "get": {
            "operationId": "health",
            "summary": "Whether the agent answers.",
            "security": [],
            "responses": {
                "200": {"description": "It does.", "content": healthy},
                "403": _errors(by_kind, ("403",))["403"],
                "503": {"description": "It does not.", "content": healthy},
            },
        }
    }
    plain = {"text/plain": {"schema": {"type": "string"}}}
    paths["/metrics"] = _get("metrics", "Prometheus text.", plain, by_kind)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Gossamer",
                "version": version(),
                "description": "OpenAI's API in front of a mesh of small language models.",
            },
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{"key": []}, {}],
        }
    )


def _get(name: str, text: str, content: dict[str, Any], by_kind: dict[Any, Any]) -> dict[str, Any]:
    return {
        "get": {
            "operationId": name,
            "summary": text,
            "responses": {
                "200": {"description": text, "content": content},
                **_errors(by_kind, GET_ERRORS),
            },
        }
    }


def _anything(kind: type) -> dict[str, Any]:
    """The schema of ``object``, which a decision's inputs are: any JSON."""
    if kind is object:
        return {"description": "any JSON"}
    raise NotImplementedError


def _errors(by_kind: dict[Any, Any], statuses: tuple[str, ...]) -> dict[str, Any]:
    content = {"application/json": {"schema": by_kind[schema.ErrorBody]}}
    return {status: {"description": ERRORS[status], "content": content} for status in statuses}


def _events(piece: dict[str, Any], error: dict[str, Any]) -> dict[str, Any]:
    """A stream, event by event: pieces, an error where one came up late, ``[DONE]``."""
    as_json = {"type": "string", "contentMediaType": "application/json"}
    data = {
        "anyOf": [
            {"const": DONE},
            {**as_json, "contentSchema": piece},
            {**as_json, "contentSchema": error},
        ]
    }
    return {
        "type": "object",
        "properties": {"data": data, "event": {"type": "string"}},
        "required": ["data"],
    }
