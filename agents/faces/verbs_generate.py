"""Verbs of the local door for programs that speak to a model: generate, embed, models."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from agents.embedding import MAX_TEXT_CHARS, MAX_TEXTS, Embedders
from agents.faces.arguments import (
    MAX_TIMEOUT_S,
    number_of,
    reach_of,
    text_of,
    timeout_of,
    trace_of,
)
from agents.faces.client import Result
from agents.faces.control import Handler, unary
from agents.generating import Generated, Generator, as_answer
from agents.halves import MAX_NAME_CHARS
from agents.orchestrator.options import AskOptions
from agents.port import Offer, Task
from agents.telemetry.logs import current_trace
from agents.trace import TRACE_BYTES
from capabilities.messages import Delta, Generate
from mesh.core.errors import ConfigError, WireError

if TYPE_CHECKING:
    from agents.agent import Agent

MAX_MESSAGES = 512  # of a conversation; each is work for a chat template


class GenerateVerbs:
    """The verbs of one agent about models."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._generator = Generator(agent.port, agent.parts, agent.orchestrator.dispatch)
        self._embedders = Embedders(agent)

    def handlers(self) -> Mapping[str, Handler]:
        """Verb to handler, for the control server."""
        return {
            "generate": self._generate,
            "embed": unary(self._embed),
            "models": unary(self._models),
        }

    async def _generate(self, args: dict[str, Any]) -> AsyncIterator[Any]:
        """One request to one model; the request is :class:`~capabilities.messages.Generate`."""
        target, request = text_of(args, "target"), _request(args)
        agent = self._agent
        task, options = self._task(args), _options(args)
        trace = task.trace
        current_trace.set(trace.hex())
        asked = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
        with agent.observer.request("generate", asked, trace.hex()) as watch:
            chosen = await self._generator.choose(target, request, task)
            stream = self._generator.run(chosen, request, task, options)
            try:
                async for item in stream:
                    if isinstance(item, Generated):
                        answer = as_answer(item, trace.hex())
                        watch.answered(answer)
                        yield Result(answer)
                        return
                    event = _event(item, chosen.name, trace)
                    watch.event(event)
                    yield event
            finally:
                await stream.aclose()  # type: ignore[attr-defined]

    async def _embed(self, args: dict[str, Any]) -> dict[str, Any]:
        texts = args.get("texts")
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ConfigError("'texts' is a list of texts")
        if not 0 < len(texts) <= MAX_TEXTS:
            raise WireError(f"1 to {MAX_TEXTS} texts are embedded at once, not {len(texts)}")
        if any(not text.strip() or len(text) > MAX_TEXT_CHARS for text in texts):
            raise WireError(f"a text to embed has 1 to {MAX_TEXT_CHARS} characters")
        task = self._task(args)
        trace = task.trace.hex()
        with self._agent.observer.request("embed", "", trace) as watch:
            found = await self._embedders.embed(texts, str(args.get("model") or ""), task)
            watch.answered({"model": found.model, "node": found.node})
        return {"trace": trace, **msgspec.structs.asdict(found)}

    def _task(self, args: dict[str, Any]) -> Task:
        agent = self._agent
        return Task(
            trace=trace_of(args) or os.urandom(TRACE_BYTES),
            deadline=agent.port.now() + timeout_of(args, agent.config.ask.timeout_s),
            reach=reach_of(args),
            groups=agent.node.me.groups,
        )

    async def _models(self, args: dict[str, Any]) -> list[dict[str, Any]]:
        """Every model that answers in words, and who runs it; and what embeds here."""
        models: dict[str, dict[str, Any]] = {}
        for offer in self._agent.port.offers():
            if not offer.served.model or offer.served.kind != "generate" or not offer.healthy:
                continue
            entry = models.setdefault(
                offer.served.model,
                {"model": offer.served.model, "kind": "generate", "names": [], "nodes": []},
            )
            for key, value in (("names", offer.served.name), ("nodes", offer.node_name)):
                if value not in entry[key]:
                    entry[key].append(value)
        for model, nodes in self._embedders.names().items():
            embeds = {"model": model, "kind": "embed", "names": [], "nodes": nodes}
            models.setdefault(model, embeds)
        return [models[model] for model in sorted(models)]


def _request(args: dict[str, Any]) -> Generate:
    try:
        request = msgspec.convert(args.get("request"), Generate, strict=False)
    except msgspec.ValidationError as error:
        raise WireError(f"'request' is no generation request: {error}") from error
    if not 0 < len(request.messages) <= MAX_MESSAGES:
        raise WireError(f"a conversation has 1 to {MAX_MESSAGES} messages")
    return request


def _options(args: dict[str, Any]) -> AskOptions:
    return AskOptions(
        policy=str(args.get("policy") or ""),
        patience_s=number_of(args, "patience_s", 0.0, low=0.0, high=MAX_TIMEOUT_S),
    )


def _event(item: Offer | Delta, name: str, trace: bytes) -> dict[str, Any]:
    if isinstance(item, Offer):
        return {
            "type": "asked",
            "name": name,
            "node": item.node_name,
            "model": item.served.model,
            "remote": not item.me,
            "trace": trace.hex(),
        }
    event: dict[str, Any] = {"type": "delta", "text": item.text, "thinking": item.thinking}
    if item.tokens != 1:
        event["tokens"] = item.tokens
    if item.by:
        event["by"] = item.by[:MAX_NAME_CHARS]
    if item.logprobs:
        event["logprobs"] = msgspec.to_builtins(item.logprobs)
    return event
