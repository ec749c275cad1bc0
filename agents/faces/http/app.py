"""The application: routes, errors, and the guard around them."""

from __future__ import annotations

import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from agents.faces.http import (
    a2a,
    administering,
    chat,
    knowing,
    mcp,
    page,
    responses,
    routes,
    writing,
)
from agents.faces.http.errors import HttpError
from agents.faces.http.guard import Guard
from agents.faces.http.serving import Server
from agents.faces.http.settings import Settings
from agents.faces.http.sse import ClientGone
from agents.library import Agent

GONE = 499  # nginx's number for a client that left; nobody reads it but the counts

log = logging.getLogger("gossamer.http")

ROUTES = [
    Route("/v1/models", routes.models, methods=["GET"]),
    Route("/v1/models/{model:path}", routes.model, methods=["GET"]),
    Route("/v1/chat/completions", chat.chat, methods=["POST"]),
    Route("/v1/completions", chat.completion, methods=["POST"]),
    Route("/v1/responses", responses.respond, methods=["POST"]),
    Route("/v1/embeddings", routes.embeddings, methods=["POST"]),
    Route("/healthz", routes.health, methods=["GET"]),
    Route("/metrics", routes.metrics, methods=["GET"]),
    Route("/openapi.json", routes.openapi, methods=["GET"]),
    *knowing.ROUTES,
    *writing.ROUTES,
    *a2a.ROUTES,
    *mcp.ROUTES,
    *page.ROUTES,
    *administering.ROUTES,
]


def make_app(settings: Settings, agent: Agent) -> ASGIApp:
    """The whole application in front of an agent."""
    server = Server(settings, agent)

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HttpError)
        server.metrics.refused(error.detail.code or error.detail.type)
        return _refusal(error)

    async def gone(request: Request, error: Exception) -> Response:
        server.metrics.gone()
        return Response(status_code=GONE)

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        found = HttpError(
            error.status_code,
            f"{request.method} {request.url.path[:80]}: {error.detail}",
            code="unknown_url" if error.status_code == 404 else None,
        )
        response = _refusal(found)
        response.headers.update(error.headers or {})
        return response

    async def broken(request: Request, error: Exception) -> Response:
        log.error("a request failed", exc_info=error)
        return _refusal(HttpError(500, "internal error; the log has it", kind="server_error"))

    app = Starlette(
        routes=ROUTES,
        exception_handlers={
            HttpError: refuse,
            ClientGone: gone,
            ClientDisconnect: gone,  # while it was still sending
            HTTPException: unknown,
            Exception: broken,
        },
    )
    app.state.server = server
    inner: ASGIApp = app
    if settings.origins:
        inner = CORSMiddleware(
            app,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
            expose_headers=["x-request-id", "x-gossamer-trace", "x-gossamer-nodes"],
        )
    return Guard(inner, settings, server.metrics)


def _refusal(error: HttpError) -> Response:
    return Response(
        error.body(),
        status_code=error.status,
        media_type="application/json",
        headers=error.headers(),
    )
