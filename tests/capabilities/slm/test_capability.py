"""A model as a capability: names, admission against real slots, prompts, measured speed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from capabilities.base import Request
from capabilities.messages import Done, Generate, Message, decode_event, encode
from capabilities.slm.capability import CLAIM_S, SlmCapability, last_turn
from capabilities.slm.host import Care, ModelHost
from capabilities.slm.protocol import Paced, Settings
from mesh.core.errors import DeadlineExceeded, WireError
from mesh.core.records import ServedName

pytestmark = pytest.mark.usefixtures("no_orphans")
NAME = "knowledge.gpt/echo"
PACE = Paced(token_s=0.01, prompt_token_s=0.0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def serving(
    path: Path | str = "board", *, paced: Paced | None = PACE, slots: int = 2, **more: object
) -> AsyncIterator[SlmCapability]:
    host = ModelHost(
        path,
        Settings(slots=slots, threads=1),
        paced=paced,
        care=Care(ping_s=0.05, backoff_s=5.0, backoff_max_s=5.0),
    )
    it = SlmCapability(host, [ServedName(NAME)], **more)  # type: ignore[arg-type]
    try:
        await it.start()
        yield it
    finally:
        await it.stop()


def request(text: str = "one two", *, timeout_s: float = 60.0, name: str = NAME) -> Request:
    body = encode(Generate(messages=[Message("user", text)]))
    return Request(name=name, body=body, timeout_s=timeout_s)


async def read(it: SlmCapability, ask: Request) -> Done:
    assert it.admit(ask).accepted
    last = [decode_event(body) async for body in it.serve(ask)][-1]
    assert isinstance(last, Done)
    return last


def test_it_serves_its_names_and_no_other(spoken: Path) -> None:
    async def main() -> None:
        async with serving(spoken, paced=None) as it:
            assert [name.name for name in it.names] == [NAME]
            assert [model.name for model in it.models] == ["spoken"]
            assert (await read(it, request())).text == "naïve ok!"
            refused = it.admit(request(name="knowledge.gpt/other"))
            assert not refused.accepted
            assert "not served" in refused.reason

    asyncio.run(main())


def test_it_admits_what_its_slots_and_its_queue_hold() -> None:
    async def main() -> None:
        async with serving(queue=1) as it:
            asks = [request() for _ in range(3)]
            assert all(it.admit(ask).accepted for ask in asks)
            refused = it.admit(request())
            assert not refused.accepted
            assert refused.retry_after_s > 0
            occupancy = it.occupancy()
            assert (occupancy.slots, occupancy.inflight, occupancy.queued) == (2, 2, 1)
            streams = [it.serve(ask) for ask in asks]
            await streams[0].aclose()  # type: ignore[attr-defined] # never begun, its place is free
            assert it.admit(request()).accepted
            for stream in (*streams[1:], it.serve(request())):
                assert [decode_event(body) async for body in stream][-1].text == "one two"
            assert it.occupancy().inflight == 0

    asyncio.run(main())


def test_a_promise_that_nobody_claims_lapses() -> None:
    async def main() -> None:
        clock = Clock()
        async with serving(slots=1, queue=0, clock=clock) as it:
            assert it.admit(request()).accepted
            assert not it.admit(request()).accepted
            clock.now += CLAIM_S + 1
            assert it.admit(request()).accepted

    asyncio.run(main())


def test_a_place_is_given_back_on_every_way_out() -> None:
    async def main() -> None:
        async with serving() as it:
            bad = Request(name=NAME, body=b"\xc1", timeout_s=5)
            assert it.admit(bad).accepted
            with pytest.raises(WireError):
                await anext(it.serve(bad))
            late = request(timeout_s=0)
            assert it.admit(late).accepted
            with pytest.raises(DeadlineExceeded):
                await anext(it.serve(late))
            assert it.admit(request()).accepted
            stream = it.serve(request())
            await anext(stream)
            await stream.aclose()  # type: ignore[attr-defined]
            assert it.occupancy().inflight == 0

    asyncio.run(main())


def test_a_dead_model_is_said_to_be_unhealthy_and_takes_no_request() -> None:
    async def main() -> None:
        async with serving() as it:
            os.kill(it.host.health().pid, signal.SIGKILL)
            async with asyncio.timeout(30):
                while it.occupancy().healthy:  # noqa: ASYNC110 - another process changes it
                    await asyncio.sleep(0.01)
            assert "SIGKILL" in it.occupancy().note
            refused = it.admit(request())
            assert not refused.accepted
            assert refused.retry_after_s > 0

    asyncio.run(main())


def test_a_name_has_its_system_prompt_unless_the_request_brings_one(random_model: Path) -> None:
    async def main() -> None:
        async with serving(
            random_model, paced=None, system_prompts={NAME: "You answer in one word."}
        ) as it:
            plain = await read(it, request("hi"))
            messages = [Message("system", "Sing."), Message("user", "hi")]
            own = Request(name=NAME, body=encode(Generate(messages=messages)), timeout_s=60)
            other = await read(it, own)
            assert plain.usage.prompt_tokens - other.usage.prompt_tokens == len(
                "You answer in one word."
            ) - len("Sing.")

    asyncio.run(main())


def test_its_speed_is_measured_at_start_and_follows_real_work() -> None:
    async def main() -> None:
        async with serving(paced=Paced(token_s=0.01, prompt_token_s=0, answer_tokens=20)) as it:
            first = it.occupancy().tokens_per_s
            assert first == 100
            await read(it, request())
            measured = it.occupancy().tokens_per_s
            assert measured != first  # it moved from what was stated to what was measured
            assert 0 < measured < 2 * first

    asyncio.run(main())


def test_a_model_that_cannot_start_leaves_the_capability_stoppable(tmp_path: Path) -> None:
    async def main() -> None:
        it = SlmCapability(ModelHost(tmp_path / "none.gguf"), [ServedName(NAME)])
        with pytest.raises(Exception, match="No such file"):
            await it.start()
        assert it.models == ()
        await it.stop()

    asyncio.run(main())


def test_the_last_question_is_kept_with_what_the_system_says_and_what_follows_it() -> None:
    system = Message("system", "be short")
    before = [Message("user", "48 * 27?"), Message("assistant", "1296")]
    now = Message("user", "12 + 30?")
    begun = Message("assistant", "12 + 30 =")
    assert last_turn([system, *before, now]) == [system, now]
    assert last_turn([*before, now, begun]) == [now, begun]
    assert last_turn([now]) == [now]
    assert last_turn([system, begun]) == [system, begun]  # nobody asked: all of it stays


def test_a_model_that_does_not_converse_is_given_the_last_question_alone(
    random_model: Path,
) -> None:
    earlier = [Message("user", "one two"), Message("assistant", "three four " * 9)]

    async def tokens(*, converses: bool, messages: list[Message]) -> int:
        body = encode(Generate(messages=messages, max_tokens=1))
        async with serving(random_model, paced=None, converses=converses) as it:
            done = await read(it, Request(name=NAME, body=body, timeout_s=60.0))
            return done.usage.prompt_tokens

    async def main() -> None:
        now = [Message("user", "five")]
        alone = await tokens(converses=True, messages=now)
        assert await tokens(converses=False, messages=[*earlier, *now]) == alone
        assert await tokens(converses=True, messages=[*earlier, *now]) > alone

    asyncio.run(main())
