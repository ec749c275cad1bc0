"""Verbs of the local door for data: follow what others publish, and publish.

``subscribe`` follows a name, ``name@node`` or a pattern at every node that offers it. Its events,
by ``type``, all with ``name`` and ``node``:

``update``  ``key``, ``version``, ``epoch``, ``sequence``, ``at``, ``value`` (null: it is gone)
``gap``     ``missed`` updates that will never be heard (-1: nobody knows), and ``why``
``synced``  the latest of each key is known: ``keys`` of them
``broken``  the stream ended: ``why``, and ``retry_s`` until it is tried again
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from agents.faces.arguments import MAX_TIMEOUT_S, number_of, reach_of, text_of, timeout_of
from agents.faces.client import Result
from agents.faces.control import Handler, unary
from capabilities.data.follower import Broken, Fresh, Gap, Synced
from mesh.core.errors import ConfigError
from mesh.core.names import check_node_name, check_pattern

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.cooperation.data_following import Heard

MAX_BACK = 65536  # as long as a history may be


class DataVerbs:
    """The verbs of one agent about data."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def handlers(self) -> Mapping[str, Handler]:
        """Verb to handler, for the control server."""
        return {"subscribe": self._subscribe, "publish": unary(self._publish)}

    async def _subscribe(self, args: dict[str, Any]) -> AsyncIterator[Any]:
        """Everything that is published, until the asker leaves or the time is over."""
        from agents.cooperation.data_following import Following, following

        name, _, node = text_of(args, "name").partition("@")
        agent, timeout_s = self._agent, timeout_of(args, MAX_TIMEOUT_S)
        source = Following(
            agent.port,
            check_pattern(name),
            node=check_node_name(node) if node else "",
            groups=agent.node.me.groups,
            reach=reach_of(args),
            back=int(number_of(args, "back", 0, low=0, high=MAX_BACK)),
        )
        count = 0
        until = asyncio.get_running_loop().time() + timeout_s
        async with following(source) as events:
            while True:
                try:
                    async with asyncio.timeout_at(until):
                        heard = await anext(events)
                except TimeoutError:
                    break
                count += isinstance(heard.event, Fresh)
                yield heard_json(heard)
        yield Result({"count": count, "counters": dict(source.counters)})

    async def _publish(self, args: dict[str, Any]) -> dict[str, Any]:
        """One value under a name; the name is opened if it is not yet."""
        name = text_of(args, "name")
        desk = await self._agent.data_desk()
        if args.get("gone"):
            update = await desk.take_away(name, str(args.get("key") or ""))
        else:
            raw = args.get("value")
            if not isinstance(raw, dict):
                raise ConfigError("'value' is a JSON object", hint='such as {"pm25_ug_m3": 14.0}')
            update = await desk.say(
                name,
                raw,
                key_field=str(args.get("key_field") or "key"),
                description=str(args.get("description") or ""),
            )
        return {
            "name": name,
            "key": update.key,
            "version": update.version,
            "epoch": update.epoch,
            "sequence": update.sequence,
        }


def heard_json(heard: Heard) -> dict[str, Any]:
    """An event of a subscription as the faces know it."""
    at = {"name": heard.name, "node": heard.node}
    match heard.event:
        case Fresh(update=update):
            plain = msgspec.to_builtins(update)
            plain.pop("kind")
            return {"type": "update", **at, **plain, "past": heard.event.past}
        case Gap(missed=missed, why=why, after=after):
            return {"type": "gap", **at, "missed": missed, "why": why, "after": after}
        case Synced(keys=keys, sequence=sequence):
            return {"type": "synced", **at, "keys": keys, "sequence": sequence}
        case Broken(why=why, retry_s=retry_s):
            return {
                "type": "broken",
                **at,
                "why": why,
                "retry_s": round(retry_s, 3),
                "denied": heard.denied,
            }
