"""The widgets: lines with a cursor, and the dialogs."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Key
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input, Static

from agents.faces.console.marks import COLOURS, Line, fitted
from agents.faces.console.nodes import Body, Row

_STYLES = {tone: Style.parse(colour) for tone, colour in COLOURS.items()} | {"": Style()}
_CHOSEN = Style(bgcolor="#303a46", bold=True)


def strip_of(row: Line, width: int, base: Style) -> Strip:
    """A line as Textual paints it."""
    segments = [
        Segment(s.text, base + _STYLES.get(s.tone, _STYLES[""])) for s in fitted(row, width)
    ]
    return Strip(segments).adjust_cell_length(width, base)


class Lines(Widget, can_focus=True):
    """Shows a :class:`Body`: its head stands still, its rows scroll, one of them is chosen."""

    DEFAULT_CSS = "Lines { height: 1fr; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._body = Body([], [])
        self._top = 0
        self._cursor = 0
        self.follow = False  # keep the last row in sight

    @property
    def chosen(self) -> str:
        """The key of the row under the cursor; empty for none."""
        rows = self._body.rows
        return rows[self._cursor].key if self._cursor < len(rows) else ""

    def take(self, body: Body) -> None:
        """Show another body; the cursor stays on what it stood on. Nothing is painted anew when
        nothing changed."""
        if body == self._body:
            return
        key = self.chosen
        self._body = body
        keys = [row.key for row in body.rows]
        if key and key in keys:
            self._cursor = keys.index(key)
        self._cursor = min(self._cursor, max(0, len(keys) - 1))
        if not self._selectable:
            self._cursor = 0
        self._settle()
        self.refresh()

    def rewind(self) -> None:
        """Go to the beginning."""
        self._top = self._cursor = 0
        self._settle()
        self.refresh()

    def move(self, by: int) -> None:
        """Move the cursor to another row that can be chosen; without any, scroll."""
        rows = self._body.rows
        if not self._selectable:
            self.follow = False
            self._top += by
        else:
            places = [i for i, row in enumerate(rows) if row.key]
            at = min(range(len(places)), key=lambda i: abs(places[i] - self._cursor))
            self._cursor = places[max(0, min(len(places) - 1, at + by))]
        self._settle()
        self.refresh()

    @property
    def page(self) -> int:
        """Rows in sight."""
        return max(1, self.size.height - len(self._body.head))

    @property
    def _selectable(self) -> bool:
        return any(row.key for row in self._body.rows)

    def _settle(self) -> None:
        """Keep the cursor, or the end, in sight."""
        last = max(0, len(self._body.rows) - self.page)
        if self._selectable:
            if not self._body.rows[self._cursor].key:
                keys = [i for i, row in enumerate(self._body.rows) if row.key]
                self._cursor = min(keys, key=lambda i: abs(i - self._cursor))
            self._top = min(self._top, self._cursor)
            if self._cursor >= self._top + self.page:
                self._top = self._cursor - self.page + 1
        elif self.follow:
            self._top = last
        self._top = max(0, min(self._top, last))

    def on_resize(self) -> None:
        """More or fewer rows are in sight."""
        self._settle()

    def render_line(self, y: int) -> Strip:
        """One line, as Textual asks for it."""
        width, base = self.size.width, self.rich_style
        head = self._body.head
        if y < len(head):
            return strip_of(head[y], width, base)
        index = y - len(head) + self._top
        if index >= len(self._body.rows):
            return Strip.blank(width, base)
        row: Row = self._body.rows[index]
        if row.key and index == self._cursor and self._selectable:
            base += _CHOSEN
        return strip_of(row.line, width, base)


class OneLine(Widget):
    """A line of marked text."""

    DEFAULT_CSS = "OneLine { height: 1; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._line: Line = ()

    def take(self, shown: Line) -> None:
        """Show another line."""
        if shown != self._line:
            self._line = shown
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The line, as Textual asks for it."""
        if y:
            return Strip.blank(self.size.width, self.rich_style)
        return strip_of(self._line, self.size.width, self.rich_style)


class Confirm(ModalScreen[bool]):
    """Asks before something is done that cannot be undone."""

    DEFAULT_CSS = """
    Confirm { align: center middle; }
    Confirm Vertical { width: 60; height: auto; border: heavy #e69f00; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
    ]

    def __init__(self, question: str, consequence: str) -> None:
        super().__init__()
        self._text = f"{question}\n\n{consequence}\n\ny: yes    n: no"

    def compose(self) -> ComposeResult:
        """One box in the middle."""
        with Vertical():
            yield Static(self._text, markup=False)

    def action_answer(self, sure: bool) -> None:
        """Close with the answer."""
        self.dismiss(sure)


class Menu(ModalScreen[str]):
    """One of a few things, by its key; empty when none."""

    DEFAULT_CSS = """
    Menu { align: center middle; }
    Menu Vertical { width: 60; height: auto; border: round #56b4e9; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss('')", "none")]

    def __init__(self, question: str, options: list[tuple[str, str]]) -> None:
        super().__init__()
        self._keys = {key for key, _ in options}
        told = "\n".join(f"  {key}  {label}" for key, label in options)
        self._text = f"{question}\n\n{told}\n\nesc: none"

    def compose(self) -> ComposeResult:
        """One box in the middle."""
        with Vertical():
            yield Static(self._text, markup=False)

    def on_key(self, event: Key) -> None:
        """A key of the menu closes it."""
        if event.key in self._keys:
            event.stop()
            self.dismiss(event.key)


class Words(ModalScreen[str]):
    """Asks for a line of text; empty when there is none."""

    DEFAULT_CSS = """
    Words { align: center middle; }
    Words Vertical { width: 60; height: auto; border: round #56b4e9; padding: 0 1; }
    Words Input { border: none; height: 1; padding: 0; background: #1c2228; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss('')", "none")]

    def __init__(self, question: str, hint: str) -> None:
        super().__init__()
        self._question, self._hint = question, hint

    def compose(self) -> ComposeResult:
        """One box in the middle."""
        with Vertical():
            yield Static(f"{self._question}\n{self._hint}\n", markup=False)
            yield Input(id="words", compact=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Close with the text."""
        event.stop()
        self.dismiss(event.value.strip())


class Help(ModalScreen[None]):
    """The keys."""

    DEFAULT_CSS = """
    Help { align: center middle; }
    Help Vertical { width: 74; height: auto; border: round #56b4e9; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter,f1", "dismiss", "close")
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """One box in the middle."""
        with Vertical():
            yield Static(self._text, markup=False)
