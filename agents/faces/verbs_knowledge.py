"""Verbs about what this node knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agents.faces.arguments import number_of, text_of
from agents.faces.client import Result
from agents.faces.control import Handler, unary
from mesh.core.errors import ConfigError

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.cooperation.knowledge_service import KnowledgeDesk

MAX_SHOWN = 50
MAX_LISTED = 500  # lines of a reply, which has a size limit
DAY_S = 86_400.0


class KnowledgeVerbs:
    """The verbs of one agent about its knowledge base."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def handlers(self) -> Mapping[str, Handler]:
        """Verb to handler, for the control server."""
        return {
            "knowledge_add": self._add,
            "knowledge_list": unary(self._list),
            "knowledge_search": unary(self._search),
            "knowledge_remove": unary(self._remove),
            "knowledge_feedback": unary(self._feedback),
        }

    def _desk(self) -> KnowledgeDesk:
        desk = self._agent.knowledge
        if desk is None:
            raise ConfigError(
                "this agent keeps no knowledge base",
                hint="add a [knowledge] section to its configuration, see docs/cooperation.md",
            )
        return desk

    async def _add(self, args: dict[str, Any]) -> AsyncIterator[Any]:
        from capabilities.knowledge.entry import check_access, check_domain

        desk = self._desk()
        path = Path(text_of(args, "path"))
        if not path.is_absolute():
            raise ConfigError("'path' is absolute")
        domain = check_domain(str(args.get("domain") or "documents"))
        access = check_access(str(args.get("access") or "node"))
        days = number_of(args, "days", 0.0, low=0.0, high=36_500.0)
        expires = desk.base.wall() + days * DAY_S if days else 0.0
        files = passages = new = 0
        problems: list[dict[str, str]] = []
        steps = desk.base.add_documents(path, domain=domain, access=access, expires=expires)
        async with aclosing(steps):  # type: ignore[type-var]
            async for step in steps:
                files += not step.problem
                passages += step.passages
                new += step.new
                if step.problem:
                    problems.append({"file": step.file, "problem": step.problem})
                yield msgspec.to_builtins(step)
        await desk.changed()
        yield Result(
            {
                "domain": domain,
                "access": access,
                "files": files,
                "passages": passages,
                "new": new,
                "problems": problems[:MAX_SHOWN],
                "served": [served.name for served in desk.names],
            }
        )

    async def _list(self, args: dict[str, Any]) -> dict[str, Any]:
        desk = self._desk()
        sources = await desk.base.sources(str(args.get("domain") or ""))
        entries, size = await desk.base.use(lambda store, _: store.size())
        return {
            "sources": [msgspec.to_builtins(source) for source in sources[:MAX_LISTED]],
            "entries": entries,
            "bytes": size,
            "served": [served.name for served in desk.names],
            "reuse_from": desk.memory.tuning.upper,
            "counters": desk.all_counters(),
        }

    async def _search(self, args: dict[str, Any]) -> list[dict[str, Any]]:
        limit = int(number_of(args, "limit", 5, low=1, high=MAX_SHOWN))
        found = await self._desk().base.search(
            text_of(args, "text"), limit=limit, domain=str(args.get("domain") or "")
        )
        return [{"cosine": round(one.cosine, 4), **msgspec.to_builtins(one.entry)} for one in found]

    async def _remove(self, args: dict[str, Any]) -> dict[str, Any]:
        desk = self._desk()
        source, domain = str(args.get("source") or ""), str(args.get("domain") or "")
        ids = args.get("ids") or []
        if not isinstance(ids, list) or not all(type(one) is int for one in ids):
            raise ConfigError("'ids' is a list of numbers")
        if not (source or domain or ids):
            raise ConfigError("say what to forget: a source, a domain or entries by number")
        gone = await desk.base.use(
            lambda store, _: store.remove(source=source, domain=domain, ids=ids)
        )
        await desk.changed()
        return {"removed": gone}

    async def _feedback(self, args: dict[str, Any]) -> dict[str, Any]:
        entry = int(number_of(args, "entry", 0, low=1, high=2**53))
        right = args.get("right")
        if not isinstance(right, bool):
            raise ConfigError("'right' is true or false")
        return await self._desk().memory.feedback(entry, right=right)
