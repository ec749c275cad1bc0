"""The agent's handle on a model: crashes, deadlines, cancellation, restarts, the end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from capabilities.messages import Delta, Done, Generate, Message
from capabilities.slm.errors import BadRequest, ContextFull, SequenceLost, Unsupported
from capabilities.slm.host import RESTING, UNLOADED, Care, ModelHost
from capabilities.slm.process import WorkerProcess, last_words, reason_of
from capabilities.slm.protocol import Paced, SequenceState, Settings
from mesh.core.errors import DeadlineExceeded, GossamerError, ModelError
from tests.capabilities.slm.test_adapters import write_adapter

pytestmark = pytest.mark.usefixtures("no_orphans")
LONG_S = 60.0
QUICK = Care(backoff_s=0.01, backoff_max_s=0.05, ping_s=0.05)
SLOW = Paced(token_s=0.02, prompt_token_s=0.0, answer_tokens=1_000)


def ask(text: str = "one two three", **request: object) -> Generate:
    return Generate(messages=[Message("user", text)], **request)  # type: ignore[arg-type]


@asynccontextmanager
async def hosting(
    path: Path | str = "", *, settings: Settings | None = None, **more: object
) -> AsyncIterator[ModelHost]:
    host = ModelHost(path, settings or Settings(threads=1), **more)  # type: ignore[arg-type]
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


async def answer(host: ModelHost, request: Generate, timeout_s: float = LONG_S) -> Done:
    last: object = None
    async for event in host.generate(request, timeout_s=timeout_s):
        last = event
    assert isinstance(last, Done)
    return last


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.01)


def run(work: Awaitable[None]) -> None:
    async def main() -> None:
        async with asyncio.timeout(100):
            await work

    asyncio.run(main())


def test_an_answer_streams_and_ends(spoken: Path) -> None:
    async def main() -> None:
        async with hosting(spoken) as host:
            assert host.info.name == "spoken"
            assert host.health().healthy
            events = [e async for e in host.generate(ask(), timeout_s=LONG_S)]
            texts = [e.text for e in events if isinstance(e, Delta) and not e.thinking]
            assert "".join(texts) == "naïve ok!"
            assert isinstance(events[-1], Done)
            assert await host.tokenize("hi") == [ord("h"), ord("i")]

    run(main())


def test_concurrent_streams_say_what_each_says_alone(
    random_model: Path, agree: Callable[[object, object], None]
) -> None:
    async def main() -> None:
        async with hosting(random_model) as host:

            async def events(request: Generate) -> list[object]:
                return [event async for event in host.generate(request, timeout_s=LONG_S)]

            requests = [ask(f"topic {i} " * (i + 1), max_tokens=16, logprobs=2) for i in range(7)]
            alone = [await events(request) for request in requests]
            together = await asyncio.gather(*(events(request) for request in requests))
            for one, other in zip(alone, together, strict=True):
                agree(one, other)

    run(main())


def test_errors_of_a_request_reach_only_its_caller(endless: Path) -> None:
    async def main() -> None:
        async with hosting(endless) as host:
            fine = asyncio.create_task(answer(host, ask(max_tokens=8)))
            with pytest.raises(ContextFull):
                await answer(host, ask("x" * 500))
            with pytest.raises(Unsupported):
                await answer(host, ask(json_schema='{"not": {}}'))
            assert (await fine).text == "abc abc "
            block = await host.embed(["a", "b"], timeout_s=LONG_S)
            assert np.frombuffer(block.data, dtype="<f4").size == 2 * block.width

    run(main())


def test_one_endless_word_does_not_take_the_model_from_the_others(recursing: Path) -> None:
    async def main() -> None:
        async with hosting(recursing) as host:
            # Above 24,000 letters the native tokenizer overflows its stack.
            for unit in ("x", " ", "1", "!", "漢"):
                assert len(await host.tokenize(unit * 60_000)) >= 60_000
            assert (await answer(host, ask("short"))).text == "ok"
            assert host.health().crashes == 0

    run(main())


def test_a_model_that_only_embeds_says_so(embedder: Path) -> None:
    async def main() -> None:
        async with hosting(embedder) as host:
            assert host.ready.features == ["embed", "tokenize"]
            block = await host.embed(["a cat", "a dog", "a cat"], timeout_s=LONG_S)
            rows = np.frombuffer(block.data, dtype="<f4").reshape(block.rows, block.width)
            assert rows[0] == pytest.approx(rows[2])
            assert rows[0] @ rows[1] < 0.999
            with pytest.raises(Unsupported, match="cannot generate"):
                await answer(host, ask())

    run(main())


def test_a_state_travels_out_and_back(random_model: Path) -> None:
    async def main() -> None:
        async with hosting(random_model) as host:
            states: list[SequenceState] = []
            first = host.generate(ask(max_tokens=8), timeout_s=LONG_S, on_state=states.append)
            text = [e async for e in first][-1].text
            again = host.generate(ask(max_tokens=8), timeout_s=LONG_S, state=states[0])
            done = [e async for e in again][-1]
            assert isinstance(done, Done)
            assert done.text == text
            assert done.usage.cached_tokens > 0

    run(main())


def test_closing_the_iterator_cancels_the_work() -> None:
    async def main() -> None:
        async with hosting(paced=SLOW, care=QUICK, settings=Settings(slots=1)) as host:
            stream = host.generate(ask(max_tokens=500), timeout_s=LONG_S)
            assert isinstance(await anext(stream), Delta)
            await until(lambda: host.health().running == 1)
            await stream.aclose()  # type: ignore[attr-defined]
            assert (await answer(host, ask(max_tokens=2))).finish == "length"
            await until(lambda: host.health().running == 0)

    run(main())


def test_a_killed_worker_fails_each_running_request_once_and_is_back() -> None:
    async def main() -> None:
        async with hosting(paced=SLOW, care=QUICK) as host:
            tasks = [asyncio.create_task(answer(host, ask())) for _ in range(3)]
            await until(lambda: host.health().running == 3)
            pid = host.health().pid
            os.kill(pid, signal.SIGKILL)
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert type(result) is ModelError
                assert "SIGKILL" in str(result)
                assert "\n" not in str(result)
            assert (await answer(host, ask(max_tokens=2))).text  # waits for the restart
            health = host.health()
            assert health.healthy
            assert health.crashes == 1
            assert health.pid != pid

    run(main())


def test_a_segmentation_fault_is_named() -> None:
    async def main() -> None:
        async with hosting(paced=SLOW, care=QUICK) as host:
            task = asyncio.create_task(answer(host, ask()))
            await until(lambda: host.health().running == 1)
            os.kill(host.health().pid, signal.SIGSEGV)
            with pytest.raises(ModelError, match=r"SIGSEGV.*Fatal Python error"):
                await task

    run(main())


def test_a_stopped_worker_cannot_hold_a_request_beyond_its_deadline() -> None:
    async def main() -> None:
        care = Care(backoff_s=0.01, ping_s=0.05, silent_s=0.2, hung_s=1_000)
        async with hosting(paced=SLOW, care=care) as host:
            os.kill(host.health().pid, signal.SIGSTOP)
            with pytest.raises(DeadlineExceeded):
                await answer(host, ask(), timeout_s=0.3)
            await until(lambda: "has not answered" in host.health().note)
            assert not host.health().healthy

    run(main())


def test_a_worker_that_stays_silent_is_replaced() -> None:
    async def main() -> None:
        care = Care(backoff_s=0.01, ping_s=0.05, silent_s=0.1, hung_s=0.5)
        async with hosting(paced=SLOW, care=care) as host:
            task = asyncio.create_task(answer(host, ask()))
            await until(lambda: host.health().running == 1)
            os.kill(host.health().pid, signal.SIGSTOP)
            with pytest.raises(ModelError, match="has not answered"):
                await task
            assert (await answer(host, ask(max_tokens=1))).text

    run(main())


def test_a_worker_that_crashes_again_and_again_rests() -> None:
    async def main() -> None:
        care = Care(backoff_s=0.01, backoff_max_s=0.01, max_crashes=2, rest_s=1_000)
        async with hosting(paced=SLOW, care=care) as host:
            for crashes in (1, 2):
                os.kill(host.health().pid, signal.SIGKILL)
                await until(
                    lambda n=crashes: (
                        host.health().crashes == n  # type: ignore[misc]
                        and (host.health().healthy or host.health().state == RESTING)
                    )
                )
            assert "crashed 2 times" in host.health().note
            with pytest.raises(ModelError, match="not served now"):
                await answer(host, ask())

    run(main())


@pytest.mark.parametrize("damage", ["text", "missing", "cut", "tail", "architecture"])
def test_a_file_that_cannot_be_served_is_refused_in_one_line(
    damage: str, spoken: Path, tmp_path: Path
) -> None:
    data = spoken.read_bytes()
    bad = tmp_path / "bad.gguf"
    expected = {
        "text": "is not a GGUF file",
        "missing": "No such file",
        "cut": "cut off",
        "tail": "not within the file bounds",
        "architecture": "unknown model architecture: 'llamb'",
    }[damage]
    if damage == "text":
        bad.write_text("I am no model")
    elif damage == "cut":
        bad.write_bytes(data[:5_000])
    elif damage == "tail":
        bad.write_bytes(data[:-100])
    elif damage == "architecture":
        bad.write_bytes(data.replace(b"llama", b"llamb"))

    async def main() -> None:
        host = ModelHost(bad)
        with pytest.raises(GossamerError) as caught:
            await host.start()
        sentence = caught.value.sentence()
        assert expected in sentence
        assert str(bad) in sentence
        assert "\n" not in sentence
        with pytest.raises(ModelError, match="not running"):
            await answer(host, ask())
        await host.stop()

    run(main())


class Fragile(WorkerProcess):
    """A worker whose native library crashes while it loads, with repacked weights or always."""

    always = False

    async def load(self, order, timeout_s):  # type: ignore[no-untyped-def]
        if order.settings.use_extra_bufts or self.always:
            os.kill(self.pid, signal.SIGSEGV)
        return await super().load(order, timeout_s)


@pytest.mark.parametrize("always", [False, True])
def test_a_native_crash_at_load_is_tried_once_with_safe_settings(
    always: bool, spoken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fragile, "always", always)
    monkeypatch.setattr("capabilities.slm.host.WorkerProcess", Fragile)

    async def main() -> None:
        host = ModelHost(spoken)
        if always:
            with pytest.raises(ModelError, match=r"also with safe settings.*SIGSEGV"):
                await host.start()
        else:
            await host.start()
            assert host.health().safe_mode
            assert (await answer(host, ask())).text == "naïve ok!"
        await host.stop()

    run(main())


def test_a_worker_killed_while_it_loads_is_not_blamed_on_native_code(
    spoken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Starved(WorkerProcess):
        async def load(self, order, timeout_s):  # type: ignore[no-untyped-def]
            os.kill(self.pid, signal.SIGKILL)
            return await super().load(order, timeout_s)

    monkeypatch.setattr("capabilities.slm.host.WorkerProcess", Starved)

    async def main() -> None:
        host = ModelHost(spoken)
        with pytest.raises(ModelError, match=r"spoken.gguf could not be loaded.*memory"):
            await host.start()
        assert not host.health().safe_mode

    run(main())


def test_stop_fails_running_requests_and_can_be_repeated() -> None:
    async def main() -> None:
        async with hosting("board", paced=SLOW, care=QUICK) as host:
            task = asyncio.create_task(answer(host, ask()))
            await until(lambda: host.health().running == 1)
            await host.stop()
            with pytest.raises(ModelError, match="was stopped"):
                await task
            await host.stop()
            await host.start()  # and it can be started again
            assert (await answer(host, ask(max_tokens=1))).text

    run(main())


def test_stop_while_loading_and_a_cancelled_start_leave_nothing() -> None:
    async def main() -> None:
        host = ModelHost("board", paced=SLOW)
        start = asyncio.create_task(host.start())
        await asyncio.sleep(0)
        await host.stop()
        with pytest.raises(ModelError, match="while it was loading"):
            await start
        start = asyncio.create_task(host.start())
        await asyncio.sleep(0.02)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert host.health().state == "stopped"

    run(main())


def test_a_loop_that_ends_without_stop_leaves_no_process() -> None:
    async def main() -> None:
        await ModelHost("", paced=SLOW).start()

    run(main())


def test_a_load_that_takes_too_long_is_given_up(spoken: Path) -> None:
    async def main() -> None:
        host = ModelHost(spoken, care=Care(load_timeout_s=0.0))
        with pytest.raises(DeadlineExceeded, match="not loaded within"):
            await host.start()

    run(main())


@pytest.mark.parametrize(
    ("sent", "told"),
    [(b"\xff\xff\xff\xff", "what is no message"), (b"\0\0\0\3abc", "closed its socket")],
)
def test_a_worker_that_talks_nonsense_is_ended_and_its_requests_are_told(
    sent: bytes, told: str
) -> None:
    async def main() -> None:
        worker = await WorkerProcess.spawn()
        channel = worker.open_channel()
        stream = asyncio.StreamReader()
        stream.feed_data(sent)
        stream.feed_eof()
        await worker._read(stream)
        with pytest.raises(ModelError, match=told):
            await channel.next(asyncio.get_running_loop().time() + LONG_S)
        assert worker.unreadable == (told == "closed its socket")
        await worker.reap()

    run(main())


def test_the_telling_line_of_stderr_is_found() -> None:
    assert last_words("a\nGGML_ASSERT(x) failed\n  File y, line 3\n") == "GGML_ASSERT(x) failed"
    assert last_words("one\ntwo\n") == "two"
    assert last_words("") == ""


def test_what_a_dead_process_wrote_is_its_cause_only_where_it_may_be() -> None:
    warning = "the full capacity of the model will not be utilized\n"
    assert reason_of(-signal.SIGABRT, warning + "GGML_ASSERT(x) failed\n") == (
        "signal SIGABRT: GGML_ASSERT(x) failed"
    )
    assert "; last words: 'the full" in reason_of(-signal.SIGSEGV, warning)
    assert "; last words: 'read failed'" in reason_of(-signal.SIGKILL, "read failed\n")
    assert reason_of(3, "") == "exit code 3"


def test_sequences_are_computed_saved_and_lost_with_their_worker(random_model: Path) -> None:
    async def main() -> None:
        async with hosting(random_model, care=QUICK) as host:
            assert "forward" in host.ready.features
            given = list(b"what is 12 + 30?")
            one = await host.forward("s", 0, given, timeout_s=LONG_S, logprobs=3)
            assert (one.positions, len(one.logprobs[0])) == (len(given), 3)
            state = await host.save_sequence("s", timeout_s=LONG_S)
            after = await host.forward("s", 16, [65], timeout_s=LONG_S, logprobs=3)
            os.kill(host.health().pid, signal.SIGKILL)
            await until(lambda: host.health().crashes == 1 and host.health().healthy)
            with pytest.raises(SequenceLost, match="restarted"):
                await host.forward("s", 16, [65], timeout_s=LONG_S)
            await host.restore_sequence("s", state, timeout_s=LONG_S)
            again = await host.forward("s", 16, [65], timeout_s=LONG_S, logprobs=3)
            assert again == msgspec.structs.replace(after, id=again.id)
            await host.drop_sequence("s", timeout_s=LONG_S)
            with pytest.raises(SequenceLost):
                await host.save_sequence("s", timeout_s=LONG_S)

    run(main())


def test_a_request_that_waits_for_idle_sequences_needs_no_message_to_go_on(
    random_model: Path,
) -> None:
    async def main() -> None:
        settings = Settings(threads=1, slots=1, context_tokens=256, sequence_idle_s=0.2)
        async with hosting(random_model, settings=settings) as host:
            await host.forward("s", 0, [65] * 200, timeout_s=LONG_S)
            await answer(host, ask(max_tokens=150))
            with pytest.raises(SequenceLost):
                await host.forward("s", 200, [65], timeout_s=LONG_S)

    run(main())


def test_an_idle_model_gives_its_memory_back_and_comes_again_when_asked(spoken: Path) -> None:
    async def main() -> None:
        care = Care(ping_s=0.02, idle_unload_s=0.2)
        async with hosting(spoken, care=care) as host:
            assert (await answer(host, ask())).text == "naïve ok!"
            first = host.health().pid
            await until(lambda: host.health().state == UNLOADED)
            assert host.health().healthy
            assert host.health().pid == 0
            assert host.info.name == "spoken"
            assert (await answer(host, ask())).text == "naïve ok!"
            assert host.health().pid != first
            assert host.health().crashes == 0
            await until(lambda: host.health().state == UNLOADED)

    run(main())


def test_a_model_at_work_is_not_unloaded() -> None:
    async def main() -> None:
        care = Care(ping_s=0.02, idle_unload_s=0.05)
        async with hosting(paced=SLOW, care=care) as host:
            stream = host.generate(ask(max_tokens=30), timeout_s=LONG_S)
            assert isinstance([e async for e in stream][-1], Done)
            assert host.health().crashes == 0

    run(main())


def test_adapters_are_loaded_with_the_model_and_again_after_a_crash(
    random_model: Path, tmp_path: Path
) -> None:
    async def main() -> None:
        fish = write_adapter(tmp_path / "fish.gguf", 1)
        mixed = ask(max_tokens=12, adapters={"fish": 1.0})
        async with hosting(random_model, care=QUICK, adapters={"fish": fish}) as host:
            plain = (await answer(host, ask(max_tokens=12))).text
            before = (await answer(host, mixed)).text
            assert before != plain
            os.kill(host.health().pid, signal.SIGKILL)
            await until(lambda: host.health().crashes == 1 and host.health().healthy)
            assert (await answer(host, mixed)).text == before
            assert await host.add_adapter("birds", fish) == ["birds", "fish"]
            assert await host.remove_adapter("fish") == ["birds"]
            with pytest.raises(BadRequest, match="fish"):
                await answer(host, mixed)

    run(main())
