"""The resources: the status, the nodes and the names of the mesh, and its feeds of data.

``gossamer://status``, ``gossamer://nodes``, ``gossamer://nodes/NODE``, ``gossamer://names``,
``gossamer://data/air/raw`` for the feed data.gpt/air/raw. Their text is JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from mcp_types import Resource, ResourceTemplate

from agents.faces.mcp.feeds import KIND, hear
from agents.faces.mcp.messages import NameList, Subscribe
from agents.faces.mcp.tools import name_lines, overview
from agents.library import Agent
from mesh.core.errors import GossamerError

SCHEME = "gossamer://"
STATUS, NODES, NAMES = f"{SCHEME}status", f"{SCHEME}nodes", f"{SCHEME}names"
DATA = f"{SCHEME}data/"
DATA_ROOT = "data.gpt/"
JSON = "application/json"
PAGE = 200  # resources in one answer to a list
MAX_COMPLETIONS = 100  # of the protocol
FEED_S = 5.0  # for the latest of every key to arrive

TEMPLATES = [
    ResourceTemplate(
        name="node",
        title="A node of the mesh",
        uri_template=f"{NODES}/{{node}}",
        description="Device, models, load and names of one node.",
        mime_type=JSON,
    ),
    ResourceTemplate(
        name="feed",
        title="A feed of data",
        uri_template=f"{DATA}{{+path}}",
        description="The latest value of each key of data.gpt/{path}.",
        mime_type=JSON,
    ),
]


class NoSuchResource(GossamerError):
    """A URI that stands for nothing here."""

    code = "no_such_resource"


def name_of(uri: str) -> str:
    """The data name of a feed's URI; empty for another resource."""
    return DATA_ROOT + uri.removeprefix(DATA) if uri.startswith(DATA) and uri != DATA else ""


def uri_of(name: str) -> str:
    """The URI of a feed."""
    return DATA + name.removeprefix(DATA_ROOT)


async def listed(agent: Agent) -> list[Resource]:
    """Every resource that there is now."""
    found = [
        Resource(uri=STATUS, name="status", title="This agent", mime_type=JSON),
        Resource(uri=NODES, name="nodes", title="The nodes of the mesh", mime_type=JSON),
        Resource(uri=NAMES, name="names", title="The names of the mesh", mime_type=JSON),
    ]
    for node in await nodes(agent):
        found.append(Resource(uri=f"{NODES}/{node}", name=node, mime_type=JSON))
    for feed in await feeds(agent):
        found.append(Resource(uri=uri_of(feed), name=feed, mime_type=JSON))
    return found


async def read(agent: Agent, uri: str) -> str:
    """The JSON of a resource; raises :class:`NoSuchResource` and what the agent raises."""
    value: Any
    if uri == STATUS:
        value = await overview(agent)
    elif uri == NODES:
        value = {"nodes": await agent.peers()}
    elif uri == NAMES:
        value = NameList(names=await name_lines(agent))
    elif uri.startswith(f"{NODES}/"):
        wanted = uri.removeprefix(f"{NODES}/")
        value = next((peer for peer in await agent.peers() if peer.name == wanted), None)
        if value is None:
            raise NoSuchResource(f"no node is called {wanted[:80]!r}", hint=f"read {NODES}")
    elif name := name_of(uri):
        value = await hear(agent, Subscribe(name=name, timeout_s=FEED_S))
    else:
        raise NoSuchResource(
            f"there is no resource {uri[:120]!r}", hint="resources/list shows what there is"
        )
    return msgspec.json.encode(value).decode()


async def completed(agent: Agent, template: str, begun: str) -> tuple[list[str], int]:
    """What the variable of a template may be, and how many there are in all."""
    if template.startswith(f"{NODES}/"):
        known: Iterable[str] = await nodes(agent)
    elif template.startswith(DATA):
        known = [feed.removeprefix(DATA_ROOT) for feed in await feeds(agent)]
    else:
        known = []
    fitting = [value for value in known if value.startswith(begun)]
    return fitting[:MAX_COMPLETIONS], len(fitting)


async def nodes(agent: Agent) -> list[str]:
    """The nodes' names, sorted."""
    return sorted({peer.name for peer in await agent.peers() if peer.name})


async def feeds(agent: Agent) -> list[str]:
    """The data names that can be followed."""
    return [name.name for name in await agent.names(f"{DATA_ROOT}**") if name.kind == KIND]
