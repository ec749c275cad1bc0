"""Several providers as one cloud: in order, retried, broken circuits left alone, paid for."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import msgspec

from capabilities.cloud.breaker import Breaker, BreakerConfig, State
from capabilities.cloud.client import Completion, Endpoint, ProviderFailed
from capabilities.cloud.provider import NANO, Provider, prompt_bound, prompt_guess
from capabilities.cloud.purse import Bill, BookFailed, Claim, OverBudget, Purse
from capabilities.cloud.retrying import (
    MAYBE_BILLED,
    UNWELL,
    Kind,
    RetryConfig,
    wait_before_retry,
)
from capabilities.messages import Delta, Done, Event, Generate, Paid, Usage
from mesh.core.errors import DeadlineExceeded, Rejected

SETTLE_S = 5.0  # after the call's deadline its bill may still be written for so long
FINISHES = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One question to the cloud; ``deadline`` is monotonic seconds."""

    body: Generate
    deadline: float
    groups: tuple[str, ...] = ()
    trace: str = ""


class _Tally(msgspec.Struct):
    """What happened to one question so far. ``wait_s``: when asking again may help."""

    attempts: int = 0
    said: list[str] = []
    wait_s: list[float] = []
    shown: bool = False  # a piece was handed on: another attempt cannot take it back
    done: bool = False
    over: Rejected | None = None


class Cloud:
    """The providers of one node. ``counters``: asked, answered, retried, failed.<kind>, ..."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        purse: Purse,
        *,
        currency: str = "USD",
        retry: RetryConfig | None = None,
        breaker: BreakerConfig | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoints = sorted(endpoints, key=lambda e: e.provider.order)
        self._breakers = {e.provider.name: Breaker(breaker) for e in self._endpoints}
        self._purse = purse
        self._currency = currency
        self._retry = retry or RetryConfig()
        self._rng = rng or random.Random()
        self._clock = clock
        self.counters: Counter[str] = Counter()

    @property
    def providers(self) -> list[Provider]:
        """In the order in which they are asked."""
        return [endpoint.provider for endpoint in self._endpoints]

    def states(self) -> dict[str, State]:
        """Each provider's circuit."""
        now = self._clock()
        return {name: breaker.state(now) for name, breaker in self._breakers.items()}

    def shut_s(self) -> float:
        """Seconds until any provider may be tried, 0 for now."""
        now = self._clock()
        return min(
            (
                max(self._breakers[e.provider.name].wait_s(now), e.limits.wait_s(now, 0))
                for e in self._endpoints
            ),
            default=0.0,
        )

    async def close(self) -> None:
        """Close all connections."""
        for endpoint in self._endpoints:
            await endpoint.close()

    async def answer(self, asked: Asked) -> AsyncGenerator[Event, None]:
        """Deltas, then one Done with what was paid.

        Raises :class:`OverBudget` or :class:`Rejected`, both with a time to come back, where
        nothing was answered; :class:`ProviderFailed` where an answer broke off that had begun,
        or the request is one that nobody takes; :class:`DeadlineExceeded`.
        """
        self.counters["asked"] += 1
        tally = _Tally()
        async with aclosing(self._events(asked, tally)) as events:
            while True:
                try:
                    # Around each step alone: a timeout must not reach over a yield.
                    async with asyncio.timeout(max(0.0, asked.deadline - self._clock())):
                        event = await anext(events, None)
                except TimeoutError as error:
                    self.counters["deadline"] += 1
                    why = "; ".join(tally.said[-3:]) or "no provider answered in time"
                    raise DeadlineExceeded(f"the time for the cloud is over: {why}") from error
                if event is None:
                    self.counters["unanswered"] += 1
                    raise self._nobody(tally)
                yield event
                if isinstance(event, Done):
                    self.counters["answered"] += 1
                    return

    async def _events(self, asked: Asked, tally: _Tally) -> AsyncGenerator[Event, None]:
        for endpoint in self._endpoints:
            async with aclosing(self._ask(endpoint, asked, tally)) as events:
                async for event in events:
                    yield event
            if tally.done:
                return

    def _nobody(self, tally: _Tally) -> Rejected | ProviderFailed:
        if tally.over is not None and not tally.attempts:
            return tally.over
        why = "; ".join(tally.said[-4:]) or "no provider is configured"
        if not tally.wait_s:
            return ProviderFailed("no provider answers this", Kind.REFUSED, why)
        wait_s = min(tally.wait_s)
        return Rejected(f"the cloud does not answer: {why}", retry_after_s=round(wait_s, 1))

    async def _ask(
        self, endpoint: Endpoint, asked: Asked, tally: _Tally
    ) -> AsyncGenerator[Event, None]:
        """All tries of one provider; nothing more than it yielded when it does not answer."""
        name = endpoint.provider.name
        breaker = self._breakers[name]
        failed = 0
        while True:
            now = self._clock()
            left_s = asked.deadline - now
            limited_s = endpoint.limits.wait_s(now, prompt_guess(asked.body))
            if limited_s > 0:
                wait = wait_before_retry(
                    self._retry, Kind.LIMITED, failed, asked_s=limited_s, left_s=left_s,
                    rng=self._rng,
                )  # fmt: skip
                if wait is None or len(self._endpoints) > 1:
                    self._pass_over(tally, f"{name} is at its rate limit", limited_s)
                    return
                failed += 1
                await asyncio.sleep(wait)
                continue
            if not breaker.begin(now):
                wait_s = breaker.wait_s(now)
                self._pass_over(tally, f"{name} is left alone after failures", wait_s)
                return
            try:
                async with aclosing(self._attempt(endpoint, breaker, asked, tally)) as events:
                    async for event in events:
                        tally.shown = True
                        tally.done = isinstance(event, Done)
                        yield event
            except (OverBudget, BookFailed) as error:
                tally.over = error
                tally.said.append(error.message)
                tally.wait_s.append(error.retry_after_s)
                self.counters["over_budget"] += 1
                return  # a later provider may be cheap enough
            except ProviderFailed as error:
                if tally.shown:
                    raise
                failed += 1
                tally.said.append(error.message)
                left_s = asked.deadline - self._clock()
                wait = wait_before_retry(
                    self._retry, error.kind, failed, asked_s=error.asked_s, left_s=left_s,
                    rng=self._rng,
                )  # fmt: skip
                if wait is None:
                    if error.kind is not Kind.REFUSED:
                        again_s = error.asked_s or self._retry.cap_s
                        tally.wait_s.append(max(again_s, breaker.wait_s(self._clock())))
                    return
            else:
                return
            self.counters["retried"] += 1
            await asyncio.sleep(wait)

    def _pass_over(self, tally: _Tally, why: str, wait_s: float) -> None:
        tally.said.append(f"{why} for {wait_s:.0f} s more")
        tally.wait_s.append(wait_s)
        self.counters["passed_over"] += 1

    async def _attempt(
        self, endpoint: Endpoint, breaker: Breaker, asked: Asked, tally: _Tally
    ) -> AsyncGenerator[Event, None]:
        """One call: reserved, sent, settled. ``breaker`` has begun it."""
        provider = endpoint.provider
        left_s = max(0.0, asked.deadline - self._clock())
        worst = provider.worst_nano(asked.body)
        try:
            ticket = await self._purse.reserve(
                Claim(
                    nano=worst,
                    provider=provider.name,
                    model=provider.model,
                    seconds=left_s + SETTLE_S,
                    groups=asked.groups,
                    trace=asked.trace,
                )
            )
        except BaseException:
            breaker.abandoned()
            raise
        tally.attempts += 1
        bill: Bill | None = None
        learnt = False
        try:
            await self._purse.sent(ticket)
            # Until proven otherwise the provider bills all of it, whatever ends this attempt.
            bill = Bill(nano=worst, estimated=True)
            begun, first = self._clock(), 0.0
            completion = Completion()
            async with aclosing(endpoint.stream(asked.body, completion, left_s)) as pieces:
                async for piece in pieces:
                    first = first or self._clock() - begun
                    yield Delta(text=piece.text, thinking=piece.thinking)
            breaker.succeeded()
            learnt = True
            bill = _bill(provider, asked.body, completion)
            yield self._done(endpoint, completion, bill, tally, first, self._clock() - begun)
        except ProviderFailed as error:
            self.counters[f"failed.{error.kind}"] += 1
            learnt = True
            if error.kind in UNWELL:
                breaker.failed(self._clock())
            else:
                breaker.succeeded()
            if error.kind not in MAYBE_BILLED and not tally.shown:
                bill = None
            raise
        finally:
            if not learnt:
                breaker.abandoned()
            # The bill is written also when the caller is gone: what was sent is paid for.
            await asyncio.shield(self._close(ticket, bill))

    async def _close(self, ticket: str, bill: Bill | None) -> None:
        try:
            if bill is None:
                await self._purse.release(ticket)
            else:
                await self._purse.settle(ticket, bill)
        except BookFailed:
            self.counters["unsettled"] += 1  # the answer stands, and its worst case stays booked

    def _done(
        self,
        endpoint: Endpoint,
        completion: Completion,
        bill: Bill,
        tally: _Tally,
        first_s: float,
        total_s: float,
    ) -> Done:
        provider = endpoint.provider
        return Done(
            text=completion.text,
            finish=FINISHES.get(completion.finish, "stop"),
            model=completion.model or provider.model,
            usage=Usage(
                prompt_tokens=bill.prompt_tokens,
                completion_tokens=bill.completion_tokens,
                first_token_s=round(first_s, 4),
                total_s=round(total_s, 4),
            ),
            tool_calls=[call for _, call in sorted(completion.calls.items())],
            paid=Paid(
                provider=provider.name,
                model=completion.model or provider.model,
                cost=bill.nano / NANO,
                currency=self._currency,
                estimated=bill.estimated,
                attempts=tally.attempts,
            ),
        )


def _bill(provider: Provider, body: Generate, completion: Completion) -> Bill:
    """By the provider's own count; where it gave none, an upper bound of it."""
    if completion.billed:
        prompt, answer = completion.prompt_tokens, completion.completion_tokens
    else:
        prompt = prompt_bound(body)
        size = completion.size_bytes
        answer = min(size + 1, provider.answer_tokens(body))
    return Bill(
        nano=provider.cost_nano(prompt, answer),
        prompt_tokens=prompt,
        completion_tokens=answer,
        estimated=not completion.billed,
    )
