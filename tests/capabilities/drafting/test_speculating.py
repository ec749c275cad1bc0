"""Drafted answers are the checking model's own, whoever drafts and whatever is lost on the way."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from capabilities.base import Request
from capabilities.drafting import messages
from capabilities.drafting.capability import IDLE_S, VerifyCapability
from capabilities.drafting.drafters import Drafter, ModelDrafter, NgramDrafter
from capabilities.drafting.messages import CheckTree, Feed, Verdict
from capabilities.drafting.speculating import Count, Speculator, Wish
from capabilities.drafting.tree import LEAVES, leaves
from capabilities.segments.choosing import Sampling
from capabilities.slm.embedded import embedded_models
from capabilities.slm.errors import BadRequest
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import Settings
from mesh.core.errors import PeerLost, WireError

CHECKER = embedded_models()["arithmetic"].path
DRAFTER = embedded_models()["general"].path  # the same vocabulary, and no idea of sums
SETTINGS = Settings(slots=1, context_tokens=512, threads=1, prefix_tokens=0, sequences=8)
LONG_S = 110.0
TOKENS = 40
QUESTIONS = ["What is 12 + 30?", "What is 7 * 8?", "3 + 4 - 5 + 3 + 4 - 5"]


class Way:
    """Stands for the mesh between the nodes."""

    def __init__(self, checker: VerifyCapability) -> None:
        self.checker = checker
        self.lose: Callable[[messages.Question], bool] = lambda question: False

    async def ask(self, question: messages.Question, timeout_s: float) -> messages.Answer:
        async with contextlib.aclosing(self.stream(question, timeout_s)) as answers:
            async for answer in answers:
                return answer
        raise PeerLost("no answer")

    async def stream(
        self, question: messages.Question, timeout_s: float
    ) -> AsyncGenerator[messages.Answer, None]:
        request = Request(
            name=self.checker.names[0].name,
            body=messages.encode(question),
            timeout_s=timeout_s,
            isolation="me",
        )
        assert self.checker.admit(request).accepted
        async for body in self.checker.serve(request):
            if self.lose(question):
                raise PeerLost("the verdict was lost")
            yield messages.decode_answer(body)


class Pair(msgspec.Struct):
    checker: VerifyCapability
    way: Way
    whole: ModelHost
    small: ModelHost

    def speculator(self, drafter: Callable[[], Drafter]) -> Speculator:
        return Speculator(drafter, self.way, vocab_hash=self.whole.info.vocab_hash)

    def by_model(self) -> Drafter:
        return ModelDrafter(self.small, random.Random(5))


@contextlib.asynccontextmanager
async def pair(small: Path = DRAFTER) -> AsyncIterator[Pair]:
    whole, drafting = ModelHost(CHECKER, SETTINGS), ModelHost(small, SETTINGS)
    try:
        await asyncio.gather(whole.start(), drafting.start())
        checker = VerifyCapability(whole, "arithmetic", rng=random.Random(3))
        yield Pair(checker, Way(checker), whole, drafting)
    finally:
        await asyncio.gather(whole.stop(), drafting.stop())


def run(body: Callable[[Pair], Awaitable[None]], small: Path = DRAFTER) -> None:
    async def main() -> None:
        async with asyncio.timeout(LONG_S), pair(small) as it:
            await body(it)

    asyncio.run(main())


async def alone(whole: ModelHost, prompt: list[int]) -> list[int]:
    said: list[int] = []
    given, position = prompt, 0
    for _ in range(TOKENS):
        found = await whole.forward("alone", position, given, timeout_s=10, logprobs=1)
        position += len(given)
        given = [found.logprobs[-1][0][0]]
        said += given
    await whole.drop_sequence("alone", timeout_s=10)
    return said


async def answer(
    it: Pair, prompt: list[int], drafter: Callable[[], Drafter], count: Count, **wish: object
) -> list[int]:
    options = Wish(max_tokens=TOKENS, **wish)  # type: ignore[arg-type]
    speculator = it.speculator(drafter)
    words = speculator.generate(prompt, options, ends=lambda token: False, count=count)
    said = [word.token async for word in words]
    await speculator.farewells.done()
    return said


@pytest.mark.parametrize("length", [-1, 0, 1, 4, 8])
def test_greedy_answers_are_the_checking_models_own(length: int) -> None:
    async def body(it: Pair) -> None:
        for text in QUESTIONS:
            prompt = await it.whole.tokenize(text)
            expected = await alone(it.whole, prompt)
            for drafter in (it.by_model, NgramDrafter):
                said = await answer(it, prompt, drafter, Count(), length=length)
                assert said == expected
        assert len(it.checker) == 0

    run(body)


def test_a_drafter_that_is_right_spares_passes_and_its_drafts_ahead_are_used() -> None:
    async def body(it: Pair) -> None:
        prompt = await it.whole.tokenize(QUESTIONS[0])
        count = Count()
        said = await answer(it, prompt, it.by_model, count, length=4)
        assert said == await alone(it.whole, prompt)
        assert count.stood == count.drafted  # it is the same model
        assert count.passes_per_token <= 1 / 4
        assert count.ahead_used > 0

    run(body, small=CHECKER)


def test_words_of_the_prompt_are_drafted_without_a_model() -> None:
    async def body(it: Pair) -> None:
        # A loop: the model repeats itself, and n-grams see it.
        prompt = await it.whole.tokenize("1 2 3 1 2 3 1 2 3 1 2 3")
        count = Count()
        said = await answer(it, prompt, NgramDrafter, count, length=4)
        assert said == await alone(it.whole, prompt)

    run(body)


def test_sampled_answers_are_distributed_as_the_checking_models_own() -> None:
    """Chi-square over the first token; its 99.9th percentile at 5 degrees of freedom is 20.5."""

    async def body(it: Pair) -> None:
        from capabilities.drafting.accepting import distribution

        sampling = Sampling(temperature=1.5, top_k=6)
        prompt = await it.whole.tokenize("What is")
        found = await it.whole.forward("d", 0, prompt, timeout_s=10, logprobs=sampling.wants)
        expected = distribution(found.logprobs[-1], sampling)
        speculator, seen, trials = it.speculator(it.by_model), Counter[int](), 300
        for _ in range(trials):
            words = speculator.generate(
                prompt,
                Wish(max_tokens=2, length=1, sampling=sampling, ahead=False),
                ends=lambda token: False,
            )
            said = [word.token async for word in words]
            seen[said[0]] += 1
        assert set(seen) <= set(expected)
        chi = sum(
            (seen[token] - trials * share) ** 2 / (trials * share)
            for token, share in expected.items()
        )
        assert chi < 20.5

    run(body)


def test_a_tree_is_checked_in_one_round() -> None:
    async def body(it: Pair) -> None:
        prompt = await it.whole.tokenize(QUESTIONS[0])
        first, second, third = (await alone(it.whole, prompt))[:3]
        vocab = it.whole.info.vocab_hash
        await it.way.ask(Feed(stream="s", vocab_hash=vocab, at=0, tokens=prompt[:-1]), 5)
        wrong = first + 1 if first < 1000 else first - 1
        nodes = [(wrong, -1), (first, -1), (second, 1), (wrong, 1)]
        at = len(prompt) - 1
        verdict = await it.way.ask(CheckTree(stream="s", at=at, tail=prompt[-1:], nodes=nodes), 5)
        assert isinstance(verdict, Verdict)
        assert (verdict.path, verdict.next) == ([1, 2], third)

    run(body)


def test_greedy_answers_stay_the_checking_models_own_when_drafts_branch() -> None:
    async def body(it: Pair) -> None:
        for text in QUESTIONS[:2]:
            prompt = await it.whole.tokenize(text)
            expected = await alone(it.whole, prompt)
            for drafter in (it.by_model, NgramDrafter):
                count = Count()
                assert await answer(it, prompt, drafter, count, length=4, trees=True) == expected
                assert count.passes <= TOKENS

    run(body)


def test_a_tree_holds_what_a_drafter_that_is_right_would_draft() -> None:
    async def body(it: Pair) -> None:
        prompt = await it.whole.tokenize(QUESTIONS[0])
        count = Count()
        said = await answer(it, prompt, it.by_model, count, length=4, trees=True)
        assert said == await alone(it.whole, prompt)
        assert count.passes_per_token <= 1 / 2
        tree = await ModelDrafter(it.small).tree(prompt, 3)
        assert 3 <= len(tree) <= 3 * LEAVES
        assert len(leaves(tree)) <= LEAVES
        assert max(node.depth for node in tree) <= 2

    run(body, small=CHECKER)


def test_a_lost_verdict_ends_the_answer_with_an_error_and_nothing_wrong_is_said() -> None:
    async def body(it: Pair) -> None:
        prompt = await it.whole.tokenize(QUESTIONS[0])
        counter = iter(range(10**6))
        it.way.lose = lambda question: (
            not isinstance(question, messages.Close) and next(counter) == 4
        )
        said: list[int] = []
        words = it.speculator(it.by_model).generate(
            prompt, Wish(max_tokens=TOKENS, length=2), ends=lambda token: False
        )

        async def all_of_it() -> None:
            async for word in words:
                said.append(word.token)

        with pytest.raises(PeerLost):
            await all_of_it()
        assert said == (await alone(it.whole, prompt))[: len(said)]

    run(body)


def test_a_checker_that_forgot_the_answer_is_told_it_again() -> None:
    async def body(it: Pair) -> None:
        prompt = await it.whole.tokenize(QUESTIONS[1])
        expected = await alone(it.whole, prompt)
        said: list[int] = []
        words = it.speculator(it.by_model).generate(
            prompt, Wish(max_tokens=TOKENS, length=2), ends=lambda token: False
        )
        async for word in words:
            said.append(word.token)
            if len(said) == 9:
                it.checker._streams.clear()
        assert said == expected

    run(body)


def test_an_answer_that_nobody_asks_about_goes_without_a_new_one() -> None:
    async def body(it: Pair) -> None:
        now = 0.0
        checker = VerifyCapability(it.whole, "arithmetic", clock=lambda: now)
        way = Way(checker)
        vocab = it.whole.info.vocab_hash
        await way.ask(Feed(stream="s", vocab_hash=vocab, at=0, tokens=[5, 6, 7]), 5)
        now = IDLE_S
        await checker.forget_idle()
        assert len(checker) == 1
        now = IDLE_S * 1.01
        await checker.forget_idle()
        assert len(checker) == 0

    run(body)


def test_other_vocabularies_are_refused_with_the_reason() -> None:
    async def body(it: Pair) -> None:
        with pytest.raises(BadRequest, match="need its vocabulary"):
            await it.way.ask(Feed(stream="s", vocab_hash="other", at=0, tokens=[1]), 5)

    run(body)


@pytest.mark.parametrize(
    "question",
    [
        messages.Check(stream="", at=0, tail=[1]),
        messages.Check(stream="s", at=-1, tail=[1]),
        messages.Check(stream="s", at=0, tail=[1], draft=[1] * 65),
        messages.Check(stream="s", at=0, tail=[1], draft=[1], sampling=Sampling(temperature=1)),
        messages.Check(stream="s", at=0, tail=[1], draft=[1], drawn=[{1: 7.0}]),
        messages.CheckTree(stream="s", at=0, tail=[1], nodes=[(1, 0)]),
        messages.CheckTree(stream="s", at=0, tail=[1], nodes=[(1, -1)] * 65),
        messages.Feed(stream="s", vocab_hash="", at=0, tokens=[1] * 8193),
    ],
)
def test_messages_that_make_no_sense_are_refused(question: messages.Question) -> None:
    with pytest.raises(WireError):
        messages.decode_question(messages.encode(question))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"\x81\xa4kind\xa3eat"])
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        messages.decode_question(data)
