"""The bridge against a real mosquitto: nothing lost, nothing twice, nothing in silence."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from agents.sensors.bridge import AGAIN, MqttBridge
from agents.sensors.broker import LocalBroker, mosquitto
from agents.sensors.config import MqttSection
from agents.sensors.session import RECEIVE_MAX, Session
from capabilities.data.capability import Feed, FeedsCapability, served_feed
from capabilities.data.log import FeedLimits
from capabilities.data.store import FeedStore
from capabilities.messages import Sample
from capabilities.sensors.sequences import RING
from mesh.core.errors import ConfigError

pytestmark = pytest.mark.skipif(mosquitto() is None, reason="mosquitto is not installed")

NAME = "data.gpt/air/raw"
PATIENCE_S = 60.0
QUIET_S = 0.5
WAVE = 128  # messages that a publisher has under way


class FakeDesk(FeedsCapability):
    """The feeds of a node without its mesh: every name is granted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(FeedStore(folder))

    def may(self, name: str) -> str:
        return "node"

    async def open_feed(
        self, name: str, limits: FeedLimits, *, description: str = "", keep: bool = True
    ) -> Feed:
        return await self.open(served_feed(name), limits, keep=keep)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    made = LocalBroker(tmp_path / "broker")
    made.start()
    yield made
    made.kill()


def section(broker: LocalBroker, **more: Any) -> MqttSection:
    mapping = {
        "topic": "city/{station}/air",
        "name": NAME,
        "values": {"pm25_ug_m3": "pm25"},
        "sequence": "n",
        "history": 65536,
    }
    given = {"port": broker.port, "map": [mapping], "retry_max_s": 0.5, **more}
    return MqttSection(**given)


@asynccontextmanager
async def bridging(folder: Path, given: MqttSection) -> Any:
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240
    desk = FakeDesk(folder)
    await desk.start()
    bridge = MqttBridge(given, folder, lambda: desk, "node")  # type: ignore[arg-type,return-value]
    await bridge.start()
    try:
        yield bridge, desk
    finally:
        await bridge.stop()
        await desk.stop()


async def until(done: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"waited in vain for {what}")


async def send(broker: LocalBroker, numbers: range, station: str = "north", **more: Any) -> None:
    async with aiomqtt.Client(broker.host, broker.port) as client:
        for n in numbers:
            body = json.dumps({"pm25": n, "n": n})
            await client.publish(f"city/{station}/air", body, qos=1, **more)


async def send_many(broker: LocalBroker, count: int, **more: Any) -> None:
    """As :func:`send`, with many under way at once."""
    async with aiomqtt.Client(
        broker.host, broker.port, max_inflight_messages=WAVE, timeout=PATIENCE_S
    ) as client:
        client.pending_calls_threshold = WAVE
        bodies = [json.dumps({"pm25": n, "n": n, **more}) for n in range(count)]
        for at in range(0, count, WAVE):
            wave = bodies[at : at + WAVE]
            await asyncio.gather(*(client.publish("city/north/air", b, qos=1) for b in wave))


def values(desk: FakeDesk, name: str = NAME) -> list[float]:
    if name not in {served.name for served in desk.names}:
        return []
    updates = desk.feed(name).log.after(0)
    return [u.value.values["pm25_ug_m3"] for u in updates if isinstance(u.value, Sample)]


def run(work: Any) -> None:
    asyncio.run(work)


def test_messages_become_updates_of_a_feed(broker: LocalBroker, tmp_path: Path) -> None:
    async def main() -> None:
        async with bridging(tmp_path / "node", section(broker)) as (bridge, desk):
            await until(lambda: bridge.connected, "the broker")
            await send(broker, range(5))
            await until(lambda: bridge.all_counters()["mqtt_published"] == 5, "five updates")
            assert values(desk) == [0, 1, 2, 3, 4]
            assert list(desk.feed(NAME).log.latest) == ["north"]
            assert bridge.view()["series"][0]["values"] == {"pm25_ug_m3": 4.0}
            assert bridge.view()["connected"]

    run(main())


def test_what_comes_while_the_bridge_is_away_is_kept_by_the_broker(
    broker: LocalBroker, tmp_path: Path
) -> None:
    async def main() -> None:
        given = section(broker)
        async with bridging(tmp_path / "node", given) as (bridge, _):
            await until(lambda: bridge.connected, "the broker")
        await send(broker, range(50))
        broker.stop()
        broker.start()
        await send(broker, range(50, 100))
        async with bridging(tmp_path / "node", given) as (bridge, desk):
            await until(lambda: bridge.all_counters()["mqtt_published"] == 100, "100 updates")
            assert values(desk) == list(range(100))
            assert bridge.all_counters()["mqtt_lost"] == 0
            assert bridge.all_counters()["mqtt_sessions_lost"] == 0

    run(main())


def test_a_broker_that_restarts_is_found_again(broker: LocalBroker, tmp_path: Path) -> None:
    async def main() -> None:
        async with bridging(tmp_path / "node", section(broker)) as (bridge, desk):
            await until(lambda: bridge.connected, "the broker")
            for round_ in range(3):
                await send(broker, range(20 * round_, 20 * round_ + 20))
                broker.stop()
                await until(lambda: not bridge.connected, "the end")
                assert bridge.view()["trouble"]
                broker.start()
                await until(lambda: bridge.connected, "the broker again")
            await until(lambda: len(values(desk)) == 60, "all updates")
            assert values(desk) == list(range(60))

    run(main())


def test_nothing_is_acknowledged_before_it_is_on_disk(broker: LocalBroker, tmp_path: Path) -> None:
    """A bridge whose disk stands still acknowledges nothing, so that the next one hears it all."""

    async def main() -> None:
        given = section(broker)
        async with bridging(tmp_path / "node", given) as (bridge, desk):
            await until(lambda: bridge.connected, "the broker")
            writer = desk._writer
            assert writer is not None
            writer.cancel()  # no more writes: as a disk that hangs
            await send(broker, range(10))
            await until(lambda: bridge.all_counters()["mqtt_published"] > 0, "a message")
            session = bridge._session
            assert session is not None
            session._client.socket().shutdown(
                socket.SHUT_RDWR
            )  # and the process dies: nobody says goodbye
            bridge._task.cancel()
            await asyncio.gather(bridge._task, return_exceptions=True)
            bridge._task = None
            desk._store.close()
            desk._store = None
            desk._writer = None
        async with bridging(tmp_path / "node", given) as (bridge, desk):
            await until(lambda: len(values(desk)) == 10, "all ten again")
            assert values(desk) == list(range(10))
            assert bridge.all_counters()["mqtt_unclean_starts"] == 1

    run(main())


def test_a_backlog_that_comes_again_is_published_once(broker: LocalBroker, tmp_path: Path) -> None:
    """Mosquitto 2.0.11 sends a resumed session its whole queue at once. Here it falls silent while
    that is under way, and forgets every acknowledgement that it has not read."""
    count = 8 * RING

    async def main() -> None:
        given = section(broker)
        async with bridging(tmp_path / "node", given) as (bridge, _):
            await until(lambda: bridge.connected, "the broker")
        await send_many(broker, count)
        async with bridging(tmp_path / "node", given) as (bridge, desk):
            published = bridge.all_counters
            await until(lambda: published()["mqtt_published"] > RECEIVE_MAX, "a second round")
            os.kill(broker.pid, signal.SIGSTOP)
            seen = -1
            while seen != published()["mqtt_published"]:  # all that it does without an answer
                seen = published()["mqtt_published"]
                await asyncio.sleep(QUIET_S)
            os.kill(broker.pid, signal.SIGTERM)
            os.kill(broker.pid, signal.SIGCONT)
            await asyncio.to_thread(broker.stop)
            broker.start()
            await until(lambda: len(set(values(desk))) == count, "all of them")
            assert values(desk) == list(range(count))
            assert published()["mqtt_lost"] == published()["mqtt_publisher_restarts"] == 0

    run(main())


def test_no_more_is_published_than_is_remembered_while_the_broker_confirms_nothing(
    broker: LocalBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(session: Session) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Session, "confirmed", never)
    most = AGAIN

    async def main() -> None:
        given = section(broker)
        async with bridging(tmp_path / "node", given) as (bridge, _):
            await until(lambda: bridge.connected, "the broker")
        await send_many(broker, 2 * RING)
        async with bridging(tmp_path / "node", given) as (bridge, desk):
            await until(lambda: len(values(desk)) >= most, "what it may take")
            await asyncio.sleep(QUIET_S)
            assert values(desk) == list(range(most))

    run(main())
    assert most <= RING


def test_a_broker_set_back_to_an_old_queue_is_known_by_the_epoch(
    broker: LocalBroker, tmp_path: Path
) -> None:
    count = 2 * RING
    mapping = section(broker).map[0].model_copy(update={"epoch": "boot"})

    async def main() -> None:
        given = section(broker, map=[mapping])
        async with bridging(tmp_path / "node", given) as (bridge, _):
            await until(lambda: bridge.connected, "the broker")
        await send_many(broker, count, boot="first")
        broker.stop()
        broker.start()  # the queue is on its disk now
        async with bridging(tmp_path / "node", given) as (bridge, desk):
            await until(lambda: len(values(desk)) == count, "all of them")
            broker.kill()  # and is still there
            broker.start()
            await until(lambda: bridge.all_counters()["mqtt_duplicates"] >= count, "all again")
            await send_many(broker, 3, boot="second")
            await until(lambda: len(values(desk)) == count + 3, "the new ones")
            assert values(desk) == [*range(count), 0, 1, 2]
            assert bridge.all_counters()["mqtt_publisher_restarts"] == 1
            assert bridge.all_counters()["mqtt_lost"] == 0

    run(main())


def test_a_lost_message_is_counted_and_a_repeated_one_is_dropped(
    broker: LocalBroker, tmp_path: Path
) -> None:
    async def main() -> None:
        async with bridging(tmp_path / "node", section(broker)) as (bridge, desk):
            await until(lambda: bridge.connected, "the broker")
            await send(broker, range(3))
            await send(broker, range(2, 3))
            await send(broker, range(7, 9))
            counted = bridge.all_counters
            await until(lambda: counted()["mqtt_messages"] == 6, "six messages")
            await until(lambda: len(values(desk)) == 5, "five updates")
            assert values(desk) == [0, 1, 2, 7, 8]
            assert counted()["mqtt_lost"] == 4
            assert counted()["mqtt_duplicates"] == 1
            (publisher,) = bridge.view()["publishers"].values()
            assert publisher["lost"] == 4

    run(main())


def test_a_broker_that_forgot_the_session_is_told_of(broker: LocalBroker, tmp_path: Path) -> None:
    async def main() -> None:
        async with bridging(tmp_path / "node", section(broker)) as (bridge, _):
            await until(lambda: bridge.connected, "the broker")
            await send(broker, range(3))
            await until(lambda: bridge.all_counters()["mqtt_published"] == 3, "three updates")
            broker.kill()
            for file in (tmp_path / "broker").glob("*.db"):
                file.unlink()
            await until(lambda: not bridge.connected, "the end")
            broker.start()
            await until(lambda: bridge.connected, "the broker again")
            assert bridge.all_counters()["mqtt_sessions_lost"] == 1
            await send(broker, range(10, 11))
            await until(lambda: bridge.all_counters()["mqtt_lost"] == 7, "the gap")

    run(main())


def test_poison_is_refused_once_and_holds_nobody_up(broker: LocalBroker, tmp_path: Path) -> None:
    async def main() -> None:
        async with bridging(tmp_path / "node", section(broker)) as (bridge, desk):
            await until(lambda: bridge.connected, "the broker")
            async with aiomqtt.Client(broker.host, broker.port) as client:
                for body in (b"\xff\xfe", b"[]", b'{"pm25": "warm"}', b"{" * 5000, b""):
                    await client.publish("city/south/air", body, qos=1)
            await send(broker, range(2))
            await until(lambda: len(values(desk)) == 2, "the good ones")
            assert bridge.all_counters()["mqtt_refused"] == 4
            assert bridge.view()["refusals"]

    run(main())


def test_the_last_will_says_that_a_bridge_died(broker: LocalBroker, tmp_path: Path) -> None:
    async def main() -> None:
        heard: list[bytes] = []
        async with aiomqtt.Client(broker.host, broker.port) as watcher:
            await watcher.subscribe("gossamer/+/availability", qos=1)
            async with bridging(tmp_path / "node", section(broker)) as (bridge, _):
                await until(lambda: bridge.connected, "the broker")
                session = bridge._session
                assert session is not None
                session._client.socket().shutdown(socket.SHUT_RDWR)
                async with asyncio.timeout(PATIENCE_S):
                    async for message in watcher.messages:
                        heard.append(message.payload)
                        if len(heard) == 3:
                            break
        assert heard == [b"online", b"offline", b"online"]

    run(main())


def test_a_password_is_read_from_a_file_that_others_cannot(tmp_path: Path) -> None:
    import subprocess

    passwords = tmp_path / "passwords"
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(passwords), "gossamer", "secret"], check=True
    )
    broker = LocalBroker(
        tmp_path / "broker", extra=("allow_anonymous false", f"password_file {passwords}")
    )
    broker.start()
    secret = tmp_path / "secret"
    secret.write_text("secret\n")

    async def main() -> None:
        given = section(broker, username="gossamer", password_file=secret)
        with pytest.raises(ConfigError, match="can be read by others"):
            async with bridging(tmp_path / "open", given):
                pass
        secret.chmod(0o600)
        async with bridging(tmp_path / "node", given) as (bridge, _):
            await until(lambda: bridge.connected, "the broker")
        async with bridging(tmp_path / "stranger", section(broker)) as (bridge, _):
            await until(lambda: "ot authori" in bridge.trouble, "the refusal")

    try:
        run(main())
    finally:
        broker.kill()
