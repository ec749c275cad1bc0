"""A link that cannot be had pauses longer and longer, but not once the peer has shown itself."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

import pytest
import zmq

from mesh.core.errors import PeerLost
from mesh.core.identity import new_keys
from mesh.core.records import Endpoints
from mesh.core.wire import Lane
from mesh.net import links
from mesh.net.backlog import Backlog
from mesh.net.links import Link, LinkState
from tests.mesh.net.harness import PATIENCE_S, until

AN_HOUR_S = 3600.0
PEER = b"p" * 16
THERE = Endpoints(control="tcp://127.0.0.1:9", bulk="", admission="tcp://127.0.0.1:9")


class Owner:
    """Listens to nothing."""

    backlog = Backlog(Counter(), lambda *_: None, 1)

    def on_message(self, node: bytes, lane: Lane, message: zmq.Frame) -> None: ...
    def on_parts(self, node: bytes, lane: Lane, first: zmq.Frame) -> None: ...
    def on_link_up(self, node: bytes, lane: Lane) -> None: ...
    def on_link_down(self, node: bytes, lane: Lane) -> None: ...
    def on_trouble(self, node: bytes, sentence: str) -> None: ...


class Silent:
    """A door that nobody answers at."""

    def __init__(self) -> None:
        self.tried = 0
        self.again = asyncio.Event()

    def __call__(self, address: str, curve: bytes) -> asyncio.Future[None]:
        self.tried += 1
        self.again.set()
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answer.set_exception(PeerLost(f"nobody answered at {address}"))
        return answer


@pytest.mark.parametrize("shown", ["it called us", "its door answered"])
def test_a_pause_ends_soon_after_the_peer_has_shown_itself(
    monkeypatch: pytest.MonkeyPatch, shown: str
) -> None:
    async def main() -> None:
        door = Silent()
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        link = Link(context, new_keys(os.urandom), PEER, Owner(), door, Counter())
        curve = new_keys(os.urandom).curve
        link.aim(curve, THERE)
        monkeypatch.setattr(link, "_backoff_s", AN_HOUR_S)
        link.send(b"hello", Lane.CONTROL)
        await asyncio.sleep(0)
        assert (door.tried, link.state) == (1, LinkState.WAITING)
        monkeypatch.setattr(links, "BACKOFF_FIRST_S", 0.01)
        door.again.clear()
        if shown == "it called us":
            link.try_soon()
            await asyncio.wait_for(door.again.wait(), PATIENCE_S)
            assert door.tried == 2
        else:
            link.aim(curve, THERE, introduced=True)
            await until(lambda: link.state is LinkState.OPENING, "the link is opened")
            assert door.tried == 1  # let in already: nothing is shown twice
        link.close()

    asyncio.run(main())


def test_a_peer_that_keeps_showing_itself_does_not_put_the_next_try_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        door = Silent()
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        link = Link(context, new_keys(os.urandom), PEER, Owner(), door, Counter())
        link.aim(new_keys(os.urandom).curve, THERE)
        monkeypatch.setattr(links, "BACKOFF_FIRST_S", AN_HOUR_S)
        monkeypatch.setattr(link, "_backoff_s", AN_HOUR_S / 2)
        link.send(b"hello", Lane.CONTROL)
        await asyncio.sleep(0)
        waiting = link._timer
        assert waiting is not None
        link.try_soon()
        assert link._timer is waiting
        assert not waiting.cancelled()
        link.close()

    asyncio.run(main())
