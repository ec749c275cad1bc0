"""The book of the budget: hard limits, under concurrency and after crashes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.budget.lease import Ask, Terms, grant_of
from agents.budget.limits import DAY_S, HOUR_S, Limit, Limits
from agents.budget.store import BudgetStore, NeedsLease
from agents.budget.view import view
from capabilities.cloud.purse import Bill, BookFailed, Claim, OverBudget
from mesh.core.errors import ConfigError
from tests.agents.budget import spender

START = 1_800_000_000.0


class Wall:
    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def wall() -> Wall:
    return Wall()


Open = Callable[..., BudgetStore]


@pytest.fixture
def book(tmp_path: Path, wall: Wall) -> Iterator[Open]:
    opened: list[BudgetStore] = []

    def make(
        *, hour: int | None = None, day: int | None = None, name: str = "book", **more: object
    ) -> BudgetStore:
        limits = Limits(node=Limit(hour=hour, day=day), groups=more.pop("groups", {}))  # type: ignore[arg-type]
        store = BudgetStore(tmp_path / name, limits, wall=wall, **more)  # type: ignore[arg-type]
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


def claim(nano: int, *, seconds: float = 30.0, groups: tuple[str, ...] = ()) -> Claim:
    return Claim(nano=nano, provider="p", model="m", seconds=seconds, groups=groups)


def spend(store: BudgetStore, nano: int, **more: object) -> None:
    ticket = store.reserve(claim(nano, **more))  # type: ignore[arg-type]
    store.sent(ticket)
    store.settle(ticket, Bill(nano=nano))


def test_the_worst_case_is_reserved_and_what_was_not_used_is_free_again(book: Open) -> None:
    store = book(day=100)
    ticket = store.reserve(claim(90))
    with pytest.raises(OverBudget):
        store.reserve(claim(11))
    store.sent(ticket)
    store.settle(ticket, Bill(nano=30))
    store.reserve(claim(70))
    with pytest.raises(OverBudget):
        store.reserve(claim(1))


def test_an_hour_is_any_sixty_minutes(book: Open, wall: Wall) -> None:
    store = book(hour=100, day=150)
    wall.at = START + 59 * 60
    spend(store, 100)
    wall.at += 120  # the next full hour has begun
    with pytest.raises(OverBudget) as caught:
        store.reserve(claim(1))
    assert caught.value.retry_after_s == pytest.approx(HOUR_S - 120)
    wall.at += HOUR_S - 119
    spend(store, 50)
    with pytest.raises(OverBudget) as caught:
        store.reserve(claim(1))
    assert caught.value.retry_after_s == pytest.approx(DAY_S - HOUR_S - 1)


def test_a_groups_limit_holds_beside_the_nodes(book: Open) -> None:
    store = book(day=100, groups={"kids": Limit(day=20)})
    spend(store, 20, groups=("kids", "home"))
    with pytest.raises(OverBudget, match="group kids"):
        store.reserve(claim(1, groups=("kids",)))
    spend(store, 80, groups=("home",))
    with pytest.raises(OverBudget, match="this node"):
        store.reserve(claim(1, groups=("home",)))


def test_a_call_larger_than_the_limit_says_what_to_do(book: Open) -> None:
    with pytest.raises(OverBudget) as caught:
        book(day=10).reserve(claim(11))
    assert "shorter answer" in caught.value.hint


def test_what_was_never_sent_comes_back_when_its_time_is_over(book: Open, wall: Wall) -> None:
    store = book(day=100)
    ticket = store.reserve(claim(100, seconds=30))
    with pytest.raises(OverBudget) as caught:
        store.reserve(claim(1))
    assert caught.value.retry_after_s == pytest.approx(30)
    wall.at += 31
    store.reserve(claim(100))
    with pytest.raises(OverBudget, match="ran out"):
        store.sent(ticket)


def test_what_was_sent_and_never_settled_stays_spent_until_its_bill_comes(
    book: Open, wall: Wall
) -> None:
    store = book(day=100)
    ticket = store.reserve(claim(100, seconds=30))
    store.sent(ticket)
    wall.at += 3600
    with pytest.raises(OverBudget):
        store.reserve(claim(1))
    store.settle(ticket, Bill(nano=40))
    store.reserve(claim(60))


def test_settling_twice_counts_once(book: Open) -> None:
    store = book(day=100)
    ticket = store.reserve(claim(50))
    store.sent(ticket)
    store.settle(ticket, Bill(nano=10))
    store.settle(ticket, Bill(nano=50))
    store.release(ticket)
    store.reserve(claim(90))
    with pytest.raises(OverBudget):
        store.reserve(claim(1))


def test_a_clock_that_goes_back_frees_nothing(book: Open, wall: Wall) -> None:
    store = book(hour=100)
    spend(store, 100)
    wall.at = 0.0
    with pytest.raises(OverBudget):
        store.reserve(claim(1))


def test_a_new_process_finds_the_book_as_it_was(book: Open) -> None:
    spend(book(day=100), 60)
    with pytest.raises(OverBudget):
        book(day=100).reserve(claim(41))


def test_old_rows_are_forgotten(book: Open, wall: Wall) -> None:
    store = book(day=100)
    for _ in range(3):
        spend(store, 10)
        wall.at += 41 * DAY_S
    store.sweep()
    assert len(store.read("SELECT id FROM charge")) == 0


def test_a_damaged_book_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "book"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match="book"):
        BudgetStore(path, Limits())


def test_a_book_that_cannot_be_written_spends_nothing_and_says_so(book: Open) -> None:
    store = book(day=100)
    store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(BookFailed, match="cannot be written") as caught:
        store.reserve(claim(1))
    assert caught.value.retry_after_s > 0
    store._db.execute("PRAGMA query_only = OFF")
    store.reserve(claim(100))


def test_the_book_is_its_owners_alone(book: Open, tmp_path: Path) -> None:
    book()
    assert (tmp_path / "book").stat().st_mode & 0o077 == 0


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["reserve", "sent", "settle", "release", "wait"]),
            st.integers(0, 7),
            st.integers(1, 60),
        ),
        max_size=60,
    )
)
def test_no_order_of_events_spends_more_than_the_limit(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int, int]]
) -> None:
    wall = Wall()
    path = tmp_path_factory.mktemp("book") / "book"
    store = BudgetStore(path, Limits(node=Limit(day=100)), wall=wall)
    worst: dict[str, int] = {}
    sent: dict[str, int] = {}  # what the provider may bill: worst until it has said less
    for what, which, amount in events:
        tickets = list(worst)
        ticket = tickets[which % len(tickets)] if tickets else ""
        try:
            if what == "reserve":
                worst[store.reserve(claim(amount, seconds=10))] = amount
            elif what == "sent" and ticket and ticket not in sent:
                store.sent(ticket)
                sent[ticket] = worst[ticket]
            elif what == "settle" and ticket in sent:
                sent[ticket] = min(sent[ticket], amount)
                store.settle(ticket, Bill(nano=sent[ticket]))
                del worst[ticket]
            elif what == "release" and ticket not in sent:
                store.release(ticket)
            elif what == "wait":
                wall.at += amount
        except OverBudget:
            continue
        assert sum(sent.values()) <= 100
    store.close()


def test_threads_that_reserve_at_once_never_pass_the_limit(tmp_path: Path) -> None:
    got: list[str] = []

    def work() -> None:
        store = BudgetStore(tmp_path / "book", Limits(node=Limit(day=100)))
        for _ in range(25):
            try:
                got.append(store.reserve(claim(10)))
            except OverBudget:
                continue
        store.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == len(set(got)) == 10


def test_processes_that_are_killed_midway_never_pass_the_limit(tmp_path: Path) -> None:
    limit, path = 20 * spender.WORST, tmp_path / "book"
    command = [sys.executable, "-m", "tests.agents.budget.spender", str(path), str(limit), "40"]
    running = [
        subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, text=True)
        for seed in range(6)
    ]
    billed = 0
    deaths = 0
    for process in running:
        out, _ = process.communicate(timeout=60)
        billed += sum(map(int, out.split()))
        deaths += process.returncode != 0
    assert 0 < billed <= limit
    assert deaths
    later = BudgetStore(path, Limits(node=Limit(day=limit)))
    wall = later.now() + spender.SECONDS + 1
    later.close()
    after = BudgetStore(path, Limits(node=Limit(day=limit)), wall=lambda: wall)
    shown = view(after, days=1).windows[1]
    assert shown.reserved == 0
    assert shown.spent + shown.lost >= billed / 1e9
    after.close()


def test_the_view_tells_spent_reserved_lost_and_left(book: Open, wall: Wall) -> None:
    store = book(day=1_000_000_000, groups={"kids": Limit(hour=500_000_000)})
    spend(store, 100_000_000, groups=("kids",))
    store.sent(store.reserve(claim(50_000_000, seconds=10)))
    wall.at += 60
    store.reserve(claim(200_000_000))
    shown = view(store, days=7)
    node = next(w for w in shown.windows if (w.scope, w.window) == ("", "day"))
    assert (node.spent, node.reserved, node.lost, node.left) == (0.1, 0.2, 0.05, 0.65)
    kids = next(w for w in shown.windows if (w.scope, w.window) == ("kids", "hour"))
    assert (kids.spent, kids.left) == (0.1, 0.4)
    [day] = shown.days
    assert (day.spent, day.calls) == (pytest.approx(0.15), 2)


# -- leases -----------------------------------------------------------------------------------


def lend(store: BudgetStore, name: str, want: int, holder: str = "b") -> int:
    ask = Ask(id=name, want=want, seconds=10)
    terms = Terms(share=0.5, seconds=100)
    return store.lend(
        name, holder, (), 100.0, lambda left, count: grant_of(ask, left, count, terms)
    )


def test_what_is_lent_counts_as_spent_until_it_is_returned(book: Open) -> None:
    store = book(day=100)
    assert lend(store, "one", 10) == 50
    with pytest.raises(OverBudget):
        store.reserve(claim(51))
    store.returned("one", "b", 20)
    store.reserve(claim(80))


def test_a_lease_asked_for_twice_is_lent_once(book: Open) -> None:
    store = book(day=100)
    assert lend(store, "one", 10) == lend(store, "one", 10) == 50
    store.reserve(claim(50))


def test_a_holder_that_vanishes_has_spent_it_all(book: Open, wall: Wall) -> None:
    store = book(day=100)
    lend(store, "one", 10)
    wall.at += 200
    with pytest.raises(OverBudget):
        store.reserve(claim(51))
    with pytest.raises(OverBudget, match="over"):
        lend(store, "one", 10)
    store.returned("one", "b", 5)  # it was only cut off
    store.reserve(claim(95))


def test_a_holder_cannot_return_more_than_it_got_or_another_ones_lease(book: Open) -> None:
    store = book(day=100)
    lend(store, "one", 10)
    store.returned("one", "c", 0)
    with pytest.raises(OverBudget):
        store.reserve(claim(51))
    store.returned("one", "b", -1000)
    with pytest.raises(OverBudget):
        store.reserve(claim(101))


def test_a_borrower_spends_only_what_was_lent_and_only_while_it_lasts(
    book: Open, wall: Wall
) -> None:
    store = book(borrowing=True)
    with pytest.raises(NeedsLease):
        store.reserve(claim(1))
    store.borrowed("one", (), 50, START + 100)
    ticket = store.reserve(claim(40))
    with pytest.raises(NeedsLease):
        store.reserve(claim(11))
    with pytest.raises(NeedsLease):
        store.reserve(claim(1, seconds=101))
    with pytest.raises(NeedsLease):
        store.reserve(claim(1, groups=("kids",)))
    store.sent(ticket)
    assert store.closing("one") is None
    with pytest.raises(NeedsLease):
        store.reserve(claim(1))
    store.settle(ticket, Bill(nano=7))
    assert store.closing("one") == 7
    store.closed("one")
    assert store.held() == []
