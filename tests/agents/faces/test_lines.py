"""One line of the control socket: cut, limited, and turned into errors and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.faces.lines import LineSplitter, Oversize, Problem, error_of, problem_of
from mesh.core.errors import AccessDenied, GossamerError, NoSuchName, Rejected


@given(
    lines=st.lists(st.binary(min_size=1, max_size=12).filter(lambda x: b"\n" not in x)),
    cuts=st.lists(st.integers(1, 9)),
)
def test_lines_are_the_same_however_the_stream_is_cut(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    splitter, found = LineSplitter(64), []
    for size in cuts:
        found += splitter.feed(stream[:size])
        stream = stream[size:]
    found += splitter.feed(stream)
    assert found == [line for line in lines if line.strip()]


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_a_line_over_the_limit_is_skipped_and_the_next_is_read(piece: int) -> None:
    stream = b"ok\n" + b"x" * 50 + b"\nafter\n"
    splitter, found = LineSplitter(10), []
    for at in range(0, len(stream), piece):
        found += splitter.feed(stream[at : at + piece])
    assert found == [b"ok", Oversize(), b"after"]


def test_what_is_held_never_grows_over_the_limit() -> None:
    splitter = LineSplitter(10)
    for _ in range(100):
        splitter.feed(b"x" * 1000)
    assert len(splitter._held) <= 10


@pytest.mark.parametrize(
    "error",
    [
        NoSuchName("nobody offers it", hint="look at gossamer names"),
        AccessDenied("no"),
        Rejected("full", retry_after_s=2.5),
    ],
)
def test_an_error_arrives_as_the_class_it_left_as(error: GossamerError) -> None:
    there = error_of(problem_of(error))
    assert type(there) is type(error)
    assert (there.code, there.message, there.hint) == (error.code, error.message, error.hint)
    assert getattr(there, "retry_after_s", 0.0) == getattr(error, "retry_after_s", 0.0)


def test_a_code_of_a_newer_agent_is_kept() -> None:
    error = error_of(Problem("too_hot", "the board is at 90 degrees", "let it cool"))
    assert error.code == "too_hot"


def test_a_bug_is_reported_as_one() -> None:
    problem = problem_of(KeyError("x"))
    assert problem.code == "internal"
    assert "KeyError" in problem.message
    assert "bug" in problem.hint
