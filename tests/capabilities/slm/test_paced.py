"""The engine that stands for a board: its pace and its echo."""

from __future__ import annotations

from capabilities.messages import Delta, Done, Generate, Message
from capabilities.slm import protocol
from capabilities.slm.paced import PacedEngine


class Board:
    """A paced engine under a clock that its own sleep moves."""

    def __init__(self, slots: int = 4, **pace: float) -> None:
        self.now = 0.0
        self.replies: list[protocol.Reply] = []
        paced = protocol.Paced(**pace)  # type: ignore[arg-type]
        self.engine = PacedEngine(
            paced, protocol.Settings(slots=slots), clock=lambda: self.now, sleep=self.sleep
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def submit(self, key: int, text: str, **request: object) -> None:
        generate = Generate(messages=[Message("user", text)], **request)  # type: ignore[arg-type]
        self.engine.handle(protocol.Submit(id=key, request=generate), self.replies.append)

    def run(self) -> None:
        while self.engine.step(self.replies.append):
            pass

    def done(self, key: int) -> Done:
        outputs = [r for r in self.replies if isinstance(r, protocol.Output) and r.id == key]
        last = outputs[-1].events[-1]
        assert isinstance(last, Done)
        text = "".join(e.text for o in outputs for e in o.events if isinstance(e, Delta))
        assert text == last.text
        return last


def test_it_says_that_it_is_paced() -> None:
    ready = Board(token_s=0.02).engine.ready()
    assert ready.info.paced
    assert ready.info.arch == "paced"
    assert ready.decode_tokens_per_s == 50


def test_it_echoes_the_question_at_the_stated_pace() -> None:
    board = Board(token_s=0.1, prompt_token_s=0.01)
    board.submit(1, "one two three")
    board.run()
    done = board.done(1)
    assert done.text == "one two three"
    assert done.finish == "stop"
    # the end of the prompt gives the first word, two steps the others
    assert round(board.now, 6) == round(3 * 0.01 + 2 * 0.1, 6)
    assert done.usage.completion_tokens == 3


def test_more_streams_cost_what_was_stated() -> None:
    board = Board(token_s=0.1, prompt_token_s=0.0, stream_cost=0.5, answer_tokens=11)
    for key in range(4):
        board.submit(key + 1, "word")
    board.run()
    assert round(board.now, 6) == round(10 * 0.1 * (1 + 3 * 0.5), 6)


def test_its_answers_can_have_a_stated_length() -> None:
    board = Board(answer_tokens=5)
    board.submit(1, "a b")
    board.submit(2, "a b", max_tokens=3)
    board.run()
    assert board.done(1).text == "a b a b a"
    assert board.done(2).finish == "length"


def test_it_cancels_refuses_and_keeps_deadlines_like_any_engine() -> None:
    board = Board(slots=1, token_s=1.0, answer_tokens=50)
    board.submit(1, "x", max_tokens=0)
    board.engine.handle(protocol.Embed(id=2, texts=[]), board.replies.append)
    codes = [r.code for r in board.replies if isinstance(r, protocol.Failed)]
    assert codes == ["bad_request", "unsupported"]
    board.submit(3, "x")
    board.engine.step(board.replies.append)
    board.engine.handle(protocol.Cancel(id=3), board.replies.append)
    assert board.engine.step(board.replies.append) is False
    late = protocol.Submit(id=4, request=Generate(messages=[Message("user", "x")]), timeout_s=5.0)
    board.engine.handle(late, board.replies.append)
    board.run()
    last = board.replies[-1]
    assert isinstance(last, protocol.Failed)
    assert last.code == "deadline"
    assert board.now < 8


def test_what_the_machine_overslept_comes_off_the_next_steps() -> None:
    board = Board(token_s=0.1, prompt_token_s=0.0)
    exact = board.sleep
    oversleep = iter([0.05, 0.05])

    def late(seconds: float) -> None:
        exact(seconds + next(oversleep, 0.0))

    board.engine._sleep = late
    board.submit(1, "one two three four five six")
    board.run()
    assert round(board.now, 6) == round(5 * 0.1, 6)


def test_a_rest_is_nothing_to_catch_up_on() -> None:
    board = Board(token_s=0.1, prompt_token_s=0.0)
    board.submit(1, "one two three")
    board.run()
    board.now += 50.0
    began = board.now
    board.submit(2, "one two three")
    board.run()
    assert round(board.now - began, 6) == 0.2
