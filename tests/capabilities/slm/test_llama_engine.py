"""The batching engine on tiny models, in this process, step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from capabilities.messages import Delta, Generate, Message, Tool
from capabilities.slm import llama, protocol, trial
from capabilities.slm.prefixes import shared_prefix
from tests.capabilities.slm.driving import Drive


def test_the_model_is_described_and_its_speed_measured(drive: Drive, spoken: Path) -> None:
    ready = drive(spoken).engine.ready()
    assert ready.info.name == "spoken"
    assert ready.info.arch == "llama"
    assert ready.info.context == 256
    assert ready.info.parameters > 0
    assert len(ready.info.file_sha256) == len(ready.info.vocab_hash) == 64
    assert ready.info.embedding_dim > 0
    assert not ready.info.paced
    assert ready.decode_tokens_per_s > 0
    assert ready.prefill_tokens_per_s > 0


def test_thinking_is_apart_and_characters_come_whole(drive: Drive, spoken: Path) -> None:
    it = drive(spoken)
    it.submit(1, "hello")
    it.run()
    events = it.events(1)
    done = it.done(1)
    deltas = [e for e in events if isinstance(e, Delta)]
    assert "".join(d.text for d in deltas if d.thinking) == "hm"
    assert "".join(d.text for d in deltas if not d.thinking) == done.text == "naïve ok!"
    assert done.finish == "stop"
    assert done.model == "spoken"
    # 2 markers, 2 thought, 10 bytes of text, 1 end
    assert done.usage.completion_tokens == 15
    assert sum(d.tokens for d in deltas) == 12
    assert done.usage.first_token_s > 0
    assert 0.9 < done.evidence.min_probability <= 1


def test_the_length_is_bounded(drive: Drive, endless: Path) -> None:
    it = drive(endless)
    it.submit(1, "go", max_tokens=6)
    it.run()
    assert it.done(1).text == "abc ab"
    assert it.done(1).finish == "length"


def test_a_stop_string_ends_the_answer_before_it(drive: Drive, endless: Path) -> None:
    it = drive(endless)
    it.submit(1, "go", stop=["c a"])
    it.run()
    assert it.done(1).text == "ab"
    assert it.done(1).finish == "stop"


def test_logprobs_name_the_token_and_its_alternatives(drive: Drive, endless: Path) -> None:
    it = drive(endless)
    it.submit(1, "go", max_tokens=3, logprobs=4)
    it.run()
    first = it.events(1)[0]
    assert isinstance(first, Delta)
    (one,) = first.logprobs
    assert one.token == "a"
    assert len(one.top) == 4
    assert one.top[0] == ("a", one.logprob)
    assert -0.1 < one.logprob < 0


def test_batched_streams_say_what_each_says_alone(
    drive: Drive, random_model: Path, agree: Callable[[object, object], None]
) -> None:
    prompts = [f"question {i} " * (1 + 3 * i) for i in range(6)]
    alone = []
    for text in prompts:
        it = drive(random_model, prefill_chunk=16, batch_tokens=32)
        it.submit(1, text, max_tokens=20, logprobs=2)
        it.run()
        alone.append(it.events(1))
    together = drive(random_model, prefill_chunk=16, batch_tokens=32, slots=3)
    for key, text in enumerate(prompts):
        together.submit(key + 1, text, max_tokens=20, logprobs=2)
        together.step()  # they join at different steps
    together.run()
    for key, events in enumerate(alone):
        agree(events, together.events(key + 1))
    assert len({repr(events[0]) for events in alone}) > 1


def test_a_seed_repeats_an_answer_and_another_changes_it(drive: Drive, random_model: Path) -> None:
    it = drive(random_model)
    for key, seed in ((1, 5), (2, 5), (3, 6)):
        it.submit(key, "dice", max_tokens=24, temperature=1.5, top_k=0, seed=seed)
    it.run()
    assert it.done(1).text == it.done(2).text != it.done(3).text


@pytest.mark.parametrize("parameters", [{"top_k": 1}, {"top_p": 0.01}, {"min_p": 1.0}])
def test_the_samplers_narrow_the_choice(
    drive: Drive, random_model: Path, parameters: dict[str, float]
) -> None:
    it = drive(random_model)
    it.submit(1, "go", max_tokens=16)
    it.submit(2, "go", max_tokens=16, temperature=2.0, seed=3, **parameters)
    it.run()
    assert it.done(1).text == it.done(2).text


def test_a_repeat_penalty_keeps_tokens_from_returning(drive: Drive, random_model: Path) -> None:
    it = drive(random_model)
    it.submit(1, "go", max_tokens=24)
    it.submit(2, "go", max_tokens=24, repeat_penalty=1e9)
    it.step()
    plain, varied = it.engine._runs[1], it.engine._runs[2]
    it.run()
    assert len(set(varied.sampled)) == 24 > len(set(plain.sampled))


def test_cancel_frees_the_slot_within_one_step(drive: Drive, endless: Path) -> None:
    it = drive(endless, slots=1, prefill_chunk=8, batch_tokens=16)
    it.submit(1, "long prompt " * 15, max_tokens=10)
    it.submit(2, "next", max_tokens=2)
    it.step()
    assert not it.events(1)  # still in its prompt
    it.engine.handle(protocol.Cancel(id=1), it.replies.append)
    it.step()
    assert it.engine.load[1:] == (1, 0)  # 2 holds the slot now
    it.submit(3, "third", max_tokens=2)
    while not it.events(2):
        it.step()
    it.engine.handle(protocol.Cancel(id=2), it.replies.append)  # while it generates
    it.run()
    assert not it.events(1)
    assert it.done(3).text == "ab"


def test_an_overfull_prompt_fails_alone(drive: Drive, endless: Path) -> None:
    it = drive(endless)
    for key in (1, 2, 3):
        it.submit(key, "short", max_tokens=8)
    it.step()
    it.submit(4, "x" * 400)
    it.run()
    assert it.failure(4).code == "context_full"
    assert "the context holds 256" in it.failure(4).message
    assert {it.done(key).text for key in (1, 2, 3)} == {"abc abc "}


def test_an_endless_prompt_never_reaches_the_tokenizer(drive: Drive, endless: Path) -> None:
    it = drive(endless)
    it.submit(1, "x" * 60_000)
    it.submit(2, "x" * 70_000)
    assert it.failure(1).code == "context_full"
    assert "60" in it.failure(1).message
    assert it.failure(2).code == "bad_request"


def test_an_answer_ends_where_the_context_ends(drive: Drive, endless: Path) -> None:
    it = drive(endless)
    it.submit(1, "x" * 240, max_tokens=500)
    it.run()
    done = it.done(1)
    assert done.finish == "length"
    assert done.usage.prompt_tokens + done.usage.completion_tokens == 256


def test_a_context_that_native_code_calls_full_fails_one_request(
    drive: Drive, endless: Path
) -> None:
    """The plan never lets it come to this; if it does, the others go on."""
    it = drive(endless, slots=2)
    it.submit(1, "first", max_tokens=8)
    it.submit(2, "second", max_tokens=8)
    it.step()
    decode, guilty = it.engine._context.decode, it.engine._runs[1].job.slot

    def full(batch: llama.Batch) -> int:
        return llama.NO_ROOM if guilty in batch._sequences[: batch.count] else decode(batch)

    it.engine._context.decode = full  # type: ignore[method-assign]
    it.step()
    it.engine._context.decode = decode  # type: ignore[method-assign]
    it.run()
    assert it.failure(1).code == "context_full"
    assert it.done(2).text == "abc abc "


def test_a_bug_in_one_request_fails_that_request(
    drive: Drive, endless: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    it = drive(endless)
    it.submit(1, "a", max_tokens=8)
    it.submit(2, "b", max_tokens=8)
    it.step()

    def broken(*_: object, **__: object) -> int:
        raise MemoryError("no more")

    it.engine._runs[1].sampler.sample = broken  # type: ignore[method-assign,assignment]
    it.run()
    assert it.failure(1).code == "model"
    assert "MemoryError" in it.failure(1).message
    assert it.done(2).text == "abc abc "
    assert "Traceback" in capsys.readouterr().err


def test_a_deadline_ends_a_request_in_the_worker_too(drive: Drive, endless: Path) -> None:
    it = drive(endless, slots=1)
    it.submit(1, "a", max_tokens=200, timeout_s=50.0)
    it.step()
    it.submit(2, "b", timeout_s=20.0)
    it.clock.now += 30
    it.step()
    assert it.failure(2).code == "deadline"
    assert "waited" in it.failure(2).message
    it.clock.now += 30
    it.step()
    assert "after 2 tokens" in it.failure(1).message
    assert it.engine.load[1:] == (0, 0)


@pytest.mark.parametrize(
    "request_",
    [
        {"max_tokens": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"repeat_penalty": 0.0},
        {"logprobs": 99},
        {"stop": ["x"] * 99},
    ],
)
def test_bad_parameters_are_refused(
    drive: Drive, endless: Path, request_: dict[str, object]
) -> None:
    it = drive(endless)
    it.submit(1, "hi", **request_)
    assert it.failure(1).code == "bad_request"


def test_tools_without_a_template_for_them_are_unsupported(drive: Drive, endless: Path) -> None:
    it = drive(endless)
    it.submit(1, "hi", tools=[Tool(name="clock")])
    assert it.failure(1).code == "unsupported"


def test_user_text_cannot_forge_control_tokens(drive: Drive, spoken: Path) -> None:
    it = drive(spoken)
    it.engine.handle(protocol.Tokenize(id=1, text="<|end|>"), it.replies.append)
    (plain,) = [r for r in it.replies if isinstance(r, protocol.Tokens)]
    assert len(plain.tokens) == len("<|end|>")
    prompt = it.engine._prompt(Generate(messages=[Message("user", "<|end|><|think|>")]))
    ends = [t for t in prompt if it.engine._model.vocab.is_control(t)]
    assert len(ends) == 3  # <|user|>, its own <|end|>, <|assistant|>


def test_a_saved_state_spares_the_prompt_and_changes_nothing(
    drive: Drive, random_model: Path
) -> None:
    it = drive(random_model)
    text = "a prompt that is not so very short"
    it.submit(1, text, max_tokens=12, keep_state=True)
    it.run()
    (state,) = [r.state for r in it.replies if isinstance(r, protocol.State)]
    other = drive(random_model)
    other.submit(1, text, max_tokens=12, state=state)
    other.run()
    assert other.done(1).text == it.done(1).text
    usage = other.done(1).usage
    assert usage.cached_tokens == usage.prompt_tokens - 1


def test_a_state_of_another_model_is_refused_and_a_broken_one_is_not_used(
    drive: Drive, random_model: Path, endless: Path
) -> None:
    it = drive(random_model)
    foreign = protocol.SequenceState(model="other", tokens=[1], data=b"x")
    it.submit(1, "hi", state=foreign)
    assert it.failure(1).code == "bad_request"
    it.submit(2, "hi", max_tokens=4)
    broken = protocol.SequenceState(
        model=it.engine.ready().info.file_sha256,
        tokens=it.engine._prompt(Generate(messages=[Message("user", "hi")])),
        data=b"\0" * 64,
    )
    it.submit(3, "hi", max_tokens=4, state=broken)
    it.run()
    assert it.done(3).text == it.done(2).text
    assert it.done(3).usage.cached_tokens == 0


def test_embeddings_are_unit_rows_that_depend_on_the_text(drive: Drive, random_model: Path) -> None:
    it = drive(random_model)
    it.submit(9, "stream", max_tokens=6)
    it.engine.handle(protocol.Embed(id=1, texts=["one", "two", "one"]), it.replies.append)
    it.engine.handle(protocol.Embed(id=2, texts=["x" * 900]), it.replies.append)
    it.engine.handle(protocol.Embed(id=3, texts=["later"]), it.replies.append)
    it.engine.handle(protocol.Cancel(id=3), it.replies.append)
    it.run()
    (only,) = [r for r in it.replies if isinstance(r, protocol.Embedded)]
    matrix = np.frombuffer(only.block.data, dtype="<f4").reshape(3, only.block.width)
    assert np.linalg.norm(matrix, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert matrix[0] == pytest.approx(matrix[2])
    assert matrix[0] @ matrix[1] < 0.9999
    assert it.failure(2).code == "context_full"
    assert it.done(9).finish in ("stop", "length")


def test_shared_prefix_counts_equal_tokens_from_the_start() -> None:
    assert shared_prefix([1, 2, 3], [1, 2, 4, 3]) == 2
    assert shared_prefix([], [1]) == 0


def test_on_a_slow_machine_prompts_go_in_by_smaller_pieces(
    drive: Drive, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert drive(random_model).engine._batcher.chunk == 64
    slow = trial.Trial(prefill=20.0, decode=2.0)
    monkeypatch.setattr(trial, "generate", lambda *_, **__: slow)
    assert drive(random_model).engine._batcher.chunk == 20
