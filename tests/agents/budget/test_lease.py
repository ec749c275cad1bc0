"""How much is lent, which lease is spent, and when it goes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.budget.lease import Ask, Held, Terms, grant_of, pick, to_return

TERMS = Terms(share=0.25, seconds=100, open_each=2)


def ask(want: int, seconds: float = 10.0) -> Ask:
    return Ask(id="x", want=want, seconds=seconds)


def held(name: str, **changes: object) -> Held:
    values: dict[str, object] = {
        "id": name, "nano": 100, "used": 0, "busy": 0, "begun": 0.0, "until": 100.0, **changes
    }  # fmt: skip
    return Held(**values)  # type: ignore[arg-type]


@given(st.integers(-5, 200), st.integers(0, 200), st.integers(0, 3))
def test_a_grant_is_nothing_or_enough_and_never_more_than_is_left(
    want: int, left: int, open_now: int
) -> None:
    granted = grant_of(ask(want), left, open_now, TERMS)
    assert granted == 0 or want <= granted <= left
    assert not (granted and open_now >= TERMS.open_each)


def test_a_share_of_what_is_left_is_lent_so_that_others_get_some_too() -> None:
    assert grant_of(ask(1), 400, 0, TERMS) == 100


def test_a_call_longer_than_a_lease_gets_none() -> None:
    assert grant_of(ask(1, seconds=99), 400, 0, TERMS) == 0


def test_the_lease_that_ends_first_is_emptied_first() -> None:
    leases = [held("late", until=200.0), held("soon"), held("full", used=100, until=50.0)]
    found = pick(leases, 10, 10.0, now=0.0)
    assert found is not None
    assert found.id == "soon"
    assert pick(leases, 10, 250.0, now=0.0) is None
    assert pick([held("shut", closing=True)], 10, 10.0, now=0.0) is None


def test_idle_and_closing_leases_go_back_and_busy_ones_stay() -> None:
    leases = [held("young"), held("busy", busy=1), held("shut", closing=True)]
    assert [x.id for x in to_return(leases, 10.0)] == ["shut"]
    assert [x.id for x in to_return(leases, 60.0)] == ["young", "shut"]
