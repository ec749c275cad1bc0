"""Rights are looked at again: at each hop of a task, and while a stream runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from mesh.core.access import CLOUD, Operation, Policy, Rule
from mesh.core.delegation import on_behalf
from mesh.core.errors import AccessDenied
from mesh.core.wire import CallHeader, Op, Reach
from mesh.net.calls import IncomingCall
from mesh.net.node import MeshNode
from tests.mesh.net.harness import Echo, fabric, header, knows, offer, until

RELAY, WORK, DATA = "computation.gpt/relay", "knowledge.gpt/work", "data.gpt/vitals/raw"


class Relay(Echo):
    """A delegate: passes the task on, with the header that ``forge`` makes of the honest one."""

    def __init__(self, node: MeshNode, target: MeshNode, name: str = WORK) -> None:
        super().__init__()
        self.node, self.target, self.name = node, target, name
        self.forge = lambda header: header

    async def serve(self, call: IncomingCall) -> AsyncIterator[bytes]:
        passed = on_behalf(call.header, span=os.urandom(8), timeout_ms=5000)
        answer = self.node.call(
            self.target.me.node, self.name, call.body, self.forge(passed), Op.DELEGATE
        )
        async for message in answer:
            yield message


async def ask(node: MeshNode, target: MeshNode, asked: CallHeader, op: Op = Op.DELEGATE) -> bytes:
    answer = node.call(target.me.node, RELAY, b"abc", asked, op)
    return b"".join([message async for message in answer])


def test_a_delegate_over_three_nodes_cannot_widen_what_the_origin_allowed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            rules = Policy([Rule(allow=True, names="data.gpt/**", nodes=("hub",))])
            lab = await mesh.node("lab", groups=("lab", "home"), policy=rules)
            work = Echo()
            offer(lab, work, WORK, DATA)
            hub = await mesh.node("hub", lab, groups=("home", "lab"))
            relay = Relay(hub, lab)
            offer(hub, relay, RELAY)
            watch = await mesh.node("watch", hub, groups=("home", "body"))
            await until(lambda: knows(watch, hub, RELAY) and knows(hub, lab, WORK), "they meet")
            await until(
                lambda: lab.core.member(watch.me.node) and knows(watch, lab), "all three meet"
            )

            home = msgspec.structs.replace(header(watch, reach=Reach.GROUP), groups=("home",))
            assert await ask(watch, hub, home) == b"abc"
            seen = work.calls[-1]
            assert seen.peer.name == "hub"
            assert seen.header.caller == watch.me.node
            assert (seen.header.reach, seen.header.groups) == (Reach.GROUP, ("home",))
            assert seen.header.hops == 1

            def refused(said: str, **change: object) -> None:
                relay.forge = lambda honest: msgspec.structs.replace(honest, **change)
                relay.said = said  # type: ignore[attr-defined]

            for said, change in (
                ("widened the limits", {"reach": Reach.MESH}),
                ("widened the limits", {"reach": Reach.CLOUD}),
                ("widened the limits", {"groups": ("home", "body")}),
                ("without its warrant", {"warrant": None}),
                ("handed on at most", {"hops": 99}),
            ):
                refused(said, **change)
                with pytest.raises(AccessDenied, match=said):
                    await ask(watch, hub, home)

            # The delegate lends nobody its own rights: it may read the data, the origin not.
            relay.forge, relay.name = (lambda honest: honest), DATA
            with pytest.raises(AccessDenied, match="watch may not delegate"):
                await ask(watch, hub, header(watch))
            assert len(work.calls) == 1

            # In its own name it may, since that is its own right and its own name in the log.
            own = hub.call(lab.me.node, DATA, b"x", header(hub), Op.DELEGATE)
            assert [m async for m in own] == [b"x"]

    asyncio.run(scenario())


def test_a_task_that_was_only_asked_is_not_delegated(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            lab = await mesh.node("lab")
            offer(lab, Echo(), WORK)
            hub = await mesh.node("hub", lab)
            offer(hub, Relay(hub, lab), RELAY)
            watch = await mesh.node("watch", hub)
            await until(lambda: knows(watch, hub, RELAY), "they meet")
            with pytest.raises(AccessDenied, match="without its origin's leave"):
                await ask(watch, hub, header(watch), Op.QUERY)

    asyncio.run(scenario())


def test_a_running_stream_ends_when_the_rules_no_longer_allow_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            everybody = Policy([Rule(allow=True, names="data.gpt/**")])
            host = await mesh.node("host", policy=everybody)
            echo = Echo(hang=True)
            offer(host, echo, DATA, WORK)
            guest = await mesh.node("guest", host)
            await until(lambda: knows(guest, host, DATA), "they meet")
            data = guest.call(host.me.node, DATA, b"a", header(guest, 60.0), Op.SUBSCRIBE)
            other = guest.call(host.me.node, WORK, b"a", header(guest, 60.0))
            assert await anext(data) == await anext(other) == b"a"  # type: ignore[arg-type]
            host.policy = Policy()
            with pytest.raises(AccessDenied, match=r"data\.gpt is denied"):
                async for _ in data:
                    pass
            await until(lambda: echo.active == 1, "the other stream goes on")
            assert host.calls.counters["ended_no_longer_allowed"] == 1
            await other.aclose()  # type: ignore[attr-defined]

    asyncio.run(scenario())


def test_asking_the_cloud_of_another_node_is_an_escalation_and_has_a_rule_of_its_own(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with fabric(tmp_path) as mesh:
            rules = [
                Rule(allow=True, names=CLOUD, nodes=("guest",), ops=(Operation.ESCALATE,)),
                Rule(allow=False, names=CLOUD, ops=(Operation.ESCALATE,)),
            ]
            host = await mesh.node("host", policy=Policy(rules))
            offer(host, Echo(), CLOUD, WORK)
            guest, other = await mesh.node("guest", host), await mesh.node("other", host)
            await until(lambda: knows(guest, host, CLOUD) and knows(other, host), "they meet")
            may = guest.call(host.me.node, CLOUD, b"a", header(guest))
            assert [m async for m in may] == [b"a"]
            with pytest.raises(AccessDenied, match="other may not escalate"):
                async for _ in other.call(host.me.node, CLOUD, b"a", header(other)):
                    pass
            work = other.call(host.me.node, WORK, b"a", header(other))
            assert [m async for m in work] == [b"a"]

    asyncio.run(scenario())
