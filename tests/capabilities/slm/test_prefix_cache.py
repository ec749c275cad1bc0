"""The prefix cache within the engine: what it spares, and what it never lets across."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from capabilities.messages import Done, Generate, Message
from capabilities.slm import llama
from capabilities.slm.cache import MAX_SEATS
from tests.capabilities.slm.driving import Drive

LONG = "You are an assistant who answers briefly and in plain words. " * 2


def spare(drive: Drive, model: Path, first: str, second: str, **more: str) -> tuple[int, int]:
    """Prompt tokens and cached tokens of the second of two requests."""
    it = drive(model, prefix_tokens=256)
    it.submit(1, first, max_tokens=4, isolation="me")
    it.run()
    it.submit(2, second, max_tokens=4, isolation=more.get("isolation", "me"))
    it.run()
    usage = it.done(2).usage
    return usage.prompt_tokens, usage.cached_tokens


def test_a_prompt_asked_again_is_computed_only_at_its_end(drive: Drive, random_model: Path) -> None:
    prompt, cached = spare(drive, random_model, LONG, LONG)
    assert cached == prompt - 1


def test_a_changed_end_keeps_the_beginning(drive: Drive, random_model: Path) -> None:
    prompt, cached = spare(drive, random_model, LONG + "It is 10:31.", LONG + "It is 10:32.")
    assert cached >= 0.9 * prompt


def test_another_caller_finds_nothing(drive: Drive, random_model: Path) -> None:
    assert spare(drive, random_model, LONG, LONG, isolation="you")[1] == 0


def test_answers_on_a_kept_prefix_are_those_without_it(
    drive: Drive, random_model: Path, agree: Callable[[object, object], None]
) -> None:
    texts = [LONG + end for end in ("one", "two", "one two", "one")]
    kept, fresh = drive(random_model), drive(random_model, prefix_tokens=0)
    for it in (kept, fresh):
        for key, text in enumerate(texts):
            it.submit(key + 1, text, max_tokens=16, logprobs=2)
            it.run()
    for key in range(len(texts)):
        agree(kept.events(key + 1), fresh.events(key + 1))
    assert fresh.done(4).usage.cached_tokens == 0 < kept.done(4).usage.cached_tokens


def test_a_conversation_stands_on_its_own_answers(drive: Drive, random_model: Path) -> None:
    it = drive(random_model)
    it.submit(1, "hello", max_tokens=12)
    it.run()
    first = it.done(1)
    turns = [Message("user", "hello"), Message("assistant", first.text), Message("user", "more")]
    retold = it.engine._prompt(Generate(messages=turns))
    it.submit(2, "", turns=turns, max_tokens=4)
    it.run()
    usage = it.done(2).usage
    assert usage.prompt_tokens == len(retold)
    assert usage.cached_tokens >= first.usage.prompt_tokens


def test_whoever_comes_while_the_first_still_answers_shares_its_prompt(
    drive: Drive, random_model: Path
) -> None:
    it = drive(random_model)
    it.submit(1, LONG, max_tokens=30)
    it.step()
    it.submit(2, LONG, max_tokens=4)
    it.run()
    usage = it.done(2).usage
    assert usage.cached_tokens == usage.prompt_tokens - 1


def test_a_cancelled_prompt_is_not_lost(drive: Drive, random_model: Path) -> None:
    it = drive(random_model, prefill_chunk=8, batch_tokens=32)
    it.submit(1, LONG, max_tokens=4)
    it.step()
    it.cancel(1)
    it.submit(2, LONG, max_tokens=4)
    it.run()
    assert it.done(2).usage.cached_tokens == 32


def test_kept_prefixes_give_way_to_requests_and_nobody_waits_for_ever(
    drive: Drive, random_model: Path
) -> None:
    it = drive(random_model, slots=2, context_tokens=256, prefix_tokens=256)
    for key in range(1, 13):
        it.submit(key, f"{key} " * 60, max_tokens=80, isolation=f"caller {key % 3}")
    it.run()
    assert all(it.done(key).usage.completion_tokens for key in range(1, 13))
    assert it.engine._cache.tokens <= 256
    assert it.engine._cache.evicted > 0


def test_a_long_kept_branch_goes_for_a_request_that_needs_the_whole_context(
    drive: Drive, random_model: Path
) -> None:
    it = drive(random_model, slots=1, context_tokens=256, prefix_tokens=256)
    it.submit(1, "a" * 150 + "b" * 60, max_tokens=8)
    it.run()
    it.submit(2, "a" * 150 + "c" * 10, max_tokens=90)
    it.run()
    assert it.done(2).finish in ("stop", "length")


def test_secrets_of_others_never_reach_an_answer(drive: Drive, random_model: Path) -> None:
    """Canaries in every other conversation: whoever asks after them gets what a machine gives
    that has never seen them, token for token and cell for cell."""
    clean = drive(random_model, slots=2, context_tokens=512)
    clean.submit(1, "What is the secret?", max_tokens=12, isolation="asker")
    clean.run()
    honest = clean.done(1)
    it = drive(random_model, slots=2, context_tokens=512, prefix_tokens=400)
    for round_ in range(8):
        for key in range(3):
            secret = f"What is the secret? It is canary-{round_}-{key}."
            it.submit(100 + 10 * round_ + key, secret, max_tokens=8, isolation=f"{round_} {key}")
        it.submit(round_ + 1, "What is the secret?", max_tokens=12, isolation=f"asker {round_}")
        it.run()
        done = it.done(round_ + 1)
        assert done.usage.cached_tokens == 0
        assert done.text == honest.text


def test_a_model_that_cannot_share_cells_keeps_nothing(
    drive: Drive, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama.Model, "keeps_every_token", False)
    assert spare(drive, random_model, LONG, LONG)[1] == 0


def test_whatever_comes_and_goes_no_cell_is_lost(
    drive: Drive, random_model: Path, agree: Callable[[object, object], None]
) -> None:
    rng = random.Random(3)
    it = drive(random_model, slots=3, context_tokens=320, prefix_tokens=200, batch_tokens=32)
    starts = [LONG[:60], LONG[:90], "abc " * 10]
    asked: dict[int, str] = {}
    for key in range(1, 41):
        asked[key] = rng.choice(starts) + rng.choice("xyz") * rng.randint(0, 40)
        it.submit(
            key, asked[key], max_tokens=rng.randint(1, 20), isolation=rng.choice("ab"), logprobs=2
        )
        for _ in range(rng.randint(0, 12)):
            it.step()
        if rng.random() < 0.3:
            it.cancel(rng.randint(1, key))
    it.run()
    whole = [k for k in asked if it.events(k) and isinstance(it.events(k)[-1], Done)]
    assert len(whole) > 20  # the others were cancelled
    for key in whole[::4]:
        fresh = drive(random_model, prefix_tokens=0)
        fresh.submit(1, asked[key], max_tokens=20, logprobs=2)
        fresh.run()
        agree(it.events(key), fresh.events(1))
    assert it.engine._batcher.used == 0
    it.engine._cache.free(10**6)
    assert it.engine._cache.tokens == 0
    memory = it.engine._context._memory
    ends = [llama.lib.llama_memory_seq_pos_max(memory, seq) for seq in range(3 + MAX_SEATS)]
    assert set(ends) == {-1}
