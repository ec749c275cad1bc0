"""Breaker, limits, retries, prices and server-sent events: pure, under a given time."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.cloud.breaker import Breaker, BreakerConfig, State
from capabilities.cloud.client import Completion, Endpoint, ProviderFailed
from capabilities.cloud.limits import LONGEST_S, RateLimits, duration_s, retry_after_s
from capabilities.cloud.provider import Provider, prompt_bound, show
from capabilities.cloud.retrying import Kind, RetryConfig, kind_of, wait_before_retry
from capabilities.cloud.sse import DataLines, LineTooLong
from capabilities.messages import Generate, Message

PROVIDER = Provider(name="p", base_url="x", model="m", prompt_price=0.15, completion_price=0.6)


def test_a_breaker_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(BreakerConfig(failures=2, open_s=10))
    breaker.failed(0.0)
    breaker.succeeded()
    breaker.failed(1.0)
    assert breaker.state(1.0) is State.CLOSED
    breaker.failed(2.0)
    assert breaker.state(2.0) is State.OPEN
    assert breaker.wait_s(4.0) == pytest.approx(8.0)
    assert not breaker.begin(11.9)


def test_a_half_open_breaker_lets_one_probe_through() -> None:
    breaker = Breaker(BreakerConfig(failures=1, open_s=10))
    breaker.failed(0.0)
    assert breaker.state(10.0) is State.HALF_OPEN
    assert breaker.begin(10.0)
    assert not breaker.begin(10.0)
    breaker.succeeded()
    assert breaker.state(10.0) is State.CLOSED
    assert breaker.begin(10.0)


def test_each_failed_probe_doubles_the_pause_up_to_its_limit() -> None:
    breaker = Breaker(BreakerConfig(failures=1, open_s=10, longest_s=35))
    breaker.failed(0.0)
    now, waits = 0.0, []
    for _ in range(4):
        waits.append(breaker.wait_s(now))
        now += waits[-1]
        assert breaker.begin(now)
        breaker.failed(now)
    assert waits == [10, 20, 35, 35]


def test_a_probe_whose_caller_went_away_makes_room_for_another() -> None:
    breaker = Breaker(BreakerConfig(failures=1, open_s=10))
    breaker.failed(0.0)
    assert breaker.begin(10.0)
    breaker.abandoned()
    assert breaker.begin(10.0)


def test_a_call_that_fails_late_does_not_prolong_the_pause() -> None:
    breaker = Breaker(BreakerConfig(failures=1, open_s=10))
    breaker.failed(0.0)
    breaker.failed(5.0)
    assert breaker.state(10.0) is State.HALF_OPEN


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("6m0s", 360.0), ("250ms", 0.25), ("1h2m3.5s", 3723.5), ("17", 17.0)],
)
def test_durations_as_providers_write_them(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "-3", "1x", "nan", "inf", "1s 2"])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert duration_s(text) is None


def test_retry_after_is_seconds_or_a_date_and_never_past_its_limit() -> None:
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    wall = 1792567680.0 - 30
    assert retry_after_s({"retry-after": "7"}, wall) == 7
    assert retry_after_s({"retry-after": date}, wall) == pytest.approx(30)
    assert retry_after_s({"retry-after": date}, wall + 100) == 0
    assert retry_after_s({"retry-after": "99999999"}, wall) == LONGEST_S
    assert retry_after_s({"retry-after-ms": "1500", "retry-after": "9"}, wall) == 1.5
    assert retry_after_s({"retry-after": "tomorrow"}, wall) is None
    assert retry_after_s({}, wall) is None


def test_spent_requests_and_tokens_block_until_their_reset() -> None:
    limits = RateLimits()
    limits.heard(
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2s"}, 10.0, 0.0
    )
    assert limits.wait_s(10.0, 1) == pytest.approx(2.0)
    assert limits.wait_s(12.0, 1) == 0
    limits.heard(
        {"x-ratelimit-remaining-tokens": "100", "x-ratelimit-reset-tokens": "6s"}, 20.0, 0.0
    )
    assert limits.wait_s(20.0, 100) == 0
    assert limits.wait_s(20.0, 101) == pytest.approx(6.0)
    assert limits.wait_s(26.0, 101) == 0


@given(st.dictionaries(st.sampled_from([
    "retry-after", "retry-after-ms", "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
]), st.text(max_size=20)))  # fmt: skip
def test_no_header_breaks_the_limits_or_blocks_for_ever(headers: dict[str, str]) -> None:
    limits = RateLimits()
    limits.heard(headers, 5.0, 1.0, refused=True)
    assert 0 <= limits.wait_s(5.0, 10) <= LONGEST_S


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "", Kind.LIMITED),
        (429, "insufficient_quota", Kind.QUOTA),
        (402, "", Kind.QUOTA),
        (401, "", Kind.KEY),
        (403, "", Kind.KEY),
        (500, "", Kind.SERVER),
        (504, "", Kind.SERVER),
        (408, "", Kind.SERVER),
        (400, "", Kind.REFUSED),
        (413, "", Kind.REFUSED),
    ],
)
def test_what_a_status_means(status: int, code: str, kind: Kind) -> None:
    assert kind_of(status, code) is kind


def test_retries_end_and_never_outlast_the_deadline_nor_come_too_early() -> None:
    rng, config = random.Random(1), RetryConfig(attempts=3)

    def wait(kind: Kind, failed: int, asked: float | None, left: float) -> float | None:
        return wait_before_retry(config, kind, failed, asked_s=asked, left_s=left, rng=rng)

    assert wait(Kind.SERVER, 3, None, 100) is None
    assert wait(Kind.REFUSED, 1, None, 100) is None
    assert wait(Kind.KEY, 1, None, 100) is None
    assert wait(Kind.LIMITED, 1, 60.0, 100) is None
    for _ in range(100):
        found = wait(Kind.LIMITED, 1, 5.0, 100)
        assert found is not None
        assert 5.0 <= found <= 5.0 + config.base_s * 2
        found = wait(Kind.SERVER, 2, None, 100)
        assert found is not None
        assert 0 <= found <= config.base_s * 4


def test_callers_that_failed_together_do_not_come_back_together() -> None:
    config = RetryConfig()
    waits = {
        wait_before_retry(config, Kind.SERVER, 1, asked_s=None, left_s=60, rng=random.Random(seed))
        for seed in range(50)
    }
    assert len(waits) == 50


def test_prices_are_per_million_tokens_and_rounded_up() -> None:
    assert PROVIDER.cost_nano(1_000_000, 0) == 150_000_000
    assert PROVIDER.cost_nano(1, 1) == 750
    tiny = Provider(name="t", base_url="x", model="m", prompt_price=0.0375, completion_price=0)
    assert tiny.cost_nano(1, 0) == 38


@given(st.text(max_size=400), st.integers(1, 5000))
def test_the_worst_case_covers_every_tokenizer_that_makes_tokens_of_bytes(
    text: str, wanted: int
) -> None:
    body = Generate(messages=[Message("user", text)], max_tokens=wanted)
    assert prompt_bound(body) > len(text.encode())
    answer = PROVIDER.answer_tokens(body)
    assert answer <= wanted
    assert PROVIDER.worst_nano(body) >= PROVIDER.cost_nano(len(text.encode()), answer)


def test_amounts_are_shown_with_digits_that_say_something() -> None:
    assert show(0) == "0.00 USD"
    assert show(1_500_000_000) == "1.50 USD"
    assert show(123_456) == "0.00012 USD"


@given(st.lists(st.binary(max_size=30)), st.integers(1, 7))
def test_events_are_the_same_however_the_bytes_are_cut(values: list[bytes], step: int) -> None:
    clean = [v.replace(b"\n", b"").replace(b"\r", b"").strip() or b"x" for v in values]
    data = b"".join(b": note\r\ndata: " + v + b"\r\n\r\n" for v in clean)
    lines, found = DataLines(), []
    for start in range(0, len(data), step):
        found += lines.feed(data[start : start + step])
    assert found + lines.finish() == clean


def test_a_line_without_end_is_refused() -> None:
    lines = DataLines(limit=64)
    for _ in range(4):
        lines.feed(b"data: xxxxxxxxxx")
    with pytest.raises(LineTooLong):
        lines.feed(b"data: xxxxxxxxxx")


CHUNKS = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["choices", "delta", "content", "usage", "prompt_tokens", "error", "message",
                     "finish_reason", "tool_calls", "index", "function", "arguments", "model"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(msgspec.json.encode),
)  # fmt: skip


@given(st.lists(CHUNKS, max_size=5))
def test_no_bytes_of_a_provider_break_more_than_its_own_answer(values: list[bytes]) -> None:
    endpoint, into = Endpoint(PROVIDER, None), Completion()
    for value in values:
        try:
            said = endpoint._take(value, into)
        except ProviderFailed:
            continue
        assert all(isinstance(piece.text, str) for piece in said)
    assert into.prompt_tokens >= 0
    assert into.completion_tokens >= 0
