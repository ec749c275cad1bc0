"""An answer of the checking model, drafted here: fewer of its passes, and the same words.

A round drafts some tokens and sends them; while the verdict travels, the drafter goes on as if all
of them stood (PEARL, Liu et al. 2024), and what it drafted meanwhile is used if they did. How long
drafts are is learnt per link (:mod:`capabilities.drafting.lengths`), 0 among the choices.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from capabilities.drafting import messages
from capabilities.drafting.drafters import Draft, Drafter, ModelDrafter
from capabilities.drafting.lengths import Lengths
from capabilities.drafting.messages import Check, CheckTree, Close, Fed, Feed, Told, Verdict
from capabilities.segments.choosing import Sampling
from capabilities.segments.farewells import Farewells
from mesh.core.errors import DeadlineExceeded, Rejected

CLOSE_S = 2.0
RETRIES = 3
# Without a draft the checking model streams so many tokens of its own before a draft is thought of
# again; twice as many each time in a row, so that a long link is crossed seldom. The most at once
# where no draft can be expected to pay.
STREAM, STREAM_MOST = 8, 64
CHECKED, DRAFTED = "check", "draft"


class Checker(Protocol):
    """The way to the checking model."""

    async def ask(self, question: messages.Question, timeout_s: float) -> messages.Answer:
        """Its answer; raises a GossamerError."""

    def stream(
        self, question: messages.Question, timeout_s: float
    ) -> AsyncGenerator[messages.Answer, None]:
        """Its answers, as they come; raises a GossamerError."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer is made. ``length`` fixes that of drafts; -1 learns it."""

    sampling: Sampling = Sampling()
    max_tokens: int = 256
    length: int = -1
    check_s: float = 10.0
    ahead: bool = True
    ends: tuple[int, ...] = ()  # where the checking model stops by itself
    trees: bool = False  # drafts of two tokens and more branch, where the drafter can (greedy)


class Word(msgspec.Struct, frozen=True):
    """A token of the answer, and whether it was drafted here or said there."""

    token: int
    by: str


@dataclass(slots=True)
class Count:
    """What an answer took."""

    tokens: int = 0
    passes: int = 0  # of the checking model
    drafted: int = 0
    stood: int = 0
    ahead_used: int = 0  # drafted while a verdict travelled, and used
    waited_s: float = 0.0
    check_s: float = 0.0
    draft_s: float = 0.0
    lengths: list[int] = field(default_factory=list)

    @property
    def passes_per_token(self) -> float:
        """Of the checking model."""
        return self.passes / self.tokens if self.tokens else 0.0


@dataclass(slots=True)
class _Speaking:
    """One answer under way; the other side holds the first ``have`` of ``tokens``."""

    stream: str
    tokens: list[int]
    wish: Wish
    count: Count
    drafter: Drafter
    have: int = 0
    ready: Draft = field(default_factory=Draft)  # drafted ahead, and usable
    streak: int = STREAM


class Speculator:
    """One pair of drafter and checking model; what it learns of lengths outlives an answer."""

    def __init__(
        self,
        drafter: Callable[[], Drafter],
        checker: Checker,
        *,
        vocab_hash: str,
        lengths: Lengths | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._drafter, self._checker = drafter, checker
        self._vocab_hash = vocab_hash
        self.lengths = lengths or Lengths()
        self._clock = clock
        self.farewells = Farewells()

    async def generate(
        self,
        prompt: Sequence[int],
        wish: Wish,
        *,
        ends: Callable[[int], bool],
        count: Count | None = None,
    ) -> AsyncGenerator[Word, None]:
        """Tokens without the one that ends; raises when the checking model cannot be asked."""
        one = _Speaking(os.urandom(8).hex(), list(prompt), wish, count or Count(), self._drafter())
        # Nobody waits for the answer to the prompt: what comes behind it finds it there, or is told
        # what is missing.
        feeding = asyncio.create_task(self._feed(one.stream, one.tokens[:-1], 0, wish))
        one.have = len(one.tokens) - 1
        try:
            await asyncio.sleep(0)  # it is sent first
            while one.count.tokens < wish.max_tokens:
                length = wish.length if wish.length >= 0 else self.lengths.choose()
                length = min(length, wish.max_tokens - one.count.tokens - 1)
                words = self._drafted(one, length) if length else self._undrafted(one)
                branches = length > 1 and wish.trees and wish.sampling.temperature <= 0
                if branches and isinstance(one.drafter, ModelDrafter):
                    words = self._branched(one, one.drafter, length)
                async with contextlib.aclosing(words):
                    async for word in words:
                        one.count.tokens += 1
                        if ends(word.token):
                            return
                        one.tokens.append(word.token)
                        yield word
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await one.drafter.close()
            self.farewells.say(self._checker.ask(Close(stream=one.stream), CLOSE_S))

    async def _drafted(self, one: _Speaking, length: int) -> AsyncGenerator[Word, None]:
        """One round with a draft: what stood of it, and the checking model's own token."""
        count, wish, began = one.count, one.wish, self._clock()
        draft, one.streak = one.ready, STREAM
        if len(draft.tokens) < length:
            more = await one.drafter.draft(
                [*one.tokens, *draft.tokens], length - len(draft.tokens), wish.sampling
            )
            draft = Draft(draft.tokens + more.tokens, draft.drawn + more.drawn)
        draft = Draft(draft.tokens[:length], draft.drawn[:length])
        count.draft_s += self._clock() - began
        verdict, one.have, ahead = await self._round(
            one.stream, one.tokens, one.have, draft, one.drafter, wish, count
        )
        count.passes += 1
        count.drafted += len(draft.tokens)
        count.stood += verdict.count
        count.lengths.append(len(draft.tokens))
        one.ready = _usable(ahead, verdict, draft)
        count.ahead_used += len(one.ready.tokens)
        if wish.length < 0:
            seconds = self._clock() - began
            self.lengths.learn(_arm(self.lengths, length), verdict.count + 1, seconds)
        for token in draft.tokens[: verdict.count]:
            yield Word(token, DRAFTED)
        yield Word(verdict.next, CHECKED)

    async def _branched(
        self, one: _Speaking, drafter: ModelDrafter, length: int
    ) -> AsyncGenerator[Word, None]:
        """One round with a tree: the path of it that the checking model takes, and its token."""
        count, wish, began = one.count, one.wish, self._clock()
        held, sent = len(one.tokens), began
        try:
            nodes = await drafter.tree(one.tokens, length)
            sent = self._clock()
            drawn = [(node.token, node.parent) for node in nodes]

            def question(at: int, tail: list[int]) -> CheckTree:
                return CheckTree(stream=one.stream, at=at, tail=tail, nodes=drawn)

            verdict = await self._verdict(one.stream, one.tokens, one.have, wish, question)
        except Rejected:
            # No room for so many sequences now, here or there: the draft is a line.
            async with contextlib.aclosing(self._drafted(one, length)) as words:
                async for word in words:
                    yield word
            return
        one.ready, one.streak = Draft(), STREAM
        count.draft_s += sent - began
        if len(verdict.path) > length or not set(verdict.path) <= set(range(len(nodes))):
            raise DeadlineExceeded("the checking node accepts what was not drafted")
        one.have = held  # it keeps the stream and drops the forks: what stood is told it again
        count.waited_s += self._clock() - sent
        count.check_s += verdict.compute_s
        count.passes += 1
        count.drafted += len(nodes)
        count.stood += len(verdict.path)
        count.lengths.append(length)
        if wish.length < 0:
            self.lengths.learn(
                _arm(self.lengths, length), len(verdict.path) + 1, self._clock() - began
            )
        for index in verdict.path:
            yield Word(nodes[index].token, DRAFTED)
        yield Word(verdict.next, CHECKED)

    async def _undrafted(self, one: _Speaking) -> AsyncGenerator[Word, None]:
        """The checking model streams some tokens of its own."""
        count, wish, began = one.count, one.wish, self._clock()
        streak = STREAM_MOST if wish.length < 0 and self.lengths.alone else one.streak
        most = min(streak, wish.max_tokens - count.tokens)
        one.streak = min(one.streak * 2, STREAM_MOST)
        said = 0
        try:
            async for token in self._told(one.stream, one.tokens, one.have, most, wish):
                said, count.passes = said + 1, count.passes + 1
                yield Word(token, CHECKED)
        finally:
            count.waited_s += self._clock() - began
            count.lengths.append(0)
            if wish.length < 0 and said:
                self.lengths.learn(0, said, self._clock() - began)
        # The last token that it said is not fed to it yet.
        one.have, one.ready = len(one.tokens) - 1, Draft()

    async def _round(
        self,
        stream: str,
        tokens: list[int],
        have: int,
        draft: Draft,
        drafter: Drafter,
        wish: Wish,
        count: Count,
    ) -> tuple[Verdict, int, Draft]:
        """One check, and what was drafted while it travelled."""
        began = self._clock()
        checking = asyncio.create_task(self._checked(stream, tokens, have, draft, wish))
        ahead = Draft()
        try:
            if wish.ahead and draft.tokens:
                # One token more than the next draft: the first guesses the checking model's own.
                guess = asyncio.create_task(
                    drafter.draft([*tokens, *draft.tokens], len(draft.tokens) + 1, wish.sampling)
                )
                try:
                    verdict, have = await checking
                    ahead = await guess
                finally:
                    guess.cancel()
                    await asyncio.gather(guess, return_exceptions=True)
            else:
                verdict, have = await checking
        finally:
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)
        count.waited_s += self._clock() - began
        count.check_s += verdict.compute_s
        return verdict, have, ahead

    async def _checked(
        self, stream: str, tokens: list[int], have: int, draft: Draft, wish: Wish
    ) -> tuple[Verdict, int]:
        """The verdict on a draft, and how many tokens the other side holds after it."""

        def question(at: int, tail: list[int]) -> Check:
            return Check(
                stream=stream,
                at=at,
                tail=tail,
                draft=draft.tokens,
                drawn=draft.drawn,
                sampling=wish.sampling,
            )

        verdict = await self._verdict(stream, tokens, have, wish, question)
        if verdict.count > len(draft.tokens):
            raise DeadlineExceeded("the checking node accepts more than was drafted")
        return verdict, len(tokens) + verdict.count

    async def _verdict(
        self,
        stream: str,
        tokens: list[int],
        have: int,
        wish: Wish,
        question: Callable[[int, list[int]], messages.Question],
    ) -> Verdict:
        """The answer to ``question(at, tail)``; a side that forgot is brought up to date."""
        for _ in range(RETRIES):
            answer = await self._ask(question(have, tokens[have:]), wish)
            if isinstance(answer, Verdict):
                return answer
            # It has forgotten some of the stream: bring it up to the last token but one.
            have = answer.have if isinstance(answer, Fed) else 0
            have = await self._feed(stream, tokens[:-1], min(have, len(tokens) - 1), wish)
        raise DeadlineExceeded("the checking node keeps forgetting the answer")

    async def _told(
        self, stream: str, tokens: list[int], have: int, most: int, wish: Wish
    ) -> AsyncGenerator[int, None]:
        """What the checking model says without a draft, token by token as it streams."""
        tokens = list(tokens)
        for _ in range(RETRIES):
            question = Check(
                stream=stream,
                at=have,
                tail=tokens[have:],
                sampling=wish.sampling,
                more=most - 1,
                ends=list(wish.ends),
            )
            answers = self._checker.stream(question, wish.check_s)
            try:
                while True:
                    async with asyncio.timeout(wish.check_s):
                        answer = await anext(answers, None)
                    if isinstance(answer, Verdict):
                        yield answer.next
                    elif isinstance(answer, Told):
                        yield answer.token
                    elif isinstance(answer, Fed):
                        have = min(answer.have, len(tokens) - 1)
                        break
                    else:
                        return
            except TimeoutError:
                raise DeadlineExceeded("the checking node does not answer") from None
            finally:
                await answers.aclose()
            have = await self._feed(stream, tokens[:-1], have, wish)
        raise DeadlineExceeded("the checking node keeps forgetting the answer")

    async def _feed(self, stream: str, tokens: list[int], have: int, wish: Wish) -> int:
        at = have
        while True:
            piece = tokens[at : at + messages.MAX_TAIL]
            question = Feed(stream=stream, vocab_hash=self._vocab_hash, at=at, tokens=piece)
            answer = await self._ask(question, wish)
            got = answer.have if isinstance(answer, Fed) else 0
            if got >= len(tokens) or got <= at:
                return min(got, len(tokens))
            at = got

    async def _ask(self, question: messages.Question, wish: Wish) -> messages.Answer:
        try:
            async with asyncio.timeout(wish.check_s):
                return await self._checker.ask(question, wish.check_s)
        except TimeoutError:
            raise DeadlineExceeded("the checking node does not answer") from None


def _usable(ahead: Draft, verdict: Verdict, draft: Draft) -> Draft:
    """What was drafted ahead, if all stood and the guess of the token after them was right.

    In a sampled answer the guess is a draw of its own and proves nothing about the draft behind
    it, but what follows a right guess was drawn after exactly these tokens: it may be used.
    """
    if verdict.count < len(draft.tokens) or not ahead.tokens or ahead.tokens[0] != verdict.next:
        return Draft()
    return ahead.tail(1)


def _arm(lengths: Lengths, length: int) -> int:
    """The arm whose length was really drafted: near the end of an answer it is a shorter one."""
    return max(one for one in lengths.lengths if one <= length)
