"""Feeds under virtual time: whatever happens, subscribers end equal, and gaps are told."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.data.follower import MAX_KEYS, Broken, Follower, Fresh, Gap, Phase, Synced
from capabilities.data.log import FeedLimits, FeedLog, Reader, Restored, next_epoch
from capabilities.data.messages import Alive, Begin, Past, Subscribe, Told, Update
from capabilities.data.sim import FeedSim
from capabilities.messages import Sample
from mesh.core.errors import Rejected, WireError
from mesh.sim.network import Link

LOSSY = Link(loss=0.2)


def sample(value: float) -> Sample:
    return Sample(domain="sim", type="raw", source="p", at=value, values={"v": value})


def kept(log: FeedLog, until: int | None = None) -> Restored:
    """What the disk of a publisher knows: everything, or what was written up to a sequence."""
    copy = FeedLog(log.epoch, log.limits)
    copy.epochs = list(log.epochs)
    last = log.sequence if until is None else until
    assert log.oldest == 1, "this disk is made from the whole history"
    latest = {u.key: u for u in log.after(0) if u.sequence <= last}
    return Restored(
        latest=list(latest.values()),
        history=[u for u in log.after(0) if u.sequence <= last],
        epochs=log.epochs,
        sequence=last,
    )


def drained(reader: Reader) -> list[Told]:
    told = []
    while (one := reader.pull()) is not None:
        told.append(one)
    return told


def fed(follower: Follower, told: list[Told], now: float = 0.0) -> list[object]:
    return [event for one in told for event in follower.receive(one, 100, now)]


def test_every_subscriber_has_every_version_over_a_lossy_link() -> None:
    sim = FeedSim(1, 3, link=LOSSY, limits=FeedLimits(history=1000))
    for place in range(3):
        sim.begin(place)
    sim.run(5.0)
    for n in range(200):
        sim.publish(f"s{n % 3}", sample(n))
        sim.run(0.05)
    assert sim.until(sim.equal, 60)
    for subscriber in sim.subscribers:
        assert subscriber.follower.counters["updates"] == 200
        assert not subscriber.gaps


def test_a_late_joiner_gets_the_latest_of_each_key_and_no_gap() -> None:
    sim = FeedSim(2, 1, link=Link())
    for n in range(500):
        sim.publish(f"s{n % 5}", sample(n))
    sim.begin(0)
    assert sim.until(sim.equal, 10)
    assert sim.subscribers[0].follower.counters["updates"] == 5
    assert not sim.subscribers[0].gaps


def test_a_publisher_that_restarts_with_its_disk_loses_nothing() -> None:
    sim = FeedSim(3, 2, link=LOSSY, limits=FeedLimits(history=1000))
    for place in range(2):
        sim.begin(place)
    for n in range(100):
        if n == 50:
            disk = kept(sim.log)
            sim.stop()
            sim.run(3.0)
            sim.start(disk, next_epoch([1], 1.0))
        sim.publish("s", sample(n))
        sim.run(0.05)
    assert sim.until(sim.equal, 60)
    for subscriber in sim.subscribers:
        assert subscriber.breaks >= 1
        assert not subscriber.gaps
        assert subscriber.follower.state["s"].version == 100


def test_what_a_publisher_forgot_is_found_out_and_told() -> None:
    sim = FeedSim(4, 1, link=Link(), limits=FeedLimits(history=1000))
    sim.begin(0)
    sim.run(1.0)
    for n in range(10):
        sim.publish("s", sample(n))
    sim.run(1.0)
    assert sim.subscribers[0].follower.sequence == 10
    disk = kept(sim.log, until=7)  # the last three were never written
    sim.stop()
    sim.start(disk, 2)
    for n in range(20, 25):  # its sequences 8 to 12 are other updates than the subscriber's
        sim.publish("s", sample(n))
    assert sim.until(sim.equal, 60)
    assert [gap.why for gap in sim.subscribers[0].gaps] == ["restart"]
    value = sim.subscribers[0].follower.state["s"].value
    assert isinstance(value, Sample)
    assert value.values == {"v": 24}


def test_a_publisher_without_its_disk_says_that_nobody_knows_what_was_missed() -> None:
    sim = FeedSim(5, 1, link=Link())
    sim.begin(0)
    sim.run(1.0)
    sim.publish("old", sample(1))
    sim.run(1.0)
    sim.stop()
    sim.start(Restored(), 2)
    sim.publish("new", sample(2))
    assert sim.until(sim.equal, 60)
    assert [(gap.why, gap.missed) for gap in sim.subscribers[0].gaps] == [("restart", -1)]
    assert set(sim.subscribers[0].follower.state) == {"new"}


def test_a_subscriber_out_of_credit_costs_the_publisher_nothing_and_hears_how_much_it_missed() -> (
    None
):
    limits = FeedLimits(history=16)
    sim = FeedSim(6, 2, link=Link(), limits=limits)
    sim.begin(0)
    sim.begin(1)
    sim.run(1.0)
    sim.pause(0, paused=True)
    for n in range(300):
        sim.publish(f"s{n % 2}", sample(n))
        sim.run(0.01)
    # What waits for it is what its credit allows, and the rest is not kept anywhere.
    assert len(sim.subscribers[0].unread) <= 32
    assert sim.subscribers[1].follower.sequence == 300
    sim.pause(0, paused=False)
    assert sim.until(sim.equal, 60)
    (gap,) = sim.subscribers[0].gaps
    assert gap.why == "gap"
    assert sim.subscribers[0].follower.counters["updates"] + gap.missed == 300


def test_a_cut_is_waited_out_and_followed_from_where_it_was() -> None:
    sim = FeedSim(7, 1, link=Link(reset_after_s=5.0), limits=FeedLimits(history=1000))
    sim.begin(0)
    sim.run(1.0)
    for n in range(60):
        if n == 20:
            sim.network.cut(0, 1)
            sim.network.cut(1, 0)
        if n == 50:
            sim.network.mend_all()
        sim.publish("s", sample(n))
        sim.run(1.0)
    assert sim.until(sim.equal, 120)
    assert not sim.subscribers[0].gaps
    assert sim.subscribers[0].follower.counters["updates"] == 60


def test_a_key_that_is_taken_away_is_gone_everywhere() -> None:
    sim = FeedSim(8, 2, link=LOSSY)
    sim.begin(0)
    sim.run(1.0)
    sim.publish("a", sample(1))
    sim.publish("b", sample(2))
    sim.publish("a", None)
    sim.begin(1)
    assert sim.until(sim.equal, 60)
    assert [set(s.follower.state) for s in sim.subscribers] == [{"b"}, {"b"}]


@given(
    seed=st.integers(0, 2**16),
    history=st.integers(1, 40),
    acts=st.lists(
        st.one_of(
            st.tuples(st.just("publish"), st.integers(0, 3)),
            st.tuples(st.just("take"), st.integers(0, 3)),
            st.tuples(st.just("run"), st.integers(1, 30)),
            st.tuples(st.just("pause"), st.integers(0, 2)),
            st.tuples(st.just("go"), st.integers(0, 2)),
            st.tuples(st.just("restart"), st.integers(0, 2)),
        ),
        max_size=60,
    ),
)
def test_whatever_happens_all_end_equal_and_every_update_is_heard_or_reported(
    seed: int, history: int, acts: list[tuple[str, int]]
) -> None:
    sim = FeedSim(seed, 3, link=LOSSY, limits=FeedLimits(history=history))
    for place in range(3):
        sim.begin(place)
    sim.run(10.0)
    published, number, epoch = 0, 0.0, 1
    for act, what in acts:
        number += 1.0
        if act == "publish":
            sim.publish(f"k{what}", sample(number))
            published += 1
        elif act == "take" and f"k{what}" in sim.log.latest:
            sim.publish(f"k{what}", None)
            published += 1
        elif act == "run":
            sim.run(what / 10)
        elif act in {"pause", "go"}:
            sim.pause(what, paused=act == "pause")
        elif act == "restart":
            log, epoch = sim.log, epoch + 1
            disk = Restored(list(log.latest.values()), log.after(0), log.epochs, log.sequence)
            sim.stop()
            sim.start(disk, epoch)
    for place in range(3):
        sim.pause(place, paused=False)
    assert sim.until(sim.equal, 300)
    for subscriber in sim.subscribers:
        counters = subscriber.follower.counters
        assert counters["updates"] + counters["missed"] >= published
        assert not any(gap.missed < 0 for gap in subscriber.gaps)


def test_what_is_told_twice_is_heard_once() -> None:
    log, follower = FeedLog(1), Follower(random.Random(1))
    log.publish("s", sample(1), 0.0)
    told = drained(Reader(log, follower.hello(0.0)))
    fed(follower, told)
    update = log.publish("s", sample(2), 0.0)
    assert fed(follower, [update, update]) == [Fresh(update)]
    assert follower.counters["repeated"] == 1


def test_a_hole_in_the_stream_is_told_and_the_stream_is_opened_anew() -> None:
    log, follower = FeedLog(1), Follower(random.Random(1))
    fed(follower, drained(Reader(log, follower.hello(0.0))))
    log.publish("s", sample(1), 0.0)
    second = log.publish("s", sample(2), 0.0)
    gap, broken = fed(follower, [second])
    assert gap == Gap(-1, "hole", 0)
    assert isinstance(broken, Broken)
    assert follower.phase is Phase.WAITING
    again = drained(Reader(log, follower.hello(9.0)))
    assert [event.update.sequence for event in fed(follower, again)] == [1, 2]  # type: ignore[attr-defined]


def test_a_lost_last_update_shows_at_the_next_heartbeat() -> None:
    follower = Follower(random.Random(1))
    follower.hello(0.0)
    fed(follower, [Begin(epoch=1, sequence=0, count=0)])
    events = fed(follower, [Alive(epoch=1, sequence=1)])
    assert isinstance(events[0], Gap)
    assert follower.counters["holes"] == 1


def test_silence_is_given_up_and_retries_grow_apart() -> None:
    follower = Follower(random.Random(1))
    now, waits = 0.0, []
    for _ in range(12):
        follower.hello(now)
        now = follower.next_deadline()
        (broken,) = follower.tick(now)
        assert isinstance(broken, Broken)
        waits.append(broken.retry_s)
        assert not follower.due(now)
        now += broken.retry_s
        assert follower.due(now)
    assert waits[0] <= follower.config.retry_s
    assert follower.config.retry_max_s / 2 <= waits[-1] <= follower.config.retry_max_s


def test_half_a_picture_never_replaces_a_whole_one() -> None:
    log, follower = FeedLog(1), Follower(random.Random(1))
    for key in "abc":
        log.publish(key, sample(1), 0.0)
    fed(follower, drained(Reader(log, follower.hello(0.0))))
    before = dict(follower.state)
    follower.lost("cut", 0.0)
    follower.hello(9.0)
    begin = Begin(epoch=2, sequence=9, count=3, why="restart", missed=-1)
    fed(follower, [begin, Update(epoch=2, sequence=9, key="x", version=1, at=0.0)])
    follower.lost("cut again", 9.0)
    assert follower.state == before
    assert follower.hello(99.0) == Subscribe(epoch=1, sequence=3)


def test_the_past_is_told_once_and_changes_no_picture() -> None:
    log = FeedLog(1)
    for n in range(6):
        log.publish(f"s{n % 2}", sample(n), 0.0)
    follower = Follower(random.Random(1), back=4)
    events = fed(follower, drained(Reader(log, follower.hello(0.0))))
    past = [e.update.sequence for e in events if isinstance(e, Fresh) and e.past]
    assert past == [3, 4]
    assert isinstance(events[-1], Synced)
    assert follower.state == log.latest
    assert fed(follower, [Past(update=log.at(3))]) == []  # told when nobody asked


def test_a_hostile_publisher_cannot_fill_a_subscriber() -> None:
    follower = Follower(random.Random(1))
    follower.hello(0.0)
    with pytest.raises(WireError, match="keys"):
        fed(follower, [Begin(epoch=1, sequence=0, count=MAX_KEYS + 1)])
    fed(follower, [Begin(epoch=1, sequence=0, count=0)])
    update = Update(epoch=1, sequence=1, key="big", version=1, at=0.0, value=sample(1))
    with pytest.raises(WireError, match="bytes"):
        follower.receive(update, 1 << 30, 0.0)


def test_a_publisher_refuses_what_nobody_could_hold() -> None:
    log = FeedLog(1, FeedLimits(keys=2, value_bytes=200, history=4, state_bytes=150))
    log.publish("a", sample(1), 0.0)
    with pytest.raises(Rejected, match="bytes"):
        log.publish("b", Sample(domain="d" * 60, type="t", source="s", at=0.0, values={"v": 1}), 0)
    with pytest.raises(WireError, match="at most 200"):
        log.publish(
            "a", Sample(domain="d" * 120, type="t" * 99, source="", at=0, values={"v": 1}), 0
        )
    with pytest.raises(WireError, match="take away"):
        log.publish("zz", None, 0.0)
    roomy = FeedLog(1, FeedLimits(keys=1))
    roomy.publish("a", sample(1), 0.0)
    with pytest.raises(Rejected, match="1 keys"):
        roomy.publish("b", sample(1), 0.0)
    assert log.sequence == roomy.sequence == 1


def test_a_history_with_a_hole_counts_from_behind_it() -> None:
    log = FeedLog(1)
    updates = [log.publish("s", sample(n), 0.0) for n in range(6)]
    restored = Restored([updates[5]], [*updates[:2], *updates[4:]], log.epochs, 6)
    again = FeedLog(2, None, restored)
    assert again.oldest == 5
    begin, *_ = drained(Reader(again, Subscribe(epoch=1, sequence=2)))
    assert isinstance(begin, Begin)
    assert (begin.why, begin.missed) == ("gap", 3)


def test_epochs_only_grow_also_when_the_clock_went_back() -> None:
    assert next_epoch([], 5.0) == 5000
    assert next_epoch([9_000_000], 5.0) == 9_000_001
