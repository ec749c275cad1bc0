"""A board without a clock takes the time of several members, never of one, and only forwards."""

from __future__ import annotations

import random

import pytest

from mesh.core.mesh_time import (
    AGREE_S,
    ENOUGH_VOICES,
    FEWEST_VOICES,
    MAX_VOICES,
    VOICE_LIFE_S,
    MeshTime,
)

TRUE = 1_800_000_000.0
DAY_S = 86400.0


def board(floor: float = TRUE - 3 * DAY_S, system: float = 100.0) -> MeshTime:
    """Its system clock began in 1970; its disk knows a time three days ago."""
    clock = MeshTime(floor)
    clock.read(system, 0.0)
    return clock


def voices(clock: MeshTime, walls: list[float], mono: float = 0.0, present: int = 5) -> None:
    for number, wall in enumerate(walls):
        clock.hear(number.to_bytes(16), wall, 0.002, present, mono)


def test_a_clock_that_is_believed_asks_nobody_and_hears_nobody() -> None:
    clock = MeshTime(TRUE - DAY_S)
    assert clock.read(TRUE, 0.0) == TRUE
    assert not clock.asks(0.0)
    voices(clock, [TRUE + DAY_S] * 5)
    assert clock.read(TRUE + 1, 1.0) == TRUE + 1
    assert clock.state == "own"
    assert clock.explain() == ""


def test_three_voices_set_a_board_that_starts_in_1970() -> None:
    clock = board()
    assert clock.asks(0.0)
    voices(clock, [TRUE, TRUE + 1, TRUE + 2])
    assert clock.read(100.0, 0.0) == pytest.approx(TRUE + 1, abs=0.01)
    assert clock.read(160.0, 60.0) == pytest.approx(TRUE + 61, abs=0.01)
    assert clock.state == "members"
    assert "days behind" in clock.explain()


@pytest.mark.parametrize("count", range(FEWEST_VOICES))
def test_fewer_than_three_voices_move_nothing_and_people_are_told(count: int) -> None:
    clock = board()
    voices(clock, [TRUE] * count)
    assert clock.read(100.0, 0.0) == TRUE - 3 * DAY_S
    assert clock.state == "doubtful"
    assert f"{count} of 3 members needed" in clock.explain()


def test_one_member_has_one_voice_however_often_it_speaks() -> None:
    clock = board()
    for _ in range(20):
        clock.hear(bytes(16), TRUE, 0.002, 5, 0.0)
    assert clock.state == "doubtful"


@pytest.mark.parametrize("seed", range(20))
def test_a_minority_shifts_the_time_by_no_more_than_honest_clocks_differ(seed: int) -> None:
    rng = random.Random(seed)
    honest = [TRUE + rng.uniform(-60, 60) for _ in range(rng.randint(2, 8))]
    liars = [TRUE + rng.choice((-1, 1)) * rng.uniform(0, 300 * DAY_S) for _ in honest[1:]]
    said = honest + liars
    rng.shuffle(said)
    clock = board()
    voices(clock, said)
    wall = clock.read(100.0, 0.0)
    assert min(honest) - 1 <= wall <= max(honest) + 1


def test_voices_that_do_not_agree_move_nothing() -> None:
    clock = board()
    voices(clock, [TRUE, TRUE + 2 * AGREE_S, TRUE + 4 * AGREE_S, TRUE + 6 * AGREE_S])
    assert clock.read(100.0, 0.0) == TRUE - 3 * DAY_S
    assert clock.counters["times_disagree"] > 0


def test_a_larger_mesh_needs_more_voices() -> None:
    clock = board()
    voices(clock, [TRUE] * 5, present=20)
    assert clock.needed == 11
    assert clock.state == "doubtful"
    voices(clock, [TRUE] * 11, present=20)
    assert clock.read(100.0, 0.0) == pytest.approx(TRUE, abs=0.01)
    voices(clock, [TRUE], present=4000)
    assert clock.needed == ENOUGH_VOICES


def test_others_never_turn_a_clock_back() -> None:
    clock = MeshTime(TRUE)
    clock.unsynchronised = True
    clock.read(TRUE, 0.0)
    voices(clock, [TRUE - 30 * DAY_S] * 5)
    assert clock.read(TRUE + 1, 1.0) == TRUE + 1


def test_a_clock_saved_at_shutdown_that_nobody_sets_is_corrected_too() -> None:
    clock = MeshTime(TRUE - 3 * DAY_S)
    clock.unsynchronised = True
    assert clock.read(TRUE - 3 * DAY_S + 5, 0.0) == TRUE - 3 * DAY_S + 5
    voices(clock, [TRUE] * 3)
    assert clock.read(TRUE - 3 * DAY_S + 6, 1.0) == pytest.approx(TRUE + 1, abs=0.01)


def test_a_few_minutes_are_not_corrected() -> None:
    clock = MeshTime(TRUE)
    clock.unsynchronised = True
    clock.read(TRUE, 0.0)
    voices(clock, [TRUE + AGREE_S - 1] * 5)
    assert clock.read(TRUE, 0.0) == TRUE


def test_no_majority_moves_a_board_past_the_end_of_its_own_certificate() -> None:
    clock = board()
    clock.latest = TRUE + 30 * DAY_S
    voices(clock, [TRUE + 60 * DAY_S] * 9)
    assert clock.read(100.0, 0.0) == TRUE - 3 * DAY_S


def test_once_the_clock_is_set_the_others_are_not_needed() -> None:
    clock = board()
    voices(clock, [TRUE] * 3)
    clock.read(100.0, 0.0)
    assert clock.read(TRUE + 10, 10.0) == TRUE + 10
    assert clock.state == "own"
    assert not clock.asks(10.0)


def test_the_time_goes_on_when_the_others_are_gone() -> None:
    clock = board()
    voices(clock, [TRUE] * 3)
    later = 3 * VOICE_LIFE_S
    assert clock.read(100.0 + later, later) == pytest.approx(TRUE + later, abs=0.01)
    assert clock.asks(later)


def test_old_voices_do_not_count() -> None:
    clock = board()
    voices(clock, [TRUE] * 2)
    later = VOICE_LIFE_S + 1
    clock.hear(b"c" * 16, TRUE + later, 0.002, 5, later)
    assert clock.read(100.0 + later, later) == TRUE - 3 * DAY_S


@pytest.mark.parametrize(
    ("wall", "took_s"), [(float("nan"), 0.1), (float("inf"), 0.1), (TRUE, 60.0), (TRUE, -1.0)]
)
def test_nonsense_and_slow_answers_are_not_taken(wall: float, took_s: float) -> None:
    clock = board()
    for number in range(5):
        clock.hear(bytes([number]) * 16, wall, took_s, 5, 0.0)
    assert clock.read(100.0, 0.0) == TRUE - 3 * DAY_S
    assert clock.counters["times_not_taken"] == 5


def test_a_crowd_of_voices_does_not_fill_the_memory_and_who_left_has_none() -> None:
    clock = board()
    voices(clock, [TRUE] * (MAX_VOICES + 40), present=4000)
    assert len(clock._voices) == MAX_VOICES
    other = board()
    for node in (b"a", b"b"):
        other.hear(node, TRUE, 0.002, 5, 0.0)
    other.forget(b"a")
    other.hear(b"c", TRUE, 0.002, 5, 0.0)
    assert other.state == "doubtful"
