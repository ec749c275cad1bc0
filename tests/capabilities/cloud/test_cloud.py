"""The cloud over HTTP: a stand-in server with a real model, and everything providers do wrong."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from benchmarks._stand_in import KEY, MODEL, Fault, StandIn
from capabilities.base import Request
from capabilities.cloud.breaker import BreakerConfig, State
from capabilities.cloud.capability import CloudCapability
from capabilities.cloud.client import Endpoint, ProviderFailed
from capabilities.cloud.failover import Asked, Cloud
from capabilities.cloud.keys import Secret
from capabilities.cloud.provider import NANO, Provider
from capabilities.cloud.retrying import RetryConfig
from capabilities.messages import Delta, Done, Generate, Message, decode_event, encode
from mesh.core.access import CLOUD
from mesh.core.errors import DeadlineExceeded, Rejected
from tests.capabilities.cloud.purses import FakePurse

BODY = Generate(messages=[Message("user", "What is Gossamer?")], max_tokens=48)
SOON = RetryConfig(attempts=3, base_s=0.01, cap_s=0.02)
LONG_S = 60.0


def provider(stand_in: StandIn, name: str = "first", **changes: object) -> Provider:
    values: dict[str, object] = {
        "name": name,
        "base_url": stand_in.url,
        "model": "large",
        "prompt_price": 2.0,
        "completion_price": 8.0,
        **changes,
    }
    return Provider(**values)  # type: ignore[arg-type]


@asynccontextmanager
async def cloud(
    purse: FakePurse,
    *providers: Provider,
    key: str = KEY,
    retry: RetryConfig = SOON,
    breaker: BreakerConfig | None = None,
) -> AsyncIterator[Cloud]:
    endpoints = [Endpoint(p, Secret(key)) for p in providers]
    made = Cloud(endpoints, purse, retry=retry, breaker=breaker, rng=random.Random(5))
    try:
        yield made
    finally:
        await made.close()


async def ask(made: Cloud, body: Generate = BODY, left_s: float = LONG_S) -> tuple[str, Done]:
    asked = Asked(body=body, deadline=time.monotonic() + left_s)
    text = ""
    async with aclosing(made.answer(asked)) as events:
        async for event in events:
            if isinstance(event, Delta):
                text += event.text
            else:
                return text, event
    raise AssertionError("no end came")


def run(work):  # type: ignore[no-untyped-def]
    return asyncio.run(work)


def test_an_answer_streams_and_is_billed_by_the_providers_own_count(stand_in: StandIn) -> None:
    async def main() -> None:
        purse = FakePurse()
        async with cloud(purse, provider(stand_in)) as made:
            text, done = await ask(made)
        assert done.text == text
        assert "Gossamer" in text
        used = done.usage
        assert used.prompt_tokens > 0
        assert used.completion_tokens > 1
        paid = done.paid
        assert paid is not None
        assert (paid.provider, paid.model, paid.estimated) == ("first", MODEL, False)
        nano = used.prompt_tokens * 2000 + used.completion_tokens * 8000
        assert paid.cost == pytest.approx(nano / NANO)
        bill = purse.bills["1"]
        assert bill is not None
        assert bill.nano == nano
        assert nano < purse.claims[0].nano
        assert purse.went == ["1"]

    run(main())


def test_the_request_asks_for_usage_and_keeps_the_answer_within_its_limit(
    stand_in: StandIn,
) -> None:
    async def main() -> None:
        async with cloud(FakePurse(), provider(stand_in, max_tokens=7)) as made:
            _, done = await ask(made)
        assert done.finish == "length"

    run(main())
    [body] = stand_in.seen
    assert body["stream_options"] == {"include_usage": True}
    assert body["max_tokens"] == 7


def test_a_reply_without_usage_is_billed_by_an_upper_bound_and_says_so(stand_in: StandIn) -> None:
    async def main() -> None:
        stand_in.script.append(Fault(no_usage=True))
        purse = FakePurse()
        async with cloud(purse, provider(stand_in)) as made:
            _, done = await ask(made)
            stand_in.script.append(Fault())
            _, counted = await ask(made)
        assert done.paid is not None
        assert done.paid.estimated
        assert counted.paid is not None
        assert done.paid.cost >= counted.paid.cost
        bill = purse.bills["1"]
        assert bill is not None
        assert bill.estimated
        assert bill.nano <= purse.claims[0].nano

    run(main())


def test_an_answer_that_comes_whole_instead_of_streamed_is_taken(stand_in: StandIn) -> None:
    async def main() -> None:
        stand_in.script.append(Fault(whole=True))
        async with cloud(FakePurse(), provider(stand_in)) as made:
            text, done = await ask(made)
        assert text == done.text != ""

    run(main())


def test_a_failed_request_is_tried_again_and_costs_nothing(stand_in: StandIn) -> None:
    async def main() -> None:
        stand_in.script += [Fault(status=500), Fault(status=503), Fault(no_model=True)]
        purse = FakePurse()
        async with cloud(purse, provider(stand_in)) as made:
            _, done = await ask(made)
        assert done.paid is not None
        assert done.paid.attempts == 3
        assert [purse.bills[t] is None for t in ("1", "2", "3")] == [True, True, False]

    run(main())


def test_the_next_provider_answers_when_the_first_does_not(stand_in: StandIn) -> None:
    async def main() -> None:
        stand_in.script += [Fault(status=500)] * 3 + [Fault(no_model=True)]
        second = provider(stand_in, "second", order=20)
        async with cloud(FakePurse(), second, provider(stand_in)) as made:
            _, done = await ask(made)
        assert done.paid is not None
        assert done.paid.provider == "second"

    run(main())


def test_a_rate_limited_provider_is_not_asked_again_before_its_time(stand_in: StandIn) -> None:
    async def main() -> None:
        stand_in.script += [Fault(status=429, headers={"retry-after": "900"})]
        async with cloud(FakePurse(), provider(stand_in)) as made:
            for _ in range(3):
                with pytest.raises(Rejected) as caught:
                    await ask(made)
                assert 800 < caught.value.retry_after_s <= 900

    run(main())
    assert len(stand_in.seen) == 1


def test_a_rate_limit_that_fits_into_the_time_is_waited_for(stand_in: StandIn) -> None:
    async def main() -> None:
        stand_in.script += [Fault(status=429, headers={"retry-after-ms": "30"}), Fault()]
        async with cloud(FakePurse(), provider(stand_in)) as made:
            text, _ = await ask(made)
        assert text

    run(main())
    assert len(stand_in.seen) == 2


def test_an_account_without_money_is_not_asked_again_at_once(stand_in: StandIn) -> None:
    async def main() -> None:
        stand_in.script += [Fault(status=429, code="insufficient_quota"), Fault(no_model=True)]
        second = provider(stand_in, "second", order=20)
        async with cloud(FakePurse(), provider(stand_in), second) as made:
            _, done = await ask(made)
        assert done.paid is not None
        assert done.paid.provider == "second"

    run(main())


def test_a_wrong_key_is_told_without_the_key(stand_in: StandIn) -> None:
    async def main() -> None:
        async with cloud(FakePurse(), provider(stand_in), key="sk-wrong-key") as made:
            with pytest.raises(Rejected) as caught:
                await ask(made)
        assert "key is not accepted" in caught.value.message
        assert "sk-wrong-key" not in caught.value.message

    run(main())


def test_a_request_that_nobody_takes_is_not_repeated(stand_in: StandIn) -> None:
    async def main() -> None:
        stand_in.script += [Fault(status=400)]
        async with cloud(FakePurse(), provider(stand_in)) as made:
            with pytest.raises(ProviderFailed, match="injected 400"):
                await ask(made)
            assert made.states() == {"first": State.CLOSED}

    run(main())
    assert len(stand_in.seen) == 1


def test_a_circuit_opens_and_one_probe_closes_it(stand_in: StandIn) -> None:
    async def main() -> None:
        now = [1000.0]
        endpoint = Endpoint(provider(stand_in), Secret(KEY))
        made = Cloud(
            [endpoint],
            FakePurse(),
            retry=RetryConfig(attempts=1),
            breaker=BreakerConfig(failures=2, open_s=30.0),
            clock=lambda: now[0],
        )

        async def one() -> Done | Rejected:
            asked = Asked(body=BODY, deadline=now[0] + LONG_S)
            try:
                async with aclosing(made.answer(asked)) as events:
                    return [e async for e in events if isinstance(e, Done)].pop()
            except Rejected as error:
                return error

        stand_in.script += [Fault(status=500)] * 2
        assert isinstance(await one(), Rejected)
        assert isinstance(await one(), Rejected)
        assert made.states() == {"first": State.OPEN}
        left_alone = await one()
        assert isinstance(left_alone, Rejected)
        assert left_alone.retry_after_s == pytest.approx(30.0)
        assert len(stand_in.seen) == 2
        now[0] += 31.0
        stand_in.script += [Fault(no_model=True)]
        assert isinstance(await one(), Done)
        assert made.states() == {"first": State.CLOSED}
        await made.close()

    run(main())


def test_a_provider_that_hangs_is_paid_in_full_and_the_next_one_is_asked(
    stand_in: StandIn,
) -> None:
    async def main() -> None:
        stand_in.script += [Fault(silent=True), Fault(no_model=True)]
        purse = FakePurse()
        first = provider(stand_in, silence_s=0.2)
        second = provider(stand_in, "second", order=20)
        once = RetryConfig(attempts=1)
        async with cloud(purse, first, second, retry=once) as made:
            _, done = await ask(made)
        assert done.paid is not None
        assert done.paid.provider == "second"
        bill = purse.bills["1"]
        assert bill is not None
        assert bill.nano == purse.claims[0].nano
        assert bill.estimated

    run(main())


def test_the_deadline_ends_a_slow_stream(stand_in: StandIn) -> None:
    async def main() -> None:
        stand_in.script += [Fault(pause_s=20.0, no_model=True)]
        purse = FakePurse()
        async with cloud(purse, provider(stand_in)) as made:
            with pytest.raises((DeadlineExceeded, ProviderFailed, Rejected)):
                await ask(made, left_s=0.3)
        assert purse.bills.keys() == {"1"}

    run(main())


@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut_after=1, no_model=True),
        Fault(midway_error=True, no_model=True),
    ],
)
def test_an_answer_that_breaks_off_is_an_error_and_never_half_an_answer(
    stand_in: StandIn, fault: Fault
) -> None:
    async def main() -> None:
        stand_in.script += [fault]
        purse = FakePurse()
        async with cloud(purse, provider(stand_in)) as made:
            with pytest.raises(ProviderFailed):
                await ask(made)
        bill = purse.bills["1"]
        assert bill is not None
        assert bill.nano == purse.claims[0].nano

    run(main())
    assert len(stand_in.seen) == 1


@pytest.mark.parametrize(
    "garbage", [b"data: {\n\n", b"data: [1, 2]\n\n", b"data: \xff\n\n", b"<p>"]
)
def test_garbage_instead_of_an_answer_is_an_error(stand_in: StandIn, garbage: bytes) -> None:
    async def main() -> None:
        stand_in.script += [Fault(garbage=garbage)] * 3
        async with cloud(FakePurse(), provider(stand_in)) as made:
            with pytest.raises((ProviderFailed, Rejected)):
                await ask(made)

    run(main())


def test_closing_the_answer_closes_the_connection_and_settles(stand_in: StandIn) -> None:
    async def main() -> None:
        stand_in.script += [Fault(pause_s=0.05, no_model=True)]
        purse = FakePurse()
        async with cloud(purse, provider(stand_in)) as made:
            asked = Asked(body=BODY, deadline=time.monotonic() + LONG_S)
            async with aclosing(made.answer(asked)) as events:
                await anext(events)
            assert purse.bills.keys() == {"1"}
            for _ in range(500):
                if stand_in.closed_early:
                    break
                await asyncio.sleep(0.02)
        assert stand_in.closed_early == 1

    run(main())


def test_without_budget_nothing_leaves(stand_in: StandIn) -> None:
    async def main() -> None:
        async with cloud(FakePurse(limit_nano=10), provider(stand_in)) as made:
            with pytest.raises(Rejected) as caught:
                await ask(made)
        assert caught.value.retry_after_s == 60.0

    run(main())
    assert not stand_in.seen


def test_a_cheaper_provider_answers_where_the_first_is_too_dear(stand_in: StandIn) -> None:
    async def main() -> None:
        dear = provider(stand_in, completion_price=900.0)
        cheap = provider(stand_in, "cheap", order=20)
        purse = FakePurse(limit_nano=cheap.worst_nano(BODY))
        async with cloud(purse, dear, cheap) as made:
            _, done = await ask(made)
        assert done.paid is not None
        assert done.paid.provider == "cheap"

    run(main())


def test_nobody_listens_at_the_address_of_a_provider() -> None:
    async def main() -> None:
        purse = FakePurse()
        gone = Provider(
            name="gone",
            base_url="http://127.0.0.1:9/v1",
            model="x",
            prompt_price=1.0,
            completion_price=1.0,
        )
        async with cloud(purse, gone) as made:
            with pytest.raises(Rejected, match="no connection"):
                await ask(made)
        assert set(purse.bills.values()) == {None}

    run(main())


def test_the_capability_streams_and_rejects_with_a_time_when_it_is_full(
    stand_in: StandIn,
) -> None:
    async def main() -> None:
        purse = FakePurse()
        async with cloud(purse, provider(stand_in)) as made:
            capability = CloudCapability(made, purse, at_once=1)
            request = Request(name=CLOUD, body=encode(BODY), timeout_s=LONG_S)
            assert capability.admit(request).accepted
            full = capability.admit(request)
            assert not full.accepted
            assert full.retry_after_s > 0
            events = [decode_event(data) async for data in capability.serve(request)]
            assert isinstance(events[-1], Done)
            assert events[-1].paid is not None
            assert capability.admit(request).accepted
            assert [name.name for name in capability.names] == [CLOUD]
            assert capability.occupancy().healthy

    run(main())


def test_the_capability_says_at_once_that_the_budget_is_spent(stand_in: StandIn) -> None:
    async def main() -> None:
        purse = FakePurse(limit_nano=1)
        async with cloud(purse, provider(stand_in)) as made:
            capability = CloudCapability(made, purse)
            admission = capability.admit(Request(name=CLOUD, body=encode(BODY), timeout_s=LONG_S))
        assert not admission.accepted
        assert admission.retry_after_s == 60.0

    run(main())
