"""Publishing for real: disk, restarts, a full disk, subscribers that are slow."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from capabilities.base import Request
from capabilities.data.capability import (
    MAX_FEEDS,
    MAX_SUBSCRIBERS,
    FeedsCapability,
    served_feed,
)
from capabilities.data.log import FeedLimits
from capabilities.data.messages import Alive, Begin, Subscribe, Told, Update, decode_told
from capabilities.data.store import FILE, FeedStore
from capabilities.messages import Done, Generate, Message, Sample, decode_event, encode
from mesh.core.errors import CapabilityFailed, NameInvalid, NoSuchName, Rejected, WireError

NAME = "data.gpt/air/raw"
PATIENCE_S = 20.0


def sample(value: float, text: str = "s") -> Sample:
    return Sample(domain="air", type="raw", source=text, at=value, values={"v": value})


def follow(feeds: FeedsCapability, asked: Subscribe | None = None) -> AsyncIterator[bytes]:
    body = encode(asked or Subscribe())
    return feeds.serve(Request(name=NAME, body=body, timeout_s=60.0))


async def take(stream: AsyncIterator[bytes], count: int) -> list[Told]:
    async with asyncio.timeout(PATIENCE_S):
        return [decode_told(await anext(stream)) for _ in range(count)]


async def opened(folder: Path | None, *, max_bytes: int = 0, history: int = 256) -> FeedsCapability:
    store = None if folder is None else FeedStore(folder, max_bytes=max_bytes)
    feeds = FeedsCapability(store, heartbeat_s=0.05)
    feeds.declare(served_feed(NAME), FeedLimits(history=history), keep=True)
    await feeds.start()
    return feeds


def test_a_subscriber_hears_the_latest_then_the_news_then_that_all_is_well() -> None:
    async def main() -> None:
        feeds = await opened(None)
        feeds.publish(NAME, "a", sample(1))
        async with aclosing(follow(feeds)) as stream:  # type: ignore[type-var]
            begin, first = await take(stream, 2)
            assert isinstance(begin, Begin)
            assert isinstance(first, Update)
            assert first.version == 1
            feeds.publish(NAME, "a", sample(2))
            (second,) = await take(stream, 1)
            assert isinstance(second, Update)
            assert second.version == 2
            assert isinstance((await take(stream, 1))[0], Alive)
        assert feeds.occupancy().inflight == 0

    asyncio.run(main())


def test_a_restarted_publisher_goes_on_where_it_was(tmp_path: Path) -> None:
    async def main() -> None:
        feeds = await opened(tmp_path)
        for n in range(5):
            feeds.publish(NAME, "a", sample(n))
        feeds.publish(NAME, "b", sample(9))
        feeds.publish(NAME, "b", None)
        feeds.read_to(NAME, "7:100")
        epoch = feeds.feed(NAME).log.epoch
        await feeds.stop()

        again = await opened(tmp_path)
        log = again.feed(NAME).log
        assert log.epoch > epoch
        assert log.sequence == 7
        assert set(log.latest) == {"a"}
        assert again.feed(NAME).source == "7:100"
        assert again.publish(NAME, "a", sample(5)).version == 6
        resumed = follow(again, Subscribe(epoch=epoch, sequence=4))
        async with aclosing(resumed) as stream:  # type: ignore[type-var]
            told = await take(stream, 5)
        assert [t.sequence for t in told] == [5, 6, 7, 8, 8]
        assert [type(t) for t in told[-2:]] == [Update, Alive]
        await again.stop()

    asyncio.run(main())


def test_the_history_on_disk_is_bounded(tmp_path: Path) -> None:
    async def main() -> None:
        feeds = await opened(tmp_path, history=10)
        for n in range(100):
            feeds.publish(NAME, f"k{n % 3}", sample(n))
            if n % 7 == 0:
                await asyncio.sleep(0)
        await feeds.stop()
        with sqlite3.connect(tmp_path / FILE) as db:
            assert db.execute("SELECT count(*) FROM history").fetchone() == (10,)
            assert db.execute("SELECT count(*) FROM latest").fetchone() == (3,)
        again = await opened(tmp_path, history=10)
        assert again.feed(NAME).log.oldest == 91
        await again.stop()

    asyncio.run(main())


def test_a_full_disk_stops_no_publication_and_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        feeds = await opened(tmp_path, max_bytes=64 * 1024, history=1000)
        async with aclosing(follow(feeds)) as stream:  # type: ignore[type-var]
            await take(stream, 1)
            for n in range(300):
                feeds.publish(NAME, f"k{n}", sample(n, "x" * 100))
            heard = [t for t in await take(stream, 300) if isinstance(t, Update)]
            assert heard[-1].sequence == 300
            async with asyncio.timeout(PATIENCE_S):
                while not feeds.trouble:  # noqa: ASYNC110 - the writer has no event to wait for
                    await asyncio.sleep(0.01)
        assert not feeds.occupancy().healthy
        assert "memory only" in feeds.occupancy().note
        assert feeds.counters["not_kept"] >= 1
        epoch = feeds.feed(NAME).log.epoch
        await feeds.stop()

        # After the restart the publisher knows less than its subscribers; they find out.
        again = await opened(tmp_path)
        log = again.feed(NAME).log
        assert log.sequence < 300
        again.publish(NAME, "new", sample(1))
        async with aclosing(follow(again, Subscribe(epoch=epoch, sequence=300))) as stream:  # type: ignore[type-var]
            (begin,) = await take(stream, 1)
        assert isinstance(begin, Begin)
        assert begin.why == "restart"
        await again.stop()

    asyncio.run(main())


def test_what_a_full_disk_missed_is_written_when_there_is_room(tmp_path: Path) -> None:
    async def main() -> None:
        feeds = await opened(tmp_path, history=4)
        store = feeds._store
        assert store is not None
        feeds.publish(NAME, "a", sample(0))
        await feeds._write_all()
        store._using().__enter__().execute("PRAGMA query_only = 1")  # as a disk that takes nothing
        for n in range(20):
            feeds.publish(NAME, f"k{n}", sample(n))
        assert not await feeds._write_all()
        store._using().__enter__().execute("PRAGMA query_only = 0")
        assert await feeds._write_all()
        assert feeds.trouble == ""
        await feeds.stop()
        again = await opened(tmp_path, history=4)
        log = again.feed(NAME).log
        assert (log.sequence, log.oldest, len(log.latest)) == (21, 18, 21)
        await again.stop()

    asyncio.run(main())


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b""])
def test_a_damaged_file_does_not_stop_the_publisher(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / FILE).write_bytes(damage)

    async def main() -> None:
        feeds = await opened(tmp_path)
        assert bool(feeds.trouble) == bool(damage)
        assert feeds.publish(NAME, "a", sample(1)).version == 1
        await feeds.stop()

    asyncio.run(main())


def test_a_damaged_row_takes_only_what_is_behind_it(tmp_path: Path) -> None:
    async def main() -> None:
        feeds = await opened(tmp_path)
        for n in range(6):
            feeds.publish(NAME, f"k{n}", sample(n))
        await feeds.stop()
        with sqlite3.connect(tmp_path / FILE) as db:
            db.execute("UPDATE history SET value = x'00' WHERE sequence = 3")
            db.execute("UPDATE latest SET value = x'00' WHERE sequence = 3")
        again = await opened(tmp_path)
        log = again.feed(NAME).log
        assert (log.oldest, log.sequence, len(log.latest)) == (4, 6, 5)
        await again.stop()

    asyncio.run(main())


def test_the_file_is_private(tmp_path: Path) -> None:
    async def main() -> None:
        feeds = await opened(tmp_path)
        feeds.publish(NAME, "a", sample(1))
        await feeds.stop()

    asyncio.run(main())
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_a_slow_subscriber_costs_nothing_and_hears_what_it_missed() -> None:
    async def main() -> None:
        feeds = await opened(None, history=8)
        async with aclosing(follow(feeds)) as stream:  # type: ignore[type-var]
            await take(stream, 1)
            for n in range(100):
                feeds.publish(NAME, "a", sample(n))
            begin, last = await take(stream, 2)
            assert isinstance(begin, Begin)
            assert (begin.why, begin.missed) == ("gap", 99)
            assert isinstance(last, Update)
            assert last.version == 100

    asyncio.run(main())


def test_what_cannot_be_published_is_refused() -> None:
    async def main() -> None:
        feeds = await opened(None)
        with pytest.raises(NameInvalid, match="no feed"):
            await feeds.open(served_feed("knowledge.gpt/air"))
        with pytest.raises(NoSuchName):
            feeds.publish("data.gpt/other/raw", "a", sample(1))
        with pytest.raises(WireError):
            feeds.publish(NAME, "\n", sample(1))
        for n in range(MAX_FEEDS - 1):
            await feeds.open(served_feed(f"data.gpt/f{n}/raw"))
        with pytest.raises(Rejected, match="feeds"):
            await feeds.open(served_feed("data.gpt/more/raw"))
        await feeds.stop()

    asyncio.run(main())


def test_a_crowd_of_subscribers_is_refused_at_the_door() -> None:
    async def main() -> None:
        feeds = await opened(None)
        streams = [follow(feeds) for _ in range(MAX_SUBSCRIBERS)]
        for stream in streams:
            await take(stream, 1)
        request = Request(name=NAME, body=b"", timeout_s=1.0)
        assert not feeds.admit(request).accepted
        for stream in streams:
            await stream.aclose()  # type: ignore[attr-defined]
        assert feeds.admit(request).accepted
        with pytest.raises(WireError):
            await anext(feeds.serve(Request(name=NAME, body=b"\xc1", timeout_s=1.0)))

    asyncio.run(main())


def test_a_feed_that_is_asked_a_question_answers_once_with_its_latest() -> None:
    async def main() -> None:
        feeds = await opened(None)
        body = encode(Generate(messages=[Message("user", "What is v?")]))
        asked = Request(name=NAME, body=body, timeout_s=60.0)
        with pytest.raises(CapabilityFailed, match="nothing was published"):
            [message async for message in feeds.serve(asked)]
        feeds.publish(NAME, "a", sample(3))
        (answer,) = [message async for message in feeds.serve(asked)]
        done = decode_event(answer)
        assert isinstance(done, Done)
        assert "a: v = 3" in done.text
        assert feeds.occupancy().inflight == 0

    asyncio.run(main())
