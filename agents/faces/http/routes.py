"""The routes that are no conversation: models, embeddings, health, metrics, the document."""

from __future__ import annotations

import array
import asyncio
import base64
import sys

from starlette.requests import Request
from starlette.responses import Response

from agents.faces.http.errors import HttpError, http_error
from agents.faces.http.metrics import CONTENT_TYPE, render
from agents.faces.http.openapi import document
from agents.faces.http.schema import (
    EmbeddingItem,
    EmbeddingList,
    EmbeddingRequest,
    EmbeddingUsage,
    Health,
    ModelBody,
    ModelList,
    Provenance,
    RouteStep,
    Wishes,
)
from agents.faces.http.serving import Server, json_response, read
from agents.faces.http.sse import unless_gone
from agents.library import Agent
from mesh.core.errors import GossamerError

MESH = "mesh"
WORDLESS = frozenset({"subscribe", "draft", "verify", "segment"})


async def models(request: Request) -> Response:
    """What ``model`` may name now."""
    server = Server.of(request)
    return json_response(ModelList(data=await _listed(request, server)))


async def model(request: Request) -> Response:
    """One of them."""
    wanted = request.path_params["model"]
    for body in await _listed(request, Server.of(request)):
        if body.id == wanted:
            return json_response(body)
    raise HttpError(
        404, f"there is no model {wanted[:80]!r}", code="model_not_found", param="model"
    )


async def embeddings(request: Request) -> Response:
    """Vectors of texts."""
    server = Server.of(request)
    asked = await read(request, EmbeddingRequest)
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    wishes = asked.gossamer or Wishes()
    try:
        found = await unless_gone(
            request, server.agent.embed(texts, model=asked.model, trace=wishes.trace)
        )
    except GossamerError as error:
        raise http_error(error) from None
    width = len(found.vectors[0]) if found.vectors else 0
    if asked.dimensions not in {None, width}:
        raise HttpError(
            400,
            f"vectors of {found.model} have {width} dimensions",
            code="unsupported_value",
            param="dimensions",
        )
    coded = asked.encoding_format == "base64"
    body = EmbeddingList(
        data=[
            EmbeddingItem(index=index, embedding=_base64(vector) if coded else vector)
            for index, vector in enumerate(found.vectors)
        ],
        model=asked.model,
        usage=EmbeddingUsage(prompt_tokens=found.tokens, total_tokens=found.tokens),
        gossamer=Provenance(
            trace=found.trace,
            nodes=[found.node],
            route=[RouteStep(name="", node=found.node, status="ok", model=found.model)],
        ),
    )
    return json_response(body, body.gossamer)


async def health(request: Request) -> Response:
    """Whether the agent answers; needs no key and tells nothing else."""
    try:
        await Server.of(request).agent.open()
    except GossamerError:
        response = json_response(Health(status="no_agent"))
        response.status_code = 503
        return response
    return json_response(Health(status="ok"))


async def metrics(request: Request) -> Response:
    """Prometheus text."""
    server = Server.of(request)
    server.metrics.tasks.set(len(asyncio.all_tasks()))
    try:
        figures = await server.agent.metrics()
    except GossamerError:
        figures = None  # what this process counts is still worth having
    return Response(render(server.metrics, figures), media_type=CONTENT_TYPE)


async def openapi(request: Request) -> Response:
    """The document that describes all this."""
    return Response(document(), media_type="application/json")


async def _listed(request: Request, server: Server) -> list[ModelBody]:
    try:
        return await unless_gone(request, _list(server.agent, server.now()))
    except GossamerError as error:
        raise http_error(error) from None


async def _list(agent: Agent, now: int) -> list[ModelBody]:
    found = [
        ModelBody(
            id=MESH,
            created=now,
            owned_by="gossamer",
            description="The agent decides who answers, and checks the answer.",
        )
    ]
    for name in await agent.names():
        if name.kind not in WORDLESS:
            nodes = [endpoint.name for endpoint in name.endpoints]
            found.append(
                ModelBody(
                    id=name.name,
                    created=now,
                    owned_by=", ".join(nodes[:4]),
                    description=name.description,
                    nodes=nodes,
                )
            )
    known = {body.id for body in found}
    for one in await agent.models():
        if one.model not in known:
            found.append(
                ModelBody(
                    id=one.model,
                    created=now,
                    owned_by=", ".join(one.nodes[:4]),
                    description=", ".join(one.names),
                    nodes=one.nodes,
                )
            )
    return found


def _base64(vector: list[float]) -> str:
    packed = array.array("f", vector)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(packed.tobytes()).decode()
