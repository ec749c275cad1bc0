"""A running agent as programs see it: one object, a verb a method, typed answers.

async with await connect() as agent:
    answer = await agent.ask("What is 48 * 27?")
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from agents.faces.client import Result
from agents.library.doors import Doors
from agents.library.events import (
    AskedEvent,
    DataEvent,
    Embeddings,
    Generation,
    GenerationEvent,
    ModelView,
    Published,
    Receipt,
    Resolution,
    Told,
)
from agents.library.knowing import Knowing
from agents.library.writing import Writing
from agents.views import AnswerView, NameView, PeerView
from capabilities.messages import Generate, Message, Sample
from mesh.core.errors import GossamerError

TIMEOUT_S = 60.0
ORDER_S = 310.0  # of an administrator: a large model from a slow card takes minutes
GRACE_S = 5.0  # beyond a request's own deadline, for its last words to arrive
T = TypeVar("T")


async def connect(state: Path | str | None = None) -> Agent:
    """Reach the agent that runs on a state directory (by default the user's own, or a demo).

    Raises :class:`~mesh.core.errors.GossamerError` with the code ``no_agent`` when none runs.
    """
    agent = Agent(state)
    await agent.open()
    return agent


class Agent(Knowing, Writing):
    """A running agent. Many requests may be under way at once; leaving cancels them.

    Every verb raises a :class:`~mesh.core.errors.GossamerError` whose ``code`` is stable and
    whose ``hint`` says what to do next. Closing an iterator cancels what it stands for.
    """

    def __init__(self, state: Path | str | None = None) -> None:
        self._doors = Doors(Path(state) if state is not None else None)

    async def open(self) -> None:
        """Make sure that the agent is there."""
        self._doors.give(await self._doors.take())

    async def close(self) -> None:
        """Leave."""
        await self._doors.close()

    async def __aenter__(self) -> Agent:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # -- questions --------------------------------------------------------------------------

    async def ask(self, question: str, **options: Any) -> AnswerView:
        """The mesh's answer with its route; the options are those of :meth:`stream`."""
        answer: AnswerView | None = None
        async with aclosing(self.stream(question, **options)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, AnswerView):
                    answer = event
        if answer is None:
            raise GossamerError("the question ended without an answer")
        return answer

    async def stream(
        self,
        question: str,
        *,
        timeout_s: float = TIMEOUT_S,
        reach: str = "mesh",
        system: str = "",
        history: Sequence[Message] = (),
        max_tokens: int = 0,
        temperature: float = 0.0,
        seed: int = 0,
        trace: str = "",
    ) -> AsyncIterator[AskedEvent]:
        """The answer as it comes: plan, steps, text, and last the whole answer.

        ``reach`` is node, group, mesh or cloud; ``history`` are earlier turns; ``max_tokens`` 0
        leaves the length to the agent; ``trace`` continues one (32 hexadecimal digits).
        """
        args = {
            "question": question,
            "timeout_s": timeout_s,
            "reach": reach,
            "system": system,
            "history": msgspec.to_builtins(list(history)),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed,
            "trace": trace,
        }
        items = self._doors.request("ask", args, silence_s=timeout_s + GRACE_S)
        async with aclosing(items):  # type: ignore[type-var]
            async for item in items:
                if isinstance(item, Result):
                    yield msgspec.convert(item.value, AnswerView)
                elif (event := _told(item)) is not None:
                    yield event  # type: ignore[misc]

    async def generate(self, target: str, request: Generate | str, **options: Any) -> Generation:
        """One model's whole answer; see :meth:`generate_stream`."""
        done: Generation | None = None
        items = self.generate_stream(target, request, **options)
        async with aclosing(items):  # type: ignore[type-var]
            async for event in items:
                if isinstance(event, Generation):
                    done = event
        if done is None:
            raise GossamerError("the generation ended without an answer")
        return done

    async def generate_stream(
        self,
        target: str,
        request: Generate | str,
        *,
        timeout_s: float = TIMEOUT_S,
        reach: str = "mesh",
        trace: str = "",
        policy: str = "",
        patience_s: float = 0.0,
    ) -> AsyncIterator[GenerationEvent]:
        """One model's answer as it is made: who is asked, its text, and last the whole.

        ``target`` is a name (``knowledge.gpt/arithmetic``, or ``...@node``), a model, or ``mesh``
        (the agent chooses the name). A text stands for one user message. Nothing is planned or
        judged, and what has been streamed is never taken back. ``policy`` takes the place of the
        configured one; ``patience_s`` is how long it may wait for its first token (0: no limit).
        """
        if isinstance(request, str):
            request = Generate(messages=[Message("user", request)])
        args = {
            "target": target,
            "request": msgspec.to_builtins(request, str_keys=True),
            "timeout_s": timeout_s,
            "reach": reach,
            "trace": trace,
            "policy": policy,
            "patience_s": patience_s,
        }
        items = self._doors.request("generate", args, silence_s=timeout_s + GRACE_S)
        async with aclosing(items):  # type: ignore[type-var]
            async for item in items:
                if isinstance(item, Result):
                    yield msgspec.convert(item.value, Generation)
                elif (event := _told(item)) is not None:
                    yield event  # type: ignore[misc]

    async def call(self, name: str, text: str, *, timeout_s: float = TIMEOUT_S) -> str:
        """What a name answers to a text, nothing else of it."""
        return (await self.generate(name, text, timeout_s=timeout_s)).text

    async def embed(self, texts: Sequence[str], *, model: str = "", trace: str = "") -> Embeddings:
        """Vectors of texts; the agent's own embedder goes before those of other nodes."""
        args = {"texts": list(texts), "model": model, "trace": trace, "timeout_s": TIMEOUT_S}
        return await self._fetch("embed", args, Embeddings, TIMEOUT_S + GRACE_S)

    # -- data -------------------------------------------------------------------------------

    async def subscribe(self, name: str, *, timeout_s: float = 3600.0) -> AsyncIterator[Sample]:
        """The samples of a data name as they come, until the iterator is closed; see
        :meth:`follow` for everything else that happens."""
        async with aclosing(self.follow(name, timeout_s=timeout_s)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, Published) and isinstance(event.value, Sample):
                    yield event.value

    async def follow(
        self, name: str, *, back: int = 0, timeout_s: float = 3600.0
    ) -> AsyncIterator[DataEvent]:
        """Everything of a data name: what is published, what was missed, who was lost.

        ``name`` may be ``name@node`` or a pattern (``data.gpt/air/*``); ``back`` asks for so many
        earlier updates first. A publisher that comes back is followed from where it was.
        """
        args = {"name": name, "back": back, "timeout_s": timeout_s}
        items = self._doors.request("subscribe", args, silence_s=timeout_s + GRACE_S)
        async with aclosing(items):  # type: ignore[type-var]
            async for item in items:
                if not isinstance(item, Result):
                    yield msgspec.convert(item, DataEvent)

    async def publish(
        self, name: str, value: Mapping[str, Any], *, key: str = "", description: str = ""
    ) -> Receipt:
        """Publish a value: readings by name, ``{"text": ...}``, or an embedding with its space
        (docs/data.md). The agent's certificate has to grant the name. Of each ``key`` the latest
        is kept for who comes later."""
        raw = {**value, "key": key} if key else dict(value)
        args = {"name": name, "value": raw, "description": description}
        return await self._fetch("publish", args, Receipt)

    async def take_away(self, name: str, key: str = "") -> Receipt:
        """Take a key of a feed away, at every subscriber."""
        return await self._fetch("publish", {"name": name, "key": key, "gone": True}, Receipt)

    # -- looking on -------------------------------------------------------------------------

    async def resolve(self, name: str) -> Resolution:
        """Who would answer a name, best first."""
        return await self._fetch("resolve", {"name": name}, Resolution)

    async def names(self, pattern: str = "") -> list[NameView]:
        """The names that the mesh offers."""
        args = {"pattern": pattern} if pattern else {}
        return await self._fetch("names", args, list[NameView])

    async def models(self) -> list[ModelView]:
        """The models of the mesh."""
        return await self._fetch("models", {}, list[ModelView])

    async def peers(self) -> list[PeerView]:
        """The nodes that the agent knows, itself first."""
        return await self._fetch("peers", {}, list[PeerView])

    async def status(self) -> dict[str, Any]:
        """The agent itself: name, mesh, address, what it counts."""
        return await self._fetch("status", {}, dict[str, Any])

    async def metrics(self) -> dict[str, Any]:
        """Everything that the agent counts, as `/metrics` publishes it."""
        return await self._fetch("metrics", {}, dict[str, Any])

    async def traces(self, count: int = 20) -> list[dict[str, Any]]:
        """The latest requests of this agent, the newest first."""
        return await self._fetch("traces", {"count": count}, list[dict[str, Any]])

    async def trace(self, trace: str) -> dict[str, Any]:
        """One request with its events, its answer and its spans; an id may be cut short."""
        return await self._fetch("trace", {"trace": trace}, dict[str, Any])

    async def budget(self, days: int = 7) -> dict[str, Any]:
        """What the cloud cost, what is reserved and left; code ``config`` where there is none."""
        return await self._fetch("budget", {"days": days}, dict[str, Any])

    async def revoke(self, node: str, reason: str = "") -> dict[str, Any]:
        """Shut a node out of the mesh, for good; the agent must hold an issuer's rights."""
        return await self._fetch("revoke", {"node": node, "reason": reason}, dict[str, Any])

    async def drain(self, node: str = "", reason: str = "", *, via: str = "") -> dict[str, Any]:
        """Let a node finish what runs and take nothing new, until :meth:`resume`, also after a
        restart; "" is the agent itself. Another node has to have granted it the right
        (docs/administration.md). ``via``: who asked through you, for the agent's audit log."""
        return await self._order("drain", {"node": node, "reason": reason, "via": via})

    async def resume(self, node: str = "", *, via: str = "") -> dict[str, Any]:
        """Let a drained node take work again."""
        return await self._order("resume", {"node": node, "via": via})

    async def load(
        self, model: str, *, names: Sequence[str] = (), node: str = ""
    ) -> dict[str, Any]:
        """Load a model: ``builtin:NAME``, or a GGUF file with the names that it answers under."""
        return await self._order("load", {"model": model, "names": list(names), "node": node})

    async def unload(self, model: str, *, node: str = "") -> dict[str, Any]:
        """Take a model's names away, let it finish, and give its memory back."""
        return await self._order("unload", {"model": model, "node": node})

    async def policy(self, name: str = "", *, node: str = "") -> dict[str, Any]:
        """The scheduling policy, changed where one is named; "configured" goes back."""
        return await self._order("policy", {"policy": name, "node": node})

    async def _order(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        return await self._fetch(verb, args, dict[str, Any], ORDER_S)

    async def revocations(self) -> list[dict[str, Any]]:
        """The nodes that were shut out."""
        return await self._fetch("revocations", {}, list[dict[str, Any]])

    async def sign_card(self, protected: str = "", payload: str = "") -> dict[str, Any]:
        """The node's public key, and its signature of an agent card (docs/a2a.md)."""
        return await self._fetch(
            "sign_card", {"protected": protected, "payload": payload}, dict[str, Any]
        )

    async def watch(self, every_s: float = 0.5) -> AsyncIterator[dict[str, Any]]:
        """Everything that happens, as it happens; what the events are stands in the docs."""
        items = self._doors.request("watch", {"every_s": every_s}, silence_s=None)
        async with aclosing(items):  # type: ignore[type-var]
            async for item in items:
                if isinstance(item, dict):
                    yield item

    async def _fetch(
        self, verb: str, args: dict[str, Any], kind: type[T], silence_s: float = 30.0
    ) -> T:
        return msgspec.convert(await self._doors.fetch(verb, args, silence_s=silence_s), kind)


def _told(item: Any) -> Told | None:
    """An event; None for a kind that a newer agent says and this library does not know."""
    try:
        told: Told = msgspec.convert(item, Told)
    except msgspec.ValidationError:
        return None
    return told
