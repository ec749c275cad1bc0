"""The control socket with a real client and server on it, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agents.faces import client as client_module
from agents.faces import control
from agents.faces.client import ControlClient, Result
from agents.faces.control import ControlServer, unary
from agents.faces.door import POINTER_FILE, announced, socket_path
from mesh.core.errors import (
    DeadlineExceeded,
    FrameTooLarge,
    GossamerError,
    NoSuchName,
    PeerLost,
    StateLocked,
    WireError,
)


class Verbs:
    """Handlers that count, wait and fail on demand."""

    def __init__(self) -> None:
        self.waiting = 0
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()

    async def count(self, args: dict[str, Any]) -> AsyncIterator[Any]:
        for number in range(args["to"]):
            yield {"number": number}
        yield Result(args["to"])

    async def wait(self, _: dict[str, Any]) -> AsyncIterator[Any]:
        self.waiting += 1
        yield "waiting"
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        yield Result("released")

    async def echo(self, args: dict[str, Any]) -> Any:
        return args

    async def refuse(self, _: dict[str, Any]) -> Any:
        raise NoSuchName("nobody offers it", hint="look at gossamer names")

    async def break_(self, _: dict[str, Any]) -> Any:
        raise KeyError("a bug")

    async def huge(self, _: dict[str, Any]) -> Any:
        return "x" * (control.MAX_REPLY_BYTES + 1)

    async def silent(self, _: dict[str, Any]) -> AsyncIterator[Any]:
        for event in ():
            yield event

    def table(self) -> dict[str, control.Handler]:
        return {
            "count": self.count,
            "wait": self.wait,
            "silent": self.silent,
            "echo": unary(self.echo),
            "refuse": unary(self.refuse),
            "break": unary(self.break_),
            "huge": unary(self.huge),
        }


async def until(condition: Callable[[], object]) -> None:
    """Give the loop to others until something that has no event of its own has happened."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


Body = Callable[[ControlServer, Verbs, ControlClient], Awaitable[None]]


def served(state: Path, body: Body) -> None:
    """Run ``body`` with a server on ``state`` and one client of it."""

    async def run() -> None:
        verbs = Verbs()
        server = ControlServer(state, verbs.table())
        await server.start()
        try:
            async with await ControlClient.connect(state) as client:
                await asyncio.wait_for(body(server, verbs, client), 30)
        finally:
            await server.stop()

    asyncio.run(run())


async def raw(server: ControlServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A bare connection, its hello read."""
    reader, writer = await asyncio.open_unix_connection(str(server.path))
    hello = json.loads(await reader.readline())["hello"]
    assert hello["protocol"] == 1
    return reader, writer


def test_events_come_in_order_and_the_result_last(tmp_path: Path) -> None:
    async def body(_: ControlServer, __: Verbs, client: ControlClient) -> None:
        items = [item async for item in client.request("count", {"to": 3})]
        assert items == [{"number": 0}, {"number": 1}, {"number": 2}, Result(3)]
        assert await client.fetch("silent") is None

    served(tmp_path, body)


def test_many_requests_share_one_connection(tmp_path: Path) -> None:
    async def body(_: ControlServer, verbs: Verbs, client: ControlClient) -> None:
        slow = asyncio.create_task(client.fetch("wait"))
        answers = await asyncio.gather(*(client.fetch("echo", {"n": n}) for n in range(20)))
        assert answers == [{"n": n} for n in range(20)]
        verbs.release.set()
        assert await slow == "released"

    served(tmp_path, body)


def test_the_agents_error_reaches_the_client_as_itself(tmp_path: Path) -> None:
    async def body(_: ControlServer, __: Verbs, client: ControlClient) -> None:
        with pytest.raises(NoSuchName) as caught:
            await client.fetch("refuse")
        assert caught.value.hint == "look at gossamer names"
        with pytest.raises(WireError, match="no verb"):
            await client.fetch("dance")

    served(tmp_path, body)


def test_a_bug_in_a_handler_is_one_error_and_the_rest_goes_on(tmp_path: Path) -> None:
    async def body(server: ControlServer, _: Verbs, client: ControlClient) -> None:
        with pytest.raises(GossamerError) as caught:
            await client.fetch("break")
        assert caught.value.code == "internal"
        assert server.counters["internal"] == 1
        assert await client.fetch("echo", {"a": 1}) == {"a": 1}

    served(tmp_path, body)


def test_closing_a_stream_cancels_its_request_alone(tmp_path: Path) -> None:
    async def body(_: ControlServer, verbs: Verbs, client: ControlClient) -> None:
        async with contextlib.aclosing(client.request("wait")) as stream:
            assert await anext(stream) == "waiting"
        await verbs.cancelled.wait()
        assert await client.fetch("echo", {"a": 1}) == {"a": 1}

    served(tmp_path, body)


def test_a_client_that_goes_away_cancels_its_requests(tmp_path: Path) -> None:
    async def body(server: ControlServer, verbs: Verbs, client: ControlClient) -> None:
        reader, writer = await raw(server)
        writer.write(b'{"id": 1, "verb": "wait"}\n')
        await reader.readline()
        writer.close()
        await verbs.cancelled.wait()
        assert await client.fetch("echo", {"a": 1}) == {"a": 1}

    served(tmp_path, body)


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"[]",
        b'{"verb": "echo"}',
        b'{"id": {}, "verb": "echo"}',
        b'{"id": 1, "verb": "echo", "args": 7}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_request_is_refused_and_the_next_is_served(
    tmp_path: Path, line: bytes
) -> None:
    async def body(server: ControlServer, _: Verbs, __: ControlClient) -> None:
        reader, writer = await raw(server)
        writer.write(line + b'\n{"id": 2, "verb": "echo", "args": {"a": 1}}\n')
        refusal = json.loads(await reader.readline())
        assert refusal["id"] is None
        assert refusal["error"]["code"] == "malformed"
        assert json.loads(await reader.readline()) == {"id": 2, "result": {"a": 1}}
        assert server.counters["malformed"] == 1
        writer.close()

    served(tmp_path, body)


def test_a_line_over_the_limit_is_refused_and_what_is_in_flight_goes_on(tmp_path: Path) -> None:
    async def body(server: ControlServer, verbs: Verbs, client: ControlClient) -> None:
        reader, writer = await raw(server)
        writer.write(b'{"id": 1, "verb": "wait"}\n')
        await reader.readline()
        writer.write(b"x" * (control.MAX_REQUEST_BYTES + 10) + b"\n")
        assert json.loads(await reader.readline())["error"]["code"] == "too_large"
        verbs.release.set()
        assert json.loads(await reader.readline())["result"] == "released"
        writer.close()
        with pytest.raises(FrameTooLarge):
            await client.fetch("echo", {"text": "x" * control.MAX_REQUEST_BYTES})
        with pytest.raises(FrameTooLarge):
            await client.fetch("huge")

    served(tmp_path, body)


def test_an_id_in_flight_is_not_answered_twice(tmp_path: Path) -> None:
    async def body(server: ControlServer, verbs: Verbs, _: ControlClient) -> None:
        reader, writer = await raw(server)
        writer.write(b'{"id": 1, "verb": "wait"}\n{"id": 1, "verb": "echo"}\n')
        replies = [json.loads(await reader.readline()) for _ in range(2)]
        assert {reply["id"] for reply in replies} == {1, None}
        verbs.release.set()
        assert json.loads(await reader.readline()) == {"id": 1, "result": "released"}
        writer.close()

    served(tmp_path, body)


def test_requests_and_clients_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_IN_FLIGHT", 2)
    monkeypatch.setattr(control, "MAX_CONNECTIONS", 2)

    async def body(_: ControlServer, verbs: Verbs, client: ControlClient) -> None:
        held = [asyncio.create_task(client.fetch("wait")) for _ in range(2)]
        await until(lambda: verbs.waiting == 2)
        with pytest.raises(GossamerError, match="in flight"):
            await client.fetch("echo")
        async with await ControlClient.connect(tmp_path):
            with pytest.raises(GossamerError, match="clients are connected"):
                await ControlClient.connect(tmp_path)
        verbs.release.set()
        assert await asyncio.gather(*held) == ["released", "released"]

    served(tmp_path, body)


def test_a_client_that_does_not_read_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "STALL_S", 0.05)

    async def body(server: ControlServer, _: Verbs, client: ControlClient) -> None:
        _, writer = await raw(server)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b'{"id": 1, "verb": "count", "args": {"to": 1000000}}\n')
        await until(lambda: server.counters["stalled"])
        assert await client.fetch("echo", {"a": 1}) == {"a": 1}
        writer.close()

    served(tmp_path, body)


def test_replies_that_nobody_reads_end_that_request_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_UNREAD", 8)

    async def body(_: ControlServer, __: Verbs, client: ControlClient) -> None:
        async with contextlib.aclosing(client.request("count", {"to": 500})) as stream:
            assert await anext(stream) == {"number": 0}
            assert await client.fetch("echo", {"a": 1}) == {"a": 1}
            with pytest.raises(GossamerError, match="left unread"):
                async for _item in stream:
                    pass

    served(tmp_path, body)


def test_an_agent_that_stops_ends_its_clients_with_one_error(tmp_path: Path) -> None:
    async def body(server: ControlServer, verbs: Verbs, client: ControlClient) -> None:
        waiting = asyncio.create_task(client.fetch("wait"))
        await until(lambda: verbs.waiting)
        await server.stop()
        with pytest.raises(PeerLost):
            await waiting
        with pytest.raises(PeerLost):
            await client.fetch("echo")
        assert not socket_path(tmp_path).exists()

    served(tmp_path, body)


def test_a_silent_agent_is_not_waited_for_without_end(tmp_path: Path) -> None:
    async def body(_: ControlServer, verbs: Verbs, client: ControlClient) -> None:
        with pytest.raises(DeadlineExceeded):
            await client.fetch("wait", silence_s=0.02)
        await verbs.cancelled.wait()

    served(tmp_path, body)


def test_only_its_owner_may_open_the_socket(tmp_path: Path) -> None:
    async def body(server: ControlServer, _: Verbs, __: ControlClient) -> None:
        assert server.path is not None
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o600

    served(tmp_path, body)


def test_a_long_state_path_gets_a_short_socket_that_is_recorded(tmp_path: Path) -> None:
    state = tmp_path / ("long" * 20) / ("path" * 20)

    async def body(server: ControlServer, _: Verbs, client: ControlClient) -> None:
        assert server.path is not None
        assert server.path.parent != state
        assert (state / POINTER_FILE).read_text().strip() == str(server.path)
        assert await client.fetch("echo", {"a": 1}) == {"a": 1}

    served(state, body)
    assert not (state / POINTER_FILE).exists()


def test_a_socket_left_by_a_killed_agent_is_taken_over(tmp_path: Path) -> None:
    import socket

    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "control.sock"))
    left.close()
    with pytest.raises(GossamerError) as caught:
        asyncio.run(ControlClient.connect(tmp_path))
    assert caught.value.code == "no_agent"

    async def body(_: ControlServer, __: Verbs, client: ControlClient) -> None:
        assert await client.fetch("echo", {"a": 1}) == {"a": 1}

    served(tmp_path, body)


def test_two_agents_do_not_share_a_state_directory(tmp_path: Path) -> None:
    async def body(server: ControlServer, _: Verbs, client: ControlClient) -> None:
        with pytest.raises(StateLocked):
            await ControlServer(tmp_path, {}).start()
        assert await client.fetch("echo", {"a": 1}) == {"a": 1}

    served(tmp_path, body)


def test_a_directory_of_state_directories_stands_for_its_agents(tmp_path: Path) -> None:
    async def body(_: ControlServer, __: Verbs, ___: ControlClient) -> None:
        async with await ControlClient.connect(tmp_path) as found:
            assert found.state == tmp_path / "demo" / "n2"

    served(tmp_path / "demo" / "n2", body)


def test_an_announced_demo_is_found_without_naming_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("GOSSAMER_STATE", str(home))

    async def body(_: ControlServer, __: Verbs, ___: ControlClient) -> None:
        with announced(tmp_path / "n1"):
            async with await ControlClient.connect() as found:
                assert await found.fetch("echo", {"a": 1}) == {"a": 1}
            with announced(tmp_path / "later"):
                pass
        with pytest.raises(GossamerError, match="No agent runs"):
            await ControlClient.connect()

    served(tmp_path / "n1", body)


def test_without_an_agent_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(GossamerError) as caught:
        asyncio.run(ControlClient.connect(tmp_path))
    assert caught.value.code == "no_agent"
    assert "gossamer up" in caught.value.hint
    assert "gossamer demo" in caught.value.hint


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (b'{"hello": {"protocol": 99, "version": "9.9"}}\n', "speaks control protocol 99"),
        (b"SSH-2.0-OpenSSH\n", "no Gossamer agent"),
        (b"", "closed the connection"),
    ],
)
def test_another_program_behind_the_socket_is_named(
    tmp_path: Path, first: bytes, message: str
) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_unix_server(greet, str(tmp_path / "control.sock"))
        with pytest.raises(GossamerError, match=message):
            await ControlClient.connect(tmp_path)
        server.close()

    asyncio.run(run())
