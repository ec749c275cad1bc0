"""Forward passes over named sequences: the same numbers as generation gives, and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from capabilities.messages import Delta
from capabilities.slm import llama, protocol
from capabilities.slm.embedded import embedded_path
from tests.capabilities.slm.driving import Drive, Driven

Floats = npt.NDArray[np.float32]
PROMPT = list(b"what is 12 + 30?")


def forward(it: Driven, key: int, **what: object) -> None:
    command = protocol.Forward(id=key, **what)  # type: ignore[arg-type]
    it.engine.handle(command, it.replies.append)


def answer(it: Driven, key: int) -> protocol.Forwarded:
    it.run()
    (only,) = [r for r in it.replies if getattr(r, "id", 0) == key]
    assert isinstance(only, protocol.Forwarded), only
    return only


def ask(it: Driven, key: int, sequence: str = "s", **what: object) -> protocol.Forwarded:
    forward(it, key, sequence=sequence, **what)
    return answer(it, key)


def handle(it: Driven, command: protocol.AnyCommand) -> protocol.Reply:
    it.engine.handle(command, it.replies.append)
    return it.replies[-1]


def rows_of(block: protocol.Block | None) -> Floats:
    assert block is not None
    kind = "<f2" if block.dtype == "f16" else "<f4"
    found: Floats = np.frombuffer(block.data, dtype=kind).astype(np.float32)
    return found.reshape(block.rows, block.width)


def block_of(rows: Floats) -> protocol.Block:
    count, width = rows.shape
    return protocol.Block(rows=count, width=width, data=rows.astype("<f4").tobytes())


@pytest.mark.parametrize("model", ["arithmetic", "general"])
def test_a_forward_pass_gives_the_log_probabilities_that_generation_gives(
    drive: Drive, model: str
) -> None:
    it = drive(embedded_path(model), prefix_tokens=0)
    it.submit(1, "What is 12 + 30?", max_tokens=8, logprobs=3)
    it.step()
    run = it.engine._runs[1]
    it.run()
    said = [one for e in it.events(1) if isinstance(e, Delta) for one in e.logprobs]
    rows = [ask(it, 2, position=0, tokens=run.prompt, logprobs=3).logprobs[-1]]
    for key, token in enumerate(run.sampled[:-1], 3):
        at = len(run.prompt) + key - 3
        rows.append(ask(it, key, position=at, tokens=[token], logprobs=3).logprobs[0])
    assert [row[0][0] for row in rows] == run.sampled
    silent = it.engine._markers.all  # what opens a thought has no text, and no place in said
    shown = [row for row, token in zip(rows, run.sampled, strict=True) if token not in silent]
    for one, row in zip(said, shown, strict=False):
        assert [lp for _, lp in row] == pytest.approx([lp for _, lp in one.top], abs=1e-6)
    assert len(said) >= 4


def test_pieces_give_what_the_whole_gives(drive: Drive, random_model: Path) -> None:
    it = drive(random_model)
    whole = ask(it, 1, "whole", position=0, tokens=PROMPT, logprobs=5, all_rows=True)
    assert whole.positions == len(PROMPT) == len(whole.logprobs)
    for at in range(0, len(PROMPT), 4):
        part = ask(
            it,
            2 + at,
            "parts",
            position=at,
            tokens=PROMPT[at : at + 4],
            logprobs=5,
            all_rows=True,
        )
        for mine, theirs in zip(part.logprobs, whole.logprobs[at : at + 4], strict=True):
            assert mine[0][0] == theirs[0][0]
            assert mine[0][1] == pytest.approx(theirs[0][1], abs=1e-3)


def test_going_back_drops_what_followed(drive: Drive, random_model: Path) -> None:
    it = drive(random_model)
    first = ask(it, 1, position=0, tokens=PROMPT, logprobs=4)
    ask(it, 2, position=len(PROMPT), tokens=[1, 2, 3])
    again = ask(it, 3, position=len(PROMPT) - 1, tokens=PROMPT[-1:], logprobs=4)
    assert again.positions == len(PROMPT)
    assert [t for t, _ in again.logprobs[0]] == [t for t, _ in first.logprobs[0]]


def test_passes_and_streams_share_a_step_and_change_nothing(
    drive: Drive, random_model: Path
) -> None:
    alone = drive(random_model, sequences=8)
    single = [
        ask(alone, n + 1, f"s{n}", position=0, tokens=[n + 40, *PROMPT], logprobs=2)
        for n in range(6)
    ]
    together = drive(random_model, sequences=8)
    together.submit(100, "go", max_tokens=12)
    together.step()
    for n in range(6):
        forward(together, n + 1, sequence=f"s{n}", position=0, tokens=[n + 40, *PROMPT], logprobs=2)
    steps = together.engine.load[0]
    while any(n + 1 in together.engine._forwards for n in range(6)):
        together.step()
    assert together.engine.load[0] - steps <= 3  # six prompts of 17 tokens, chunks of 64
    together.run()
    assert together.done(100).usage.completion_tokens == 12
    for n, one in enumerate(single):
        other = answer(together, n + 1)
        assert other.logprobs[0][0][0] == one.logprobs[0][0][0]
        assert other.logprobs[0][0][1] == pytest.approx(one.logprobs[0][0][1], abs=1e-3)


def test_the_rows_of_a_layer_come_out_and_the_stream_beside_is_not_disturbed(
    drive: Drive, random_model: Path
) -> None:
    plain = drive(random_model)
    plain.submit(1, "go", max_tokens=10)
    plain.run()
    it = drive(random_model, capture=True)
    it.submit(1, "go", max_tokens=10)
    it.step()
    inner = ask(it, 2, position=0, tokens=PROMPT, want_rows=True, layer=0, all_rows=True)
    last = ask(it, 3, "t", position=0, tokens=PROMPT, want_rows=True, layer=1, all_rows=True)
    final = ask(it, 4, "u", position=0, tokens=PROMPT, want_rows=True)
    it.run()
    assert it.done(1).text == plain.done(1).text
    assert rows_of(inner.rows).shape == rows_of(last.rows).shape == (len(PROMPT), 64)
    # The final norm of this model has weights of one: it only scales a row to unit mean square.
    row = rows_of(last.rows)[-1]
    scaled = row / np.sqrt((row**2).mean() + 1e-5)
    assert rows_of(final.rows)[0] == pytest.approx(scaled, abs=1e-4)
    assert not np.allclose(rows_of(inner.rows)[-1], row)


def test_rows_that_leave_the_embedding_do_what_tokens_do(drive: Drive, spoken: Path) -> None:
    # The blocks of this model are zero, so what leaves its layer is what entered it.
    it = drive(spoken, capture=True, sequences=5)
    rows = ask(it, 1, position=0, tokens=PROMPT, want_rows=True, layer=0, all_rows=True)
    by_tokens = ask(it, 2, "t", position=0, tokens=PROMPT, logprobs=6, all_rows=True)
    by_rows = ask(it, 3, "r", position=0, rows=rows.rows, logprobs=6, all_rows=True)
    assert by_rows.logprobs == by_tokens.logprobs
    forward(it, 4, sequence="x", position=0, rows=rows.rows, logprobs=6)
    forward(it, 5, sequence="y", position=0, tokens=PROMPT, logprobs=6)
    assert answer(it, 4).logprobs[0] == answer(it, 5).logprobs[0] == by_tokens.logprobs[-1]


def test_only_rows_are_wanted_so_the_output_matrix_is_spared_and_later_steps_are_right(
    drive: Drive, random_model: Path
) -> None:
    it = drive(random_model, capture=True)
    ask(it, 1, position=0, tokens=PROMPT, want_rows=True, layer=1)
    mixed = ask(it, 2, position=len(PROMPT), tokens=[65], logprobs=4, want_rows=True, layer=1)
    whole = ask(it, 3, "t", position=0, tokens=[*PROMPT, 65], logprobs=4, want_rows=True, layer=1)
    assert mixed.logprobs[0][0][0] == whole.logprobs[0][0][0]
    assert rows_of(mixed.rows)[0] == pytest.approx(rows_of(whole.rows)[0], abs=1e-2)


def test_rows_in_half_precision_unless_they_would_overflow(drive: Drive, spoken: Path) -> None:
    it = drive(spoken, capture=True)
    small = ask(it, 1, position=0, tokens=[65], want_rows=True, layer=0, dtype="f16")
    assert small.rows is not None
    assert small.rows.dtype == "f16"
    large = np.full((1, small.rows.width), 1e6, dtype=np.float32)
    out = ask(it, 2, position=1, rows=block_of(large), want_rows=True, layer=0, dtype="f16")
    assert out.rows is not None
    assert out.rows.dtype == "f32"
    assert (rows_of(out.rows) == 1e6).all()


def test_a_saved_sequence_goes_on_exactly_where_it_was(drive: Drive, random_model: Path) -> None:
    it = drive(random_model)
    ask(it, 1, position=0, tokens=PROMPT)
    saved = handle(it, protocol.SaveSequence(id=2, sequence="s"))
    assert isinstance(saved, protocol.State)
    assert saved.state.tokens == PROMPT
    expected = ask(it, 3, position=len(PROMPT), tokens=[65, 66], logprobs=8, all_rows=True)
    assert handle(it, protocol.DropSequence(id=4, sequence="s")) == protocol.Held(id=4)
    other = drive(random_model)
    restore = protocol.RestoreSequence(id=5, sequence="elsewhere", state=saved.state)
    assert handle(other, restore) == protocol.Held(id=5, positions=len(PROMPT))
    found = ask(
        other, 6, "elsewhere", position=len(PROMPT), tokens=[65, 66], logprobs=8, all_rows=True
    )
    assert found.logprobs == expected.logprobs


def test_a_sequence_of_rows_is_saved_too(drive: Drive, spoken: Path) -> None:
    it = drive(spoken, capture=True)
    rows = ask(it, 1, position=0, tokens=PROMPT, want_rows=True, layer=0, all_rows=True).rows
    ask(it, 2, "r", position=0, rows=rows)
    saved = handle(it, protocol.SaveSequence(id=3, sequence="r"))
    assert isinstance(saved, protocol.State)
    assert (saved.state.tokens, saved.state.positions) == ([], len(PROMPT))
    handle(it, protocol.RestoreSequence(id=4, sequence="r", state=saved.state))
    assert ask(it, 5, "r", position=len(PROMPT), tokens=[65], logprobs=1).positions == 17


def test_an_answers_state_opens_a_sequence(drive: Drive, random_model: Path) -> None:
    it = drive(random_model)
    it.submit(1, "go", max_tokens=4, keep_state=True)
    it.run()
    (state,) = [r.state for r in it.replies if isinstance(r, protocol.State)]
    held = handle(it, protocol.RestoreSequence(id=2, sequence="s", state=state))
    assert held == protocol.Held(id=2, positions=len(state.tokens))
    assert ask(it, 3, position=len(state.tokens), tokens=[65], logprobs=1).logprobs


def test_a_fork_shares_the_beginning_and_goes_its_own_way(drive: Drive, random_model: Path) -> None:
    it = drive(random_model)
    ask(it, 1, "trunk", position=0, tokens=PROMPT)
    for key, token in ((2, 65), (3, 66)):
        ask(it, key, f"b{token}", fork="trunk", position=len(PROMPT), tokens=[token], logprobs=4)
    handle(it, protocol.DropSequence(id=4, sequence="trunk"))
    for key, token in ((5, 65), (6, 66)):
        leaf = ask(it, key, f"b{token}", position=len(PROMPT) + 1, tokens=[67], logprobs=4)
        whole = ask(it, key + 10, f"w{token}", position=0, tokens=[*PROMPT, token, 67], logprobs=4)
        handle(it, protocol.DropSequence(id=key + 20, sequence=f"w{token}"))
        assert leaf.logprobs[0][0][0] == whole.logprobs[0][0][0]
        assert leaf.logprobs[0][0][1] == pytest.approx(whole.logprobs[0][0][1], abs=1e-3)


def test_commands_of_a_sequence_are_done_in_their_order(drive: Drive, random_model: Path) -> None:
    it = drive(random_model)
    forward(it, 1, sequence="s", position=0, tokens=PROMPT[:8])
    forward(it, 2, sequence="s", position=8, tokens=PROMPT[8:], logprobs=2)
    it.engine.handle(protocol.SaveSequence(id=3, sequence="s"), it.replies.append)
    it.engine.handle(protocol.DropSequence(id=4, sequence="s"), it.replies.append)
    forward(it, 5, sequence="s", position=8, tokens=[65])
    assert not it.replies
    it.run()
    assert [getattr(r, "id", 0) for r in it.replies] == [1, 2, 3, 4, 5]
    assert it.failure(5).code == "sequence_lost"


BAD: list[tuple[dict[str, object], str, str]] = [
    ({"position": 0}, "bad_request", "either tokens or hidden rows"),
    ({"position": -1, "tokens": [1]}, "bad_request", "0 or more"),
    ({"position": 3, "tokens": [1]}, "sequence_lost", "not open"),
    ({"position": 0, "tokens": [10**6]}, "bad_request", "vocabulary"),
    ({"position": 0, "tokens": [-1]}, "bad_request", "vocabulary"),
    ({"position": 0, "tokens": [1] * 300}, "context_full", "300 positions"),
    ({"position": 0, "tokens": [1], "logprobs": 1_000}, "bad_request", "logprobs"),
    ({"position": 0, "tokens": [1], "layer": 2}, "bad_request", "layer 2 of a model of 2"),
    ({"position": 0, "tokens": [1], "dtype": "i8"}, "bad_request", "f32 or f16"),
    ({"position": 0, "tokens": [1], "want_rows": True}, "unsupported", "without capture"),
    ({"position": 0, "tokens": [1], "fork": "none"}, "sequence_lost", "'none' is not open"),
    ({"position": 0, "tokens": [1], "sequence": ""}, "bad_request", "name"),
    ({"position": 0, "rows": block_of(np.zeros((1, 3), np.float32))}, "bad_request", "takes 64"),
    (
        {"position": 0, "rows": block_of(np.full((1, 64), np.nan, np.float32))},
        "bad_request",
        "no numbers",
    ),
]


@pytest.mark.parametrize(("what", "code", "words"), BAD)
def test_a_wrong_pass_is_refused_and_leaves_nothing_behind(
    drive: Drive, random_model: Path, what: dict[str, object], code: str, words: str
) -> None:
    it = drive(random_model, sequences=1)
    forward(it, 1, **{"sequence": "s", **what})
    it.run()
    assert it.failure(1).code == code
    assert words in it.failure(1).message
    assert it.engine._forwards.cells == it.engine.load[2] == 0
    assert ask(it, 2, "free", position=0, tokens=PROMPT).positions == len(PROMPT)


def test_a_gap_is_refused_and_the_sequence_stays(drive: Drive, random_model: Path) -> None:
    it = drive(random_model)
    ask(it, 1, position=0, tokens=PROMPT)
    forward(it, 2, sequence="s", position=len(PROMPT) + 1, tokens=[1])
    assert "has 16" in it.failure(2).message
    assert ask(it, 3, position=len(PROMPT), tokens=[1]).positions == 17


def test_open_sequences_are_bounded_and_an_idle_one_gives_way(
    drive: Drive, random_model: Path
) -> None:
    it = drive(random_model, sequences=2, sequence_idle_s=30)
    ask(it, 1, "a", position=0, tokens=PROMPT)
    ask(it, 2, "b", position=0, tokens=PROMPT)
    forward(it, 3, sequence="c", position=0, tokens=PROMPT)
    assert it.failure(3).code == "rejected"
    it.clock.now += 60
    ask(it, 4, "b", position=len(PROMPT), tokens=[65])
    ask(it, 5, "c", position=0, tokens=PROMPT)
    forward(it, 6, sequence="a", position=len(PROMPT), tokens=[65])
    assert it.failure(6).code == "sequence_lost"


def test_an_idle_sequence_gives_way_to_a_request_and_one_in_use_does_not(
    drive: Drive, random_model: Path
) -> None:
    it = drive(random_model, slots=1, sequences=1, context_tokens=256, sequence_idle_s=30)
    ask(it, 1, position=0, tokens=PROMPT * 10)
    it.submit(2, "go", max_tokens=200)
    it.step()
    assert it.engine.load[1:] == (0, 1)
    it.clock.now += 60
    it.run()
    assert it.done(2).usage.completion_tokens == 200
    forward(it, 3, sequence="s", position=160, tokens=[65])
    assert it.failure(3).code == "sequence_lost"


def test_a_pass_without_room_is_rejected_and_may_come_again(
    drive: Drive, random_model: Path
) -> None:
    it = drive(random_model, slots=1, context_tokens=256)
    it.submit(1, "go", max_tokens=200)
    it.step()
    forward(it, 2, sequence="s", position=0, tokens=PROMPT * 8)
    assert it.failure(2).code == "rejected"
    it.run()
    assert ask(it, 3, position=0, tokens=PROMPT * 8).positions == 128


def test_a_cancelled_pass_takes_back_what_it_computed(drive: Drive, random_model: Path) -> None:
    it = drive(random_model, batch_tokens=16)
    ask(it, 1, position=0, tokens=PROMPT)
    forward(it, 2, sequence="s", position=16, tokens=PROMPT * 4)
    forward(it, 3, sequence="s", position=80, tokens=[65])
    it.step()
    it.cancel(2)
    it.run()
    assert it.failure(3).code == "bad_request"  # it would leave a gap now
    assert it.engine._forwards.cells == 16
    assert ask(it, 4, position=16, tokens=[65], logprobs=1).positions == 17


def test_a_pass_beyond_its_deadline_fails_alone(drive: Drive, random_model: Path) -> None:
    it = drive(random_model, batch_tokens=16)
    forward(it, 1, sequence="s", position=0, tokens=PROMPT * 8, timeout_s=5)
    forward(it, 2, sequence="s", position=128, tokens=[65], timeout_s=5)
    forward(it, 3, sequence="t", position=0, tokens=PROMPT * 2)
    it.step()
    it.clock.now += 10
    it.run()
    assert it.failure(1).code == it.failure(2).code == "deadline"
    assert answer(it, 3).positions == 32


def test_a_state_from_elsewhere_or_damaged_is_refused(drive: Drive, random_model: Path) -> None:
    it = drive(random_model)
    ask(it, 1, position=0, tokens=PROMPT)
    saved = handle(it, protocol.SaveSequence(id=2, sequence="s"))
    assert isinstance(saved, protocol.State)
    good = saved.state
    sha = good.model
    wrong = [
        protocol.SequenceState(model="other", tokens=[1], data=good.data),
        protocol.SequenceState(model=sha, tokens=[1], data=good.data),
        protocol.SequenceState(model=sha, tokens=good.tokens, data=good.data[:50]),
        protocol.SequenceState(model=sha, tokens=[1], positions=2, data=good.data),
    ]
    for key, state in enumerate(wrong, 10):
        handle(it, protocol.RestoreSequence(id=key, sequence="new", state=state))
        assert it.failure(key).code == "bad_request"
    handle(it, protocol.SaveSequence(id=20, sequence="new"))
    assert it.failure(20).code == "sequence_lost"
    assert ask(it, 21, position=16, tokens=[65]).positions == 17


def test_a_worker_without_sequences_says_so(drive: Drive, random_model: Path) -> None:
    it = drive(random_model, sequences=0)
    assert "forward" not in it.engine.ready().features
    forward(it, 1, sequence="s", position=0, tokens=PROMPT)
    assert it.failure(1).code == "unsupported"


def test_no_seat_is_shared_between_prefixes_and_sequences(drive: Drive, random_model: Path) -> None:
    it = drive(random_model, slots=2, sequences=3)
    seats: Callable[[], list[int]] = lambda: list(it.engine._cache._tree.seats)  # noqa: E731
    table = it.engine._forwards._table
    assert not set(seats()) & set(table.seats)
    assert not {0, 1} & (set(seats()) | set(table.seats))
    assert isinstance(it.engine._context, llama.Context)
