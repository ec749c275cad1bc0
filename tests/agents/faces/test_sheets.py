"""How peers, names and answers look, on a terminal and in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from agents.faces.sheets import (
    Cell,
    Sheet,
    error_line,
    peers_sheet,
    plain,
    printable,
    route_line,
    show_sheet,
    summary,
)
from agents.views import AnswerView, PeerView, StepView
from mesh.core.errors import GossamerError


def terminal(width: int = 100) -> tuple[Console, io.StringIO]:
    """A console that believes to be a terminal, and what it wrote."""
    out = io.StringIO()
    return Console(file=out, force_terminal=True, width=width, markup=False, highlight=False), out


@pytest.mark.parametrize(
    "nasty", ["\x1b[2J", "\x9b31m", "a\rb", "\x07", "\u202etxt", "\u2066x", "\x00"]
)
def test_text_of_a_peer_cannot_move_the_cursor(nasty: str) -> None:
    shown = printable(f"before{nasty}after")
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in shown)
    assert not any(char in shown for char in "\u202e\u2066")
    assert shown.startswith("before")
    assert shown.endswith("after")


def test_words_of_every_script_and_emoji_stay() -> None:
    text = "naïve Straße 温度 25℃ 👩\u200d🔬 ½"
    assert printable(text) == text
    assert printable("two\nlines\t.", lines=True) == "two\nlines\t."
    assert printable("two\nlines") == "two lines"


def test_a_state_is_a_word_and_a_sign_and_not_a_colour_alone() -> None:
    sheet = peers_sheet(
        PeerView(node=state, name=state[:3], state=state) for state in ("alive", "suspect", "dead")
    )
    signs = {row[1].text.split()[0] for row in sheet.rows if isinstance(row[1], Cell)}
    assert len(signs) == 3
    assert [w in plain(sheet) for w in ("alive", "suspect", "dead")] == [True] * 3


def test_a_node_that_is_alive_but_unwell_says_so() -> None:
    sheet = peers_sheet([PeerView(node="1", name="a", state="alive", healthy=False)])
    assert "unwell" in plain(sheet)


def test_a_pipe_gets_every_column_whole_and_no_colour() -> None:
    out = io.StringIO()
    console = Console(file=out, width=20)
    show_sheet(Sheet(("A", "B"), [("x" * 60, Cell("y" * 60, "bad"))]), console)
    assert f"{'x' * 60}  {'y' * 60}" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_columns_that_nobody_fills_are_left_out() -> None:
    console, out = terminal()
    show_sheet(Sheet(("A", "B", "C"), [("a", "-", ""), ("b", "", "")]), console)
    assert "A" in out.getvalue()
    assert "B" not in out.getvalue()


def test_markup_in_a_name_is_text() -> None:
    console, out = terminal()
    show_sheet(Sheet(("A",), [("[red]x[/red]",)]), console)
    assert "[red]x[/red]" in out.getvalue()


def test_an_empty_sheet_still_has_its_head() -> None:
    assert plain(Sheet(("A", "B"), [])) == "A  B"


def test_the_route_names_who_failed_before() -> None:
    step = StepView(
        id=1,
        name="knowledge.gpt/x",
        node="b",
        question="q",
        status="ok",
        elapsed_s=1.5,
        attempts=["a", "b"],
    )
    assert route_line(step) == "knowledge.gpt/x on b (after a), 1.50 s"


def test_a_degraded_answer_says_what_is_missing() -> None:
    answer = AnswerView(
        text="", degraded=True, elapsed_s=2, steps=[], nodes=[], missing=["7 * 8: nobody offers"]
    )
    assert summary(answer) == "0 steps on no node in 2.00 s; degraded: 7 * 8: nobody offers"


@pytest.mark.parametrize(
    ("message", "hint", "line"),
    [
        ("It broke.", "mend it", "It broke. Mend it"),
        ("it broke", "mend it", "it broke. Mend it"),
        ("it broke", "", "it broke"),
        ("it\nbroke\x1b[2J", "", "it broke [2J"),
    ],
)
def test_an_error_is_one_line(message: str, hint: str, line: str) -> None:
    assert error_line(GossamerError(message, hint=hint)) == line


def test_a_command_in_a_hint_can_be_copied() -> None:
    assert error_line(GossamerError("No x", hint="pip install 'x'")) == "No x. pip install 'x'"
    assert error_line(GossamerError("No x!", hint="try again")) == "No x! Try again"


def test_a_terminal_without_room_loses_spare_columns_and_no_part_of_a_name() -> None:
    name = "knowledge.gpt/arithmetic"
    row = ("abacus", f"{name}, {name}", "a model of a long name Q8_0", "called back")
    sheet = Sheet(("NODE", "NAMES", "MODELS", "REACH"), [row], spare=("MODELS", "REACH"))
    for width, left_out in ((120, []), (70, ["MODELS"]), (44, ["MODELS", "REACH"])):
        out = io.StringIO()
        show_sheet(sheet, Console(file=out, width=width, force_terminal=True, markup=False))
        shown = out.getvalue()
        assert name in shown
        for header in ("MODELS", "REACH"):
            assert ("no room for" in shown) == bool(left_out)
            assert (row[sheet.headers.index(header)][:6] in shown) == (header not in left_out)
