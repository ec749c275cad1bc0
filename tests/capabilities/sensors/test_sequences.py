"""What was lost is counted, what is repeated is known, over restarts of whoever counts."""

from __future__ import annotations

import random

from capabilities.sensors.sequences import RING, Sequences


def hear(book: Sequences, *numbers: int, key: str = "a", modulo: int = 0) -> list[str]:
    return [book.heard(key, n, b"%d" % n, modulo=modulo).what for n in numbers]


def test_gaps_repetitions_and_late_ones_are_told_apart() -> None:
    book = Sequences()
    assert hear(book, 5, 6, 6, 9) == ["first", "next", "duplicate", "gap"]
    assert book.keys["a"].lost == 2
    assert hear(book, 7) == ["late"]
    assert book.keys["a"].lost == 1


def test_a_publisher_that_begins_anew_loses_nothing() -> None:
    book = Sequences()
    hear(book, 100, 101)
    assert book.heard("a", 0, b"another").what == "restart"
    assert hear(book, 1) == ["next"]
    assert book.keys["a"].lost == 0


def test_numbers_may_come_round() -> None:
    book = Sequences()
    assert hear(book, 254, 255, modulo=256) == ["first", "next"]
    assert book.heard("a", 0, b"x", modulo=256).what == "next"
    assert book.heard("a", 3, b"x", modulo=256).missed == 2


def test_what_was_known_is_known_after_a_restart() -> None:
    book = Sequences()
    hear(book, *range(1000))
    hear(book, 1005)
    again = Sequences(book.dump())
    assert hear(again, 999, 1005, 1006) == ["duplicate", "duplicate", "next"]
    assert again.keys["a"].lost == 5


def test_a_damaged_memory_is_counted_and_begun_anew() -> None:
    for kept in ("{", '{"ring": 5, "keys": {}}', '{"ring": "", "keys": {"a": [1]}}'):
        assert Sequences(kept).counters["forgotten"] == 1


def test_whatever_is_dropped_and_repeated_the_count_is_right() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        book, lost, sent = Sequences(), 0, 0
        news = 0
        for n in range(2000):
            if n and n < 1999 and rng.random() < 0.05:
                lost += 1
                continue
            times = 1 + (rng.random() < 0.1)
            for _ in range(times):
                news += book.heard("a", n, b"%d" % n).what != "duplicate"
            sent += 1
        assert (news, book.keys["a"].lost) == (sent, lost), f"seed {seed}"


def test_with_an_epoch_a_repetition_of_any_age_is_known() -> None:
    book = Sequences()

    def hear_of(epoch: str, *numbers: int) -> list[str]:
        return [book.heard("a", n, b"", epoch=epoch).what for n in numbers]

    hear_of("one", *range(5 * RING))
    assert set(hear_of("one", *range(4 * RING))) == {"duplicate"}  # a queue of long ago
    assert hear_of("one", 5 * RING + 2, 5 * RING) == ["gap", "late"]
    assert book.keys["a"].lost == 1
    assert hear_of("two", 0, 1) == ["restart", "next"]  # the same content is news now
    again = Sequences(book.dump())
    assert again.keys == book.keys
    book = again
    assert hear_of("one", 3, 5 * RING + 2, 5 * RING + 4) == ["duplicate", "duplicate", "gap"]
    assert hear_of("two", 1, 3) == ["duplicate", "gap"]
    assert (book.keys["a"].lost, book.keys["a"].restarts) == (3, 1)


def test_what_an_earlier_version_kept_is_still_understood() -> None:
    book = Sequences('{"ring": "", "keys": {"a": [7, 2, 1, [[3, 4]]]}}')
    assert hear(book, 8, 3) == ["next", "late"]
    assert (book.keys["a"].lost, book.keys["a"].restarts) == (1, 1)
