"""One model on two machines: the same answer, and an answer whatever happens to the link."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from capabilities.segments.accounts import Account, bytes_once
from capabilities.segments.calibration import Calibration
from capabilities.segments.choosing import Sampling
from capabilities.segments.edge import Asked, Said
from capabilities.segments.files import Segment
from capabilities.segments.messages import Close, Infer, Upload
from capabilities.segments.passes import Passes
from capabilities.segments.streams import Limits
from capabilities.segments.switching import ALONE, TOGETHER, Rules
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import SequenceState
from tests.capabilities.segments.halves import Halves, Way, halves

PROMPTS = ["What is 12 + 30?", "What is 7 * 8?", "3 + 4 - 5", "What is 981 - 17?"]
LONG_S = 60.0
TOKENS = 24
Pieces = dict[str, Segment]


def run(pieces: Pieces, body: Callable[[Halves], Awaitable[None]], **options: object) -> None:
    async def main() -> None:
        async with asyncio.timeout(LONG_S), halves(pieces, **options) as it:  # type: ignore[arg-type]
            await body(it)

    asyncio.run(main())


async def tokens_of(it: Halves, text: str) -> list[int]:
    return await it.whole.tokenize(text, timeout_s=5)


async def greedy(whole: ModelHost, prompt: list[int], count: int) -> list[int]:
    """What the whole model says."""
    said: list[int] = []
    given, position = prompt, 0
    for _ in range(count):
        found = await whole.forward("w", position, given, timeout_s=10, logprobs=1)
        position += len(given)
        given = [found.logprobs[-1][0][0]]
        said += given
    await whole.drop_sequence("w", timeout_s=10)
    return said


async def answer(
    it: Halves, prompt: list[int], *, account: Account | None = None, **asked: object
) -> list[Said]:
    options = Asked(**{"max_tokens": TOKENS, "infer_s": LONG_S, **asked})  # type: ignore[arg-type]
    stream = it.edge.generate(prompt, options, ends=lambda token: False, account=account)
    return [said async for said in stream]


def test_when_no_exit_is_ever_sure_the_two_halves_say_what_the_whole_says(pieces: Pieces) -> None:
    async def body(it: Halves) -> None:
        for text in PROMPTS:
            prompt = await tokens_of(it, text)
            said = await answer(it, prompt, theta=1.1, dtype="f32")
            assert [one.token for one in said] == await greedy(it.whole, prompt, TOKENS)
            assert {one.by for one in said} == {"far"}

    run(pieces, body)


def test_when_every_exit_is_sure_the_other_half_and_the_second_segment_are_not_asked(
    pieces: Pieces,
) -> None:
    async def body(it: Halves) -> None:
        account = Account()
        said = await answer(it, await tokens_of(it, PROMPTS[0]), theta=0.0, account=account)
        assert {one.by for one in said} == {"exit 1"}
        assert account.asked == 0
        assert not any(isinstance(one, Infer) for one in it.way.asked)

    run(pieces, body)


def test_every_position_is_sent_once_in_half_precision_and_computed_once(pieces: Pieces) -> None:
    async def body(it: Halves) -> None:
        for theta in (0.0, 0.5, 0.9, 1.1):
            account = Account()
            it.way.asked.clear()
            prompt = await tokens_of(it, PROMPTS[1])
            await answer(it, prompt, theta=theta, account=account)
            sent = [
                (one.position, one.rows.rows) for one in it.way.asked if isinstance(one, Upload)
            ]
            assert [at for at, _ in sent] == [sum(n for _, n in sent[:i]) for i in range(len(sent))]
            whole = bytes_once(len(prompt), TOKENS, it.edge.width)
            # Rows of the last tokens may stay behind when nobody asks for them any more.
            assert account.bytes_up == sum(n for _, n in sent) * it.edge.width * 2 <= whole
            assert account.bytes_again == 0
            assert account.far_rows <= len(prompt) + TOKENS - 1
            assert theta <= 1 or account.bytes_up == whole

    run(pieces, body)


def test_the_more_sure_an_exit_has_to_be_the_more_often_the_other_half_is_asked(
    pieces: Pieces,
) -> None:
    async def body(it: Halves) -> None:
        asked = []
        prompt = await tokens_of(it, PROMPTS[3])
        for theta in (0.0, 0.3, 1.1):
            account = Account()
            await answer(it, prompt, theta=theta, account=account)
            asked.append(account.ask_rate)
        assert asked[0] == 0.0
        assert asked == sorted(asked)
        assert asked[2] == 1.0

    run(pieces, body)


def test_an_exit_is_believed_as_far_as_it_was_calibrated(pieces: Pieces) -> None:
    async def body(it: Halves) -> None:
        prompt = await tokens_of(it, PROMPTS[0])
        raw = {one.by for one in await answer(it, prompt, theta=0.3)}
        it.edge.calibrations = (Calibration(shift=30.0), Calibration(shift=-30.0))
        assert {one.by for one in await answer(it, prompt, theta=0.3)} == {"exit 2"}
        it.edge.calibrations = (Calibration(shift=30.0), Calibration(shift=30.0))
        assert {one.by for one in await answer(it, prompt, theta=0.3)} == {"far"}
        assert {one.by for one in await answer(it, prompt, theta=0.0)} == {"exit 1"}
        assert "exit 1" in raw

    run(pieces, body)


def test_clients_side_by_side_say_what_each_says_alone(pieces: Pieces) -> None:
    async def body(it: Halves) -> None:
        prompts = [await tokens_of(it, text) for text in PROMPTS]
        alone = [await answer(it, prompt, theta=0.6, dtype="f32") for prompt in prompts]
        together = await asyncio.gather(
            *(answer(it, prompt, theta=0.6, dtype="f32") for prompt in prompts)
        )
        assert [[s.token for s in one] for one in together] == [
            [s.token for s in one] for one in alone
        ]

    # Two of the four are in the model's memory at a time, the others are parked.
    run(pieces, body, limits=Limits(resident=2))


class Leisurely:
    """The far worker, whose states take their time on the way out of it."""

    def __init__(self, passes: Passes) -> None:
        self._passes = passes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._passes, name)

    async def save_sequence(self, sequence: str, *, timeout_s: float) -> SequenceState:
        state = await self._passes.save_sequence(sequence, timeout_s=timeout_s)
        await asyncio.sleep(0.02)
        return state


def test_a_context_that_is_being_parked_is_asked_for_and_nothing_is_lost(pieces: Pieces) -> None:
    async def body(it: Halves) -> None:
        it.far._passes = Leisurely(it.far._passes)  # type: ignore[assignment]
        prompts = [await tokens_of(it, text) for text in PROMPTS]
        alone = [await answer(it, prompt, theta=1.1, dtype="f32") for prompt in prompts]
        accounts = [Account() for _ in prompts]
        together = await asyncio.gather(
            *(
                answer(it, prompt, theta=1.1, dtype="f32", account=account)
                for prompt, account in zip(prompts, accounts, strict=True)
            )
        )
        assert [account.degraded for account in accounts] == [0] * len(prompts)
        assert [[s.token for s in one] for one in together] == [
            [s.token for s in one] for one in alone
        ]

    run(pieces, body, limits=Limits(resident=1))


def test_two_askers_may_use_the_same_name_of_a_stream(pieces: Pieces) -> None:
    async def body(it: Halves) -> None:
        from capabilities.segments.messages import Have, Open

        question = Open(stream="s", epoch=0, model_sha256=it.edge.model_sha256)
        other = Way(it.far, asker="other")
        rows = [one for one in it.way.asked if isinstance(one, Upload)]
        assert rows == []
        assert await it.way.ask(question, 5) == Have(have=0)
        assert await other.ask(question, 5) == Have(have=0)
        await other.ask(Close(stream="s"), 5)
        assert len(it.far.streams) == 1

    run(pieces, body)


def test_a_link_that_is_cut_costs_no_token_and_is_used_again(pieces: Pieces) -> None:
    async def body(it: Halves) -> None:
        prompt = await tokens_of(it, PROMPTS[0])
        account = Account()
        said = []
        stream = it.edge.generate(
            prompt,
            Asked(theta=1.1, max_tokens=60, infer_s=LONG_S),
            ends=lambda token: False,
            account=account,
        )
        async for one in stream:
            said.append(one.by)
            if len(said) == 10:
                it.way.cut = True
            if len(said) == 20:
                assert it.edge.switch.mode == ALONE
                assert account.why == "the link is cut"
                it.way.cut = False
            if len(said) > 20 and it.edge.switch.mode == ALONE:
                await asyncio.sleep(0.02)  # a slower model: the probe has time
        assert len(said) == 60
        assert said[:10] == ["far"] * 10
        assert said[10:20] == ["last"] * 10
        assert said[-1] == "far"
        assert it.edge.switch.mode == TOGETHER
        assert account.degraded >= 10
        assert len(it.far.streams) == 0

    run(pieces, body, rules=Rules(budget_s=3600.0, probe_s=0.01))


def test_without_the_other_half_from_the_start_the_answer_is_complete(pieces: Pieces) -> None:
    async def body(it: Halves) -> None:
        it.way.cut = True
        said = await answer(it, await tokens_of(it, PROMPTS[0]), theta=0.9)
        assert len(said) == TOKENS
        assert {one.by for one in said} <= {"exit 1", "exit 2", "last"}

    run(pieces, body)


def test_answers_that_are_lost_are_asked_again_or_replaced_and_nothing_is_computed_twice(
    pieces: Pieces,
) -> None:
    async def body(it: Halves) -> None:
        prompt = await tokens_of(it, PROMPTS[2])
        counter = iter(range(10**6))
        it.way.lose = lambda question: isinstance(question, Infer) and next(counter) % 3 == 0
        account = Account()
        said = await answer(it, prompt, theta=1.1, account=account)
        assert len(said) == TOKENS
        assert 0 < sum(one.by == "last" for one in said) == account.degraded
        assert account.far_rows <= len(prompt) + TOKENS - 1

    run(pieces, body)


def test_a_forgotten_stream_is_sent_again(pieces: Pieces) -> None:
    async def body(it: Halves) -> None:
        prompt = await tokens_of(it, PROMPTS[0])
        expected = await greedy(it.whole, prompt, TOKENS)
        said = []
        account = Account()
        options = Asked(theta=1.1, max_tokens=TOKENS, infer_s=LONG_S, dtype="f32")
        stream = it.edge.generate(prompt, options, ends=lambda token: False, account=account)
        async for one in stream:
            said.append(one.token)
            if len(said) == 8:
                for key in list(it.far.streams.keys()):
                    await it.far.forget([key])
        assert said == expected
        assert account.bytes_again > 0

    run(pieces, body)


def test_a_stream_that_nobody_uses_goes(pieces: Pieces) -> None:
    async def body(it: Halves) -> None:
        stream = it.edge.generate(
            await tokens_of(it, PROMPTS[0]),
            Asked(theta=1.1, infer_s=LONG_S),
            ends=lambda token: False,
        )
        await anext(stream)
        assert len(it.far.streams) == 1
        while len(it.far.streams):  # noqa: ASYNC110 - the sweep tells nobody
            await asyncio.sleep(0.02)
        assert it.far.streams.bytes == 0
        await stream.aclose()

    run(pieces, body, limits=Limits(idle_s=0.1))


def test_sampled_answers_are_the_same_whoever_chooses(pieces: Pieces) -> None:
    async def body(it: Halves) -> None:
        prompt = await tokens_of(it, PROMPTS[1])
        # So hot that a model which is sure of its digits still wavers.
        sampling = Sampling(temperature=2.5, top_k=20, seed=11, presence_penalty=0.3)
        first = await answer(it, prompt, theta=1.1, sampling=sampling, dtype="f32")
        again = await answer(it, prompt, theta=1.1, sampling=sampling, dtype="f32")
        other = Sampling(temperature=2.5, top_k=20, seed=12, presence_penalty=0.3)
        else_ = await answer(it, prompt, theta=1.1, sampling=other, dtype="f32")
        assert [s.token for s in first] == [s.token for s in again]
        assert [s.token for s in first] != [s.token for s in else_]

    run(pieces, body)
