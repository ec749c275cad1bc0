"""An answer that is shown while it comes."""

from __future__ import annotations

import io
import re

import msgspec
from rich.console import Console

from agents.faces.stream import AnswerStream
from agents.views import AnswerView, StepView
from tests.agents.faces.fake_agent import ANSWER, STEP, step

OTHER = msgspec.structs.replace(STEP, id=2, node="tally", question="9 * 9")


class Screen:
    """A terminal (or a pipe) and what stands on it."""

    def __init__(self, *, terminal: bool = True) -> None:
        self.file = io.StringIO()
        self.aside = io.StringIO()
        out = Console(file=self.file, force_terminal=terminal, width=200, highlight=False)
        aside = out if terminal else Console(file=self.aside, width=200)
        self.stream = AnswerStream(out, aside)

    def plan(self, *steps: StepView) -> None:
        for each in steps:  # one event a step is as good as one for all
            waiting = msgspec.structs.replace(each, status="waiting")
            self.stream.event({"type": "plan", "steps": [msgspec.to_builtins(waiting)]})

    def say(self, number: int, text: str, *, thinking: bool = False) -> None:
        self.stream.event({"type": "delta", "step": number, "text": text, "thinking": thinking})

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.file.getvalue())


def test_words_are_shown_as_they_come_and_not_twice() -> None:
    screen = Screen()
    screen.plan(STEP)
    screen.say(1, "12")
    assert screen.text == "12"
    screen.say(1, "96")
    screen.stream.event(step())
    screen.stream.finish(ANSWER)
    assert screen.text.count("1296") == 1
    assert "knowledge.gpt/arithmetic on abacus, 0.40 s" in screen.text


def test_thinking_is_dim_and_on_lines_of_its_own() -> None:
    screen = Screen()
    screen.plan(STEP)
    screen.say(1, "8*7=56", thinking=True)
    screen.say(1, " 1296")
    screen.stream.finish(ANSWER)
    assert "\x1b[2m8*7=56\x1b[0m" in screen.file.getvalue()
    assert screen.text.startswith("8*7=56\n1296\n")


WHOLE = AnswerView(
    text="1296\n81", degraded=False, elapsed_s=1, steps=[STEP, OTHER], nodes=["abacus"]
)


def test_the_words_of_two_steps_never_mix_and_stand_in_the_order_of_the_plan() -> None:
    screen = Screen()
    screen.plan(STEP, OTHER)
    for one, two in (("12", "8"), ("96", "1")):
        screen.say(2, two)
        screen.say(1, one)
    screen.stream.event(step(id=2, node="tally", question=""))
    screen.stream.event(step())
    screen.stream.finish(WHOLE)
    assert screen.text.startswith("[1] 48 * 27\n1296\n[2] 9 * 9\n81\n")
    assert screen.text.count("81") == 1, "an answer that was shown in parts is not repeated"
    assert "2 steps on abacus" in screen.text


def test_an_answer_made_of_other_words_than_its_parts_is_shown_after_them() -> None:
    screen = Screen()
    screen.plan(STEP, OTHER)
    screen.say(1, "1296")
    screen.stream.event(step())
    screen.say(2, "81")
    screen.stream.event(step(id=2))
    screen.stream.finish(msgspec.structs.replace(WHOLE, text="together 1377"))
    assert "\n81\ntogether 1377\n" in screen.text


def test_a_step_that_failed_says_so_and_the_next_is_shown() -> None:
    screen = Screen()
    screen.plan(STEP, OTHER)
    screen.say(2, "81")
    screen.stream.event(step(status="failed", error="nobody answers"))
    assert "failed: nobody answers\n[2] 9 * 9\n81" in screen.text


def test_what_a_lost_attempt_said_is_void() -> None:
    screen = Screen()
    screen.plan(STEP)
    screen.say(1, "12")
    screen.stream.event({"type": "retry", "step": 1, "node": "abacus", "reason": "abacus is gone"})
    screen.say(1, "1296")
    screen.stream.finish(ANSWER)
    assert screen.text.startswith("12\nknowledge.gpt/arithmetic again: abacus is gone\n1296\n")
    assert screen.text.count("1296") == 1


def test_an_answer_that_differs_from_what_was_streamed_is_shown_whole() -> None:
    screen = Screen()
    screen.plan(STEP)
    screen.say(1, "1297")
    screen.stream.finish(ANSWER)
    assert "1297\n1296\n" in screen.text


def test_a_pipe_gets_the_whole_answer_once_and_nothing_else() -> None:
    screen = Screen(terminal=False)
    screen.plan(STEP)
    screen.say(1, "thinking", thinking=True)
    screen.say(1, "1296")
    screen.stream.finish(ANSWER)
    assert screen.file.getvalue() == "1296\n"
    assert "abacus" in screen.aside.getvalue()


def test_an_answer_cannot_move_the_cursor() -> None:
    screen = Screen()
    screen.plan(STEP)
    screen.say(1, "\x1b]0;title\x07\x1b[2Jx")
    screen.stream.finish(msgspec.structs.replace(ANSWER, text="\x1b[2Jy"))
    assert "\x1b[2J" not in screen.file.getvalue()
    assert "\x07" not in screen.file.getvalue()


def test_an_event_of_a_newer_agent_is_passed_over() -> None:
    screen = Screen()
    screen.stream.event({"type": "weather", "rain": True})
    screen.stream.event("what")
    screen.stream.finish(ANSWER)
    assert screen.text.startswith("1296\n")


def test_an_answer_that_breaks_off_leaves_the_line() -> None:
    screen = Screen()
    screen.plan(STEP)
    screen.say(1, "12")
    screen.stream.abandon()
    assert screen.text == "12\n"
