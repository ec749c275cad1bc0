"""An answer of two machines says who made it: in the trace, to programs, on the console."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from agents.faces.console import route
from agents.faces.console.marks import text_of
from agents.faces.sheets import route_line
from agents.generating import Generated, as_answer
from agents.halves import halves_line, size
from agents.library.events import Delta as Told
from agents.library.events import Generation, Plan
from agents.orchestrator.events import Answered, AskEvent, StepDelta
from agents.orchestrator.options import AskOptions
from agents.orchestrator.orchestrator import Orchestrator
from agents.views import AnswerView, StepView
from capabilities.messages import Delta, Done, Halves
from mesh.core.errors import GossamerError
from tests.agents.fakes import GENERAL, FakeMesh, FakeNode

HALVES = Halves(
    edge_s=0.4,
    far_s=0.1,
    link_s=0.05,
    bytes_up=18_432,
    bytes_down=32,
    asked=9,
    degraded=2,
    said_by={"exit 1": 31, "far": 9},
    mode="alone",
    why="the link is cut",
    alone_from=20,
)


def two_machines(_question: str) -> list[Delta | Done | GossamerError]:
    return [
        Delta(text="It is", by="exit 1"),
        Delta(text=" 42", by="far"),
        Done(text="It is 42", finish="stop", halves=HALVES),
    ]


def asked() -> list[AskEvent]:
    mesh = FakeMesh(FakeNode(name="me", serves={GENERAL: two_machines}, me=True))

    async def everything() -> list[AskEvent]:
        orchestrator = Orchestrator(mesh, rng=random.Random(1))
        found = orchestrator.ask("How much?", AskOptions(name=GENERAL))
        return [event async for event in found]

    return asyncio.run(everything())


def answer_of(events: list[AskEvent]) -> AnswerView:
    last = events[-1]
    assert isinstance(last, Answered)
    return last.answer


def test_the_line_says_who_said_what_and_since_when_it_was_alone() -> None:
    line = halves_line(HALVES)
    for part in (
        "exit 1: 31, far: 9",
        "asked 0.23 per token",
        "18.4 kB up",
        "alone from token 20: the link is cut",
        "2 said unsure",
    ):
        assert part in line
    together = msgspec.structs.replace(HALVES, mode="together", degraded=0)
    assert "alone" not in halves_line(together)
    assert "unsure" not in halves_line(together)


def test_an_answer_that_said_nothing_has_a_line_too() -> None:
    assert halves_line(Halves(asked=1)).startswith("said nothing; far asked 1 times")


@pytest.mark.parametrize(("count", "shown"), [(0, "0 B"), (999, "999 B"), (2_500_000, "2.5 MB")])
def test_sizes_are_shown_in_their_unit(count: int, shown: str) -> None:
    assert size(count) == shown


def test_a_peer_that_names_a_thousand_makers_fills_no_screen() -> None:
    many = Halves(said_by={f"{n:04}" * 100: 1 for n in range(1000)})
    assert len(halves_line(many)) < 500


def test_the_trace_of_a_question_has_a_decision_line_with_all_figures() -> None:
    answer = answer_of(asked())
    lines = [one for one in answer.decisions if one["rule"] == "two machines"]
    assert [one["action"] for one in lines] == [halves_line(HALVES)]
    inputs = lines[0]["inputs"]
    assert isinstance(inputs, dict)
    assert inputs["said_by"] == {"exit 1": 31, "far": 9}
    assert (inputs["bytes_up"], inputs["node"]) == (18_432, "me")
    assert answer.steps[0].halves == HALVES
    assert msgspec.to_builtins(answer)["steps"][0]["halves"]["asked"] == 9
    assert "far: 9" in route_line(answer.steps[0])


def test_each_piece_of_a_question_says_who_made_it() -> None:
    pieces = [(e.text, e.by) for e in asked() if isinstance(e, StepDelta)]
    assert pieces == [("It is", "exit 1"), (" 42", "far")]


def test_a_generation_carries_the_account_and_one_of_a_single_machine_carries_none() -> None:
    done = Done(text="x", finish="stop", halves=HALVES)
    found = Generated(
        done=done, name="n", node="a", remote=False, rule="", attempts=(), elapsed_s=0.1
    )
    told = msgspec.convert(as_answer(found, "t"), Generation)
    assert told.halves == HALVES
    single = msgspec.structs.replace(found, done=Done(text="x", finish="stop"))
    assert "halves" not in as_answer(single, "t")


def turn(*pieces: tuple[str, str]) -> route.Turn:
    made = route.Turn("How much?")
    step = StepView(id=1, name="n", node="a", question="How much?", status="running")
    made.event(Plan(steps=[step]))
    for text, by in pieces:
        made.event(Told(step=1, text=text, by=by))
    return made


def test_the_console_colours_each_token_by_who_made_it() -> None:
    made = turn(("It is", "exit 1"), (" forty", "far"), (" two", "exit 1"))
    text, legend = route.coloured(made, "It is forty two", 40)
    tones = {span.text.strip(): span.tone for span in text}
    assert tones["It is"] == tones["two"] != tones["forty"]
    assert text_of(text) == "It is forty two"
    assert {span.tone for span in legend if "far" in span.text} == {tones["forty"]}


def test_lines_that_are_wrapped_keep_their_colours() -> None:
    made = turn(("one two three", "exit 1"), (" four five six", "far"))
    rows = route.coloured(made, "", 9)[:-1]
    tone = {span.text.strip(): span.tone for row in rows for span in row}
    assert tone["one two"] != tone["four"]
    assert " ".join(text_of(row).strip() for row in rows) == "one two three four five six"


def test_an_answer_that_is_not_what_was_streamed_is_not_coloured() -> None:
    assert route.coloured(turn(("It is", "exit 1")), "Something else", 40) == []
    assert route.coloured(turn(("It is", "")), "It is", 40) == []
