"""The SDK's handlers in front of one agent, behind our HTTP."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from a2a.server.context import ServerCallContext
from a2a.server.events import Event
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from a2a.server.routes.common import DefaultServerCallContextBuilder
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from a2a.types import AgentCard, Message, SendMessageRequest, Task, TaskState
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agents.faces.a2a import card as cards
from agents.faces.a2a.executor import STREAMED, MeshExecutor
from agents.faces.a2a.keeping import BoundedTasks, Client
from agents.faces.control import version
from agents.library import Agent

CARD_S = 5.0  # a card is told again for so long: strangers may ask for it
MAX_CARDS = 8  # one for each name of this server, with and without skills
BASE = "gossamer_base"
VERSION = "a2a-version"  # the header
LIST_TASKS = "ListTasks"
INVALID_PARAMS = -32602  # JSON-RPC 2.0, section 5.1
STREAMING = frozenset({"SendStreamingMessage", "message/stream"})

# Texts of requests stand in what it logs of those that it cannot read.
logging.getLogger("a2a").setLevel(logging.CRITICAL)


class Made(msgspec.Struct):
    """A card, and how it is served: with the fields of the protocol before 1.0 beside it."""

    card: AgentCard
    served: dict[str, Any]
    tag: str
    at: float


class Called(msgspec.Struct):
    """What a request calls; the rest of it is the SDK's to read."""

    method: str = ""
    id: Any = None
    params: Any = None

    def unknown_status(self) -> str:
        """A state to list tasks by that there is none of; empty: nothing is wrong.

        The SDK leaves out a value that it does not know, and would list all of them.
        """
        asked = self.params if isinstance(self.params, dict) else {}
        status = asked.get("status") if self.method == LIST_TASKS else None
        return status if isinstance(status, str) and status not in TaskState.keys() else ""  # noqa: SIM118


class Signed(msgspec.Struct):
    """What the agent says to a card that it signs: the signature, and its public key."""

    node: str
    name: str
    key: dict[str, str]
    signature: str = ""


class Contexts(DefaultServerCallContextBuilder):
    """Who asks, and under which name of ours; no header is kept but the protocol's own."""

    def build(self, request: Request) -> ServerCallContext:
        """See the base."""
        found = super().build(request)
        wanted = {key: value for key, value in request.headers.items() if key.startswith("a2a-")}
        # No version means 0.3 to the protocol, where methods of 1.0 do not exist: who calls one of
        # those without saying so means 1.0.
        method = getattr(request.state, "method", "")
        if method in JsonRpcDispatcher.METHOD_TO_MODEL:
            wanted.setdefault(VERSION, "1.0")
        found.state = {BASE: base_of(request), STREAMED: method in STREAMING, "headers": wanted}
        return found

    def build_user(self, request: Request) -> Client:
        """The guard has checked the key; its hash tells clients apart."""
        key = request.headers.get("authorization", "")
        return Client(hashlib.sha256(key.encode()).hexdigest()[:16] if key else "")


class Handler(DefaultRequestHandler):
    """The SDK's, which takes a follow-up without its context for one of another context."""

    tasks: BoundedTasks

    async def on_message_send(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> Message | Task:
        """See the base."""
        await self._find_context(params.message, context)
        answer: Message | Task = await super().on_message_send(params, context)
        return answer

    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        """See the base."""
        await self._find_context(params.message, context)
        async with aclosing(super().on_message_send_stream(params, context)) as events:
            async for event in events:
                yield event

    async def _find_context(self, message: Message, context: ServerCallContext) -> None:
        if message.task_id and not message.context_id:
            task = await self.tasks.get(message.task_id, context)
            if task is not None:
                message.context_id = task.context_id


class Endpoint:
    """Cards, keys and the JSON-RPC of one agent."""

    def __init__(self, agent: Agent, *, keys: bool) -> None:
        self._agent = agent
        self._keys = keys
        self._cards: OrderedDict[tuple[str, bool], Made] = OrderedDict()
        template = cards.public_card("http://localhost", "", version(), keys=keys)
        tasks = BoundedTasks()
        handler = Handler(
            agent_executor=MeshExecutor(agent),
            task_store=tasks,
            agent_card=template,
            extended_agent_card=template,
            extended_card_modifier=self._extended,
            validate_input_modes=True,
        )
        handler.tasks = tasks
        self._rpc = JsonRpcDispatcher(handler, context_builder=Contexts(), enable_v0_3_compat=True)

    async def card(self, request: Request) -> Response:
        """The signed card; with skills where everybody may ask."""
        made = await self._made(base_of(request), skills=not self._keys)
        headers = {"etag": made.tag, "cache-control": f"max-age={CARD_S:.0f}"}
        if made.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return JSONResponse(made.served, headers=headers)

    async def keys(self, request: Request) -> Response:
        """The public key that the card is signed with, as a JWK set."""
        signed = await self._agent.sign_card()
        return JSONResponse({"keys": [msgspec.convert(signed, Signed).key]})

    async def rpc(self, request: Request) -> Response:
        """One JSON-RPC request, answered whole or as events."""
        with contextlib.suppress(msgspec.MsgspecError):
            called = msgspec.json.decode(await request.body(), type=Called)
            request.state.method = called.method
            if unknown := called.unknown_status():
                known = ", ".join(TaskState.keys())
                said = f"there is no state {unknown[:60]!r}; there are {known}"
                error = {"code": INVALID_PARAMS, "message": said}
                return JSONResponse({"jsonrpc": "2.0", "id": called.id, "error": error})
        return await self._rpc.handle_requests(request)

    async def _extended(self, _: AgentCard, context: ServerCallContext) -> AgentCard:
        return (await self._made(str(context.state.get(BASE, "")), skills=True)).card

    async def _made(self, base: str, *, skills: bool) -> Made:
        known = self._cards.get((base, skills))
        if known is not None and time.monotonic() - known.at < CARD_S:
            return known
        own = msgspec.convert(await self._agent.sign_card(), Signed)
        card = cards.public_card(base, own.name, version(), keys=self._keys)
        if skills:
            card = cards.with_skills(card, await self._agent.names())
        header = cards.protected(own.node, base)
        # Twice: readers of 1.0 check what they know of a card, others all that stands in it.
        signatures = [
            msgspec.convert(await self._agent.sign_card(header, text), Signed).signature
            for text in (cards.payload(card), cards.payload(agent_card_to_dict(card)))
        ]
        tag = f'W/"{hashlib.sha256(cards.payload(card).encode()).hexdigest()[:32]}"'
        for signature in signatures:
            cards.sign(card, header, signature)
        made = Made(card, agent_card_to_dict(card), tag, time.monotonic())
        self._cards[(base, skills)] = made
        while len(self._cards) > MAX_CARDS:
            self._cards.popitem(last=False)
        return made


def base_of(request: Request) -> str:
    """Under which URL the client reached us; the guard has checked the name."""
    return f"{request.url.scheme}://{request.url.netloc}"
